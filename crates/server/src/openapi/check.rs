//! Does a request say what the document promises to accept?
//!
//! The schemas that `/openapi.json` publishes are the ones that requests are held against, so the two cannot differ. This reads the
//! part of JSON Schema (2020-12) that they use; a test refuses any other keyword in them. A mismatch names the field by its
//! path and what was expected, and repeats of the client's words at most a short name.

use std::cell::RefCell;
use std::fmt;

use serde_json::{Map, Number, Value};

use crate::nearest::suggestion;

/// Integers written as 1.0 are exact up to here.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// The longest name of the client's own that a message repeats.
const MAX_NAME: usize = 64;

/// What is wrong with a request, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mismatch {
    /// The field, such as `messages[0].content`; empty for the whole body.
    pub(crate) path: String,
    /// What would be accepted.
    pub(crate) expected: String,
    /// What was found.
    pub(crate) found: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() { "body" } else { &self.path };
        write!(f, "{path}: expected {}, found {}", self.expected, self.found)
    }
}

/// The paths of fields that are not described, in the order in which they were found.
pub(crate) type Unknown = RefCell<Vec<String>>;

/// The named schemas of a document.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schemas<'a> {
    named: &'a Map<String, Value>,
    /// Fields that are not described are taken out and listed here, instead of being a mismatch.
    unknown: Option<&'a Unknown>,
}

impl<'a> Schemas<'a> {
    pub(crate) fn new(named: &'a Map<String, Value>) -> Schemas<'a> {
        Schemas { named, unknown: None }
    }

    /// Schemas that let unknown fields pass, and list them here.
    pub(crate) fn leniently(named: &'a Map<String, Value>, unknown: &'a Unknown) -> Schemas<'a> {
        Schemas { named, unknown: Some(unknown) }
    }

    /// Holds a value against a named schema. Integers that are written as 1.0 become integers.
    pub(crate) fn check(self, name: &str, value: &mut Value) -> Result<(), Mismatch> {
        match self.named.get(name) {
            Some(schema) => self.matches(schema, value, ""),
            None => Err(mismatch("", "a schema of that name", "none")),
        }
    }

    /// What a `$ref` leads to.
    fn resolve(self, schema: &'a Value) -> &'a Value {
        let name = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next());
        name.and_then(|name| self.named.get(name)).unwrap_or(schema)
    }

    fn matches(self, schema: &'a Value, value: &mut Value, path: &str) -> Result<(), Mismatch> {
        let schema = self.resolve(schema);
        if let Some(choices) = schema["anyOf"].as_array() {
            return match self.unknown {
                None => self.any_of(choices, value, path),
                Some(unknown) => self.any_of_leniently(unknown, choices, value, path),
            };
        }
        let types = types(schema);
        let Some(found) = types.iter().copied().find(|name| is_type(name, value)) else {
            let found = if types.contains(&"integer") { kind_of_number(value) } else { kind(value) };
            return Err(mismatch(path, &one_of(types.iter().map(|name| described(name))), &found));
        };
        if found == "integer" {
            make_integer(value);
        }
        if let Some(allowed) = schema["enum"].as_array()
            && !allowed.iter().any(|allowed| is_same(allowed, value))
        {
            return Err(mismatch(path, &one_of(allowed.iter().map(Value::to_string)), &shown(value)));
        }
        match value {
            Value::Number(number) => in_range(schema, number, path),
            Value::String(text) => {
                in_bounds(schema, ["minLength", "maxLength"], ("characters", text.chars().count()), path)
            }
            Value::Array(items) => {
                in_bounds(schema, ["minItems", "maxItems"], ("items", items.len()), path)?;
                let item = &schema["items"];
                if item.is_null() {
                    return Ok(());
                }
                items
                    .iter_mut()
                    .enumerate()
                    .try_for_each(|(i, value)| self.matches(item, value, &format!("{path}[{i}]")))
            }
            Value::Object(fields) => self.fields(schema, fields, path),
            Value::Null | Value::Bool(_) => Ok(()),
        }
    }

    fn fields(self, schema: &'a Value, fields: &mut Map<String, Value>, path: &str) -> Result<(), Mismatch> {
        let others = &schema["additionalProperties"];
        if let Some(unknown) = self.unknown.filter(|_| others == false) {
            fields.retain(|name, _| {
                let is_known = !schema["properties"][name].is_null();
                if !is_known {
                    unknown.borrow_mut().push(join(path, &readable(name)));
                }
                is_known
            });
        }
        in_bounds(schema, ["minProperties", "maxProperties"], ("fields", fields.len()), path)?;
        for (name, value) in fields.iter_mut() {
            let known = &schema["properties"][name];
            if !known.is_null() {
                self.matches(known, value, &join(path, name))?;
            } else if others == false {
                let expected = "one of the fields that GET /openapi.json describes";
                let known = schema["properties"].as_object().into_iter().flat_map(Map::keys);
                let found = format!("another{}", suggestion(name, known.map(String::as_str)));
                return Err(mismatch(&join(path, &readable(name)), expected, &found));
            } else if others.is_object() {
                self.matches(others, value, &join(path, &readable(name)))?;
            }
        }
        // Last: of a part that is an image, its type is more telling than the text that it lacks.
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !fields.contains_key(name) {
                return Err(mismatch(&join(path, name), "a value", "none"));
            }
        }
        Ok(())
    }

    /// An alternative that knows all fields comes first, then one that fits without the unknown ones.
    fn any_of_leniently(
        self,
        unknown: &Unknown,
        choices: &'a [Value],
        value: &mut Value,
        path: &str,
    ) -> Result<(), Mismatch> {
        let mismatch = match Schemas::new(self.named).any_of(choices, value, path) {
            Ok(()) => return Ok(()),
            Err(mismatch) => mismatch,
        };
        for choice in choices {
            let mut left = value.clone();
            let found = Unknown::default();
            if Schemas::leniently(self.named, &found).matches(choice, &mut left, path).is_ok() {
                *value = left;
                unknown.borrow_mut().append(&mut found.into_inner());
                return Ok(());
            }
        }
        Err(mismatch)
    }

    /// Where nothing fits, the most telling mismatch is that of the one alternative whose type fits, of several lists that of the one
    /// whose items are of the type of the value's first, or the one that is found deepest in the value.
    fn any_of(self, choices: &'a [Value], value: &mut Value, path: &str) -> Result<(), Mismatch> {
        let mut deepest: Option<Mismatch> = None;
        let mut names = Vec::new();
        let fits = |choice: &Value, value: &Value| types(choice).iter().any(|name| is_type(name, value));
        let is_told = choices.iter().any(|choice| {
            let choice = self.resolve(choice);
            fits(choice, &*value) && self.begins_as(choice, &*value)
        });
        for choice in choices {
            let choice = self.resolve(choice);
            names.extend(types(choice).iter().map(|name| described(name)));
            if !fits(choice, &*value) || is_told && !self.begins_as(choice, &*value) {
                continue;
            }
            match self.matches(choice, value, path) {
                Ok(()) => return Ok(()),
                Err(error) if deepest.as_ref().is_some_and(|d| d.path.len() >= error.path.len()) => {}
                Err(error) => deepest = Some(error),
            }
        }
        names.dedup();
        Err(deepest.unwrap_or_else(|| mismatch(path, &one_of(names.into_iter()), &kind(value))))
    }

    /// Whether a list begins with what an alternative's items may be. What is no list, or an empty one, begins as any.
    fn begins_as(self, choice: &'a Value, value: &Value) -> bool {
        let Some(first) = value.as_array().and_then(|items| items.first()) else { return true };
        types(self.resolve(&choice["items"])).iter().any(|name| is_type(name, first))
    }
}

/// The types a schema allows; none that a schema without the keyword could have are asked for here.
fn types(schema: &Value) -> Vec<&str> {
    match &schema["type"] {
        Value::String(name) => vec![name],
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        _ => vec!["any"],
    }
}

fn is_type(name: &str, value: &Value) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.as_number().is_some_and(is_integer),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => true,
    }
}

fn is_integer(number: &Number) -> bool {
    !number.is_f64() || number.as_f64().is_some_and(|n| n.fract() == 0.0 && n.abs() <= MAX_EXACT)
}

/// Numbers are the same by their value: 1 and 1.0.
fn is_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => !less(a, b) && !less(b, a),
        _ => a == b,
    }
}

fn make_integer(value: &mut Value) {
    if let Some(number) = value.as_f64().filter(|_| value.is_f64()) {
        *value = Value::from(number as i64);
    }
}

fn in_range(schema: &Value, number: &Number, path: &str) -> Result<(), Mismatch> {
    let (least, most) = (&schema["minimum"], &schema["maximum"]);
    let below = least.as_number().is_some_and(|least| less(number, least));
    let above = most.as_number().is_some_and(|most| less(most, number));
    if !below && !above {
        return Ok(());
    }
    let expected = match (least.as_number(), most.as_number()) {
        (Some(least), Some(most)) => format!("{least} to {most}"),
        (Some(least), None) => format!("at least {least}"),
        (_, most) => format!("at most {}", most.map_or_else(String::new, Number::to_string)),
    };
    Err(mismatch(path, &expected, &number.to_string()))
}

/// Integers compare exactly, whatever their size.
fn less(a: &Number, b: &Number) -> bool {
    match (a.as_i128(), b.as_i128()) {
        (Some(a), Some(b)) => a < b,
        _ => a.as_f64() < b.as_f64(),
    }
}

fn in_bounds(
    schema: &Value,
    [min, max]: [&str; 2],
    (unit, n): (&str, usize),
    path: &str,
) -> Result<(), Mismatch> {
    let n = n as u64;
    let (min, max) = (schema[min].as_u64(), schema[max].as_u64());
    if min.is_none_or(|min| min <= n) && max.is_none_or(|max| n <= max) {
        return Ok(());
    }
    let expected = match (min, max) {
        (Some(min), Some(max)) => format!("{min} to {max} {unit}"),
        (Some(min), None) => format!("at least {min} {unit}"),
        (None, Some(0)) => "nothing in it".to_owned(),
        (None, max) => format!("at most {} {unit}", max.unwrap_or_default()),
    };
    Err(mismatch(path, &expected, &n.to_string()))
}

fn mismatch(path: &str, expected: &str, found: &str) -> Mismatch {
    Mismatch { path: path.to_owned(), expected: expected.to_owned(), found: found.to_owned() }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// A client's own name for something, where it is a name: so that a message does not carry a text back.
pub(crate) fn readable(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:$".contains(c);
    if !name.is_empty() && name.len() <= MAX_NAME && name.chars().all(plain) {
        name.to_owned()
    } else {
        format!("(a name of {} characters)", name.chars().count())
    }
}

/// A value as an error repeats it: short ones as they are.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) if !readable(text).starts_with('(') => format!("{text:?}"),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        _ => kind(value),
    }
}

/// What a value is, without saying it.
fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "a boolean".to_owned(),
        Value::Number(number) if is_integer(number) => "an integer".to_owned(),
        Value::Number(_) => "a number".to_owned(),
        Value::String(_) => "a string".to_owned(),
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

/// What a value is where a whole number would do: of a number, why it is none.
fn kind_of_number(value: &Value) -> String {
    match value.as_f64().filter(|_| value.is_f64()) {
        Some(number) if number.fract() == 0.0 => "a whole number that is too large".to_owned(),
        Some(_) => "a number with a fraction".to_owned(),
        None => kind(value),
    }
}

fn described(name: &str) -> String {
    match name {
        "null" => "null".to_owned(),
        "integer" | "array" | "object" => format!("an {name}"),
        _ => format!("a {name}"),
    }
}

fn one_of(names: impl Iterator<Item = impl Into<String>>) -> String {
    let names: Vec<String> = names.map(Into::into).collect();
    match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => names.concat(),
    }
}
