//! Into which words is a text cut before merging? One recipe for each name that `tokenizer.ggml.pre` may have.
//!
//! A byte-level BPE never merges across these cuts, so a wrong recipe gives wrong ids without any error. A recipe is a list of
//! stages, each cutting the pieces of the one before, taken from the models' published tokenizer.json files (their regular
//! expressions are quoted at the scanners). Time is linear in the text: a stage looks at each character a constant number
//! of times.

mod class;
mod recipes;
mod runs;
mod scan;
#[cfg(test)]
mod tests;

pub(crate) use recipes::{FALLBACK, FALLBACK_NAME, UNSUPPORTED};

use recipes::RECIPES;
use runs::Run;
use scan::{Lines, Words};

/// One way of cutting pieces into smaller ones.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Gpt2,
    Words(Words),
    Deepseek(Lines),
    Isolate(Run),
    /// Runs of any of these sets, in this order.
    IsolateAny(&'static [fn(char) -> bool]),
    ThreeDigits,
    /// Digits in groups of three, counted from the end of their run.
    Thousands,
    TrailingSpace,
}

/// How a byte-level BPE prepares text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PreTokenizer {
    stages: &'static [Stage],
    /// Is text put into Unicode's composed form (NFC) first?
    pub(crate) nfc: bool,
    /// Is a whole word that is a token taken as it is, whatever the merges would make of it?
    pub(crate) ignore_merges: bool,
    /// Is BOS added where the file does not say?
    pub(crate) add_bos: bool,
}

impl PreTokenizer {
    /// The recipe of a `tokenizer.ggml.pre`.
    pub(crate) fn by_name(name: &str) -> Option<PreTokenizer> {
        RECIPES.iter().find(|(names, _)| names.contains(&name)).map(|(_, recipe)| *recipe)
    }

    /// The recipe that is exactly one of the published regular expressions.
    pub(crate) fn by_regex(regex: &str) -> Option<PreTokenizer> {
        const CONTRACTIONS: &str = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
        const REST: &str = r"\s*[\r\n]+|\s+(?!\S)|\s+";
        const CASED: [&str; 2] = [
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
        ];
        let words = |digits: &str| {
            format!(
                r"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{REST}"
            )
        };
        let cased = |ending: &str, digits: &str| {
            let [lower, upper] = CASED;
            format!(r"{lower}{ending}|{upper}{ending}|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{REST}")
        };
        let (one, three) = (r"\p{N}", r"\p{N}{1,3}");
        let known = [
            (words(three), "llama-bpe"),
            (words(one), "deepseek-r1-qwen"),
            (cased(&format!("{CONTRACTIONS}?"), three), "gpt-4o"),
            (cased("", one), "tekken"),
        ];
        let (_, name) = known.iter().find(|(pattern, _)| pattern == regex)?;
        PreTokenizer::by_name(name)
    }

    /// Calls `each` with the words of `text`, in order; together they are the text.
    pub(crate) fn split(&self, text: &str, each: &mut dyn FnMut(&str)) {
        split_by(self.stages, text, each);
    }
}

fn split_by(stages: &[Stage], text: &str, each: &mut dyn FnMut(&str)) {
    match stages {
        [] => each(text),
        [last] => cut(*last, text, each),
        [first, rest @ ..] => cut(*first, text, &mut |piece| split_by(rest, piece, each)),
    }
}

/// Cuts `text` at every match of the stage; what lies between two matches is a piece too.
#[inline]
fn cut(stage: Stage, text: &str, each: &mut dyn FnMut(&str)) {
    match stage {
        Stage::Gpt2 => cut_with(text, |at| Some(scan::gpt2(text, at)), each),
        Stage::Words(rule) => cut_with(text, |at| Some(scan::words(text, at, rule)), each),
        Stage::Deepseek(lines) => cut_with(text, |at| scan::deepseek_v3(text, at, lines), each),
        Stage::Isolate(rule) => cut_with(text, |at| runs::run_at(text, at, rule), each),
        Stage::IsolateAny(sets) => cut_with(text, |at| runs::first_run_at(text, at, sets), each),
        Stage::Thousands => runs::thousands(text, each),
        Stage::ThreeDigits => cut_with(text, |at| runs::three_digits(text, at), each),
        Stage::TrailingSpace => {
            let (head, tail) = text.split_at(text.trim_end().len());
            for piece in [head, tail] {
                if !piece.is_empty() {
                    each(piece);
                }
            }
        }
    }
}

#[inline]
fn cut_with(text: &str, matches: impl Fn(usize) -> Option<usize>, each: &mut dyn FnMut(&str)) {
    let mut piece_start = 0;
    let mut at = 0;
    while at < text.len() {
        match matches(at) {
            Some(end) if end > at => {
                emit(text, piece_start, at, each);
                emit(text, at, end, each);
                at = end;
                piece_start = end;
            }
            _ => at += text.get(at..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8),
        }
    }
    emit(text, piece_start, text.len(), each);
}

fn emit(text: &str, start: usize, end: usize, each: &mut dyn FnMut(&str)) {
    if let Some(piece) = text.get(start..end)
        && !piece.is_empty()
    {
        each(piece);
    }
}
