//! What is a character to Python? `str.isdigit()` and its kin, which follow Unicode's properties and not those of Rust's methods.

use unicode_general_category::{GeneralCategory as Category, get_general_category};

/// White space for `strip`, `split` and `isspace`.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Is a line broken here, as `splitlines` sees it?
pub(super) fn is_line_end(c: char) -> bool {
    matches!(c, '\n'..='\r' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

pub(super) fn is_alpha(c: char) -> bool {
    use Category::{LowercaseLetter, ModifierLetter, OtherLetter, TitlecaseLetter, UppercaseLetter};
    if c.is_ascii() {
        return c.is_ascii_alphabetic();
    }
    let category = get_general_category(c);
    matches!(category, LowercaseLetter | ModifierLetter | OtherLetter | TitlecaseLetter | UppercaseLetter)
}

pub(super) fn is_decimal(c: char) -> bool {
    c.is_ascii_digit() || (!c.is_ascii() && get_general_category(c) == Category::DecimalNumber)
}

/// Decimal digits and those, such as superscripts, that Unicode gives the type of digits.
pub(super) fn is_digit(c: char) -> bool {
    is_decimal(c)
        || matches!(u32::from(c),
            0xb2 | 0xb3 | 0xb9 | 0x1369..=0x1371 | 0x19da | 0x2070 | 0x2074..=0x2079 | 0x2080..=0x2089
            | 0x2460..=0x2468 | 0x2474..=0x247c | 0x2488..=0x2490 | 0x24ea | 0x24f5..=0x24fd | 0x24ff
            | 0x2776..=0x277e | 0x2780..=0x2788 | 0x278a..=0x2792 | 0x1_0a40..=0x1_0a43
            | 0x1_0e60..=0x1_0e68 | 0x1_1052..=0x1_105a | 0x1_f100..=0x1_f10a)
}

/// Letters that are numbers, as Unicode's database of Han characters has them.
const NUMERALS: &str = "㐅㒃㠪㭍一七万三九二五亖亿什仟仨伍佰億兆兩八六十千卄卅卌叁参參叄四壱壹幺廾廿弌弍弎弐拾捌柒漆玖百肆萬貮貳贰阡陆陌陸零\u{f96b}\u{f973}\u{f978}\u{f9b2}\u{f9d1}\u{f9d3}\u{f9fd}\u{20001}\u{20064}\u{200e2}\u{20121}\u{2092a}\u{20983}\u{2098c}\u{2099c}\u{20aea}\u{20afd}\u{20b19}\u{22390}\u{22998}\u{23b1b}\u{2626d}\u{2f890}";

pub(super) fn is_numeric(c: char) -> bool {
    use Category::{DecimalNumber, LetterNumber, OtherNumber};
    if c.is_ascii() {
        return c.is_ascii_digit();
    }
    match get_general_category(c) {
        DecimalNumber | LetterNumber | OtherNumber => true,
        Category::OtherLetter => NUMERALS.contains(c),
        _ => false,
    }
}

pub(super) fn is_alnum(c: char) -> bool {
    is_alpha(c) || is_numeric(c)
}

fn is_title(c: char) -> bool {
    !c.is_ascii() && get_general_category(c) == Category::TitlecaseLetter
}

/// Is there case here, and is all of it that of `upper`?
pub(super) fn has_case(text: &str, upper: bool) -> bool {
    let wanted = |c: char| if upper { c.is_uppercase() } else { c.is_lowercase() };
    let other = |c: char| if upper { c.is_lowercase() } else { c.is_uppercase() };
    text.chars().any(wanted) && !text.chars().any(|c| other(c) || is_title(c))
}

/// Does each word start with a capital, with small letters after it?
pub(super) fn is_titled(text: &str) -> bool {
    let (mut cased, mut any) = (false, false);
    for c in text.chars() {
        if c.is_uppercase() || is_title(c) {
            if cased {
                return false;
            }
            (cased, any) = (true, true);
        } else if c.is_lowercase() {
            if !cased {
                return false;
            }
            any = true;
        } else {
            cased = false;
        }
    }
    any
}

/// A character at the start of a title; none for the few Greek ones whose form as a capital is not known here.
pub(super) fn capital(c: char) -> Option<String> {
    Some(match u32::from(c) {
        0x1c4..=0x1c6 => "\u{1c5}".to_owned(),
        0x1c7..=0x1c9 => "\u{1c8}".to_owned(),
        0x1ca..=0x1cc => "\u{1cb}".to_owned(),
        0x1f1..=0x1f3 => "\u{1f2}".to_owned(),
        0x149 => "\u{2bc}N".to_owned(),
        // Georgian letters have capitals, but not in titles.
        0x10d0..=0x10ff => c.to_string(),
        code => {
            let mut upper = c.to_uppercase();
            let first: String = upper.next().into_iter().collect();
            let rest: String = upper.flat_map(char::to_lowercase).collect();
            if !rest.is_empty() && (0x1f80..=0x1fff).contains(&code) {
                return None;
            }
            first + &rest
        }
    })
}

/// Python's `str.capitalize()` and, word by word, `str.title()`; none where a letter's form is not known here.
pub(super) fn capitalised(text: &str, each_word: bool) -> Option<String> {
    if has_sigma(text) {
        return None;
    }
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for c in text.chars() {
        if inside {
            out.extend(c.to_lowercase());
        } else {
            out.push_str(&capital(c)?);
        }
        inside = !each_word || c.is_lowercase() || c.is_uppercase() || is_title(c);
    }
    Some(out)
}

/// Is there a letter whose small form depends on what is around it?
pub(super) fn has_sigma(text: &str) -> bool {
    text.contains('Σ')
}

/// Python's `str.swapcase()`; none where a small letter depends on what is around it.
pub(super) fn swapped(text: &str) -> Option<String> {
    if has_sigma(text) {
        return None;
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_uppercase() {
            out.extend(c.to_lowercase());
        } else if c.is_lowercase() {
            out.extend(c.to_uppercase());
        } else {
            out.push(c);
        }
    }
    Some(out)
}
