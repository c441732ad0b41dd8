//! How does Python write a value? `str()` gives `True`, `None` and `['a', 1.0]`.

use std::fmt::{self, Write};

use unicode_general_category::{GeneralCategory as Category, get_general_category};

use super::value::{Kind, Value};
use crate::special::MARK;

/// Why a value cannot be written.
pub(super) enum Refused {
    /// The text is longer than it may be.
    Full,
    /// A value of this kind has no such text. Python writes the addresses of some, which no two runs share.
    Kind(&'static str),
}

impl From<fmt::Error> for Refused {
    fn from(_: fmt::Error) -> Refused {
        Refused::Full
    }
}

/// Python's `str()`, written to `out`, which may refuse to take more.
pub(super) fn write_str(value: &Value, out: &mut impl Write) -> Result<(), Refused> {
    match value {
        Value::Undefined => Ok(()),
        Value::Str(text) | Value::Markup(text) => Ok(out.write_str(text)?),
        _ => write_repr(value, out),
    }
}

/// Python's `repr()`.
pub(super) fn write_repr(value: &Value, out: &mut impl Write) -> Result<(), Refused> {
    match value {
        Value::Undefined => out.write_str("Undefined")?,
        Value::None => out.write_str("None")?,
        Value::Bool(true) => out.write_str("True")?,
        Value::Bool(false) => out.write_str("False")?,
        Value::Int(value) => write!(out, "{value}")?,
        Value::Float(value) => write_float(*value, out)?,
        Value::Str(text) => write_quoted(text, out)?,
        Value::Markup(text) => {
            out.write_str("Markup(")?;
            write_quoted(text, out)?;
            out.write_char(')')?;
        }
        Value::List(list) => match list.kind {
            Kind::List => write_items(&list.items, ["[", "]"], out)?,
            Kind::Tuple | Kind::Group if list.items.len() == 1 => {
                write_items(&list.items, ["(", ",)"], out)?;
            }
            Kind::Tuple | Kind::Group => write_items(&list.items, ["(", ")"], out)?,
            Kind::Range(start, stop, 1) => write!(out, "range({start}, {stop})")?,
            Kind::Range(start, stop, step) => write!(out, "range({start}, {stop}, {step})")?,
            Kind::View(name) => {
                out.write_str(name)?;
                write_items(&list.items, ["([", "])"], out)?;
            }
            Kind::Iterator => return Err(Refused::Kind(value.kind())),
        },
        Value::Map(map) => {
            out.write_char('{')?;
            for (i, (key, item)) in map.entries.iter().enumerate() {
                if i > 0 {
                    out.write_str(", ")?;
                }
                write_repr(&key.value(), out)?;
                out.write_str(": ")?;
                write_repr(item, out)?;
            }
            out.write_char('}')?;
        }
        other => return Err(Refused::Kind(other.kind())),
    }
    Ok(())
}

fn write_items(items: &[Value], [open, close]: [&str; 2], out: &mut impl Write) -> Result<(), Refused> {
    out.write_str(open)?;
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.write_str(", ")?;
        }
        write_repr(item, out)?;
    }
    Ok(out.write_str(close)?)
}

/// Python's `repr()` of a float: shortest, with an exponent below 1e-4 and from 1e16.
pub(super) fn write_float(value: f64, out: &mut impl Write) -> fmt::Result {
    if value.is_nan() {
        return out.write_str("nan");
    }
    if value.is_infinite() {
        return out.write_str(if value > 0.0 { "inf" } else { "-inf" });
    }
    let text = shortest(value);
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let size = value.abs();
    if size != 0.0 && !(1e-4..1e16).contains(&size) {
        let (sign, exponent) = match exponent.strip_prefix('-') {
            Some(rest) => ('-', rest),
            None => ('+', exponent),
        };
        return write!(out, "{digits}e{sign}{exponent:0>2}");
    }
    let places = digits.split_once('.').map_or(0, |(_, places)| places.len());
    let exponent: i64 = exponent.parse().unwrap_or(0);
    // So many decimal places are the digits' own: the digits are right to their last.
    let places = usize::try_from(places as i64 - exponent).unwrap_or(0).max(1);
    write!(out, "{value:.places$}")
}

/// The fewest digits that only this float has, in the form `1.5e0`. Of two such texts that are equally near, Python takes the one
/// that ends in an even digit, Rust the larger.
fn shortest(value: f64) -> String {
    let text = format!("{value:e}");
    let places =
        text.split_once('e').and_then(|(digits, _)| digits.split_once('.')).map_or(0, |(_, p)| p.len());
    let even = format!("{value:.places$e}");
    if even.parse() == Ok(value) { even } else { text }
}

/// Python's `str.isprintable()` of a character. The mark of control tokens is about text, not part of it.
pub(super) fn is_printable(c: char) -> bool {
    use Category::{
        Control, Format, LineSeparator, ParagraphSeparator, PrivateUse, SpaceSeparator, Surrogate, Unassigned,
    };
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    c == MARK
        || !matches!(
            get_general_category(c),
            Control
                | Format
                | Surrogate
                | PrivateUse
                | Unassigned
                | LineSeparator
                | ParagraphSeparator
                | SpaceSeparator
        )
}

/// Python's `repr()` of a string.
fn write_quoted(text: &str, out: &mut impl Write) -> fmt::Result {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.write_char(quote)?;
    for c in text.chars() {
        let code = u32::from(c);
        match c {
            '\\' => out.write_str("\\\\")?,
            '\n' => out.write_str("\\n")?,
            '\r' => out.write_str("\\r")?,
            '\t' => out.write_str("\\t")?,
            c if c == quote => write!(out, "\\{c}")?,
            c if is_printable(c) => out.write_char(c)?,
            _ if code < 0x100 => write!(out, "\\x{code:02x}")?,
            _ if code < 0x1_0000 => write!(out, "\\u{code:04x}")?,
            _ => write!(out, "\\U{code:08x}")?,
        }
    }
    out.write_char(quote)
}

#[cfg(test)]
mod tests {
    use super::write_float;

    #[test]
    fn floats_are_written_as_python_writes_them() {
        for (value, expected) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e-5, "1.5e-05"),
            (1e-4, "0.0001"),
            (5e-324, "5e-324"),
            (1.7976931348623157e308, "1.7976931348623157e+308"),
            (123456.789, "123456.789"),
            (0.1 + 0.2, "0.30000000000000004"),
            // Two texts of 16 digits are equally near.
            (7_205_759_403_792_794.0 / 8.0, "900719925474099.2"),
            (2f64.powi(53) + 2.0, "9007199254740994.0"),
            (9.5367431640625e-7, "9.5367431640625e-07"),
        ] {
            let mut text = String::new();
            write_float(value, &mut text).unwrap();
            assert_eq!(text, expected);
        }
    }
}
