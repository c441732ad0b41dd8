//! Are texts cut where the published patterns cut them?

use super::*;
use expect_test::{Expect, expect};

#[expect(clippy::needless_pass_by_value, reason = "expect! makes a value")]
fn check(name: &str, text: &str, expected: Expect) {
    let mut words = Vec::new();
    PreTokenizer::by_name(name).unwrap().split(text, &mut |word| words.push(word.to_owned()));
    assert_eq!(words.concat(), text);
    expected.assert_eq(&format!("{words:?}"));
}

#[test]
fn whitespace_goes_to_the_word_after_it() {
    check(
        "gpt-2",
        "a  b\n\n c\t\td  ",
        expect![[r#"["a", " ", " b", "\n\n", " c", "\t", "\t", "d", "  "]"#]],
    );
    check(
        "llama-bpe",
        "a  b \n\n c\r\nd  ",
        expect![[r#"["a", " ", " b", " \n\n", " c", "\r\n", "d", "  "]"#]],
    );
}

#[test]
fn contractions_and_digits() {
    check("gpt-2", "I'LL don't 1234", expect![[r#"["I", "'", "LL", " don", "'t", " 1234"]"#]]);
    check("smollm", "it's 123", expect![[r#"["it", "'s", " ", "1", "2", "3"]"#]]);
    check("llama-bpe", "I'LL 12345 '\u{17f}x", expect![[r#"["I", "'LL", " ", "123", "45", " '", "ſx"]"#]]);
    check("qwen2", "we'Re 12", expect![[r#"["we", "'Re", " ", "1", "2"]"#]]);
    check(
        "gpt-4o",
        "DON'T getHTTPResponse's //\n",
        expect![[r#"["DON'T", " get", "HTTPResponse's", " //\n"]"#]],
    );
    check("tekken", "DON'T 12", expect![[r#"["DON", "'T", " ", "1", "2"]"#]]);
}

#[test]
fn marks_as_prefix_and_as_letters() {
    check("gpt-4o", "\u{301}ABC ʰABC", expect![[r#"["\u{301}", "ABC", " ʰ", "ABC"]"#]]);
    check("qwen35", "e\u{301}a \u{301}b", expect![[r#"["e\u{301}a", " \u{301}b"]"#]]);
}

#[test]
fn stages_in_sequence() {
    check("falcon", "a==1234 5", expect![[r#"["a", "==", "123", "4", " 5"]"#]]);
    check("deepseek-llm", "x 12 y。\n  ", expect![[r#"["x", " ", "12", " y", "。", "\n", "  "]"#]]);
    check("deepseek-coder", "x 12 (y)", expect![[r#"["x", " ", "1", "2", " (", "y", ")"]"#]]);
    check(
        "deepseek-v3",
        "foo.bar 1234漢字 \u{1}",
        expect![[r#"["foo", ".bar", " ", "123", "4", "漢字", " ", "\u{1}"]"#]],
    );
}

/// Recorded by `tests/data/pre_vectors.py`.
#[derive(serde::Deserialize)]
struct Vectors {
    texts: Vec<String>,
    digests: std::collections::BTreeMap<String, String>,
}

fn fnv(ends: impl Iterator<Item = u32>) -> u32 {
    let bytes = ends.flat_map(u32::to_le_bytes);
    bytes.fold(0x811c_9dc5, |digest, byte| (digest ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// PRE_VECTORS may name another such file.
#[test]
fn every_recipe_cuts_where_its_published_patterns_do() {
    let path = std::env::var("PRE_VECTORS")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/pre_vectors.json").to_owned());
    let vectors: Vectors = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert!(vectors.texts.len() >= 300);
    for (names, _) in RECIPES {
        assert!(vectors.digests.contains_key(names[0]), "{} has no vectors", names[0]);
    }
    for (name, digests) in &vectors.digests {
        let recipe = PreTokenizer::by_name(name).unwrap();
        let digests: Vec<&str> =
            digests.as_bytes().chunks(8).map(|d| std::str::from_utf8(d).unwrap()).collect();
        assert_eq!(digests.len(), vectors.texts.len());
        for (text, expected) in vectors.texts.iter().zip(digests) {
            let mut pieces: Vec<&str> = Vec::new();
            let mut at = 0;
            recipe.split(text, &mut |piece| {
                pieces.push(&text[at..at + piece.len()]);
                at += piece.len();
            });
            let ends = pieces.iter().scan(0, |end, piece| {
                *end += piece.len() as u32;
                Some(*end)
            });
            assert_eq!(format!("{:08x}", fnv(ends)), expected, "{name}: {text:?} was cut into {pieces:?}");
        }
    }
}

#[test]
fn a_name_has_one_recipe_or_one_reason() {
    let known = RECIPES.iter().flat_map(|(names, _)| names.iter().copied());
    let mut names: Vec<&str> = known.chain(UNSUPPORTED.iter().map(|(name, _)| *name)).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
}
