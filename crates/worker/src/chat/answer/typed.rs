//! Which JSON value is an argument that a model wrote as bare text? The tool's schema says.

use serde_json::Value;

use crate::integers;

/// A tool that an answer may call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tool {
    pub(crate) name: String,
    /// The JSON schema of its arguments; null where it is not known.
    pub(crate) parameters: Value,
}

/// Schemas within one another that are looked at.
const MAX_DEPTH: usize = 8;

/// The value of a tool's argument. A text is one where the schema wants it, or where it is nothing else that the schema wants. `None` where the value
/// has a number that would be another one.
pub(super) fn argument(tools: &[Tool], tool: &str, key: &str, text: &str) -> Option<Value> {
    let schema = tools.iter().find(|known| known.name == tool);
    let schema = schema.map_or(&Value::Null, |tool| &tool.parameters["properties"][key]);
    let mut kinds = Vec::new();
    kinds_of(schema, 0, &mut kinds);
    let written = match text.trim() {
        "True" | "TRUE" => Some(Value::Bool(true)),
        "False" | "FALSE" => Some(Value::Bool(false)),
        "None" => Some(Value::Null),
        text => serde_json::from_str(text).ok(),
    };
    let value = match written {
        Some(value) if !value.is_string() && (kinds.is_empty() || kinds.contains(&kind(&value))) => value,
        // Where no text is wanted the value stands as it was written, for the tool to judge.
        Some(value) if !kinds.is_empty() && !kinds.contains(&"string") => value,
        _ => Value::String(text.to_owned()),
    };
    let is_exact = value.is_string() || integers::beyond_64_bits(text.as_bytes(), None).is_none();
    is_exact.then_some(value)
}

/// The types that a schema allows; none where it does not say. `integer` counts as `number` too.
pub(crate) fn kinds_of<'a>(schema: &'a Value, depth: usize, kinds: &mut Vec<&'a str>) {
    if depth > MAX_DEPTH {
        return;
    }
    let mut add = |name: &'a str| {
        kinds.push(name);
        if name == "integer" {
            kinds.push("number");
        }
    };
    match &schema["type"] {
        Value::String(name) => add(name),
        Value::Array(names) => names.iter().filter_map(Value::as_str).for_each(add),
        _ => {
            let listed = schema["enum"].as_array().into_iter().flatten();
            listed.chain(schema.get("const")).for_each(|value| add(kind(value)));
        }
    }
    for key in ["anyOf", "oneOf", "allOf"] {
        for schema in schema[key].as_array().into_iter().flatten() {
            kinds_of(schema, depth + 1, kinds);
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
