//! When are two values equal? When their texts here are.

use serde_json::Value;

/// A value's text: one text for all ways to write it.
pub(in crate::grammar) fn of(value: &Value) -> String {
    match value {
        Value::Number(number) => self::number(&number.to_string()),
        Value::Array(items) => array(items.iter().map(of)),
        Value::Object(entries) => object(entries.iter().map(|(key, value)| (string(key), of(value)))),
        other => other.to_string(),
    }
}

pub(super) fn string(decoded: &str) -> String {
    Value::from(decoded).to_string()
}

/// Numbers that a reader with 64-bit floats takes for equal are equal: it has to find different ones in the answer as well.
pub(super) fn number(text: &str) -> String {
    match text.parse::<f64>() {
        Ok(0.0) => "0".to_owned(),
        Ok(number) => number.to_string(),
        Err(_) => text.to_owned(),
    }
}

pub(super) fn array(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(","))
}

/// Of keys, as texts of strings, and values. The last one of several with the same key counts, as readers have it.
pub(super) fn object(entries: impl Iterator<Item = (String, String)>) -> String {
    let entries: std::collections::BTreeMap<String, String> = entries.collect();
    let entries: Vec<String> = entries.into_iter().map(|(key, value)| format!("{key}:{value}")).collect();
    format!("{{{}}}", entries.join(","))
}
