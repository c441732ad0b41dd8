//! What kind of character is this? The Unicode classes that pre-tokenisers speak of, as one bit each.
//!
//! General categories are those of Unicode 16 (UAX 44); white space is the property White_Space. ASCII is a table lookup,
//! the rest a two-stage table in the unicode-general-category crate.

use unicode_general_category::{GeneralCategory, get_general_category};

/// `\p{L}`.
pub(super) const LETTER: u16 = 1;
/// `\p{N}`.
pub(super) const NUMBER: u16 = 1 << 1;
/// `\p{M}`.
pub(super) const MARK: u16 = 1 << 2;
/// `\p{P}`.
pub(super) const PUNCTUATION: u16 = 1 << 3;
/// `\p{S}`.
pub(super) const SYMBOL: u16 = 1 << 4;
/// `\s`.
pub(super) const SPACE: u16 = 1 << 5;
/// `[\r\n]`.
pub(super) const NEWLINE: u16 = 1 << 6;
/// `[\p{Lu}\p{Lt}]`.
pub(super) const UPPER: u16 = 1 << 7;
/// `\p{Ll}`.
pub(super) const LOWER: u16 = 1 << 8;
/// `[\p{Lm}\p{Lo}]`.
pub(super) const UNCASED: u16 = 1 << 9;
/// `/`.
pub(super) const SLASH: u16 = 1 << 10;

const ASCII: [u16; 128] = {
    let mut table = [0; 128];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = match byte as u8 {
            b'A'..=b'Z' => LETTER | UPPER,
            b'a'..=b'z' => LETTER | LOWER,
            b'0'..=b'9' => NUMBER,
            b'\r' | b'\n' => SPACE | NEWLINE,
            b' ' | b'\t' | 0x0b | 0x0c => SPACE,
            b'/' => PUNCTUATION | SLASH,
            b'$' | b'+' | b'<' | b'=' | b'>' | b'^' | b'`' | b'|' | b'~' => SYMBOL,
            b'!'..=b'@' | b'['..=b'`' | b'{'..=b'~' => PUNCTUATION,
            _ => 0,
        };
        byte += 1;
    }
    table
};

/// The classes of a character, one bit each.
#[inline]
pub(super) fn class(c: char) -> u16 {
    match ASCII.get(c as usize) {
        Some(&bits) => bits,
        None => beyond_ascii(c),
    }
}

/// The classes of an ASCII byte, none for another.
#[inline]
pub(super) fn ascii_class(byte: u8) -> Option<u16> {
    ASCII.get(byte as usize).copied()
}

fn beyond_ascii(c: char) -> u16 {
    use GeneralCategory as G;
    let space = if c.is_whitespace() { SPACE } else { 0 };
    space
        | match get_general_category(c) {
            G::UppercaseLetter | G::TitlecaseLetter => LETTER | UPPER,
            G::LowercaseLetter => LETTER | LOWER,
            G::ModifierLetter | G::OtherLetter => LETTER | UNCASED,
            G::DecimalNumber | G::LetterNumber | G::OtherNumber => NUMBER,
            G::NonspacingMark | G::SpacingMark | G::EnclosingMark => MARK,
            G::ConnectorPunctuation
            | G::DashPunctuation
            | G::OpenPunctuation
            | G::ClosePunctuation
            | G::InitialPunctuation
            | G::FinalPunctuation
            | G::OtherPunctuation => PUNCTUATION,
            G::MathSymbol | G::CurrencySymbol | G::ModifierSymbol | G::OtherSymbol => SYMBOL,
            _ => 0,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ascii_table_agrees_with_unicode() {
        for byte in 0..128u8 {
            let c = char::from(byte);
            let extra = match c {
                '\r' | '\n' => NEWLINE,
                '/' => SLASH,
                _ => 0,
            };
            assert_eq!(class(c), beyond_ascii(c) | extra, "{c:?}");
        }
    }
}
