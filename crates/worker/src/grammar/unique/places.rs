//! Where in an answer must an array's items differ? A schema's parts as a graph that is followed along with the answer.
//!
//! Which of several schemas holds is not known before the answer is complete, so a place in the answer belongs to every part of the schema that may
//! hold there, and items differ where one of them says so.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::value;
use crate::grammar::few;

/// Parts of the schema that may hold at one place of the answer.
pub(super) type At = Arc<[usize]>;

/// The graph.
#[derive(Debug)]
pub(in crate::grammar) struct Places {
    parts: Vec<Part>,
    /// Can an array of different items, or an object of counted keys, be reached from this part?
    is_live: Vec<bool>,
    root: At,
    /// Do other texts come before or around the schemas' values?
    pub(super) is_wrapped: bool,
}

#[derive(Debug, Default)]
struct Part {
    /// Must an array's items differ?
    unique: bool,
    /// Must an object's keys differ, since they are counted?
    counted: bool,
    /// All that an item of such an array can be, if they are few.
    values: Option<Arc<BTreeSet<String>>>,
    /// What holds in the same place.
    same: Vec<usize>,
    named: HashMap<String, usize>,
    patterns: Vec<usize>,
    additional: Option<usize>,
    prefix: Vec<usize>,
    items: Option<usize>,
}

/// A graph in the making.
struct Builder<'a> {
    root: &'a Value,
    parts: Vec<Part>,
    known: HashMap<*const Value, usize>,
    open: Vec<(usize, &'a Value)>,
}

impl Places {
    /// Of an answer by one of these schemas, which may come after other texts or as a call's arguments if it is wrapped. `None` if nothing
    /// must differ.
    pub(in crate::grammar) fn of(schemas: &[&Value], is_wrapped: bool) -> Option<Places> {
        let mut parts = Vec::new();
        let mut roots = Vec::new();
        for root in schemas {
            let mut builder = Builder { root, parts, known: HashMap::new(), open: Vec::new() };
            roots.push(builder.part(root));
            parts = builder.finish();
        }
        if is_wrapped {
            let arguments = parts.len();
            parts.push(Part { same: roots.clone(), ..Part::default() });
            let named = ["arguments", "parameters"].map(|key| (key.to_owned(), arguments)).into();
            roots.push(parts.len());
            parts.push(Part { named, ..Part::default() });
        }
        if !parts.iter().any(Part::is_wanted) {
            return None;
        }
        let mut places = Places { is_live: live(&parts), parts, root: Arc::default(), is_wrapped };
        places.root = places.closed(roots.into_iter());
        Some(places)
    }

    /// Where an answer begins.
    pub(super) fn root(&self) -> At {
        Arc::clone(&self.root)
    }

    /// Must an array's items differ here, or an object's keys?
    pub(super) fn differ(&self, at: &At, is_array: bool) -> bool {
        at.iter().map(|&part| self.part(part)).any(|part| if is_array { part.unique } else { part.counted })
    }

    /// All that an item can be, if they are few.
    pub(super) fn values(&self, at: &At) -> Option<Arc<BTreeSet<String>>> {
        at.iter().find_map(|&part| self.part(part).values.clone())
    }

    /// The place of an object's property.
    pub(super) fn property(&self, at: &At, key: &str) -> At {
        self.closed(at.iter().flat_map(|&part| {
            let part = self.part(part);
            let named = part.named.get(key);
            let other = if named.is_some() { None } else { part.additional };
            named.copied().into_iter().chain(other).chain(part.patterns.iter().copied())
        }))
    }

    /// The place of an array's item.
    pub(super) fn item(&self, at: &At, i: usize) -> At {
        self.closed(at.iter().filter_map(|&part| {
            let part = self.part(part);
            if i < part.prefix.len() { part.prefix.get(i).copied() } else { part.items }
        }))
    }

    fn part(&self, i: usize) -> &Part {
        &self.parts[i]
    }

    /// These parts, and what holds in the same place, as far as it matters.
    fn closed(&self, parts: impl Iterator<Item = usize>) -> At {
        let mut open: Vec<usize> = parts.collect();
        let mut found = Vec::new();
        let mut seen = HashSet::new();
        while let Some(part) = open.pop() {
            if self.is_live[part] && seen.insert(part) {
                found.push(part);
                open.extend(&self.part(part).same);
            }
        }
        found.into()
    }
}

/// From which parts can one be reached where something must differ?
fn live(parts: &[Part]) -> Vec<bool> {
    let mut above = vec![Vec::new(); parts.len()];
    for (i, part) in parts.iter().enumerate() {
        part.below().for_each(|below| above[below].push(i));
    }
    let mut open: Vec<usize> = (0..parts.len()).filter(|&i| parts[i].is_wanted()).collect();
    let mut live = vec![false; parts.len()];
    while let Some(part) = open.pop() {
        if !std::mem::replace(&mut live[part], true) {
            open.extend(&above[part]);
        }
    }
    live
}

impl Part {
    fn is_wanted(&self) -> bool {
        self.unique || self.counted
    }

    fn below(&self) -> impl Iterator<Item = usize> {
        let lists = [&self.same, &self.patterns, &self.prefix];
        let lists = lists.into_iter().flatten().chain(self.named.values());
        lists.chain(&self.additional).chain(&self.items).copied()
    }
}

impl<'a> Builder<'a> {
    /// The number of a part of the schema.
    fn part(&mut self, schema: &'a Value) -> usize {
        let next = self.parts.len();
        let i = *self.known.entry(std::ptr::from_ref(schema)).or_insert(next);
        if i == next {
            self.parts.push(Part::default());
            self.open.push((i, schema));
        }
        i
    }

    fn list(&mut self, list: Option<&'a Value>) -> Vec<usize> {
        let items = list.and_then(Value::as_array).into_iter().flatten();
        items.map(|item| self.part(item)).collect()
    }

    fn finish(mut self) -> Vec<Part> {
        while let Some((i, schema)) = self.open.pop() {
            let target = schema.get("$ref").and_then(|reference| few::target(self.root, reference));
            let mut same: Vec<usize> = target.into_iter().map(|target| self.part(target)).collect();
            for key in ["allOf", "anyOf", "oneOf"] {
                same.extend(self.list(schema.get(key)));
            }
            let entries = |key| schema.get(key).and_then(Value::as_object).into_iter().flatten();
            let named = entries("properties").map(|(name, below)| (name.clone(), self.part(below)));
            let named = named.collect();
            let patterns = entries("patternProperties").map(|(_, below)| self.part(below)).collect();
            let additional = schema.get("additionalProperties").map(|below| self.part(below));
            // Before 2020 a tuple was a list of `items`.
            let (prefix, items) = match schema.get("items") {
                list @ Some(Value::Array(_)) => (list, schema.get("additionalItems")),
                items => (schema.get("prefixItems"), items),
            };
            let prefix = self.list(prefix);
            let items = items.map(|below| self.part(below));
            let unique = schema.get("uniqueItems") == Some(&Value::Bool(true));
            let array = schema.as_object().filter(|_| unique);
            let values = array.and_then(|array| values(self.root, array)).map(Arc::new);
            let counted = schema.get("minProperties").and_then(Value::as_u64).is_some_and(|n| n > 1);
            self.parts[i] =
                Part { unique, counted, values, same, named, patterns, additional, prefix, items };
        }
        self.parts
    }
}

/// All that an array's items can be, if they are few.
pub(in crate::grammar) fn values(root: &Value, array: &Map<String, Value>) -> Option<BTreeSet<String>> {
    let items = array.get("items").filter(|_| !array.contains_key("prefixItems"))?;
    few::values(root, items).map(|values| values.iter().map(value::of).collect())
}
