//! References as the library follows them: it looks a pointer's segments up as they are written, with none of their escapes, and knows no
//! anchors. What such a reference names gets a plain name of its own.

use serde_json::{Map, Value, json};

use super::prepare::each;

/// The most references with a form of their own; what each names is copied.
const MAX_REFERENCES: usize = 64;

/// Rewrites references in place. The error says which one names nothing.
pub(super) fn resolve(root: &mut Value) -> Result<(), String> {
    let mut original = root.clone();
    let id = root.get("$id").and_then(Value::as_str).unwrap_or_default().trim_end_matches('#').to_owned();
    let taken = root.get("$defs").and_then(Value::as_object).cloned().unwrap_or_default();
    let mut free = (0..).map(|i| format!("reference-{i}")).filter(|name| !taken.contains_key(name));
    let mut named: Vec<(String, String)> = Vec::new();
    let mut rename = |node: &mut Map<String, Value>, named: &mut Vec<(String, String)>| {
        let Some(Value::String(reference)) = node.get_mut("$ref") else { return Ok(()) };
        if let Some(rest) =
            reference.strip_prefix(&id).filter(|rest| rest.is_empty() || rest.starts_with('#'))
        {
            *reference = if rest.is_empty() { "#".to_owned() } else { rest.to_owned() };
        }
        let is_plain = matches!(reference.as_str(), "#" | "#/") || !reference.starts_with('#');
        if is_plain || (reference.starts_with("#/") && !reference.contains(['~', '%'])) {
            return Ok(());
        }
        let known = named.iter().find(|(known, _)| known == reference).map(|(_, name)| name.clone());
        let name = match known {
            Some(name) => name,
            None if named.len() == MAX_REFERENCES => {
                return Err(format!("more than {MAX_REFERENCES} references with escapes or anchors"));
            }
            None => {
                let name = free.next().unwrap_or_default();
                named.push((reference.clone(), name.clone()));
                name
            }
        };
        *reference = format!("#/$defs/{name}");
        Ok(())
    };
    each(root, &mut |node| rename(node, &mut named))?;
    let mut n_done = 0;
    while let Some((reference, name)) = named.get(n_done).cloned() {
        let mut target = target(&mut original, &reference)
            .ok_or_else(|| format!("$ref to what the schema does not have: {reference}"))?;
        each(&mut target, &mut |node| rename(node, &mut named))?;
        if let Some(root) = root.as_object_mut() {
            match root.entry("$defs").or_insert_with(|| json!({})) {
                Value::Object(defs) => drop(defs.insert(name, target)),
                _ => return Err("$defs that is no object".to_owned()),
            }
        }
        n_done += 1;
    }
    Ok(())
}

fn target(root: &mut Value, reference: &str) -> Option<Value> {
    let fragment = percent_decoded(reference.strip_prefix('#')?)?;
    if fragment.starts_with('/') {
        return root.pointer(&fragment).cloned();
    }
    let mut found = None;
    let wanted = Value::from(fragment);
    let visited = each(root, &mut |node| {
        if found.is_none() && node.get("$anchor") == Some(&wanted) {
            found = Some(Value::Object(node.clone()));
        }
        Ok(())
    });
    visited.ok().and(found)
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        if byte == b'%' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = after.get(2..)?;
        } else {
            bytes.push(byte);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}
