//! What holds for every text?
//!
//! Decoding undoes encoding, exactly for byte-level BPE, up to NFC for Qwen 2, and for SentencePiece except that U+2581 is a space.
//! A stream of tokens joins to what decoding all at once gives, with U+FFFD exactly where `String::from_utf8_lossy` has it.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokenizer::{EncodeOptions, Tokenizer};
use unicode_normalization::UnicodeNormalization;

use crate::fixtures;

fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => any::<char>().prop_map(String::from),
        4 => "[ -~]{1,8}",
        2 => "[ \t\r\n]{1,6}",
        1 => Just("e\u{301}".to_owned()),
        1 => "[a-z]{60,90}",
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

fn check(name: &str, expected: fn(&str) -> String) {
    let Some(tokenizer) = fixtures::vocab(name) else { return };
    let mut runner = TestRunner::new(Config { cases: 400, failure_persistence: None, ..Config::default() });
    let result = runner.run(&text(), |text| {
        let ids = tokenizer.encode(&text, EncodeOptions { add_special: true, parse_special: false }).unwrap();
        prop_assert_eq!(tokenizer.decode(&ids, false), expected(&text));
        Ok(())
    });
    result.unwrap();
    let ids = prop::collection::vec(0..tokenizer.n_vocab() as u32 + 2, 0..40);
    runner.run(&(ids, any::<bool>()), |(ids, special)| streams_join(&tokenizer, &ids, special)).unwrap();
}

fn streams_join(tokenizer: &Tokenizer, ids: &[u32], special: bool) -> Result<(), TestCaseError> {
    let mut decoder = tokenizer.decoder(special);
    let mut joined: String = ids.iter().map(|&id| decoder.push(id)).collect();
    joined.push_str(&decoder.finish());
    prop_assert_eq!(&joined, &tokenizer.decode(ids, special));

    let shown = |&&id: &&u32| special || !tokenizer.is_special(id);
    let bytes: Vec<u8> = ids
        .iter()
        .filter(shown)
        .flat_map(|&id| tokenizer.token_bytes(id).unwrap_or_default())
        .copied()
        .collect();
    let all = String::from_utf8_lossy(&bytes).into_owned();
    if tokenizer.kind() == tokenizer::Kind::GgufBpe {
        prop_assert_eq!(joined, all);
    } else {
        prop_assert_eq!(joined.replace(' ', ""), all.replace(' ', ""));
    }
    Ok(())
}

#[test]
fn byte_level() {
    check("llama-bpe", str::to_owned);
    check("gpt-2", str::to_owned);
    check("deepseek-llm", str::to_owned);
}

#[test]
fn byte_level_composed() {
    check("qwen2", |text| text.nfc().collect());
}

#[test]
fn sentence_piece() {
    check("llama-spm", |text| text.replace('\u{2581}', " "));
}

#[test]
fn merges_of_characters() {
    check("gemma-4", |text| text.replace('\u{2581}', " "));
}

#[test]
fn long_unbroken_texts_end() {
    for name in ["llama-bpe", "gpt-2", "llama-spm", "gemma-4"] {
        let Some(tokenizer) = fixtures::vocab(name) else { return };
        for unit in ["a", " ", "ab1", "\u{301}", "é", "!"] {
            let text = unit.repeat(1_000_000 / unit.len());
            let ids = tokenizer.encode(&text, EncodeOptions::default()).unwrap();
            assert_eq!(tokenizer.decode(&ids, false), text, "{name} {unit:?}");
        }
    }
}
