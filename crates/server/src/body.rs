//! JSON as values, or an error that says what is wrong with it.

use std::fmt;

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::error::{Category, Error};
use serde_json::map::Entry;
use serde_json::{Map, Number, Value};
use serde_path_to_error::{Path, Segment};

use crate::error::ApiError;
use crate::openapi::readable;

/// JSON into a value; an error says where, and of the text repeats at most names. An object that has two values under one name says two
/// things, one of which would be dropped; twice the same is one.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, ApiError> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let Plain(value) = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = path(error.path());
        refused(&error.into_inner(), path)
    })?;
    json.end().map_err(|error| not_json(&error))?;
    Ok(value)
}

/// What is wrong with a value that may be at this path.
fn refused(error: &Error, path: String) -> ApiError {
    let said = error.to_string();
    let at = || format!("line {}, column {}", error.line(), error.column());
    let known = UNFIT.iter().find(|(start, _)| said.starts_with(start)).map(|(_, expected)| *expected);
    let message = match known {
        Some(expected) => format!("{}: expected {expected}", at()),
        None if error.classify() == Category::Data => format!("{}: expected {ONE_VALUE}", at()),
        None => return not_json(error),
    };
    if path.is_empty() { ApiError::body(message) } else { ApiError::invalid(path, message) }
}

/// Of an object's names.
const ONE_VALUE: &str = "one value under a name, found two that differ";

/// What the parser says of values that JSON can write and nothing can hold.
const UNFIT: [(&str, &str); 3] = [
    ("lone leading surrogate", HALF),
    ("unexpected end of hex escape", HALF),
    ("number out of range", "a number that 64 bits of floating point hold, found a larger one"),
];

const HALF: &str =
    "text of whole characters, found an escape of half a one (\\ud800 to \\udfff) without its other half";

/// A path as schemas' errors have it.
fn path(path: &Path) -> String {
    let mut text = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => text.push_str(&format!("[{index}]")),
            Segment::Map { key } => {
                let dot = if text.is_empty() { "" } else { "." };
                text.push_str(&format!("{dot}{}", readable(key)));
            }
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    text
}

/// Any JSON, as [`Value`] reads it, but for names that stand twice.
struct Plain(Value);

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Plain, D::Error> {
        deserializer.deserialize_any(AnyJson).map(Plain)
    }
}

struct AnyJson;

impl<'de> Visitor<'de> for AnyJson {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Value, E> {
        Ok(truth.into())
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Number::from_f64(number).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Plain(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = items.next_key::<String>()? {
            match fields.entry(name) {
                Entry::Vacant(place) => {
                    let Plain(value) = items.next_value()?;
                    place.insert(value);
                }
                Entry::Occupied(place) => items.next_value_seed(Again(place.get()))?,
            }
        }
        Ok(fields.into())
    }
}

/// A further value under a name that has this one.
struct Again<'a>(&'a Value);

impl<'de> DeserializeSeed<'de> for Again<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let Plain(value) = Plain::deserialize(deserializer)?;
        if value == *self.0 { Ok(()) } else { Err(de::Error::custom(ONE_VALUE)) }
    }
}

/// What the parser says, by how it begins, and what it expects there.
const EXPECTED: [(&str, &str); 16] = [
    ("EOF while parsing a list", "a comma or ], found the end"),
    ("EOF while parsing an object", "a comma, a colon or }, found the end"),
    ("EOF while parsing a string", "a closing \", found the end"),
    ("EOF while parsing a value", "a value, found the end"),
    ("expected `:`", "a colon"),
    ("expected `,` or `]`", "a comma or ]"),
    ("expected `,` or `}`", "a comma or }"),
    ("expected ident", "true, false or null"),
    ("expected value", "a value"),
    ("key must be a string", "a name in double quotes"),
    ("trailing comma", "another item after the comma"),
    ("trailing characters", "the end, found more text"),
    ("control character", "line breaks and other control characters written as escapes, such as \\n"),
    ("invalid escape", "one of the escapes \\\" \\\\ \\/ \\b \\f \\n \\r \\t \\u0000"),
    ("invalid number", "a number"),
    ("recursion limit exceeded", "at most 127 arrays and objects inside each other"),
];

/// Where a text stops being JSON, and what should be there.
fn not_json(error: &Error) -> ApiError {
    let (said, line, column) = (error.to_string(), error.line(), error.column());
    let expected = EXPECTED.iter().find(|(start, _)| said.starts_with(start));
    let reason = match expected {
        Some((_, expected)) => format!("expected {expected}"),
        None => said.rsplit_once(" at line ").map_or(said.as_str(), |(reason, _)| reason).to_owned(),
    };
    ApiError::body(format!("the body is not JSON: line {line}, column {column}: {reason}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_json_is_told_by_its_place_and_what_was_expected() {
        for (text, expected) in [
            ("", "line 1, column 0: expected a value, found the end"),
            ("{", "line 1, column 1: expected a comma, a colon or }, found the end"),
            ("{\"a\": 1,\n \"b\": tru}", "line 2, column 10: expected true, false or null"),
            ("{\"a\" 1}", "line 1, column 6: expected a colon"),
            ("{\"a\": 1 \"b\": 2}", "line 1, column 9: expected a comma or }"),
            ("{a: 1}", "line 1, column 2: expected a name in double quotes"),
            ("[1, 2,]", "line 1, column 7: expected another item after the comma"),
            ("{} {}", "line 1, column 4: expected the end, found more text"),
            (
                "[\"a\nb\"]",
                "line 2, column 0: expected line breaks and other control characters written as escapes, such as \\n",
            ),
            ("'a'", "line 1, column 1: expected a value"),
            ("[1.]", "line 1, column 4: expected a number"),
            (
                &"[".repeat(200),
                "line 1, column 128: expected at most 127 arrays and objects inside each other",
            ),
        ] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), format!("the body is not JSON: {expected}"), "{text}");
        }
    }

    #[test]
    fn a_value_is_what_serde_json_reads() {
        for text in [
            r#"{"a": [1, -2, 1.5, -0, -0.0, 1e3, 18446744073709551615, -9223372036854775808, 1e300], "": null}"#,
            r#"[true, false, "\ud83d\ude00\n", "é", {}, [], {"b": 1, "a": 2}]"#,
            "3",
            "123456789012345678901234567890",
        ] {
            assert_eq!(parse(text.as_bytes()), Ok(serde_json::from_str(text).unwrap()), "{text}");
        }
    }

    #[test]
    fn two_values_under_one_name_are_refused_by_their_path_and_twice_the_same_is_one() {
        for (text, place) in [
            (r#"{"a": 1, "a": 2}"#, "a: line 1, column 16"),
            (r#"{"a": 1, "\u0061": 2}"#, "a: line 1, column 21"),
            (r#"{"m": [{}, {"b": {"c": "x", "d": 1, "c": "y"}}]}"#, "m[1].b.c: line 1, column 45"),
            (r#"{"a": null, "a": 1}"#, "a: line 1, column 19"),
            (r#"{"a": [1], "a": [1.0]}"#, "a: line 1, column 22"),
            (r#"{"a b": 1, "a b": 2}"#, "(a name of 3 characters): line 1, column 20"),
        ] {
            let Err(ApiError::Invalid { param: Some(param), message }) = parse(text.as_bytes()) else {
                panic!("{text}");
            };
            let expected = format!("{place}: expected one value under a name, found two that differ");
            assert_eq!(format!("{param}: {message}"), expected, "{text}");
        }
        let same = r#"{"a": {"b": [1]}, "c": 2, "a": {"b": [1]}}"#;
        assert_eq!(parse(same.as_bytes()), Ok(json!({"a": {"b": [1]}, "c": 2})));
        // What is not JSON is so also where it stands again.
        assert!(parse(br#"{"a": 1, "a": }"#).unwrap_err().to_string().starts_with("the body is not JSON"));
    }

    #[test]
    fn what_json_can_write_and_nothing_can_hold_is_named_with_its_place() {
        let half = "text of whole characters, found an escape of half a one (\\ud800 to \\udfff) without its other half";
        let large = "a number that 64 bits of floating point hold, found a larger one";
        for (text, place, expected) in [
            (r#"{"m": [{"c": "a\ud83d"}]}"#, "m[0].c: line 1, column 22", half),
            (r#"{"m": "a\udc00"}"#, "m: line 1, column 14", half),
            (r#"{"m": "\ud83d\u0041"}"#, "m: line 1, column 19", half),
            (r#"{"m": "\ud83dx"}"#, "m: line 1, column 14", half),
            (r#"{"m": {"\ud83d": 1}}"#, "m: line 1, column 15", half),
            (r#"{"seed": 1e999}"#, "seed: line 1, column 14", large),
        ] {
            let Err(ApiError::Invalid { param: Some(param), message }) = parse(text.as_bytes()) else {
                panic!("{text}");
            };
            assert_eq!(format!("{param}: {message}"), format!("{place}: expected {expected}"), "{text}");
        }
        let whole = parse(br#""\udc00""#).unwrap_err();
        assert_eq!(whole, ApiError::body(format!("line 1, column 7: expected {half}")));
    }
}
