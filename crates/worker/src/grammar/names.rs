//! `propertyNames`, which the library does not know, as the properties that an object may have.

use serde_json::{Map, Value, json};

use super::few;
use super::prepare::each;

/// Keywords that demand nothing of a name.
const SAYS_NOTHING: [&str; 6] = ["$comment", "title", "description", "default", "examples", "deprecated"];

/// The most steps to the part that lists names.
const MAX_HOPS: usize = 16;

/// What names may be.
enum Names {
    Any,
    /// One of these.
    Few(Vec<String>),
    /// Those in which the expression finds something.
    Pattern(String),
}

/// Rewrites `propertyNames` in place, wherever it stands. The error says what cannot be enforced.
pub(super) fn rewrite(schema: &mut Value) -> Result<(), String> {
    let mut rewriter = Rewriter { root: &schema.clone(), shared: Map::new() };
    each(schema, &mut |node| rewriter.node(node))?;
    if let (false, Some(root)) = (rewriter.shared.is_empty(), schema.as_object_mut()) {
        match root.entry("$defs").or_insert_with(|| json!({})) {
            Value::Object(defs) => defs.extend(rewriter.shared),
            _ => return Err("$defs that is no object".to_owned()),
        }
    }
    Ok(())
}

struct Rewriter<'a> {
    root: &'a Value,
    /// What several names of one object may have as their values, for `$defs`.
    shared: Map<String, Value>,
}

impl Rewriter<'_> {
    fn node(&mut self, node: &mut Map<String, Value>) -> Result<(), String> {
        let Some(names) = node.shift_remove("propertyNames") else { return Ok(()) };
        let names = allowed(self.root, &names)?;
        if matches!(names, Names::Any) {
            return Ok(());
        }
        if node.contains_key("patternProperties") {
            return Err("propertyNames beside patternProperties".to_owned());
        }
        let other = node.insert("additionalProperties".to_owned(), json!(false)).unwrap_or(json!(true));
        match names {
            Names::Any => {}
            Names::Few(names) => {
                let other = if names.len() > 1 { self.share(other)? } else { other };
                let old = node.shift_remove("properties");
                let value = |name: &str| old.as_ref().and_then(|old| old.get(name)).unwrap_or(&other).clone();
                let properties: Map<String, Value> =
                    names.into_iter().map(|name| (name.clone(), value(&name))).collect();
                node.insert("properties".to_owned(), properties.into());
            }
            Names::Pattern(_) if node.contains_key("properties") => {
                return Err("propertyNames with a pattern or a length beside properties".to_owned());
            }
            Names::Pattern(pattern) => {
                node.insert("patternProperties".to_owned(), json!({ pattern: other }));
            }
        }
        Ok(())
    }

    /// A schema for several places, written once.
    fn share(&mut self, mut schema: Value) -> Result<Value, String> {
        if !schema.is_object() {
            return Ok(schema);
        }
        each(&mut schema, &mut |node| self.node(node))?;
        let taken = self.root.get("$defs").and_then(Value::as_object);
        let is_free = |name: &String| taken.is_none_or(|taken| !taken.contains_key(name));
        let mut names = (self.shared.len()..).map(|i| format!("named-{i}"));
        let name = names.find(|name| is_free(name) && !self.shared.contains_key(name)).unwrap_or_default();
        let reference = json!({ "$ref": format!("#/$defs/{name}") });
        self.shared.insert(name, schema);
        Ok(reference)
    }
}

fn allowed(root: &Value, names: &Value) -> Result<Names, String> {
    if let Some(names) = listed(root, names, MAX_HOPS) {
        return Ok(Names::Few(names));
    }
    let names = match few::resolved(root, names) {
        Some(Value::Bool(true)) => return Ok(Names::Any),
        Some(Value::Bool(false)) => return Ok(Names::Few(Vec::new())),
        Some(Value::Object(names)) => names,
        _ => return Err("propertyNames that is no schema".to_owned()),
    };
    let (mut pattern, mut length) = (None, None::<(u64, Option<u64>)>);
    for (key, value) in names {
        let count = || value.as_u64().ok_or_else(|| format!("propertyNames with {key} {value}"));
        match (key.as_str(), value) {
            ("type", Value::String(kind)) if kind == "string" => {}
            ("pattern", Value::String(text)) => pattern = Some(text.clone()),
            ("minLength", _) => length.get_or_insert_default().0 = count()?,
            ("maxLength", _) => length.get_or_insert_default().1 = Some(count()?),
            (key, _) if SAYS_NOTHING.contains(&key) => {}
            _ => return Err(format!("propertyNames with {key}")),
        }
    }
    match (pattern, length) {
        (None, None) => Ok(Names::Any),
        (Some(pattern), None) => Ok(Names::Pattern(pattern)),
        (None, Some((least, most))) => {
            let most = most.map_or(String::new(), |most| most.to_string());
            Ok(Names::Pattern(format!("^(?s:.{{{least},{most}}})$")))
        }
        (Some(_), Some(_)) => Err("propertyNames with both a pattern and a length".to_owned()),
    }
}

/// The names that a schema lists, if it does nothing else.
fn listed(root: &Value, names: &Value, hops: usize) -> Option<Vec<String>> {
    let hops = hops.checked_sub(1)?;
    let mut found = None;
    for (key, value) in names.as_object()? {
        let here = match (key.as_str(), value) {
            ("const", name) => name.as_str().into_iter().map(str::to_owned).collect(),
            ("enum", Value::Array(values)) => {
                values.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect()
            }
            ("anyOf", Value::Array(options)) => {
                let options = options.iter().map(|option| listed(root, option, hops));
                options.collect::<Option<Vec<_>>>()?.concat()
            }
            ("$ref", reference) => listed(root, few::target(root, reference)?, hops)?,
            ("type", kind) if kind == "string" => continue,
            (key, _) if SAYS_NOTHING.contains(&key) => continue,
            _ => return None,
        };
        // Two lists would have to be cut down to what they have in common.
        if found.replace(here).is_some() {
            return None;
        }
    }
    found
}
