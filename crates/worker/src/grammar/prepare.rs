//! A schema as the library compiles it right: what it mistakes is rewritten here to what means the same, what would cost it too much is
//! refused by the keyword's name.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::source::{has_key, n_source};
use super::unique;
use super::{cost, finite, ids, names, numbers, refs};

/// The largest divisor, without its factors of ten: the automaton has as many states, and each multiplies with all others of a number.
const MAX_DIVISOR: u64 = 1_000;

/// The most states of the automata of all divisors.
const MAX_DIVISORS: u64 = 50_000;

/// The part of an interval next to an excluded bound that is left out with it.
const MARGIN: f64 = 1e-9;

/// The formats that are enforced. Others are annotations.
const FORMATS: [&str; 10] =
    ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"];

/// The characters that may follow a backslash in a string. Without `u`, which would let a property's name be written in a way that the
/// library does not take for it, each text is written in one way. Control characters other than these five cannot be written then.
pub(super) const ESCAPES: &str = "bfnrt\"\\";

/// Keywords whose values are no schemas.
pub(super) const DATA: [&str; 6] = ["const", "enum", "default", "examples", "example", "x-guidance"];

/// Keywords whose values have schemas by name.
pub(super) const NAMED: [&str; 5] =
    ["$defs", "definitions", "dependentSchemas", "patternProperties", "properties"];

/// Keywords with a count, which may be written as a float.
const COUNTS: [&str; 6] =
    ["maxItems", "maxLength", "maxProperties", "minItems", "minLength", "minProperties"];

/// Rewrites a schema in place, all but `uniqueItems`, which no grammar can say. The error says what cannot be enforced.
pub(super) fn prepare(schema: &mut Value) -> Result<(), String> {
    ids::resolve(schema)?;
    refs::resolve(schema)?;
    if has_key(schema, "propertyNames") {
        names::rewrite(schema)?;
    }
    cost::check(schema)?;
    finite::check(schema)?;
    bound_unique(schema)?;
    let (mut bounds, mut n_state) = (Vec::new(), 0);
    each(schema, &mut |node| {
        n_state += divisor(node)?;
        numbers::rounded(node).and_then(|()| characters(node))
    })?;
    if n_state > MAX_DIVISORS {
        return Err(format!("multipleOf of more than {MAX_DIVISORS} together"));
    }
    divisors_together(schema)?;
    each(schema, &mut |node| {
        annotations(node);
        one_of_values(node)?;
        let ends = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"];
        bounds.extend(ends.iter().filter_map(|&key| node.get(key).and_then(Value::as_f64)));
        Ok(())
    })?;
    each(schema, &mut |node| {
        narrow(node, "exclusiveMinimum", "minimum", &bounds);
        narrow(node, "exclusiveMaximum", "maximum", &bounds);
        Ok(())
    })
}

/// Visits each schema within a schema. Recursion is bounded by the check of the schema's depth.
pub(super) fn each<F>(schema: &mut Value, visit: &mut F) -> Result<(), String>
where
    F: FnMut(&mut Map<String, Value>) -> Result<(), String>,
{
    match schema {
        Value::Array(items) => items.iter_mut().try_for_each(|item| each(item, visit)),
        Value::Object(node) => {
            visit(node)?;
            for (key, value) in node.iter_mut() {
                match value {
                    Value::Object(named) if NAMED.contains(&key.as_str()) => {
                        named.values_mut().try_for_each(|item| each(item, visit))?;
                    }
                    _ if DATA.contains(&key.as_str()) => {}
                    _ => each(value, visit)?,
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Drops what demands nothing, and writes counts as integers.
fn annotations(node: &mut Map<String, Value>) {
    node.retain(|key, value| match (key.as_str(), value) {
        ("format", Value::String(format)) => FORMATS.contains(&format.as_str()),
        ("uniqueItems", Value::Bool(false)) => false,
        _ => true,
    });
    for key in COUNTS {
        let Some(value) = node.get_mut(key) else { continue };
        if let Some(float) = value.as_f64().filter(|f| value.is_f64() && f.fract() == 0.0)
            && (0.0..=numbers::MAX_EXACT as f64).contains(&float)
        {
            *value = Value::from(float as u64);
        }
    }
}

/// Where each schema of a `oneOf` lists its values, the values that are in exactly one of the lists.
fn one_of_values(node: &mut Map<String, Value>) -> Result<(), String> {
    const ANNOTATIONS: [&str; 5] = ["title", "description", "$comment", "default", "examples"];
    let list = |option: &Value| {
        let option = option.as_object()?;
        let demands: Vec<&str> =
            option.keys().map(String::as_str).filter(|key| !ANNOTATIONS.contains(key)).collect();
        match demands[..] {
            ["const"] => Some(vec![option["const"].clone()]),
            ["enum"] => option["enum"].as_array().cloned(),
            _ => None,
        }
    };
    let Some(options) = node.get("oneOf").and_then(Value::as_array) else { return Ok(()) };
    let Some(lists) = options.iter().map(list).collect::<Option<Vec<_>>>() else { return Ok(()) };
    // By a value's one text: how many lists have it.
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for list in &lists {
        let texts: BTreeSet<String> = list.iter().map(unique::text).collect();
        texts.into_iter().for_each(|text| *counts.entry(text).or_default() += 1);
    }
    if counts.values().all(|&n| n == 1) {
        return Ok(());
    }
    let values: Vec<Value> =
        lists.into_iter().flatten().filter(|value| counts.get(&unique::text(value)) == Some(&1)).collect();
    if values.is_empty() {
        return Err("oneOf without a value that only one of its schemas allows".to_owned());
    }
    node.shift_remove("oneOf");
    let only = serde_json::json!({ "enum": values });
    match node.get_mut("allOf").and_then(Value::as_array_mut) {
        Some(all) => all.push(only),
        None => drop(node.insert("allOf".to_owned(), Value::Array(vec![only]))),
    }
    Ok(())
}

/// Refuses texts with characters that strings cannot have, see [`ESCAPES`].
fn characters(node: &Map<String, Value>) -> Result<(), String> {
    fn is_free(value: &Value) -> bool {
        let text_is_free =
            |text: &str| !text.chars().any(|c| c.is_ascii_control() && !"\u{8}\u{c}\n\r\t".contains(c));
        match value {
            Value::String(text) => text_is_free(text),
            Value::Array(items) => items.iter().all(is_free),
            Value::Object(entries) => entries.iter().all(|(key, value)| text_is_free(key) && is_free(value)),
            _ => true,
        }
    }
    match ["const", "enum"].into_iter().find(|&key| node.get(key).is_some_and(|value| !is_free(value))) {
        Some(key) => Err(format!("{key} with a control character that only \\u can write")),
        None => Ok(()),
    }
}

/// The library takes a whole number that is excluded for allowed if the other end of the interval is less than one away, so such a bound is
/// moved inwards by a hair. The other end may stand in any other part of the schema.
fn narrow(node: &mut Map<String, Value>, exclusive: &str, inclusive: &str, bounds: &[f64]) {
    let (key, end) = match node.get(exclusive) {
        Some(Value::Bool(true)) => (inclusive, node.get(inclusive).and_then(Value::as_f64)),
        Some(value) => (exclusive, value.as_f64()),
        None => return,
    };
    let Some(end) = end.filter(|end| end.fract() == 0.0) else { return };
    let sign = if inclusive == "minimum" { 1.0 } else { -1.0 };
    let widths = bounds.iter().map(|bound| (bound - end) * sign);
    let width = widths.filter(|&width| width > 0.0 && width < 1.0).fold(1.0, f64::min);
    if width < 1.0 {
        let mut moved = end + sign * width * MARGIN;
        if moved == end {
            moved = if sign > 0.0 { end.next_up() } else { end.next_down() };
        }
        node.insert(key.to_owned(), Value::from(moved));
    }
}

/// A divisor as the states of its automaton, unless those are too many.
fn divisor(node: &Map<String, Value>) -> Result<u64, String> {
    match node.get("multipleOf") {
        None => Ok(0),
        Some(value) => match value.as_f64().and_then(odd_digits) {
            Some(divisor) if divisor <= MAX_DIVISOR => Ok(divisor),
            Some(_) => Err(too_large()),
            None => Err(format!("multipleOf with more digits than can be enforced: {value}")),
        },
    }
}

fn too_large() -> String {
    format!(
        "multipleOf larger than {MAX_DIVISOR}, zeros at its end not counted, alone or with others that must hold as well"
    )
}

/// Refuses divisors whose automata are too large together: what a schema is combined of may hold them anywhere below, or where a
/// reference leads.
fn divisors_together(root: &Value) -> Result<(), String> {
    // Most schemas have none, or some that go together wherever they stand.
    if all_divisors(root) <= MAX_DIVISOR {
        return Ok(());
    }
    let mut stack = vec![root];
    while let Some(schema) = stack.pop() {
        if n_source(schema) >= 2
            && all_divisors(if has_key(schema, "$ref") { root } else { schema }) > MAX_DIVISOR
        {
            return Err(too_large());
        }
        stack.extend(children(schema));
    }
    Ok(())
}

/// The least common multiple of all divisors in a schema; more than [`MAX_DIVISOR`] where it is larger than that.
fn all_divisors(schema: &Value) -> u64 {
    let mut together = 1;
    let mut stack = vec![schema];
    while let Some(schema) = stack.pop() {
        if let Some(divisor) = schema.get("multipleOf").and_then(Value::as_f64).and_then(odd_digits) {
            together = lcm(together, divisor);
        }
        if together > MAX_DIVISOR {
            break;
        }
        stack.extend(children(schema));
    }
    together
}

/// The schemas right below a schema, or in a list of them.
pub(super) fn children(schema: &Value) -> Vec<&Value> {
    match schema {
        Value::Array(items) => items.iter().collect(),
        Value::Object(node) => node
            .iter()
            .filter(|(key, _)| !DATA.contains(&key.as_str()))
            .flat_map(|(key, value)| match value {
                Value::Object(named) if NAMED.contains(&key.as_str()) => named.values().collect(),
                _ => vec![value],
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// A divisor's digits without zeros at their end.
fn odd_digits(divisor: f64) -> Option<u64> {
    let text = format!("{}", divisor.abs());
    let digits: String = text.chars().filter(|c| *c != '.').collect();
    let digits = digits.trim_matches('0');
    if digits.is_empty() || text.len() > 9 + 1 {
        return (divisor == 0.0).then_some(1);
    }
    digits.parse().ok()
}

fn lcm(a: u64, b: u64) -> u64 {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    a.saturating_mul(b) / x.max(1)
}

/// An array of different items has at most as many as there are.
fn bound_unique(schema: &mut Value) -> Result<(), String> {
    if !has_key(schema, "uniqueItems") {
        return Ok(());
    }
    let root = schema.clone();
    each(schema, &mut |node| {
        if node.get("uniqueItems") == Some(&Value::Bool(true))
            && let Some(values) = unique::values(&root, node)
        {
            let most = node.get("maxItems").and_then(Value::as_u64).unwrap_or(u64::MAX);
            node.insert("maxItems".to_owned(), Value::from(most.min(values.len() as u64)));
        }
        Ok(())
    })
}
