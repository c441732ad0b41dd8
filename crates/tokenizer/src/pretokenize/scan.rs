//! Where does the next word end? The published splitting patterns as hand-written scanners.
//!
//! Each scanner is the exact meaning of one regular expression (Perl order: first alternative that matches, greedy
//! repetition), written so that a text is looked at a constant number of times: no backtracking over a run. The patterns are
//! those of the models' published tokenizer.json files; positions are byte offsets.

use super::class::{
    LETTER, LOWER, MARK, NEWLINE, NUMBER, PUNCTUATION, SLASH, SPACE, SYMBOL, UNCASED, UPPER, ascii_class,
    class,
};
use super::runs::is_han;

/// The parameters of the Llama 3 pattern and its kin.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words {
    /// Are letters told apart by case, as in `[\p{Lu}..]*[\p{Ll}..]+`?
    pub(super) cased: bool,
    /// Do marks belong to words, as letters do?
    pub(super) marks: bool,
    /// Are Han characters words apart from all others, whatever else could take them?
    pub(super) han_apart: bool,
    /// `(?i:'s|'t|'re|'ve|'m|'ll|'d)`: before anything else, or with `cased` as a word's ending.
    pub(super) contractions: bool,
    /// The longest run of `\p{N}` that is one piece.
    pub(super) digits: usize,
    /// What may follow a run of punctuation: `[\r\n]*` or `[\r\n/]*`.
    pub(super) tail: u16,
}

/// How line breaks are cut in DeepSeek V3's pattern and its kin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lines {
    /// `[\r\n]*` after punctuation, else `\s*[\r\n]+`.
    Joined,
    /// `[\r\n]`.
    Single,
}

/// `[\r\n]*`.
pub(super) const TAIL_NEWLINES: u16 = NEWLINE;
/// `[\r\n/]*`.
pub(super) const TAIL_NEWLINES_AND_SLASHES: u16 = NEWLINE | SLASH;

/// The classes of the character at `at` and the offset after it; none at the end.
#[inline]
fn look(text: &str, at: usize) -> Option<(u16, usize)> {
    let byte = *text.as_bytes().get(at)?;
    if let Some(bits) = ascii_class(byte) {
        return Some((bits, at + 1));
    }
    let c = text.get(at..)?.chars().next()?;
    Some((class(c), at + c.len_utf8()))
}

/// The end of the longest run from `at` whose characters have one of the classes.
#[inline]
fn run(text: &str, mut at: usize, any_of: u16) -> usize {
    while let Some((bits, next)) = look(text, at) {
        if bits & any_of == 0 {
            break;
        }
        at = next;
    }
    at
}

/// The end of the longest run from `at` whose characters have none of the classes.
#[inline]
fn run_without(text: &str, mut at: usize, none_of: u16) -> usize {
    while let Some((bits, next)) = look(text, at) {
        if bits & none_of != 0 {
            break;
        }
        at = next;
    }
    at
}

/// `\s+(?!\S)|\s+` at a white space character: all of the run at the end of the text, else all but its last character.
fn spaces(text: &str, at: usize) -> usize {
    let mut last = at;
    let mut end = at;
    while let Some((bits, next)) = look(text, end) {
        if bits & SPACE == 0 {
            return if last > at { last } else { end };
        }
        last = end;
        end = next;
    }
    end
}

/// `\s*[\r\n]+` at a white space character: up to the last line break of the run, if there is one.
fn lines(text: &str, at: usize) -> Option<usize> {
    let mut found = None;
    let mut end = at;
    while let Some((bits, next)) = look(text, end) {
        if bits & SPACE == 0 {
            break;
        }
        if bits & NEWLINE != 0 {
            found = Some(next);
        }
        end = next;
    }
    found
}

/// The end of `'s|'t|'re|'ve|'m|'ll|'d` at `at`. Without regard to case, `s` is also U+017F (Unicode's simple case folding).
fn contraction(text: &str, at: usize, any_case: bool) -> Option<usize> {
    let bytes = text.as_bytes();
    if *bytes.get(at)? != b'\'' {
        return None;
    }
    let fold = |byte: u8| if any_case { byte.to_ascii_lowercase() } else { byte };
    let first = fold(*bytes.get(at + 1)?);
    if matches!(first, b's' | b't' | b'm' | b'd') {
        return Some(at + 2);
    }
    if any_case && bytes.get(at + 1..at + 3) == Some("\u{17f}".as_bytes()) {
        return Some(at + 3);
    }
    let second = fold(*bytes.get(at + 2)?);
    matches!((first, second), (b'r' | b'v', b'e') | (b'l', b'l')).then_some(at + 3)
}

/// GPT-2: `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`. Matches everywhere.
pub(super) fn gpt2(text: &str, at: usize) -> usize {
    if let Some(end) = contraction(text, at, false) {
        return end;
    }
    let Some((mut bits, mut after)) = look(text, at) else { return at };
    if text.as_bytes().get(at) == Some(&b' ')
        && let Some((next_bits, next)) = look(text, after)
        && next_bits & SPACE == 0
    {
        (bits, after) = (next_bits, next);
    }
    if bits & LETTER != 0 {
        run(text, after, LETTER)
    } else if bits & NUMBER != 0 {
        run(text, after, NUMBER)
    } else if bits & SPACE == 0 {
        run_without(text, after, SPACE | LETTER | NUMBER)
    } else {
        spaces(text, at)
    }
}

/// Llama 3, Qwen 2, GPT-4o, Tekken, Kimi K2: see [`Words`]. Matches everywhere.
///
/// `(?i:'s|..)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
pub(super) fn words(text: &str, at: usize, rule: Words) -> usize {
    if rule.han_apart {
        let end = han(text, at);
        if end > at {
            return end;
        }
    }
    if rule.contractions
        && !rule.cased
        && let Some(end) = contraction(text, at, true)
    {
        return end;
    }
    let Some((bits, after)) = look(text, at) else { return at };
    // The one character of `[^\r\n\p{L}\p{N}]?` that may stand before a word.
    let prefix = bits & (NEWLINE | LETTER | NUMBER) == 0;
    if rule.cased {
        if let Some(end) = cased_word(text, at, prefix.then_some(after), rule.han_apart) {
            return if rule.contractions { contraction(text, end, true).unwrap_or(end) } else { end };
        }
    } else {
        let word = if rule.marks { LETTER | MARK } else { LETTER };
        if prefix {
            let end = run(text, after, word);
            if end > after {
                return end;
            }
        }
        if bits & word != 0 {
            return run(text, after, word);
        }
    }
    if bits & NUMBER != 0 {
        let mut end = after;
        for _ in 1..rule.digits {
            match look(text, end) {
                Some((next_bits, next)) if next_bits & NUMBER != 0 => end = next,
                _ => break,
            }
        }
        return end;
    }
    let not_here = SPACE | LETTER | NUMBER | if rule.marks && !rule.cased { MARK } else { 0 };
    let from = if text.as_bytes().get(at) == Some(&b' ') { after } else { at };
    let end = run_without(text, from, not_here);
    if end > from {
        return run(text, end, rule.tail);
    }
    lines(text, at).unwrap_or_else(|| if bits & SPACE != 0 { spaces(text, at) } else { after })
}

/// `\p{Han}*`.
fn han(text: &str, at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    at + rest.chars().take_while(|&c| is_han(c)).map(char::len_utf8).sum::<usize>()
}

/// With U = `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]` and L = `[\p{Ll}\p{Lm}\p{Lo}\p{M}]`, both without Han characters if those stand
/// apart: `P?U*L+|P?U+L*`, where P is the character before `after_prefix`.
fn cased_word(text: &str, at: usize, after_prefix: Option<usize>, han_apart: bool) -> Option<usize> {
    after_prefix
        .and_then(|start| lower_ending(text, start, han_apart))
        .or_else(|| lower_ending(text, at, han_apart))
        .or_else(|| after_prefix.and_then(|start| upper_run(text, start, han_apart)))
        .or_else(|| upper_run(text, at, han_apart))
}

const TO_UPPER: u16 = UPPER | UNCASED | MARK;
const TO_LOWER: u16 = LOWER | UNCASED | MARK;

/// As [`look`], but none where a Han character stands and those are apart.
#[inline]
fn look_in_word(text: &str, at: usize, han_apart: bool) -> Option<(u16, usize)> {
    let found = look(text, at)?;
    let may_be_han = han_apart && found.0 & (UNCASED | MARK) != 0;
    (!may_be_han || han(text.get(..found.1)?, at) == at).then_some(found)
}

/// `U*L+`. U* takes all it can; where no L follows, it gives back up to the last of its characters that is also an L.
fn lower_ending(text: &str, start: usize, han_apart: bool) -> Option<usize> {
    let mut at = start;
    let mut last_lower = None;
    while let Some((bits, next)) = look_in_word(text, at, han_apart) {
        if bits & TO_UPPER == 0 {
            break;
        }
        if bits & TO_LOWER != 0 {
            last_lower = Some(next);
        }
        at = next;
    }
    let end = run_in_word(text, at, TO_LOWER, han_apart);
    if end > at { Some(end) } else { last_lower }
}

/// `U+L*` where `U*L+` did not match, so that no L follows.
fn upper_run(text: &str, start: usize, han_apart: bool) -> Option<usize> {
    let end = run_in_word(text, start, TO_UPPER, han_apart);
    (end > start).then_some(end)
}

#[inline]
fn run_in_word(text: &str, mut at: usize, any_of: u16, han_apart: bool) -> usize {
    while let Some((bits, next)) = look_in_word(text, at, han_apart) {
        if bits & any_of == 0 {
            break;
        }
        at = next;
    }
    at
}

/// DeepSeek V3 and Spark 2.5, after numbers and East Asian runs were split off. Not every character is matched.
///
/// `[!-/:-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
pub(super) fn deepseek_v3(text: &str, at: usize, lines_are: Lines) -> Option<usize> {
    let bytes = text.as_bytes();
    let (bits, after) = look(text, at)?;
    if bytes.get(at).is_some_and(u8::is_ascii_punctuation) {
        let letters = bytes.get(after..)?.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
        if letters > 0 {
            return Some(after + letters);
        }
    }
    if bits & (NEWLINE | LETTER | PUNCTUATION | SYMBOL) == 0 {
        let end = run(text, after, LETTER | MARK);
        if end > after {
            return Some(end);
        }
    }
    if bits & (LETTER | MARK) != 0 {
        return Some(run(text, after, LETTER | MARK));
    }
    let from = if bytes.get(at) == Some(&b' ') { after } else { at };
    let end = run(text, from, PUNCTUATION | SYMBOL);
    if end > from {
        return Some(if lines_are == Lines::Joined { run(text, end, NEWLINE) } else { end });
    }
    if lines_are == Lines::Single {
        let whole = bits & NEWLINE != 0;
        return (bits & SPACE != 0).then(|| if whole { after } else { spaces(text, at) });
    }
    (bits & SPACE != 0).then(|| lines(text, at).unwrap_or_else(|| spaces(text, at)))
}
