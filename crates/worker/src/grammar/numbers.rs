//! Numbers that the library would round: it computes bounds and values in 64-bit floats, and integers in 64 bits.

use serde_json::{Map, Value};

/// Up to here each integer is a float.
pub(super) const MAX_EXACT: u64 = 1 << 53;

/// The largest float below 2^63.
const MAX_BOUND: f64 = 9_223_372_036_854_774_784.0;

/// The bounds, what makes each an excluded one, and whether it bounds from above.
const BOUNDS: [(&str, &str, bool); 4] = [
    ("minimum", "exclusiveMinimum", false),
    ("maximum", "exclusiveMaximum", true),
    ("exclusiveMinimum", "", false),
    ("exclusiveMaximum", "", true),
];

/// Moves bounds that are no floats inwards to the next one, and to what 64 bits hold. Refuses values that have to be met exactly.
pub(super) fn rounded(node: &mut Map<String, Value>) -> Result<(), String> {
    for key in ["const", "enum"] {
        if let Some(large) = node.get(key).and_then(inexact) {
            return Err(format!("{key} with a number beyond 2^53: {large}"));
        }
    }
    for (key, excludes, is_upper) in BOUNDS {
        let is_excluded = excludes.is_empty() || node.get(excludes) == Some(&Value::Bool(true));
        let Some(value) = node.get_mut(key).filter(|value| is_large(value)) else { continue };
        let Some(bound) = inwards(value, is_excluded, is_upper) else {
            return Err(format!("{key} beyond 2^63: {value}"));
        };
        *value = Value::from(bound);
    }
    Ok(())
}

/// The tightest float within a bound beyond 2^53, or `None` if nothing in 64 bits is.
fn inwards(value: &Value, is_excluded: bool, is_upper: bool) -> Option<f64> {
    let sign = if is_upper { 1.0 } else { -1.0 };
    // From here on as an upper bound.
    let float = value.as_f64()? * sign;
    let integer = value.as_i64().map(i128::from).or(value.as_u64().map(i128::from));
    let is_within = match integer {
        Some(integer) => {
            let exact = if is_upper { integer } else { -integer };
            (float as i128) < exact || (!is_excluded && float as i128 == exact)
        }
        // A float may be what is left of more digits.
        None => false,
    };
    let float = if is_within { float } else { float.next_down() };
    (float >= -MAX_BOUND).then(|| sign * float.min(MAX_BOUND))
}

/// The first number in a value that a float may not tell from its neighbours.
fn inexact(value: &Value) -> Option<&Value> {
    match value {
        Value::Array(items) => items.iter().find_map(inexact),
        Value::Object(entries) => entries.values().find_map(inexact),
        value => is_large(value).then_some(value),
    }
}

fn is_large(value: &Value) -> bool {
    value.as_f64().is_some_and(|float| float.abs() > MAX_EXACT as f64)
        || value.as_i64().is_some_and(|integer| integer.unsigned_abs() > MAX_EXACT)
        || value.as_u64().is_some_and(|integer| integer > MAX_EXACT)
}
