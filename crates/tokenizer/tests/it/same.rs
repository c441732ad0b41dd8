//! When do two vocabularies give every id the same meaning, and which difference is named where they do not?

use gguf::{Metadata, Value};
use tokenizer::Tokenizer;

/// A vocabulary of these tokens and kinds (1 text, 3 control, 5 unused), whose first token ends an answer.
fn bpe(tokens: &[(&str, i32)], keys: &[(&str, u32)]) -> Tokenizer {
    let (texts, kinds): (Vec<&str>, Vec<i32>) = tokens.iter().copied().unzip();
    let mut pairs: Vec<(String, Value)> = vec![
        ("tokenizer.ggml.model".to_owned(), "gpt2".into()),
        ("tokenizer.ggml.pre".to_owned(), "gpt-2".into()),
        ("tokenizer.ggml.tokens".to_owned(), texts.into()),
        ("tokenizer.ggml.token_type".to_owned(), kinds.into()),
        ("tokenizer.ggml.merges".to_owned(), vec!["a b"].into()),
        ("tokenizer.ggml.eos_token_id".to_owned(), 0u32.into()),
    ];
    pairs.extend(keys.iter().map(|&(key, id)| (format!("tokenizer.ggml.{key}_token_id"), id.into())));
    Tokenizer::from_gguf(&Metadata::from_pairs(pairs).unwrap(), None).unwrap()
}

const TOKENS: [(&str, i32); 5] = [("</s>", 3), ("a", 1), ("b", 1), ("ab", 1), ("<x>", 3)];

fn check(other: &[(&str, i32)], keys: &[(&str, u32)], expected: &str) {
    let found = bpe(&TOKENS, &[]).same_ids(&bpe(other, keys));
    assert_eq!(found.err().map_or_else(String::new, |difference| difference.to_string()), expected);
}

#[test]
fn the_first_difference_is_named() {
    let with = |at: usize, token| {
        let mut tokens = TOKENS;
        tokens[at] = token;
        tokens
    };
    check(&TOKENS, &[], "");
    check(&TOKENS[..4], &[], "expected 5 tokens, found 4");
    check(&[&TOKENS[..], &[("c", 1)]].concat(), &[], "expected 5 tokens, found 6");
    check(&with(3, ("ba", 1)), &[], "token 3: expected \"ab\", found \"ba\"");
    check(&with(4, ("<x>", 1)), &[], "token 4, \"<x>\": expected a control token, found text");
    check(&TOKENS, &[("eot", 4)], "token 4, \"<x>\": expected none, found an end of the answer");
    check(&TOKENS, &[("bos", 4)], "the token that begins a text: expected None, found Some(4)");
}

#[test]
fn rows_that_no_token_has_count_for_nothing() {
    let padded = [&TOKENS[..], &[("[PAD5]", 5), ("[PAD6]", 5)]].concat();
    check(&padded, &[], "");
    assert_eq!(bpe(&padded, &[]).same_ids(&bpe(&TOKENS, &[])), Ok(()));
}
