//! Values <-> JSON.
//!
//! `tojson` is Python's `json.dumps(value, ensure_ascii=False)`, as Hugging Face's templates expect, not Jinja's own filter, which
//! escapes HTML: items are separated by `, ` and `: `, and with `indent` by line breaks.

use std::fmt::{self, Write};

use super::text::{Refused, write_float};
use super::value::{Key, Kind, Map, Value};
use crate::limits::MAX_VALUE_DEPTH;
use crate::special::unmarked;

/// How `tojson` writes.
#[derive(Clone, Debug)]
pub(super) struct Style {
    pub(super) indent: Option<String>,
    pub(super) separators: Option<(String, String)>,
    pub(super) sort_keys: bool,
    pub(super) ensure_ascii: bool,
}

/// Writes a value as JSON.
pub(super) fn write(value: &Value, style: &Style, level: usize, out: &mut impl Write) -> Result<(), Refused> {
    match value {
        Value::None => out.write_str("null")?,
        Value::Bool(value) => write!(out, "{value}")?,
        Value::Int(value) => write!(out, "{value}")?,
        Value::Float(value) if value.is_nan() => out.write_str("NaN")?,
        Value::Float(value) if value.is_infinite() => {
            out.write_str(if *value > 0.0 { "Infinity" } else { "-Infinity" })?;
        }
        Value::Float(value) => write_float(*value, out)?,
        Value::Str(text) | Value::Markup(text) => quoted(text, style.ensure_ascii, out)?,
        Value::List(list) if matches!(list.kind, Kind::List | Kind::Tuple | Kind::Group) => {
            out.write_char('[')?;
            for (i, item) in list.items.iter().enumerate() {
                between(i, style, level + 1, out)?;
                write(item, style, level + 1, out)?;
            }
            close(list.items.is_empty(), style, level, out)?;
            out.write_char(']')?;
        }
        Value::Map(map) => {
            let mut entries: Vec<_> = map.entries.iter().collect();
            if style.sort_keys && entries.len() > 1 {
                if entries.iter().any(|(key, _)| key.as_str().is_none()) {
                    return Err(Refused::Kind("a sorted map with keys that are not strings"));
                }
                entries.sort_by_key(|(key, _)| key.as_str());
            }
            out.write_char('{')?;
            for (i, (key, item)) in entries.into_iter().enumerate() {
                between(i, style, level + 1, out)?;
                write_key(key, style, out)?;
                out.write_str(style.separators.as_ref().map_or(": ", |(_, colon)| colon))?;
                write(item, style, level + 1, out)?;
            }
            close(map.entries.is_empty(), style, level, out)?;
            out.write_char('}')?;
        }
        other => return Err(Refused::Kind(other.kind())),
    }
    Ok(())
}

/// A key is a string: a number or constant becomes one.
fn write_key(key: &Key, style: &Style, out: &mut impl Write) -> Result<(), Refused> {
    match key {
        Key::Str(text) => quoted(text, style.ensure_ascii, out)?,
        Key::None | Key::Bool(_) | Key::Int(_) | Key::Float(_) => {
            out.write_char('"')?;
            write(&key.value(), style, 0, out)?;
            out.write_char('"')?;
        }
        Key::Undefined | Key::Tuple(_) => return Err(Refused::Kind("a key of this type")),
    }
    Ok(())
}

fn between(i: usize, style: &Style, level: usize, out: &mut impl Write) -> fmt::Result {
    if i > 0 {
        let plain = if style.indent.is_some() { "," } else { ", " };
        out.write_str(style.separators.as_ref().map_or(plain, |(comma, _)| comma))?;
    }
    new_line(style, level, out)
}

fn close(empty: bool, style: &Style, level: usize, out: &mut impl Write) -> fmt::Result {
    if empty { Ok(()) } else { new_line(style, level, out) }
}

fn new_line(style: &Style, level: usize, out: &mut impl Write) -> fmt::Result {
    if let Some(indent) = &style.indent {
        out.write_char('\n')?;
        for _ in 0..level {
            out.write_str(indent)?;
        }
    }
    Ok(())
}

fn quoted(text: &str, ensure_ascii: bool, out: &mut impl Write) -> fmt::Result {
    out.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' => out.write_str("\\\"")?,
            '\\' => out.write_str("\\\\")?,
            '\n' => out.write_str("\\n")?,
            '\r' => out.write_str("\\r")?,
            '\t' => out.write_str("\\t")?,
            '\u{8}' => out.write_str("\\b")?,
            '\u{c}' => out.write_str("\\f")?,
            c if c < ' ' => write!(out, "\\u{:04x}", u32::from(c))?,
            c if ensure_ascii && c > '~' => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    write!(out, "\\u{unit:04x}")?;
                }
            }
            c => out.write_char(c)?,
        }
    }
    out.write_char('"')
}

/// A value from JSON; none if it is nested too deeply. `bytes` grows by what it takes.
pub(super) fn from_json(json: &serde_json::Value, level: usize, bytes: &mut usize) -> Option<Value> {
    if level > MAX_VALUE_DEPTH {
        return None;
    }
    *bytes = bytes.saturating_add(size_of::<Value>());
    Some(match json {
        serde_json::Value::Null => Value::None,
        serde_json::Value::Bool(value) => Value::Bool(*value),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => Value::Int(value.into()),
            (None, Some(value)) => Value::Int(value.into()),
            (None, None) => Value::Float(number.as_f64()?),
        },
        serde_json::Value::String(text) => {
            *bytes = bytes.saturating_add(text.len());
            Value::str(&unmarked(text))
        }
        serde_json::Value::Array(items) => {
            let items = items.iter().map(|item| from_json(item, level + 1, bytes));
            Value::list(items.collect::<Option<Vec<_>>>()?)
        }
        serde_json::Value::Object(entries) => {
            let mut map = Map::with_capacity(entries.len());
            for (key, item) in entries {
                *bytes = bytes.saturating_add(key.len() + 96);
                map.insert(Key::from(unmarked(key).as_ref()), from_json(item, level + 1, bytes)?);
            }
            Value::map(map)
        }
    })
}
