//! References of the repository are read, damaged ones are refused with a place.

use super::*;

fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/llama-q4_0.gguf")
}

#[test]
fn a_reference_is_read_whole() {
    let reference = Reference::beside(&model()).unwrap();
    let [text, random] = &reference.cases;
    assert_eq!((text.name, random.name), ("text", "random"));
    for case in &reference.cases {
        assert_eq!(case.logits.len() % case.tokens.len(), 0);
        assert!(case.logits.iter().all(|logit| logit.is_finite()));
    }
    assert_eq!(reference.greedy.len(), 24);
    // The continuation begins with what the reference itself likes most, if the prompt is the text's beginning.
    assert!(text.tokens.starts_with(&reference.greedy_prompt) || !reference.greedy_prompt.is_empty());
}

#[test]
fn cut_and_changed_references_are_refused_and_none_panics() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("m.gguf");
    let [json, npz] = Reference::paths(&copy);
    let [whole_json, whole_npz] = Reference::paths(&model()).map(|path| fs::read(path).unwrap());
    fs::write(&json, &whole_json).unwrap();
    for len in (0..whole_npz.len()).step_by(997) {
        fs::write(&npz, &whole_npz[..len]).unwrap();
        Reference::beside(&copy).unwrap_err();
    }
    let directory = whole_npz.windows(4).position(|at| at == b"PK\x01\x02").unwrap();
    for at in (0..64).chain(directory..whole_npz.len()) {
        for flip in [0x01, 0x80, 0xff] {
            let mut bytes = whole_npz.clone();
            bytes[at] ^= flip;
            fs::write(&npz, bytes).unwrap();
            let _ = Reference::beside(&copy);
        }
    }
    fs::write(&npz, &whole_npz).unwrap();
    let refused = |text: &str, expected: &str| {
        fs::write(&json, text).unwrap();
        let error = Reference::beside(&copy).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    refused("{", "m.json: expected JSON, found EOF");
    refused("{}", "expected an array of token ids in \"tokens.text\", found no such key");
    refused(
        r#"{"tokens": {"text": [1, -1]}}"#,
        "expected token ids in \"tokens.text\", found another number",
    );
    refused(r#"{"tokens": {"text": []}}"#, "expected at least one token id");
    refused(r#"{"tokens": {"text": [1]}}"#, "\"text\" to have a row for each of 1 tokens, found [");
    fs::remove_file(&json).unwrap();
    assert!(matches!(Reference::beside(&copy), Err(GoldenError::Io { .. })));
}

#[test]
fn the_error_is_normalised_by_the_reference_s_spread() {
    assert_eq!(nmse(&[1.0, 2.0, 3.0], &[1.0, 2.0, 3.0]), 0.0);
    // (0 + 0 + 1) / (1 + 0 + 1)
    assert_eq!(nmse(&[1.0, 2.0, 4.0], &[1.0, 2.0, 3.0]), 0.5);
}
