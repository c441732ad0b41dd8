//! Into which words is a text cut before merging? One recipe for each name that `tokenizer.ggml.pre` may have.
//!
//! A byte-level BPE never merges across these cuts, so a wrong recipe gives wrong ids without any error. A recipe is a list of
//! stages, each cutting the pieces of the one before, taken from the models' published tokenizer.json files (their regular
//! expressions are quoted at the scanners). Time is linear in the text: a stage looks at each character a constant number
//! of times.

mod class;
mod runs;
mod scan;

use runs::Run;
use scan::{TAIL_NEWLINES, TAIL_NEWLINES_AND_SLASHES, Words};

/// One way of cutting pieces into smaller ones.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Gpt2,
    Words(Words),
    DeepseekV3,
    Isolate(Run),
    ThreeDigits,
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

const DIGIT: Stage = isolate(runs::is_number, false, 1);
const NUMBER: Stage = isolate(runs::is_number, false, usize::MAX);
const THREE_NUMBERS: Stage = isolate(runs::is_number, false, 3);
const NEWLINE: Stage = isolate(runs::is_newline, false, 1);

const LLAMA3: Words =
    Words { cased: false, marks: false, contractions: true, digits: 3, tail: TAIL_NEWLINES };
const QWEN2: Words = Words { digits: 1, ..LLAMA3 };
const GPT4O: Words = Words { cased: true, tail: TAIL_NEWLINES_AND_SLASHES, ..LLAMA3 };

const MINICPM5: &[Stage] = &[THREE_NUMBERS, Stage::Words(Words { digits: usize::MAX, ..LLAMA3 })];

const DEEPSEEK_LLM: &[Stage] = &[
    NEWLINE,
    isolate(runs::is_deepseek_letter, true, usize::MAX),
    isolate(runs::is_deepseek_punctuation, true, usize::MAX),
    Stage::TrailingSpace,
    isolate(runs::is_deepseek_east_asian, false, usize::MAX),
    NUMBER,
];
const DEEPSEEK_CODER: &[Stage] = &[
    NEWLINE,
    isolate(runs::is_letter, true, usize::MAX),
    isolate(runs::is_punctuation, true, usize::MAX),
    isolate(runs::is_deepseek_east_asian, false, usize::MAX),
    DIGIT,
];
const DEEPSEEK_V3: &[Stage] =
    &[THREE_NUMBERS, isolate(runs::is_han_or_kana, false, usize::MAX), Stage::DeepseekV3];
const FALCON: &[Stage] =
    &[isolate(runs::is_falcon_punctuation, false, usize::MAX), Stage::Gpt2, Stage::ThreeDigits];

const fn isolate(member: fn(char) -> bool, space_before: bool, longest: usize) -> Stage {
    Stage::Isolate(Run { member, space_before, longest })
}

const fn plain(stages: &'static [Stage]) -> PreTokenizer {
    PreTokenizer { stages, nfc: false, ignore_merges: false, add_bos: false }
}

/// The recipe that stands in for a name that is unknown or missing: GPT-2's.
pub(crate) const FALLBACK: PreTokenizer = plain(&[Stage::Gpt2]);
/// The name of [`FALLBACK`].
pub(crate) const FALLBACK_NAME: &str = "gpt-2";

impl PreTokenizer {
    /// The recipe of a `tokenizer.ggml.pre`.
    pub(crate) fn by_name(name: &str) -> Option<PreTokenizer> {
        let recipe = match name {
            "gpt-2" | "gpt2" | "phi-2" | "jina-es" | "jina-de" | "jina-v1-en" | "jina-v2-es"
            | "jina-v2-de" | "jina-v2-code" | "roberta-bpe" | "gigachat" | "a.x-4.0" | "mellum" | "jais"
            | "exaone4" | "trillion" | "granite-docling" => FALLBACK,
            "mpt" | "olmo" | "modern-bert" => PreTokenizer { nfc: true, ..FALLBACK },
            "starcoder" | "refact" | "command-r" | "smollm" | "codeshell" | "exaone" | "minerva-7b"
            | "mellum2" => plain(&[DIGIT, Stage::Gpt2]),
            "llama3" | "llama-v3" | "llama-bpe" | "falcon3" | "falcon-h1" | "pixtral" | "midm-2.0"
            | "lfm2" | "jina-v5-nano" => {
                PreTokenizer { ignore_merges: true, add_bos: true, ..plain(&[Stage::Words(LLAMA3)]) }
            }
            "dbrx" | "smaug-bpe" | "chatglm-bpe" => plain(&[Stage::Words(LLAMA3)]),
            "glm4" | "glm5" => PreTokenizer { ignore_merges: true, ..plain(&[Stage::Words(LLAMA3)]) },
            "minicpm5" => PreTokenizer { ignore_merges: true, ..plain(MINICPM5) },
            "qwen2" | "qwen2.5" | "qwen3" => PreTokenizer { nfc: true, ..plain(&[Stage::Words(QWEN2)]) },
            "qwen35" => plain(&[Stage::Words(Words { marks: true, ..QWEN2 })]),
            "deepseek-r1-qwen" | "stablelm2" | "hunyuan" | "solar-open" | "megrez" | "grok-2" | "kormo"
            | "f2llmv2" => plain(&[Stage::Words(QWEN2)]),
            "ufakzeka" => plain(&[Stage::Words(Words { contractions: false, ..QWEN2 })]),
            "gpt-4o" | "o200k" | "llama4" | "kanana2" | "talkie" | "minimax-m2" => {
                plain(&[Stage::Words(GPT4O)])
            }
            "granite-embed-multi-97m" => {
                PreTokenizer { ignore_merges: true, ..plain(&[Stage::Words(GPT4O)]) }
            }
            "tekken" => PreTokenizer {
                ignore_merges: true,
                add_bos: true,
                ..plain(&[Stage::Words(Words { contractions: false, digits: 1, ..GPT4O })])
            },
            "deepseek-llm" => plain(DEEPSEEK_LLM),
            "deepseek-coder" => plain(DEEPSEEK_CODER),
            "deepseek-v3" | "hunyuan-dense" | "joyai-llm" | "hy_v4" => plain(DEEPSEEK_V3),
            "falcon" => plain(FALCON),
            _ => return None,
        };
        Some(recipe)
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
        Stage::DeepseekV3 => cut_with(text, |at| scan::deepseek_v3(text, at), each),
        Stage::Isolate(rule) => cut_with(text, |at| runs::run_at(text, at, rule), each),
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

#[cfg(test)]
mod tests {
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
        check(
            "llama-bpe",
            "I'LL 12345 '\u{17f}x",
            expect![[r#"["I", "'LL", " ", "123", "45", " '", "ſx"]"#]],
        );
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
}
