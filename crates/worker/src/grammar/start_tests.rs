//! Do a grammar and the text agree where the text begins, and about tokens without text?

use std::sync::Arc;

use engine::Constraint;
use gguf::{Metadata, Value};
use tokenizer::Tokenizer;

use super::{GrammarConstraint, Grammars, Source};
use crate::{Format, Work};

const BOS: u32 = 1;
const END: u32 = 2;
const SPACE: u32 = 3;
const T: u32 = 4;
const THE_AFTER_SPACE: u32 = 7;
const THE: u32 = 8;
const T_AFTER_SPACE: u32 = 9;
const UNUSED: u32 = 10;

/// SentencePiece, which drops the first token's space after a special token.
fn grammars() -> Grammars {
    let tokens = vec!["<unk>", "<s>", "</s>", "▁", "t", "h", "e", "▁the", "the", "▁t", "[PAD10]"];
    let pairs: Vec<(&str, Value)> = vec![
        ("tokenizer.ggml.model", "llama".into()),
        ("tokenizer.ggml.scores", vec![0f32; tokens.len()].into()),
        ("tokenizer.ggml.tokens", tokens.into()),
        ("tokenizer.ggml.token_type", vec![2i32, 3, 3, 1, 1, 1, 1, 1, 1, 1, 5].into()),
    ];
    let metadata = Metadata::from_pairs(pairs).unwrap();
    let tokenizer = Arc::new(Tokenizer::from_gguf(&metadata, None).unwrap());
    // One id more than the tokenizer has.
    Grammars::new(tokenizer, 12)
}

fn after(grammars: &Grammars, prompt: &[u32], regex: &str) -> GrammarConstraint {
    let source = Source::of_format(&Format::Regex(regex.to_owned())).unwrap();
    grammars
        .compile(&source, &Work::default())
        .unwrap()
        .starting(grammars.compiler.tokenizer.drops_space_after(prompt))
}

fn allowed(constraint: &mut dyn Constraint) -> Vec<u32> {
    let mask = constraint.mask().unwrap();
    (0..12).filter(|&id| mask.allows(id)).collect()
}

/// Every answer of at most 5 tokens that the grammar allows, as text.
fn texts(grammars: &Grammars, prompt: &[u32], regex: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![(Vec::new(), after(grammars, prompt, regex).boxed_clone())];
    while let Some((ids, mut constraint)) = open.pop() {
        for id in allowed(constraint.as_mut()) {
            if id == END {
                let mut decoder = grammars.compiler.tokenizer.decoder_after(prompt, false);
                let text: String = ids.iter().map(|&id| decoder.push(id)).collect();
                found.push(text);
            } else if ids.len() < 5 {
                let mut next = constraint.boxed_clone();
                next.accept(id).unwrap();
                open.push(([ids.as_slice(), &[id]].concat(), next));
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

#[test]
fn a_text_begins_without_the_space_of_its_first_token() {
    let grammars = grammars();
    let mut the = after(&grammars, &[THE, BOS], "the");
    assert_eq!(allowed(&mut the), [SPACE, T, THE_AFTER_SPACE, THE, T_AFTER_SPACE]);
    the.accept(THE_AFTER_SPACE).unwrap();
    assert_eq!(allowed(&mut the), [END]);
    // The space is left out once.
    let mut with_space = after(&grammars, &[BOS], " the");
    assert_eq!(allowed(&mut with_space), [SPACE]);
    with_space.accept(SPACE).unwrap();
    assert_eq!(allowed(&mut with_space), [SPACE, THE_AFTER_SPACE, T_AFTER_SPACE]);
    // In the middle of a text nothing is left out.
    assert_eq!(allowed(&mut after(&grammars, &[BOS, THE], "the")), [T, THE]);
    assert_eq!(allowed(&mut after(&grammars, &[BOS, THE], " the")), [SPACE, THE_AFTER_SPACE, T_AFTER_SPACE]);
}

#[test]
fn the_text_is_what_the_grammar_allows() {
    let grammars = grammars();
    for prompt in [&[BOS][..], &[THE], &[BOS, UNUSED]] {
        for text in ["the", " the", "the the", "  the"] {
            assert_eq!(texts(&grammars, prompt, text), [text], "{prompt:?}");
        }
    }
}

#[test]
fn tokens_without_text_are_never_allowed() {
    let grammars = grammars();
    for prompt in [BOS, THE] {
        let mut any = after(&grammars, &[prompt], "(.|\\n)*");
        assert_eq!(allowed(&mut any), [END, SPACE, T, 5, 6, THE_AFTER_SPACE, THE, T_AFTER_SPACE]);
    }
}
