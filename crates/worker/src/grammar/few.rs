//! Schemas of few values, which can be listed.

use serde_json::Value;

/// The most integers between two bounds that are listed.
const MAX_LISTED: i64 = 100;

/// The most steps to the part that lists them.
const MAX_HOPS: usize = 16;

/// All values that a schema allows, and maybe some that it does not; `None` if they are not few.
pub(super) fn values(root: &Value, schema: &Value) -> Option<Vec<Value>> {
    listed(root, schema, MAX_HOPS)
}

fn listed(root: &Value, schema: &Value, hops: usize) -> Option<Vec<Value>> {
    if let Some(value) = schema.get("const") {
        return Some(vec![value.clone()]);
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return Some(values.clone());
    }
    let hops = hops.checked_sub(1)?;
    for key in ["anyOf", "oneOf"] {
        if let Some(options) = schema.get(key).and_then(Value::as_array) {
            let options: Option<Vec<_>> = options.iter().map(|option| listed(root, option, hops)).collect();
            return Some(options?.concat());
        }
    }
    if let Some(parts) = schema.get("allOf").and_then(Value::as_array) {
        return parts.iter().find_map(|part| listed(root, part, hops));
    }
    if let Some(reference) = schema.get("$ref") {
        return listed(root, target(root, reference)?, hops);
    }
    match schema.get("type")?.as_str()? {
        "boolean" => Some(vec![Value::Bool(false), Value::Bool(true)]),
        "null" => Some(vec![Value::Null]),
        "integer" => {
            let end = |key| schema.get(key).and_then(Value::as_i64);
            let (first, last) = (end("minimum")?, end("maximum")?);
            let is_few = last.checked_sub(first).is_some_and(|n| n < MAX_LISTED);
            is_few.then(|| (first..=last).map(Value::from).collect())
        }
        _ => None,
    }
}

/// A schema behind references to it.
pub(super) fn resolved<'a>(root: &'a Value, mut schema: &'a Value) -> Option<&'a Value> {
    for _ in 0..MAX_HOPS {
        match schema.get("$ref") {
            Some(reference) if schema.as_object().is_some_and(|node| node.len() == 1) => {
                schema = target(root, reference)?;
            }
            _ => return Some(schema),
        }
    }
    None
}

/// What a reference names, once its form is plain.
pub(super) fn target<'a>(root: &'a Value, reference: &Value) -> Option<&'a Value> {
    match reference.as_str()? {
        "#" | "#/" => Some(root),
        reference => root.pointer(reference.strip_prefix('#')?),
    }
}
