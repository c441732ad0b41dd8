//! Where in a text do special tokens stand?
//!
//! Leftmost, and of those that start at one place the longest, found in one pass with an Aho-Corasick automaton. User-defined
//! tokens are always matched; control tokens only where the caller asks, so that a user's text cannot speak for the template.

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

use crate::error::TokenizerError;
use crate::limits::MAX_SPECIAL_BYTES;
use crate::vocab::{TokenKind, Vocab};

/// Finds special tokens in text.
#[derive(Debug, Default)]
pub(crate) struct SpecialMatcher {
    user_defined: Option<Set>,
    all: Option<Set>,
}

#[derive(Debug)]
struct Set {
    automaton: AhoCorasick,
    ids: Vec<u32>,
    /// By pattern: is white space after the token dropped?
    strips: Vec<bool>,
}

/// A part of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// Text without special tokens; never empty.
    Text(&'a str),
    /// A special token.
    Special(u32),
}

impl SpecialMatcher {
    /// `strips` says of which tokens the white space after them is dropped.
    pub(crate) fn new(vocab: &Vocab, strips: impl Fn(u32) -> bool) -> Result<SpecialMatcher, TokenizerError> {
        let set = |wanted: fn(TokenKind) -> bool| {
            let ids: Vec<u32> = (0..vocab.len() as u32)
                .filter(|&id| vocab.kind(id).is_some_and(wanted))
                .filter(|&id| vocab.bytes_of(id).is_some_and(|bytes| !bytes.is_empty()))
                .collect();
            Set::new(vocab, ids, &strips)
        };
        Ok(SpecialMatcher {
            user_defined: set(|kind| kind == TokenKind::UserDefined)?,
            all: set(|kind| {
                matches!(kind, TokenKind::UserDefined | TokenKind::Control | TokenKind::Unknown)
            })?,
        })
    }

    /// Calls `each` with the parts of `text` in order.
    pub(crate) fn split<'a>(&self, text: &'a str, parse_special: bool, mut each: impl FnMut(Piece<'a>)) {
        let mut start = 0;
        if let Some(set) = if parse_special { &self.all } else { &self.user_defined } {
            for found in set.automaton.find_iter(text) {
                // White space that the token before has taken may reach past this match.
                if found.start() < start {
                    continue;
                }
                let pattern = found.pattern().as_usize();
                let (Some(before), Some(&id)) = (text.get(start..found.start()), set.ids.get(pattern)) else {
                    continue;
                };
                if !before.is_empty() {
                    each(Piece::Text(before));
                }
                each(Piece::Special(id));
                start = found.end();
                if set.strips.get(pattern) == Some(&true)
                    && let Some(rest) = text.get(start..)
                {
                    start += rest.len() - rest.trim_start().len();
                }
            }
        }
        match text.get(start..) {
            Some(rest) if !rest.is_empty() => each(Piece::Text(rest)),
            _ => {}
        }
    }
}

impl Set {
    fn new(
        vocab: &Vocab,
        ids: Vec<u32>,
        strips: impl Fn(u32) -> bool,
    ) -> Result<Option<Set>, TokenizerError> {
        if ids.is_empty() {
            return Ok(None);
        }
        let patterns: Vec<&[u8]> = ids.iter().filter_map(|&id| vocab.bytes_of(id)).collect();
        let total: usize = patterns.iter().map(|bytes| bytes.len()).sum();
        let too_large = |_| TokenizerError::TooLarge {
            what: "bytes of special tokens",
            limit: MAX_SPECIAL_BYTES as u64,
            found: total as u64,
        };
        if total > MAX_SPECIAL_BYTES {
            return Err(too_large(()));
        }
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(&patterns)
            .map_err(|_| too_large(()))?;
        let strips = ids.iter().map(|&id| strips(id)).collect();
        Ok(Some(Set { automaton, ids, strips }))
    }
}
