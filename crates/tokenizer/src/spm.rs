//! SentencePiece BPE with byte fallback: text -> ids by scores.
//!
//! Kudo and Richardson, arXiv 1808.06226. A text starts as its characters; of all neighbours that together are a token the
//! one of highest score is joined, again and again; characters that are no token become their bytes. There is no
//! pre-tokeniser.

use std::borrow::Cow;

use crate::error::TokenizerError;
use crate::merge::{Join, NONE, Rules, Scratch, Symbol};
use crate::vocab::Vocab;
use crate::words::{KnownWords, SpaceCuts, WordEncoder, WordRules};

/// SentencePiece's merging.
#[derive(Debug)]
pub(crate) struct Spm {
    /// By id: tokens of lesser key are joined first.
    keys: Vec<u32>,
    known: KnownWords,
    cuts: SpaceCuts,
    /// Are runs of spaces one, and those at both ends none?
    remove_extra_whitespaces: bool,
}

impl Spm {
    /// Over `vocab`, with which it must be used; `scores` has one entry a token.
    pub(crate) fn new(
        vocab: &Vocab,
        scores: &[f32],
        remove_extra_whitespaces: bool,
    ) -> Result<Spm, TokenizerError> {
        let key = |(id, &score): (usize, &f32)| {
            if score.is_nan() {
                return Err(TokenizerError::Value {
                    key: format!("tokenizer.ggml.scores[{id}]"),
                    expected: "a number".to_owned(),
                    found: "not a number".to_owned(),
                });
            }
            // Ascending bits for ascending numbers, then turned round: the highest score is the least key. Adding zero makes
            // the two zeros one.
            let bits = (score + 0.0).to_bits();
            let ascending = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
            Ok(!ascending)
        };
        let keys = scores.iter().enumerate().map(key).collect::<Result<Vec<u32>, _>>()?;
        let known = KnownWords::new(vocab.len(), false);
        Ok(Spm { keys, known, cuts: SpaceCuts::new(vocab), remove_extra_whitespaces })
    }

    /// Appends the ids of a text without special tokens, with a space before it if `prefix`.
    pub(crate) fn encode(&self, vocab: &Vocab, unknown: Option<u32>, text: Text<'_>, out: &mut Vec<u32>) {
        let text = text.prepared(self.remove_extra_whitespaces);
        let rules = Lookup { vocab, keys: &self.keys };
        let words = WordEncoder { vocab, rules: &rules, known: &self.known, unknown };
        let mut scratch = Scratch::default();
        self.cuts.split(text.as_bytes(), |word| words.encode(word, &mut scratch, out));
    }
}

/// A stretch of text between special tokens.
#[derive(Clone, Copy)]
pub(crate) struct Text<'a> {
    pub(crate) text: &'a str,
    /// Does a space come first?
    pub(crate) prefix: bool,
}

impl<'a> Text<'a> {
    /// SentencePiece writes a space as U+2581 and so cannot tell the two apart: both are a space here.
    pub(crate) fn prepared(&self, remove_extra_whitespaces: bool) -> Cow<'a, str> {
        if remove_extra_whitespaces {
            let mut text = String::with_capacity(self.text.len() + 1);
            for word in self.text.split([' ', '\u{2581}']).filter(|word| !word.is_empty()) {
                if self.prefix || !text.is_empty() {
                    text.push(' ');
                }
                text.push_str(word);
            }
            Cow::Owned(text)
        } else if self.prefix || self.text.contains('\u{2581}') {
            let mut text = String::with_capacity(self.text.len() + 1);
            if self.prefix {
                text.push(' ');
            }
            let mut parts = self.text.split('\u{2581}');
            text.push_str(parts.next().unwrap_or_default());
            for part in parts {
                text.push(' ');
                text.push_str(part);
            }
            Cow::Owned(text)
        } else {
            Cow::Borrowed(self.text)
        }
    }
}

struct Lookup<'a> {
    vocab: &'a Vocab,
    keys: &'a [u32],
}

impl Rules for Lookup<'_> {
    #[inline]
    fn join(&self, word: &[u8], left: Symbol, right: Symbol) -> Option<Join> {
        let start = left.start as usize;
        let id = self.vocab.id_of(word.get(start..start + left.len as usize + right.len as usize)?)?;
        Some(Join { key: *self.keys.get(id as usize)?, id })
    }
}

impl WordRules for Lookup<'_> {
    fn start(&self, word: &[u8], scratch: &mut Scratch) {
        scratch.symbols.clear();
        let mut start = 0;
        while let Some(&first) = word.get(start) {
            let len = match first {
                0..0xc0 => 1,
                0xc0..0xe0 => 2,
                0xe0..0xf0 => 3,
                _ => 4,
            }
            .min(word.len() - start);
            let id = word.get(start..start + len).and_then(|c| self.vocab.id_of(c)).unwrap_or(NONE);
            scratch.symbols.push(Symbol { id, start: start as u32, len: len as u32 });
            start += len;
        }
    }
}
