//! JSON as values, or an error that says what is wrong with it.

use serde::de::DeserializeOwned;
use serde_json::error::{Category, Error};

use crate::error::ApiError;

/// JSON into a value; an error says where, and of the text repeats at most a name.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let error = error.into_inner();
        match path.as_str() {
            _ if error.classify() != Category::Data => not_json(&error),
            "." => ApiError::body(error.to_string()),
            _ => ApiError::invalid(path, error.to_string()),
        }
    })?;
    json.end().map_err(|error| not_json(&error))?;
    Ok(value)
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
    use serde_json::Value;

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
            let error = parse::<Value>(text.as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), format!("the body is not JSON: {expected}"), "{text}");
        }
    }
}
