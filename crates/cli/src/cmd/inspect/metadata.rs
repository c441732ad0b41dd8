//! Every key of a file with its type and value.
//!
//! JSON has all of it, with U+FFFD for what is not UTF-8 and a text for a number that is none (NaN, infinity); for people, long texts
//! and arrays are cut and say how long they are.

use std::borrow::Borrow;
use std::fmt;

use gguf::{Metadata, Value};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// Elements of an array, and characters of a text, that people are shown.
const MOST_ELEMENTS: usize = 8;
const MOST_CHARACTERS: usize = 160;

/// The keys and values, in file order.
pub(crate) struct Entries<'a>(pub(crate) &'a Metadata);

impl Serialize for Entries<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|(key, value)| Entry { key, value }))
    }
}

struct Entry<'a> {
    key: &'a str,
    value: &'a Value,
}

impl Serialize for Entry<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("key", self.key)?;
        map.serialize_entry("type", self.value.value_type().name())?;
        if let Value::Array(array) = self.value {
            map.serialize_entry("element_type", array.element_type().name())?;
            map.serialize_entry("length", &array.len())?;
        }
        map.serialize_entry("value", &Whole(self.value))?;
        map.end()
    }
}

/// A value as JSON.
struct Whole<V>(V);

impl<V: Borrow<Value>> Serialize for Whole<V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.borrow() {
            Value::String(text) => serializer.serialize_str(&String::from_utf8_lossy(text.as_bytes())),
            Value::Array(array) => serializer.collect_seq(array.iter().map(Whole)),
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::F32(value) if value.is_finite() => serializer.serialize_f32(*value),
            Value::F64(value) if value.is_finite() => serializer.serialize_f64(*value),
            Value::F32(value) => serializer.collect_str(value),
            Value::F64(value) => serializer.collect_str(value),
            Value::U64(value) => serializer.serialize_u64(*value),
            number => match number.integer().and_then(|value| i64::try_from(value).ok()) {
                Some(value) => serializer.serialize_i64(value),
                None => serializer.serialize_none(),
            },
        }
    }
}

impl fmt::Display for Entries<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (key, value) in self.0.iter() {
            let kind = match value {
                Value::Array(array) => format!("{}[{}]", array.element_type(), array.len()),
                other => other.value_type().to_string(),
            };
            writeln!(f, "  {:<44} {kind:<14} {}", key.escape_debug().to_string(), Short(value))?;
        }
        Ok(())
    }
}

/// A value for people, on one line.
struct Short<'a>(&'a Value);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::String(text) => {
                let text = String::from_utf8_lossy(text.as_bytes());
                match text.char_indices().nth(MOST_CHARACTERS) {
                    None => write!(f, "{text:?}"),
                    Some((end, _)) => write!(f, "{:?}… ({} bytes)", &text[..end], text.len()),
                }
            }
            Value::Array(array) => {
                f.write_str("[")?;
                for (n, element) in array.iter().take(MOST_ELEMENTS).enumerate() {
                    write!(f, "{}{}", if n == 0 { "" } else { ", " }, Short(&element))?;
                }
                f.write_str(if array.len() > MOST_ELEMENTS { ", …]" } else { "]" })
            }
            other => write!(f, "{other}"),
        }
    }
}
