//! Where do runs of one kind of character stand? The simple stages of pre-tokenisers made of several.
//!
//! Such a stage cuts its text into runs of members and the gaps between them (Hugging Face's `Split` with the behaviour
//! Isolated). The character sets are those of the models' published tokenizer.json files.

use unicode_general_category::{GeneralCategory, get_general_category};

use super::class::{LETTER, NUMBER, PUNCTUATION, class};

/// `BX{1,longest}` or `X{1,longest}`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// X.
    pub(super) member: fn(char) -> bool,
    /// B: which one character may stand before the run?
    pub(super) before: fn(char) -> bool,
    /// The most members in a run.
    pub(super) longest: usize,
}

/// The end of a run that starts exactly at `at`.
pub(super) fn run_at(text: &str, at: usize, rule: Run) -> Option<usize> {
    let rest = text.get(at..)?;
    let mut chars = rest.chars();
    let first = chars.next()?;
    if (rule.before)(first) {
        let length = members(chars.as_str(), rule);
        if length > 0 {
            return Some(at + first.len_utf8() + length);
        }
    }
    let length = members(rest, rule);
    (length > 0).then_some(at + length)
}

fn members(text: &str, rule: Run) -> usize {
    text.chars().take(rule.longest).take_while(|&c| (rule.member)(c)).map(char::len_utf8).sum()
}

/// The end of a run from `at` of the first of the sets that the character there is in.
pub(super) fn first_run_at(text: &str, at: usize, sets: &[fn(char) -> bool]) -> Option<usize> {
    let rest = text.get(at..)?;
    let first = rest.chars().next()?;
    let member = sets.iter().find(|member| member(first))?;
    let length: usize = rest.chars().take_while(|&c| member(c)).map(char::len_utf8).sum();
    Some(at + length)
}

/// `(?=(\d{3})+(?!\d))`: cuts where the number of digits that follow is a multiple of three.
pub(super) fn thousands(text: &str, each: &mut dyn FnMut(&str)) {
    let (mut piece, mut digits) = (0, 0);
    for (at, _) in text.char_indices() {
        if digits == 0 {
            digits = text.get(at..).unwrap_or_default().chars().take_while(|&c| is_decimal(c)).count();
        }
        if digits > 0 && digits % 3 == 0 && at > piece {
            each(text.get(piece..at).unwrap_or_default());
            piece = at;
        }
        digits = digits.saturating_sub(1);
    }
    if piece < text.len() {
        each(text.get(piece..).unwrap_or_default());
    }
}

/// `[0-9][0-9][0-9]`.
pub(super) fn three_digits(text: &str, at: usize) -> Option<usize> {
    let three = text.as_bytes().get(at..at + 3)?;
    three.iter().all(u8::is_ascii_digit).then_some(at + 3)
}

pub(super) fn is_number(c: char) -> bool {
    class(c) & NUMBER != 0
}

pub(super) fn is_letter(c: char) -> bool {
    class(c) & LETTER != 0
}

pub(super) fn is_punctuation(c: char) -> bool {
    class(c) & PUNCTUATION != 0
}

pub(super) fn is_newline(c: char) -> bool {
    matches!(c, '\r' | '\n')
}

pub(super) fn is_line_feed(c: char) -> bool {
    c == '\n'
}

/// `\d`.
fn is_decimal(c: char) -> bool {
    class(c) & NUMBER != 0 && get_general_category(c) == GeneralCategory::DecimalNumber
}

/// BLOOM: `[^(\s|[.,!?…。，、।۔،])]`, which Hugging Face's library reads as one set with another in it.
pub(super) fn is_bloom_word(c: char) -> bool {
    let apart =
        matches!(c, '(' | '|' | ')' | '.' | ',' | '!' | '?' | '…' | '。' | '，' | '、' | '।' | '۔' | '،');
    !apart && !c.is_whitespace()
}

/// Youtu: `[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥぀-ゟ゠-ヿ]+`.
pub(super) const YOUTU: [fn(char) -> bool; 4] = [
    |c| matches!(c, '가'..='힣' | 'ㄱ'..='ㆎ'),
    |c| {
        matches!(
            c,
            '！' | '…' | '“' | '”' | '‘' | '’' | '—' | '：' | '；' | '，' | '、'..='〿' | '︰'..='﹏'
        )
    },
    |c| matches!(c, 'ㄅ'..='ㄯ'),
    is_han_or_kana,
];

/// `\p{Han}`: the script Han of Unicode 16.
pub(super) fn is_han(c: char) -> bool {
    matches!(
        c,
        '\u{2e80}'..='\u{2e99}' | '\u{2e9b}'..='\u{2ef3}' | '\u{2f00}'..='\u{2fd5}' | '\u{3005}' | '\u{3007}'
        | '\u{3021}'..='\u{3029}' | '\u{3038}'..='\u{303b}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}'
        | '\u{f900}'..='\u{fa6d}' | '\u{fa70}'..='\u{fad9}' | '\u{16fe2}'..='\u{16fe3}' | '\u{16ff0}'..='\u{16ff1}'
        | '\u{20000}'..='\u{2a6df}' | '\u{2a700}'..='\u{2b739}' | '\u{2b740}'..='\u{2b81d}' | '\u{2b820}'..='\u{2cea1}'
        | '\u{2ceb0}'..='\u{2ebe0}' | '\u{2ebf0}'..='\u{2ee5d}' | '\u{2f800}'..='\u{2fa1d}' | '\u{30000}'..='\u{3134a}'
        | '\u{31350}'..='\u{323af}'
    )
}

/// Falcon: `[\p{P}\$\+<=>\^~\|`]`.
pub(super) fn is_falcon_punctuation(c: char) -> bool {
    is_punctuation(c) || matches!(c, '$' | '+' | '<' | '=' | '>' | '^' | '~' | '|' | '`')
}

/// DeepSeek LLM and Coder: `[一-龥ࠀ-一가-퟿]`.
pub(super) fn is_deepseek_east_asian(c: char) -> bool {
    matches!(c, '\u{800}'..='\u{9fa5}' | '\u{ac00}'..='\u{d7ff}')
}

/// DeepSeek V3: `[一-龥぀-ゟ゠-ヿ]`.
pub(super) fn is_han_or_kana(c: char) -> bool {
    matches!(c, '\u{4e00}'..='\u{9fa5}' | '\u{3040}'..='\u{30ff}')
}

/// DeepSeek LLM: `[!-/:-~！-／：-～‘-‟　-。]`.
pub(super) fn is_deepseek_punctuation(c: char) -> bool {
    matches!(c, '!'..='/' | ':'..='~' | '！'..='／' | '：'..='～' | '‘'..='‟' | '\u{3000}'..='。')
}

/// DeepSeek LLM's letters: the cased scripts, spelt out in its tokenizer.json.
pub(super) fn is_deepseek_letter(c: char) -> bool {
    let place = DEEPSEEK_LETTERS.partition_point(|&(_, last)| last < c);
    DEEPSEEK_LETTERS.get(place).is_some_and(|&(first, _)| first <= c)
}

#[rustfmt::skip]
const DEEPSEEK_LETTERS: [(char, char); 87] = [
    ('\u{41}', '\u{5a}'), ('\u{61}', '\u{7a}'), ('\u{b5}', '\u{b5}'), ('\u{c0}', '\u{d6}'),
    ('\u{d8}', '\u{f6}'), ('\u{f8}', '\u{1ba}'), ('\u{1bc}', '\u{1bf}'), ('\u{1c4}', '\u{293}'),
    ('\u{295}', '\u{2af}'), ('\u{370}', '\u{373}'), ('\u{376}', '\u{376}'), ('\u{377}', '\u{377}'),
    ('\u{37b}', '\u{37d}'), ('\u{37f}', '\u{37f}'), ('\u{386}', '\u{386}'), ('\u{388}', '\u{38a}'),
    ('\u{38c}', '\u{38c}'), ('\u{38e}', '\u{3a1}'), ('\u{3a3}', '\u{3f5}'), ('\u{3f7}', '\u{481}'),
    ('\u{48a}', '\u{52f}'), ('\u{531}', '\u{556}'), ('\u{10a0}', '\u{10c5}'), ('\u{13a0}', '\u{13f5}'),
    ('\u{13f8}', '\u{13fd}'), ('\u{1c90}', '\u{1cba}'), ('\u{1cbd}', '\u{1cbf}'), ('\u{1d00}', '\u{1d2b}'),
    ('\u{1d6b}', '\u{1d77}'), ('\u{1d79}', '\u{1d9a}'), ('\u{1e00}', '\u{1f15}'), ('\u{1f18}', '\u{1f1d}'),
    ('\u{1f20}', '\u{1f45}'), ('\u{1f48}', '\u{1f4d}'), ('\u{1f50}', '\u{1f57}'), ('\u{1f59}', '\u{1f59}'),
    ('\u{1f5b}', '\u{1f5b}'), ('\u{1f5d}', '\u{1f5d}'), ('\u{1f5f}', '\u{1f7d}'), ('\u{1f80}', '\u{1fb4}'),
    ('\u{1fb6}', '\u{1fbc}'), ('\u{1fbe}', '\u{1fbe}'), ('\u{1fc2}', '\u{1fc4}'), ('\u{1fc6}', '\u{1fcc}'),
    ('\u{1fd0}', '\u{1fd3}'), ('\u{1fd6}', '\u{1fdb}'), ('\u{1fe0}', '\u{1fec}'), ('\u{1ff2}', '\u{1ff4}'),
    ('\u{1ff6}', '\u{1ffc}'), ('\u{2102}', '\u{2102}'), ('\u{2107}', '\u{2107}'), ('\u{210a}', '\u{2113}'),
    ('\u{2115}', '\u{2115}'), ('\u{2119}', '\u{211d}'), ('\u{2124}', '\u{2124}'), ('\u{2126}', '\u{2126}'),
    ('\u{2128}', '\u{2128}'), ('\u{212a}', '\u{212d}'), ('\u{212f}', '\u{2134}'), ('\u{2139}', '\u{2139}'),
    ('\u{213c}', '\u{213f}'), ('\u{2145}', '\u{2149}'), ('\u{214e}', '\u{214e}'), ('\u{2183}', '\u{2183}'),
    ('\u{2184}', '\u{2184}'), ('\u{2c00}', '\u{2c7b}'), ('\u{2c7e}', '\u{2ce4}'), ('\u{2ceb}', '\u{2cee}'),
    ('\u{2cf2}', '\u{2cf2}'), ('\u{2cf3}', '\u{2cf3}'), ('\u{a640}', '\u{a66d}'), ('\u{a680}', '\u{a69b}'),
    ('\u{a722}', '\u{a76f}'), ('\u{a771}', '\u{a787}'), ('\u{a78b}', '\u{a78e}'), ('\u{ab70}', '\u{abbf}'),
    ('\u{fb00}', '\u{fb06}'), ('\u{fb13}', '\u{fb17}'), ('\u{ff21}', '\u{ff3a}'), ('\u{ff41}', '\u{ff5a}'),
    ('\u{10400}', '\u{1044f}'), ('\u{104b0}', '\u{104d3}'), ('\u{104d8}', '\u{104fb}'),
    ('\u{10c80}', '\u{10cb2}'), ('\u{10cc0}', '\u{10cf2}'), ('\u{118a0}', '\u{118df}'),
    ('\u{1e900}', '\u{1e943}'),
];
