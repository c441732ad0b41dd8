//! What would it cost to combine a schema's parts? What stands in `allOf`, and what stands beside `$ref`, `anyOf`, `oneOf`, `enum` or `const`, the
//! library multiplies out: each alternative of one part with each of another, property by property, and what a reference names is copied each
//! time. Nothing in the library bounds what is copied, so it is counted here before.

use std::collections::{HashMap, HashSet};
use std::ptr;

use serde_json::{Map, Value};

use super::few::target;
use super::prepare::{DATA, NAMED};
use super::source::{SAYS_NOTHING, has_key};

/// The most bytes of a schema that are copied while its parts are combined.
const MAX_COPIED: usize = 8 << 20;

/// The library follows no more levels.
const MAX_LEVELS: usize = 128;

/// The most properties of a schema's objects together, and the most names that they require: for each the library goes through all that follow.
const MAX_PROPERTIES: usize = 2_500;

/// The most properties of one object that it need not have: after each, the parser considers all that follow, in one row of its items.
const MAX_OPTIONAL: usize = 200;

/// The most properties of an object in a schema that counts properties: each choice of them is written out.
const MAX_COUNTED: usize = 50;

/// Refuses a schema that costs too much; the error names the keyword.
pub(super) fn check(root: &Value) -> Result<(), String> {
    properties(root)?;
    let mut count = Count { root, left: MAX_COPIED, alternatives: HashMap::new(), sizes: HashMap::new() };
    count.size(root);
    count.below(root)
}

/// Refuses objects with too many properties.
fn properties(root: &Value) -> Result<(), String> {
    for key in ["properties", "required"] {
        if sizes_of(root, key).sum::<usize>() > MAX_PROPERTIES {
            return Err(format!("{key} with more than {MAX_PROPERTIES} names in the whole schema"));
        }
    }
    if most_optional(root) > MAX_OPTIONAL {
        return Err(format!(
            "properties with more than {MAX_OPTIONAL} names of one object that are not required"
        ));
    }
    match ["minProperties", "maxProperties"].into_iter().find(|key| has_key(root, key)) {
        Some(key) if sizes_of(root, "properties").any(|n| n > MAX_COUNTED) => {
            Err(format!("{key} in a schema with more than {MAX_COUNTED} properties of one object"))
        }
        _ => Ok(()),
    }
}

/// The most properties that any one object need not have.
fn most_optional(schema: &Value) -> usize {
    let below = |items: &mut dyn Iterator<Item = &Value>| items.map(most_optional).max().unwrap_or_default();
    match schema {
        Value::Array(items) => below(&mut items.iter()),
        Value::Object(node) => {
            let required: HashSet<&str> = node
                .get("required")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            let named = node.get("properties").and_then(Value::as_object);
            let own = named
                .into_iter()
                .flat_map(Map::keys)
                .filter(|name| !required.contains(name.as_str()))
                .count();
            let rest = node.iter().filter(|(key, _)| !DATA.contains(&key.as_str()));
            own.max(below(&mut rest.map(|(_, value)| value)))
        }
        _ => 0,
    }
}

/// How many members each value of this keyword has.
fn sizes_of<'a>(schema: &'a Value, keyword: &'a str) -> Box<dyn Iterator<Item = usize> + 'a> {
    match schema {
        Value::Array(items) => Box::new(items.iter().flat_map(move |item| sizes_of(item, keyword))),
        Value::Object(node) => {
            let own = node.get(keyword).map(|value| match value {
                Value::Array(items) => items.len(),
                Value::Object(named) => named.len(),
                _ => 0,
            });
            let below = node.iter().filter(|(key, _)| !DATA.contains(&key.as_str()));
            Box::new(own.into_iter().chain(below.flat_map(move |(_, value)| sizes_of(value, keyword))))
        }
        _ => Box::new(std::iter::empty()),
    }
}

/// Keywords that combine schemas or give values.
const COMBINES: [&str; 6] = ["allOf", "anyOf", "const", "enum", "oneOf", "$ref"];

/// What a schema is made of.
#[derive(Clone, Copy)]
enum Part<'a> {
    /// All keywords that combine nothing.
    Own(&'a Map<String, Value>),
    /// One of these values holds.
    Values(&'a [Value]),
    /// One of these schemas holds.
    Any(&'a [Value]),
    /// This schema holds.
    All(&'a Value),
}

struct Count<'a> {
    root: &'a Value,
    left: usize,
    /// By a schema's address.
    alternatives: HashMap<*const Value, usize>,
    sizes: HashMap<*const Value, usize>,
}

impl<'a> Count<'a> {
    /// Combines the parts of each schema in a schema.
    fn below(&mut self, schema: &'a Value) -> Result<(), String> {
        let parts = self.parts(schema);
        for (j, &(keyword, b)) in parts.iter().enumerate() {
            for (i, &(_, a)) in parts.iter().enumerate().take(j) {
                // Once for each way in which the parts before hold.
                let times = self.others(&parts[..j], i);
                self.both(a, b, times, 0).ok_or_else(|| {
                    format!("{keyword} that combines more than {MAX_COPIED} bytes, multiplied out")
                })?;
            }
        }
        match schema {
            Value::Array(items) => items.iter().try_for_each(|item| self.below(item)),
            Value::Object(node) => {
                let schemas = node.iter().filter(|(key, _)| !DATA.contains(&key.as_str()));
                schemas.into_iter().try_for_each(|(key, value)| match value {
                    Value::Object(named) if NAMED.contains(&key.as_str()) => {
                        named.values().try_for_each(|item| self.below(item))
                    }
                    value => self.below(value),
                })
            }
            _ => Ok(()),
        }
    }

    /// What a schema is made of, each with the keyword that makes it a part.
    fn parts(&self, schema: &'a Value) -> Vec<(&'a str, Part<'a>)> {
        let Value::Object(node) = schema else { return Vec::new() };
        let mut parts = Vec::new();
        let mut has_own = false;
        for (key, value) in node {
            match (key.as_str(), value) {
                ("allOf", Value::Array(items)) => {
                    parts.extend(items.iter().map(|item| (key.as_str(), Part::All(item))));
                }
                ("anyOf" | "oneOf", Value::Array(items)) => parts.push((key.as_str(), Part::Any(items))),
                ("enum", Value::Array(items)) => parts.push((key.as_str(), Part::Values(items))),
                ("const", value) => parts.push((key.as_str(), Part::Values(std::slice::from_ref(value)))),
                ("$ref", reference) => {
                    parts.extend(target(self.root, reference).map(|to| (key.as_str(), Part::All(to))));
                }
                (key, _) => has_own |= key != "type" && !SAYS_NOTHING.contains(&key),
            }
        }
        if has_own {
            parts.insert(0, ("allOf", Part::Own(node)));
        }
        parts
    }

    /// In how many ways the parts but one hold.
    fn others(&mut self, parts: &[(&str, Part<'a>)], but: usize) -> usize {
        let others = parts.iter().enumerate().filter(|(i, _)| *i != but);
        others.fold(1, |ways, (_, &(_, part))| ways.saturating_mul(self.ways(part)))
    }

    fn ways(&mut self, part: Part<'a>) -> usize {
        match part {
            Part::Own(_) => 1,
            Part::Values(values) => values.len(),
            Part::Any(schemas) => {
                schemas.iter().fold(0, |ways, schema| self.ways(Part::All(schema)).saturating_add(ways))
            }
            Part::All(schema) => {
                if let Some(&ways) = self.alternatives.get(&ptr::from_ref(schema)) {
                    return ways;
                }
                // One that leads to itself the library refuses.
                self.alternatives.insert(schema, 1);
                let parts = self.parts(schema);
                let ways = self.others(&parts, usize::MAX);
                self.alternatives.insert(schema, ways);
                ways
            }
        }
    }

    /// Counts combining two parts that often; `None` where it is too much.
    fn both(&mut self, a: Part<'a>, b: Part<'a>, times: usize, level: usize) -> Option<()> {
        let bytes = self.bytes(a).saturating_add(self.bytes(b)).saturating_add(1);
        self.left = self.left.checked_sub(bytes.checked_mul(times)?)?;
        if level > MAX_LEVELS {
            return Some(());
        }
        match (a, b) {
            (Part::Own(a), Part::Own(b)) => self.objects(a, b, times, level),
            (Part::Own(_), b) => self.expand(b, a, times, level),
            (a, b) => self.expand(a, b, times, level),
        }
    }

    /// Each of what a part is made of with another.
    fn expand(&mut self, part: Part<'a>, other: Part<'a>, times: usize, level: usize) -> Option<()> {
        match part {
            Part::Own(_) => Some(()),
            Part::Values(values) => {
                let ways = self.ways(other).max(1);
                let bytes = self.bytes(other).checked_mul(values.len())?;
                self.left = self.left.checked_sub(bytes.checked_mul(ways)?.checked_mul(times)?)?;
                Some(())
            }
            Part::Any(schemas) => {
                schemas.iter().try_for_each(|schema| self.both(Part::All(schema), other, times, level + 1))
            }
            Part::All(schema) => {
                let parts = self.parts(schema);
                (0..parts.len()).try_for_each(|i| {
                    let times = self.others(&parts, i).checked_mul(times)?;
                    self.both(parts[i].1, other, times, level + 1)
                })
            }
        }
    }

    /// Properties and items of the same name or place, or what is said of all others.
    fn objects(
        &mut self,
        a: &'a Map<String, Value>,
        b: &'a Map<String, Value>,
        times: usize,
        level: usize,
    ) -> Option<()> {
        for (a, b) in [(a, b), (b, a)] {
            for (key, rest) in
                [("properties", "additionalProperties"), ("patternProperties", "additionalProperties")]
            {
                let Some(named) = a.get(key).and_then(Value::as_object) else { continue };
                for (name, schema) in named {
                    let same = b.get(key).and_then(|named| named.get(name));
                    let patterns = b.get("patternProperties").and_then(Value::as_object);
                    for other in
                        same.into_iter().chain(b.get(rest)).chain(patterns.into_iter().flat_map(Map::values))
                    {
                        self.both(Part::All(schema), Part::All(other), times, level + 1)?;
                    }
                }
            }
        }
        for key in ["items", "additionalProperties"] {
            if let (Some(a), Some(b)) = (a.get(key), b.get(key)) {
                self.both(Part::All(a), Part::All(b), times, level + 1)?;
            }
        }
        for (a, b) in [(a, b), (b, a)] {
            let first = a.get("prefixItems").and_then(Value::as_array);
            for (i, schema) in first.into_iter().flatten().enumerate() {
                let same = b.get("prefixItems").and_then(|items| items.get(i));
                for other in same.into_iter().chain(b.get("items")) {
                    self.both(Part::All(schema), Part::All(other), times, level + 1)?;
                }
            }
        }
        Some(())
    }

    fn bytes(&mut self, part: Part<'a>) -> usize {
        match part {
            Part::Own(node) => {
                let own = node.iter().filter(|(key, _)| !COMBINES.contains(&key.as_str()));
                own.map(|(key, value)| key.len() + self.size(value)).sum()
            }
            Part::Values(values) | Part::Any(values) => values.iter().map(|value| self.size(value)).sum(),
            Part::All(schema) => self.size(schema),
        }
    }

    /// About the bytes of a schema's text.
    fn size(&mut self, schema: &'a Value) -> usize {
        if let Some(&size) = self.sizes.get(&ptr::from_ref(schema)) {
            return size;
        }
        let size = match schema {
            Value::String(text) => text.len() + 2,
            Value::Array(items) => items.iter().map(|item| self.size(item) + 1).sum::<usize>() + 2,
            Value::Object(node) => {
                node.iter().map(|(key, item)| key.len() + 3 + self.size(item)).sum::<usize>() + 2
            }
            _ => 4,
        };
        self.sizes.insert(schema, size);
        size
    }
}
