//! References by identifier: parts of a schema may have names (`$id`, `$anchor`) and what they refer to is relative to the part they stand
//! in. Each becomes a pointer from the root, the one form that the library follows.

use serde_json::{Map, Value};

use super::prepare::{DATA, NAMED};

/// The most parts with a name of their own.
const MAX_NAMED: usize = 256;

/// A part with an `$id`, and the root.
struct Resource {
    uri: String,
    pointer: String,
}

/// Names in a schema.
struct Names {
    resources: Vec<Resource>,
    /// Of a draft before 2019-09?
    is_old: bool,
    /// The resource that it belongs to, the name, where it stands.
    anchors: Vec<(usize, String, String)>,
}

/// Writes each reference as a pointer from the root. The error says which one names nothing.
pub(super) fn resolve(root: &mut Value) -> Result<(), String> {
    let draft = root.get("$schema").and_then(Value::as_str).unwrap_or_default();
    let is_old = draft.contains("/draft-0");
    let mut names = Names { resources: Vec::new(), is_old, anchors: Vec::new() };
    each_at(root, &mut String::new(), &mut |node, pointer| names.collect(node, pointer))?;
    each_at(root, &mut String::new(), &mut |node, pointer| {
        let Some(Value::String(reference)) = node.get_mut("$ref") else { return Ok(()) };
        *reference = names.pointer(reference, pointer)?;
        Ok(())
    })
}

impl Names {
    fn collect(&mut self, node: &Map<String, Value>, pointer: &str) -> Result<(), String> {
        let text = |key| node.get(key).and_then(Value::as_str);
        let id = text("$id").unwrap_or_default();
        let id = id.strip_suffix('#').unwrap_or(id);
        if pointer.is_empty() {
            self.resources.push(Resource { uri: id.to_owned(), pointer: String::new() });
        } else if !id.is_empty() && !id.starts_with('#') {
            // There `$ref` alone counts, here what stands beside it does as well.
            if self.is_old && node.contains_key("$ref") {
                return Err("$id beside $ref before draft 2019-09".to_owned());
            }
            let uri = joined(&self.resources[self.base(pointer)].uri, id);
            if self.resources.iter().any(|resource| resource.uri == uri) {
                return Err(format!("two parts with the $id {uri}"));
            }
            self.resources.push(Resource { uri, pointer: pointer.to_owned() });
        }
        // Before 2019 an anchor was an `$id` too.
        for anchor in text("$anchor").into_iter().chain(id.strip_prefix('#')) {
            self.anchors.push((self.base(pointer), anchor.to_owned(), pointer.to_owned()));
        }
        if self.resources.len() > MAX_NAMED || self.anchors.len() > MAX_NAMED {
            return Err(format!("more than {MAX_NAMED} parts with a name"));
        }
        Ok(())
    }

    /// The innermost resource around a place.
    fn base(&self, pointer: &str) -> usize {
        let is_around = |resource: &Resource| {
            pointer
                .strip_prefix(&resource.pointer)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let around = self.resources.iter().enumerate().filter(|(_, resource)| is_around(resource));
        around.max_by_key(|(_, resource)| resource.pointer.len()).map_or(0, |(i, _)| i)
    }

    fn pointer(&self, reference: &str, place: &str) -> Result<String, String> {
        let (uri, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let base = self.base(place);
        let resource = if uri.is_empty() {
            base
        } else {
            let uri = joined(&self.resources[base].uri, uri);
            let found = self.resources.iter().position(|resource| resource.uri == uri);
            found.ok_or_else(|| format!("$ref to another document: {reference}"))?
        };
        if fragment.is_empty() || fragment.starts_with('/') {
            return Ok(format!("#{}{fragment}", self.resources[resource].pointer));
        }
        let anchor = self.anchors.iter().find(|(of, name, _)| *of == resource && name == fragment);
        let (_, _, pointer) =
            anchor.ok_or_else(|| format!("$ref to what the schema does not have: {reference}"))?;
        Ok(format!("#{pointer}"))
    }
}

/// Visits each schema within a schema with the pointer to it, as a reference writes it.
fn each_at<F>(schema: &mut Value, pointer: &mut String, visit: &mut F) -> Result<(), String>
where
    F: FnMut(&mut Map<String, Value>, &str) -> Result<(), String>,
{
    let below: Vec<(String, &mut Value)> = match schema {
        Value::Array(items) => items.iter_mut().enumerate().map(|(i, item)| (i.to_string(), item)).collect(),
        Value::Object(node) => {
            visit(node, pointer)?;
            let schemas = node.iter_mut().filter(|(key, _)| !DATA.contains(&key.as_str()));
            let below = schemas.flat_map(|(key, value)| {
                if NAMED.contains(&key.as_str()) && value.is_object() {
                    let named = value.as_object_mut().into_iter().flatten();
                    named.map(|(name, item)| (format!("{key}/{}", segment(name)), item)).collect()
                } else {
                    vec![(segment(key), value)]
                }
            });
            below.collect()
        }
        _ => return Ok(()),
    };
    let length = pointer.len();
    for (step, item) in below {
        pointer.push('/');
        pointer.push_str(&step);
        each_at(item, pointer, visit)?;
        pointer.truncate(length);
    }
    Ok(())
}

/// A key as a reference's pointer writes it.
fn segment(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1").replace('%', "%25")
}

/// A reference relative to a URI, by RFC 3986, section 5.2.
fn joined(base: &str, reference: &str) -> String {
    let scheme = |uri: &str| {
        let (scheme, _) = uri.split_once(':')?;
        let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
        is_scheme.then_some(scheme.len() + 1)
    };
    if scheme(reference).is_some() {
        return reference.to_owned();
    }
    let (scheme, rest) = base.split_at(scheme(base).unwrap_or(0));
    if reference.starts_with("//") {
        return format!("{scheme}{reference}");
    }
    let authority = rest.strip_prefix("//").map_or(0, |rest| 2 + rest.find('/').unwrap_or(rest.len()));
    let (authority, path) = rest.split_at(authority);
    let path = match path.rsplit_once('/') {
        _ if reference.starts_with('/') => reference.to_owned(),
        Some((folder, _)) => format!("{folder}/{reference}"),
        None if authority.is_empty() => reference.to_owned(),
        None => format!("/{reference}"),
    };
    let mut segments: Vec<&str> = Vec::new();
    let n = path.split('/').count();
    for (i, segment) in path.split('/').enumerate() {
        match segment {
            "." | ".." => {
                if segment == ".." && segments.len() > usize::from(path.starts_with('/')) {
                    segments.pop();
                }
                if i + 1 == n {
                    segments.push("");
                }
            }
            segment => segments.push(segment),
        }
    }
    format!("{scheme}{authority}{}", segments.join("/"))
}
