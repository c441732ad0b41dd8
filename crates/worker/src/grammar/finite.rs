//! Does a value end that meets the schema? One that must contain itself does not: an answer would begin, and go on until it is cut off.
//!
//! A reference is finite if what it names is, and that is if all that an object requires is, or one of several choices. Those that never
//! come to be so are infinite: a least fixed point. What other keywords forbid is the library's to find.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::few::target;
use super::prepare::children;

/// The most schemas that are looked at, again and again; a schema that takes more is left to the library.
const MAX_VISITS: usize = 200_000;

/// The references that are not known to be finite, and what they name.
type Open<'a> = BTreeMap<&'a str, &'a Value>;

/// Refuses a schema whose values cannot end; the error names a reference.
pub(super) fn check(root: &Value) -> Result<(), String> {
    let (mut open, mut left) = (Open::new(), MAX_VISITS);
    collect(root, root, &mut open);
    loop {
        let before = open.clone();
        open.retain(|_, named| !is_finite(named, &before, &mut left));
        if left == 0 {
            return Ok(());
        }
        if open.len() == before.len() {
            break;
        }
    }
    match open.keys().next().filter(|_| !is_finite(root, &open, &mut left)) {
        Some(reference) => Err(format!("$ref to what must contain itself: {reference}")),
        None => Ok(()),
    }
}

/// Every reference that names something; what names nothing is said elsewhere.
fn collect<'a>(root: &'a Value, schema: &'a Value, open: &mut Open<'a>) {
    if let Some(reference) = schema.get("$ref")
        && let (Some(name), Some(named)) = (reference.as_str(), target(root, reference))
    {
        open.insert(name, named);
    }
    children(schema).into_iter().for_each(|below| collect(root, below, open));
}

fn is_finite(schema: &Value, open: &Open<'_>, left: &mut usize) -> bool {
    let Value::Object(node) = schema else { return true };
    if *left == 0 || node.contains_key("const") || node.contains_key("enum") {
        return true;
    }
    *left -= 1;
    let each = |key: &str| node.get(key).and_then(Value::as_array);
    let reference = node.get("$ref").and_then(Value::as_str);
    reference.is_none_or(|reference| !open.contains_key(reference))
        && each("allOf").is_none_or(|all| all.iter().all(|one| is_finite(one, open, left)))
        && ["anyOf", "oneOf"].into_iter().all(|key| {
            each(key).is_none_or(|any| any.is_empty() || any.iter().any(|one| is_finite(one, open, left)))
        })
        && has_finite_type(node, open, left)
}

/// Whether a value of one of the types ends; without any, a value may be a number.
fn has_finite_type(node: &Map<String, Value>, open: &Open<'_>, left: &mut usize) -> bool {
    let types: Vec<&str> = match node.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => return true,
    };
    types.iter().any(|one| match *one {
        "object" => {
            let required = node.get("required").and_then(Value::as_array);
            let named = node.get("properties").and_then(Value::as_object);
            let other = node.get("additionalProperties").filter(|_| !node.contains_key("patternProperties"));
            required.into_iter().flatten().filter_map(Value::as_str).all(|name| {
                let value = named.and_then(|named| named.get(name)).or(other);
                value.is_none_or(|value| is_finite(value, open, left))
            })
        }
        "array" => {
            let least = node.get("minItems").and_then(Value::as_u64).unwrap_or(0) as usize;
            let first = node.get("prefixItems").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            first.iter().take(least).all(|item| is_finite(item, open, left))
                && (least <= first.len()
                    || node.get("items").is_none_or(|items| is_finite(items, open, left)))
        }
        _ => true,
    })
}
