//! Does a value end that meets the schema? One that must contain itself does not: an answer would begin, and go on until it is cut off.
//!
//! A reference is finite if what it names is, and that is if all that an object requires is, or one of several choices. Those that never
//! come to be so are infinite: a least fixed point. What other keywords forbid is the library's to find.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// The most schemas that are looked at, again and again; a schema that takes more is left to the library.
const MAX_VISITS: usize = 200_000;

/// Whether each reference is known to be finite.
type References<'a> = BTreeMap<&'a str, bool>;

/// Refuses a schema whose values cannot end; the error names a reference.
pub(super) fn check(root: &Value) -> Result<(), String> {
    let mut references = References::new();
    collect(root, &mut references);
    let targets: Vec<(&str, &Value)> = references
        .keys()
        .filter_map(|reference| Some((*reference, root.pointer(reference.strip_prefix('#')?)?)))
        .collect();
    let mut left = MAX_VISITS;
    loop {
        let mut is_new = false;
        for &(reference, target) in &targets {
            if references.get(reference) == Some(&false) && is_finite(target, &references, &mut left) {
                references.insert(reference, true);
                is_new = true;
            }
        }
        if left == 0 {
            return Ok(());
        }
        if !is_new {
            break;
        }
    }
    if is_finite(root, &references, &mut left) {
        return Ok(());
    }
    let known = |reference: &str| targets.iter().any(|(name, _)| *name == reference);
    match references.iter().find(|(reference, is_finite)| !**is_finite && known(reference)) {
        Some((reference, _)) => Err(format!("$ref to what must contain itself: {reference}")),
        // What names nothing is said elsewhere.
        None => Ok(()),
    }
}

/// Every reference within the document.
fn collect<'a>(schema: &'a Value, references: &mut References<'a>) {
    match schema {
        Value::Array(items) => items.iter().for_each(|item| collect(item, references)),
        Value::Object(node) => {
            if let Some(Value::String(reference)) = node.get("$ref")
                && reference.starts_with('#')
            {
                references.insert(reference, false);
            }
            node.values().for_each(|value| collect(value, references));
        }
        _ => {}
    }
}

fn is_finite(schema: &Value, references: &References<'_>, left: &mut usize) -> bool {
    let Value::Object(node) = schema else { return true };
    if *left == 0 || node.contains_key("const") || node.contains_key("enum") {
        return true;
    }
    *left -= 1;
    let each = |key: &str| node.get(key).and_then(Value::as_array);
    let reference = node.get("$ref").and_then(Value::as_str);
    reference.and_then(|reference| references.get(reference)).copied().unwrap_or(true)
        && each("allOf").is_none_or(|all| all.iter().all(|one| is_finite(one, references, left)))
        && ["anyOf", "oneOf"].into_iter().all(|key| {
            each(key)
                .is_none_or(|any| any.is_empty() || any.iter().any(|one| is_finite(one, references, left)))
        })
        && has_finite_type(node, references, left)
}

/// Whether a value of one of the types ends; without any, a value may be a number.
fn has_finite_type(node: &Map<String, Value>, references: &References<'_>, left: &mut usize) -> bool {
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
                value.is_none_or(|value| is_finite(value, references, left))
            })
        }
        "array" => {
            let least = node.get("minItems").and_then(Value::as_u64).unwrap_or(0) as usize;
            let first = node.get("prefixItems").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            first.iter().take(least).all(|item| is_finite(item, references, left))
                && (least <= first.len()
                    || node.get("items").is_none_or(|items| is_finite(items, references, left)))
        }
        _ => true,
    })
}
