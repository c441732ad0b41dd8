//! Where in a text do special tokens stand?
//!
//! Leftmost, and of those that start at one place the longest, found in one pass with an Aho-Corasick automaton. User-defined
//! tokens are always matched; control tokens only where the caller asks, so that a user's text cannot speak for the template.
//!
//! In a rendered conversation the two are told apart by a mark, U+10FFFE, which Unicode reserves for such uses: the template's own
//! control tokens have it before their names, and it is taken out of everything else. Nothing that a template does to a user's text
//! can make one, whatever it cuts, joins, replaces or writes in small letters.

use std::borrow::Cow;
use std::collections::HashSet;

use aho_corasick::{AhoCorasick, AhoCorasickKind, Anchored, Input, MatchKind, StartKind};

use crate::error::TokenizerError;
use crate::limits::MAX_SPECIAL_BYTES;
use crate::vocab::{TokenKind, Vocab};

/// Stands before the name of a control token that the template wrote.
pub(crate) const MARK: char = '\u{10FFFE}';

/// Bytes of the starts of names that a template may complete from a variable, such as `'<|' + role + '|>'`.
const START_BYTES: std::ops::RangeInclusive<usize> = 2..=4;

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
    /// By pattern: is it only a token where the caller asks?
    controls: Vec<bool>,
    /// Bytes of the longest name.
    longest: usize,
    /// How names of control tokens start.
    starts: HashSet<Vec<u8>>,
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

    /// A template's text with [`MARK`] before each name of a control token, and before each start of one at the end of a literal.
    pub(crate) fn mark(&self, source: &str) -> String {
        let source = unmarked(source);
        let Some(set) = &self.all else { return source.into_owned() };
        let mut marked = String::with_capacity(source.len() + 256);
        let mut start = 0;
        let names = set.automaton.find_iter(source.as_ref());
        for found in names.filter(|found| set.controls.get(found.pattern().as_usize()) == Some(&true)) {
            if let (Some(before), Some(name)) = (source.get(start..found.start()), source.get(found.range()))
            {
                set.mark_starts(before, &mut marked);
                marked.push(MARK);
                marked.push_str(name);
                start = found.end();
            }
        }
        set.mark_starts(source.get(start..).unwrap_or_default(), &mut marked);
        marked
    }

    /// As [`split`](SpecialMatcher::split), but of control tokens only those behind a [`MARK`]; marks are part of nothing.
    pub(crate) fn split_marked(&self, text: &str, mut each: impl FnMut(Piece<'_>)) {
        let (mut start, mut from) = (0, 0);
        while let Some(set) = &self.all
            && let Some(mark) = text.get(from..).and_then(|rest| rest.find(MARK)).map(|at| from + at)
        {
            from = mark + MARK.len_utf8();
            let Some((pattern, end)) = set.control_at(text, from) else { continue };
            let (Some(before), Some(&id)) = (text.get(start..mark), set.ids.get(pattern)) else { continue };
            self.split(&unmarked(before), false, &mut each);
            each(Piece::Special(id));
            start = end;
            if set.strips.get(pattern) == Some(&true)
                && let Some(rest) = text.get(start..)
            {
                start += rest.len() - rest.trim_start().len();
            }
            from = start;
        }
        self.split(&unmarked(text.get(start..).unwrap_or_default()), false, &mut each);
    }
}

/// A text without marks.
pub(crate) fn unmarked(text: &str) -> Cow<'_, str> {
    if text.contains(MARK) { Cow::Owned(text.replace(MARK, "")) } else { Cow::Borrowed(text) }
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
            .start_kind(StartKind::Both)
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(&patterns)
            .map_err(|_| too_large(()))?;
        let strips = ids.iter().map(|&id| strips(id)).collect();
        let controls: Vec<bool> =
            ids.iter().map(|&id| vocab.kind(id) != Some(TokenKind::UserDefined)).collect();
        let longest = patterns.iter().map(|bytes| bytes.len()).max().unwrap_or(0);
        let starts = patterns.iter().zip(&controls).filter(|(_, control)| **control);
        let starts =
            starts.flat_map(|(name, _)| START_BYTES.filter_map(|n| Some(name.get(..n)?.to_vec()))).collect();
        Ok(Some(Set { automaton, ids, strips, controls, longest, starts }))
    }

    /// The control token whose name stands at this place: its pattern and its end.
    fn control_at(&self, text: &str, at: usize) -> Option<(usize, usize)> {
        let end = text.len().min(at.saturating_add(self.longest));
        let input = Input::new(text).span(at..end).anchored(Anchored::Yes);
        let found = self.automaton.find(input)?;
        let pattern = found.pattern().as_usize();
        (self.controls.get(pattern) == Some(&true)).then_some((pattern, found.end()))
    }

    /// Marks the starts of names at the ends of literals in a part of a template that has no whole name.
    fn mark_starts(&self, text: &str, marked: &mut String) {
        let bytes = text.as_bytes();
        let mut copied = 0;
        for end in START_BYTES.start().to_owned()..bytes.len() {
            let ends_literal = matches!(bytes.get(end..), Some([b'\'' | b'"', ..] | [b'{', b'{' | b'%', ..]));
            if !ends_literal {
                continue;
            }
            let is_start = |n: &usize| {
                end >= copied + n && bytes.get(end - n..end).is_some_and(|b| self.starts.contains(b))
            };
            if let Some(n) = START_BYTES.rev().find(is_start)
                && let Some(before) = text.get(copied..end - n)
            {
                marked.push_str(before);
                marked.push(MARK);
                copied = end - n;
            }
        }
        marked.push_str(text.get(copied..).unwrap_or_default());
    }
}
