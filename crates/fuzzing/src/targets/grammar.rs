//! Any schema, expression or grammar: refused by a typed error, or compiled. The first byte chooses which of them the rest is.

use worker::{Format, Prompt, Request};

use super::http::worker;

pub(crate) const WORDS: &[&str] = &[
    "\"type\":",
    "\"object\"",
    "\"properties\":",
    "\"required\":",
    "\"additionalProperties\":",
    "\"propertyNames\":",
    "\"items\":",
    "\"uniqueItems\":true",
    "\"enum\":",
    "\"anyOf\":",
    "\"oneOf\":",
    "\"allOf\":",
    "\"$ref\":",
    "\"#/$defs/a\"",
    "\"$defs\":",
    "\"pattern\":",
    "\"multipleOf\":",
    "\"maximum\":",
    "\"exclusiveMinimum\":",
    "\"minLength\":",
    "\"maxItems\":",
    "\"format\":",
    "start:",
    "root ::=",
    "::=",
    "/[a-z]*/",
    "{1,9999}",
    "|",
    "(",
    ")*",
    "%json",
    "\\p{L}",
];

pub(crate) fn run(input: &[u8]) {
    let Some((kind, rest)) = input.split_first() else { return };
    let text = String::from_utf8_lossy(rest).into_owned();
    let format = match kind {
        b'r' => Format::Regex(text),
        b'g' => Format::Grammar(text),
        _ => {
            let Ok(schema) = serde_json::from_str(&text) else { return };
            Format::JsonSchema(schema)
        }
    };
    let request = Request { format: Some(format), ..Request::new(Prompt::Tokens(vec![1])) };
    if let Err(error) = worker().check(request) {
        assert!(error.to_string().len() < 2000, "an error is bounded");
    }
}
