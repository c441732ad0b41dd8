//! Which tokens ask a model to fill in the middle, and which of them end an answer? Ids are those of the published vocabularies.

use gguf::{Metadata, Value};
use tokenizer::{SpecialTokens, Tokenizer};

use crate::fixtures;

/// PRE, SUF, MID; then PAD, REP, SEP.
fn roles(tokenizer: &Tokenizer) -> ([Option<u32>; 3], [Option<u32>; 3]) {
    let &SpecialTokens { fim_pre, fim_suf, fim_mid, fim_pad, fim_rep, fim_sep, .. } = tokenizer.special();
    ([fim_pre, fim_suf, fim_mid], [fim_pad, fim_rep, fim_sep])
}

#[test]
fn published_vocabularies_have_them_by_name() {
    for (name, around, ends) in [
        ("starcoder", [Some(1), Some(3), Some(2)], [Some(4), None, None]),
        ("refact", [Some(1), Some(3), Some(2)], [Some(4), Some(18), None]),
        ("deepseek-coder", [Some(32016), Some(32015), Some(32017)], [None; 3]),
        ("llama-bpe", [None; 3], [None; 3]),
        ("phi-3", [None; 3], [None; 3]),
    ] {
        let Some(tokenizer) = fixtures::vocab(name) else { return };
        assert_eq!(roles(&tokenizer), (around, ends), "{name}");
        assert!(ends.into_iter().flatten().all(|id| tokenizer.is_end(id)), "{name}");
        assert!(!around.into_iter().flatten().any(|id| tokenizer.is_end(id)), "{name}");
    }
}

#[test]
fn qwen_s_are_those_of_its_tokenizer_json() {
    let Some(path) = fixtures::path("tokenizers/qwen2_5/tokenizer.json") else { return };
    let tokenizer = Tokenizer::from_hf_json(&path).unwrap();
    let ends = [Some(151_662), Some(151_663), Some(151_664)];
    assert_eq!(roles(&tokenizer), ([Some(151_659), Some(151_661), Some(151_660)], ends));
    assert_eq!(tokenizer.ends(), [151_643, 151_645, 151_662, 151_663, 151_664]);
}

fn bpe(tokens: Vec<&str>, kinds: Vec<i32>, keys: &[(&str, u32)]) -> Tokenizer {
    let mut pairs: Vec<(String, Value)> = vec![
        ("tokenizer.ggml.model".to_owned(), "gpt2".into()),
        ("tokenizer.ggml.pre".to_owned(), "gpt-2".into()),
        ("tokenizer.ggml.tokens".to_owned(), tokens.into()),
        ("tokenizer.ggml.token_type".to_owned(), kinds.into()),
        ("tokenizer.ggml.merges".to_owned(), vec!["a b"].into()),
        ("tokenizer.ggml.eos_token_id".to_owned(), 0u32.into()),
    ];
    pairs.extend(keys.iter().map(|&(key, id)| (format!("tokenizer.ggml.{key}_token_id"), id.into())));
    Tokenizer::from_gguf(&Metadata::from_pairs(pairs).unwrap(), None).unwrap()
}

#[test]
fn keys_come_before_names_and_newer_keys_before_older() {
    let tokens = vec!["</s>", "a", "b", "<PRE>", "<SUF>", "<MID>", "<|fim_prefix|>"];
    let kinds = vec![3, 1, 1, 3, 3, 3, 3];
    let found = |keys: &[(&str, u32)]| roles(&bpe(tokens.clone(), kinds.clone(), keys));
    assert_eq!(found(&[]).0, [Some(6), Some(4), Some(5)]);
    assert_eq!(found(&[("prefix", 1), ("suffix", 2), ("middle", 3)]).0, [Some(1), Some(2), Some(3)]);
    let keys = [("fim_pre", 2), ("fim_pad", 4), ("fim_rep", 5), ("fim_sep", 3)];
    let tokenizer = bpe(tokens.clone(), kinds.clone(), &keys);
    assert_eq!(roles(&tokenizer), ([Some(2), Some(4), Some(5)], [Some(4), Some(5), Some(3)]));
    assert_eq!(tokenizer.ends(), [0, 3, 4, 5]);
}

/// An answer may spell `[PAD]` where that is an ordinary token; around a gap only the server writes them.
#[test]
fn an_ordinary_token_ends_nothing() {
    let tokens = vec!["</s>", "a", "b", "[PAD]", "<PRE>", "<SUF>", "<MID>"];
    let tokenizer = bpe(tokens.clone(), vec![3, 1, 1, 1, 1, 1, 1], &[]);
    assert_eq!(roles(&tokenizer), ([Some(4), Some(5), Some(6)], [None; 3]));
    assert_eq!(tokenizer.ends(), [0]);
    assert_eq!(bpe(tokens, vec![3, 1, 1, 3, 3, 3, 3], &[]).ends(), [0, 3]);
}
