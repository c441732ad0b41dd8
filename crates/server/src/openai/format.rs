//! What must the answer's text be? `response_format`, `grammar` and `structured_outputs` say it in three ways; one may be used.

use serde::Deserialize;
use serde_json::Value;
use worker::Format;

use crate::error::ApiError;

#[derive(Debug, Deserialize)]
pub(super) struct ResponseFormat {
    r#type: Kind,
    json_schema: Option<JsonSchema>,
    /// As llama-server and others have it beside `json_object`.
    schema: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Text,
    JsonObject,
    JsonSchema,
}

#[derive(Debug, Deserialize)]
struct JsonSchema {
    schema: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct StructuredOutputs {
    json: Option<Value>,
    json_object: Option<bool>,
    regex: Option<String>,
    grammar: Option<String>,
    choice: Option<Vec<String>>,
}

/// What the answer's text must be, and the field that says so.
pub(super) type Wanted = (Format, &'static str);

/// What the answer's text must be, if anything.
pub(super) fn wanted(
    response_format: Option<ResponseFormat>,
    grammar: Option<String>,
    structured_outputs: Option<StructuredOutputs>,
) -> Result<Option<Wanted>, ApiError> {
    let mut wanted: Vec<Wanted> = Vec::new();
    let mut want = |format, field| wanted.push((format, field));
    if let Some(ResponseFormat { r#type, json_schema, schema: beside }) = response_format {
        if beside.is_some() && !matches!(r#type, Kind::JsonObject) {
            let message = "expected none beside this type; with json_schema it is json_schema.schema";
            return Err(ApiError::invalid("response_format.schema", message));
        }
        let field = "response_format";
        match r#type {
            Kind::Text => {}
            Kind::JsonObject => want(beside.map_or(Format::JsonObject, Format::JsonSchema), field),
            Kind::JsonSchema => {
                let schema =
                    json_schema.and_then(|s| s.schema).filter(Value::is_object).ok_or_else(|| {
                        ApiError::invalid(
                            "response_format.json_schema.schema",
                            "expected a JSON schema, found none",
                        )
                    })?;
                want(Format::JsonSchema(schema), field);
            }
        }
    }
    // llama-server's clients send an empty one for none.
    if let Some(text) = grammar.filter(|text| !text.is_empty()) {
        want(Format::Grammar(text), "grammar");
    }
    let outputs = structured_outputs.unwrap_or_default();
    let outputs = [
        (outputs.json.map(Format::JsonSchema), "structured_outputs.json"),
        (
            outputs.json_object.filter(|&wanted| wanted).map(|_| Format::JsonObject),
            "structured_outputs.json_object",
        ),
        (outputs.regex.map(Format::Regex), "structured_outputs.regex"),
        (outputs.grammar.map(Format::Grammar), "structured_outputs.grammar"),
        (outputs.choice.map(|choices| Format::Regex(any_of(&choices))), "structured_outputs.choice"),
    ];
    for (format, field) in outputs {
        if let Some(format) = format {
            want(format, field);
        }
    }
    if wanted.len() > 1 {
        let message = "expected one of response_format, grammar and structured_outputs, found more";
        return Err(ApiError::invalid("response_format", message));
    }
    Ok(wanted.pop())
}

/// A regular expression for one of these texts.
fn any_of(choices: &[String]) -> String {
    let escaped = |text: &String| {
        let mut escaped = String::with_capacity(text.len());
        for c in text.chars() {
            if r"\.+*?()|[]{}^$#&-~".contains(c) {
                escaped.push('\\');
            }
            escaped.push(c);
        }
        escaped
    };
    format!("({})", choices.iter().map(escaped).collect::<Vec<_>>().join("|"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(format: Value, grammar: Option<&str>, outputs: Value) -> Result<Option<Format>, String> {
        wanted(
            serde_json::from_value(format).unwrap(),
            grammar.map(str::to_owned),
            serde_json::from_value(outputs).unwrap(),
        )
        .map(|wanted| wanted.map(|(format, _)| format))
        .map_err(|error| error.to_string())
    }

    #[test]
    fn each_way_leads_to_a_format_and_two_ways_to_an_error() {
        let null = Value::Null;
        let schema = json!({"type": "object"});
        let strict =
            json!({"type": "json_schema", "json_schema": {"name": "a", "schema": schema, "strict": true}});
        assert_eq!(check(json!({"type": "text"}), None, null.clone()), Ok(None));
        assert_eq!(check(json!({"type": "json_object"}), None, null.clone()), Ok(Some(Format::JsonObject)));
        assert_eq!(check(strict, None, null.clone()), Ok(Some(Format::JsonSchema(schema.clone()))));
        assert_eq!(
            check(null.clone(), Some("start: \"a\""), null.clone()),
            Ok(Some(Format::Grammar("start: \"a\"".to_owned())))
        );
        assert_eq!(check(null.clone(), None, json!({"json": schema})), Ok(Some(Format::JsonSchema(schema))));
        assert_eq!(
            check(null.clone(), None, json!({"choice": ["yes.", "no"]})),
            Ok(Some(Format::Regex(r"(yes\.|no)".to_owned())))
        );
        assert_eq!(check(null.clone(), None, json!({"json_object": false})), Ok(None));
        let two = check(json!({"type": "json_object"}), Some("start: \"a\""), null.clone());
        assert!(two.unwrap_err().contains("found more"));
        let none = check(json!({"type": "json_schema", "json_schema": {"name": "a"}}), None, null);
        assert!(none.unwrap_err().contains("found none"));
    }
}
