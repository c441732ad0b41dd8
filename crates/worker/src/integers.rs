//! Which whole numbers of a JSON text would not be what they are?
//!
//! JSON bounds no number, and Python, for which templates are written, holds any whole number. Here a number of a conversation has 64 bits;
//! a larger one would be read as a float and be another in the prompt, so it is refused by name.

use std::borrow::Cow;
use std::fmt::Write;
use std::ops::Range;

/// What a number must be.
pub const EXPECTED: &str = "whole numbers from -2^63 to 2^64 - 1";

/// The longest name of a client's own that a path repeats.
const MAX_NAME: usize = 64;

/// A list or an object that is open, and where in it the text is.
enum Level {
    Item(usize),
    /// The name between its quotes.
    Field(Range<usize>),
}

/// The path of the first whole number that 64 bits do not hold, such as `messages[0].n`, or none. `json` is valid JSON. Where there are `fields`,
/// only what is in these of the outermost object's counts.
#[must_use]
pub fn beyond_64_bits(json: &[u8], fields: Option<&[&str]>) -> Option<String> {
    let mut levels: Vec<Level> = Vec::new();
    let mut at = 0;
    while let Some(&byte) = json.get(at) {
        let start = at;
        at += 1;
        match byte {
            b'[' => levels.push(Level::Item(0)),
            b'{' => levels.push(Level::Field(0..0)),
            b']' | b'}' => drop(levels.pop()),
            b',' => {
                if let Some(Level::Item(index)) = levels.last_mut() {
                    *index += 1;
                }
            }
            b'"' => {
                at = end_of_string(json, at);
                let is_name = json[at..].iter().find(|b| !b.is_ascii_whitespace()) == Some(&b':');
                if let (true, Some(Level::Field(name))) = (is_name, levels.last_mut()) {
                    *name = start + 1..at - 1;
                }
            }
            b'-' | b'0'..=b'9' => {
                at += json[at..].iter().take_while(is_of_number).count();
                if is_beyond(&json[start..at]) && is_within(json, &levels, fields) {
                    return Some(path(json, &levels));
                }
            }
            _ => {}
        }
    }
    None
}

/// The text with `0` for each whole number `-0`. Python reads it so, whereas `serde_json` makes the float -0.0 of it, as of `-0.0`.
#[must_use]
pub fn with_plain_zeros(json: &str) -> Cow<'_, str> {
    let bytes = json.as_bytes();
    let (mut out, mut copied, mut at) = (String::new(), 0, 0);
    while let Some(&byte) = bytes.get(at) {
        let start = at;
        at += 1;
        if byte == b'"' {
            at = end_of_string(bytes, at);
        } else if byte == b'-' || byte.is_ascii_digit() {
            at += bytes[at..].iter().take_while(is_of_number).count();
            if &bytes[start..at] == b"-0" {
                out.push_str(&json[copied..start]);
                copied = start + 1;
            }
        }
    }
    if copied == 0 {
        return Cow::Borrowed(json);
    }
    out.push_str(&json[copied..]);
    Cow::Owned(out)
}

fn is_of_number(byte: &&u8) -> bool {
    byte.is_ascii_digit() || b"+-.eE".contains(*byte)
}

/// Behind the quote that ends the string whose text begins at `at`.
fn end_of_string(json: &[u8], mut at: usize) -> usize {
    while let Some(&byte) = json.get(at) {
        at += if byte == b'\\' { 2 } else { 1 };
        if byte == b'"' {
            break;
        }
    }
    at.min(json.len())
}

fn is_beyond(number: &[u8]) -> bool {
    let is_whole = number.iter().all(|b| b.is_ascii_digit() || *b == b'-');
    let text = std::str::from_utf8(number).unwrap_or_default();
    is_whole && text.parse::<i64>().is_err() && text.parse::<u64>().is_err()
}

fn is_within(json: &[u8], levels: &[Level], fields: Option<&[&str]>) -> bool {
    let Some(fields) = fields else { return true };
    matches!(levels.first(), Some(Level::Field(name)) if fields.iter().any(|field| field.as_bytes() == &json[name.clone()]))
}

fn path(json: &[u8], levels: &[Level]) -> String {
    let mut path = String::new();
    for level in levels {
        let _infallible = match level {
            Level::Item(index) => write!(path, "[{index}]"),
            Level::Field(name) => {
                let name = std::str::from_utf8(&json[name.clone()]).unwrap_or_default();
                let is_plain =
                    name.len() <= MAX_NAME && name.chars().all(|c| c.is_alphanumeric() || "_-$".contains(c));
                let dot = if path.is_empty() { "" } else { "." };
                match is_plain {
                    true => write!(path, "{dot}{name}"),
                    false => write!(path, "{dot}(a name of {} characters)", name.chars().count()),
                }
            }
        };
    }
    path
}

#[cfg(test)]
mod tests {
    use super::{beyond_64_bits, with_plain_zeros};

    #[test]
    fn the_first_number_that_64_bits_do_not_hold_is_named_by_its_path() {
        let check = |json: &str, expected: Option<&str>| {
            assert_eq!(beyond_64_bits(json.as_bytes(), None).as_deref(), expected, "{json}");
        };
        for held in
            ["18446744073709551615", "-9223372036854775808", "1e30", "123456789012345678901.5", "-0", "[]"]
        {
            check(held, None);
        }
        for beyond in ["18446744073709551616", "-9223372036854775809", "123456789012345678901234567890"] {
            check(beyond, Some(""));
            check(&format!(r#"{{"a": "{beyond}", "b\"{beyond}": [1, "]"]}}"#), None);
            check(&format!(r#"{{"a": [{{"x": 0}}, {{"y" : [1, 2, {beyond}]}}]}}"#), Some("a[1].y[2]"));
            check(&format!(r#"[["\\", {{}}], {beyond}]"#), Some("[1]"));
            check(&format!(r#"{{"not plain": {beyond}}}"#), Some("(a name of 9 characters)"));
        }
    }

    #[test]
    fn fields_of_the_outermost_object_may_be_chosen() {
        let json = br#"{"a": {"b": 99999999999999999999}, "b": [99999999999999999999]}"#;
        assert_eq!(beyond_64_bits(json, Some(&["b"])).as_deref(), Some("b[0]"));
        assert_eq!(beyond_64_bits(json, Some(&["c"])), None);
        assert_eq!(beyond_64_bits(b"[99999999999999999999]", Some(&["c"])), None);
    }

    #[test]
    fn only_whole_zeros_lose_their_sign() {
        let check = |json: &str, expected: &str| assert_eq!(with_plain_zeros(json), expected);
        check(
            r#"{"-0": [-0, -0.0, -0e1, -01, "\"-0", -10, 0],"é":-0}"#,
            r#"{"-0": [0, -0.0, -0e1, -01, "\"-0", -10, 0],"é":0}"#,
        );
        check("-0", "0");
        check("[1, 2]", "[1, 2]");
    }

    #[test]
    fn text_that_is_no_json_ends() {
        for text in ["\"", "\"\\", "{\"a", "]]}", "-", "--9", "\"\\\""] {
            let _any = (beyond_64_bits(text.as_bytes(), None), with_plain_zeros(text));
        }
    }
}
