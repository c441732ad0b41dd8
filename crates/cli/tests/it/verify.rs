//! Does a receipt prove its answer, and nothing else?

use std::path::Path;

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use crate::program::{golden, worker};

/// Runs a prompt and gives the receipt.
fn receipt(folder: &Path, model: &str, args: &[&str]) -> Value {
    let path = folder.join("receipt.json");
    let first = ["run", "--device", "cpu", "--model", &golden(model), "--raw", "--prompt", "the rain", "-q"];
    let last = ["--receipt", path.to_str().unwrap()];
    worker(&[&first[..], args, &last].concat()).ok();
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// What verifying says: `code: the last line`.
pub(crate) fn verify(folder: &Path, receipt: &Value, model: &str, args: &[&str]) -> String {
    let path = folder.join("changed.json");
    std::fs::write(&path, receipt.to_string()).unwrap();
    let model = if model.contains('/') { model.to_owned() } else { golden(model) };
    let first = ["verify", path.to_str().unwrap(), "--device", "cpu", "--model", &model, "-q"];
    let done = worker(&[&first[..], args].concat());
    let said = done.stdout + &done.stderr;
    format!("{}: {}", done.code, said.trim_end().replace(folder.to_str().unwrap(), "FOLDER"))
}

const SAMPLED: &[&str] = &["--seed", "7", "--max-tokens", "12", "--ignore-eos", "--logit-bias", "9=-inf"];

#[test]
fn swapped_arguments_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let receipt = folder.path().join("r.json");
    std::fs::write(&receipt, "{}").unwrap();
    let (receipt, model) = (receipt.to_str().unwrap(), golden("llama-q4_0.gguf"));
    for (args, meant) in
        [(&[&model, receipt][..], receipt), (&[&model], "RECEIPT"), (&[&model, &model], "RECEIPT")]
    {
        let done = worker(&[&["verify"], args].concat());
        let text = format!(
            "error: {model} is a model; the receipt comes first: worker-orcd verify {meant} {model}\n"
        );
        assert_eq!((done.code, done.stdout, done.stderr), (2, String::new(), text));
    }
}

#[test]
fn an_answer_is_equal_whatever_the_threads() {
    let folder = tempfile::tempdir().unwrap();
    let first = receipt(folder.path(), "llama-q4_0.gguf", SAMPLED);
    assert_eq!(first["answer"].as_array().unwrap().len(), 12);
    assert_eq!(first["parameters"]["logit_bias"], json!([[9, null]]));
    let said = verify(folder.path(), &first, "llama-q4_0.gguf", &["--threads", "1"]);
    assert_eq!(said, "0: equal: 12 tokens, ended by its maximum length");
    for args in
        [&["--seed", "3", "--kv-type", "q8_0"][..], &["--temperature", "2", "--seed", "5", "--stop", "e"]]
    {
        let receipt = receipt(folder.path(), "llama-f16.gguf", args);
        let said = verify(folder.path(), &receipt, "llama-f16.gguf", &[]);
        assert!(said.starts_with("0: equal: "), "{said}");
    }
}

#[test]
fn a_seed_that_was_rounded_on_its_way_is_used_by_its_digits() {
    let folder = tempfile::tempdir().unwrap();
    let small = receipt(folder.path(), "llama-q4_0.gguf", SAMPLED);
    assert_eq!(small["parameters"].get("seed_text"), None);
    // As a double the second is 2^64, which 64 bits do not hold.
    for seed in ["11259375439824732113", "18446744073709551615"] {
        let first = receipt(folder.path(), "llama-q4_0.gguf", &["--seed", seed, "--max-tokens", "12"]);
        assert_eq!(first["parameters"]["seed_text"], seed);
        let mut rounded = first.clone();
        rounded["parameters"]["seed"] = json!(seed.parse::<f64>().unwrap());
        let said = verify(folder.path(), &rounded, "llama-q4_0.gguf", &[]);
        assert!(said.starts_with("0: equal: "), "{said}");
        rounded["parameters"]["seed_text"] = json!("many");
        let said = verify(folder.path(), &rounded, "llama-q4_0.gguf", &[]);
        assert!(said.contains("seed_text: expected an integer of 64 bits, found \"many\""), "{said}");
    }
}

#[test]
fn one_changed_id_or_parameter_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let first = receipt(folder.path(), "llama-q4_0.gguf", SAMPLED);
    let said = |change: &dyn Fn(&mut Value)| {
        let mut changed = first.clone();
        change(&mut changed);
        verify(folder.path(), &changed, "llama-q4_0.gguf", &[])
    };
    let id = first["answer"][5].as_u64().unwrap();
    let other = (id + 1) % 320;
    assert_eq!(
        said(&|receipt| receipt["answer"][5] = other.into()),
        format!("11: error: different at token 5 of the answer: expected id {other}, found id {id}")
    );
    let shorter = said(&|receipt| drop(receipt["answer"].as_array_mut().unwrap().pop()));
    assert!(shorter.starts_with("11: error: different at token 11 of the answer: expected the answer's end"));
    assert!(said(&|receipt| receipt["parameters"]["seed"] = 8.into()).starts_with("11: "));
    // What jq 1.6 makes of 11259375439824732113.
    let rounded = said(&|receipt| receipt["parameters"]["seed"] = 11_259_375_439_824_732_000_u64.into());
    assert!(
        rounded.starts_with("11: error: different")
            && rounded.contains("seed 11259375439824732000 looks rounded"),
        "{rounded}"
    );
    let whole = said(&|receipt| receipt["parameters"]["seed"] = 11_259_375_439_824_732_113_u64.into());
    assert!(whole.starts_with("11: error: different") && !whole.contains("rounded"), "{whole}");
    assert!(said(&|receipt| receipt["prompt"]["ids"][0] = 3.into()).starts_with("11: "));
    let ended = said(&|receipt| receipt["stop"] = json!({ "token": 2 }));
    assert_eq!(
        ended,
        "11: error: different at the answer's end: expected end token 2, found its maximum length"
    );
    // Where it was interrupted, the rest is unknown.
    let interrupted = said(&|receipt| {
        receipt["answer"].as_array_mut().unwrap().truncate(4);
        receipt["stop"] = "interrupted".into();
    });
    assert_eq!(interrupted, "0: equal: 4 tokens, ended by an interruption");
}

#[test]
fn another_model_is_refused_and_another_program_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut receipt = receipt(folder.path(), "llama-q4_0.gguf", SAMPLED);
    let said = verify(folder.path(), &receipt, "llama-q8_0.gguf", &[]);
    assert!(said.starts_with("11: error: another model: expected SHA-256 "), "{said}");
    receipt["program"] = "0.0.1".into();
    let said = verify(folder.path(), &receipt, "llama-q4_0.gguf", &["-q"]);
    assert_eq!(said, "0: equal: 12 tokens, ended by its maximum length");
    let said = verify(folder.path(), &receipt, "llama-q4_0.gguf", &[]);
    assert!(said.contains("another program: the receipt's is 0.0.1"), "{said}");
}

#[test]
fn a_prompt_can_be_kept_out_of_the_receipt() {
    let folder = tempfile::tempdir().unwrap();
    let ids = receipt(folder.path(), "llama-q4_0.gguf", SAMPLED)["prompt"]["ids"].clone();
    let receipt = receipt(folder.path(), "llama-q4_0.gguf", &[SAMPLED, &["--receipt-hash-prompt"]].concat());
    assert!(receipt["prompt"]["ids"].is_null());
    let said = verify(folder.path(), &receipt, "llama-q4_0.gguf", &[]);
    assert!(
        said.starts_with("8: error: FOLDER/changed.json: prompt: expected ids with the SHA-256 "),
        "{said}"
    );
    let path = folder.path().join("ids.json");
    std::fs::write(&path, ids.to_string()).unwrap();
    let said = verify(folder.path(), &receipt, "llama-q4_0.gguf", &["--prompt-ids", path.to_str().unwrap()]);
    assert!(said.starts_with("0: equal"), "{said}");
}

#[test]
fn what_is_no_receipt_is_8() {
    let folder = tempfile::tempdir().unwrap();
    let check = |value: &Value, expected: &Expect| {
        expected.assert_eq(&verify(folder.path(), value, "llama-q4_0.gguf", &[]));
    };
    check(
        &json!({}),
        &expect![
            "8: error: FOLDER/changed.json: expected a receipt: missing field `version` at line 1 column 2"
        ],
    );
    let mut later = receipt(folder.path(), "llama-q4_0.gguf", SAMPLED);
    later["version"] = 1.into();
    check(&later, &expect!["8: error: FOLDER/changed.json: version: expected 2, found 1"]);
}

#[test]
fn a_proof_folder_repeats_its_run() {
    let folder = tempfile::tempdir().unwrap();
    let proof = folder.path().join("proof");
    let (proof_path, model) = (proof.to_str().unwrap(), golden("llama-q4_0.gguf"));
    let run = [
        "run", "--device", "cpu", "--model", &model, "--raw", "--prompt", "the rain", "-q", "--proof",
        proof_path,
    ];
    let answer = worker(&[&run[..], SAMPLED].concat()).ok();
    let read = |name: &str| std::fs::read_to_string(proof.join(name)).unwrap();
    let json = |name: &str| -> Value { serde_json::from_str(&read(name)).unwrap() };
    let (metadata, receipt) = (json("metadata.json"), json("receipt.json"));
    assert_eq!(metadata["model"][0]["sha256"], receipt["model"][0]);
    assert_eq!(metadata["model"][0]["file"], "llama-q4_0.gguf");
    assert!(json("timings.json")["decode_ms"].is_f64() && read("README.md").contains("worker-orcd verify"));
    let lines: Vec<Value> =
        read("transcript.ndjson").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let text: String = lines.iter().map(|line| line["text"].as_str().unwrap()).collect();
    assert_eq!(text.trim_end(), answer.trim_end());
    let ids: Vec<&Value> = lines.iter().flat_map(|line| line["tokens"].as_array().unwrap()).collect();
    assert!(ids.into_iter().eq(receipt["answer"].as_array().unwrap()));

    let verified = worker(&["verify", proof_path, "--device", "cpu", "--model", &model, "-q"]);
    assert_eq!(verified.ok(), "equal: 12 tokens, ended by its maximum length\n");
    let again = worker(&[&run[..], SAMPLED].concat());
    assert!(again.code == 2 && again.stderr.contains("a new or an empty folder"), "{}", again.stderr);
}
