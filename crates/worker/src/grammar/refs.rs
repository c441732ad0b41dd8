//! References as the library follows them: it looks a pointer's segments up as they are written, with none of their escapes. What such a
//! reference names gets a plain name of its own.

use serde_json::{Map, Value, json};

use super::prepare::each;

/// The most references with a form of their own; what each names is copied.
const MAX_REFERENCES: usize = 64;

/// Rewrites references in place. The error says which one names nothing.
pub(super) fn resolve(root: &mut Value) -> Result<(), String> {
    let original = root.clone();
    let taken = root.get("$defs").and_then(Value::as_object).cloned().unwrap_or_default();
    let mut free = (0..).map(|i| format!("reference-{i}")).filter(|name| !taken.contains_key(name));
    let mut named: Vec<(String, String)> = Vec::new();
    let mut rename = |node: &mut Map<String, Value>, named: &mut Vec<(String, String)>| {
        let Some(Value::String(reference)) = node.get_mut("$ref") else { return Ok(()) };
        if !reference.contains(['~', '%']) {
            return Ok(());
        }
        let known = named.iter().find(|(known, _)| known == reference).map(|(_, name)| name.clone());
        let name = match known {
            Some(name) => name,
            None if named.len() == MAX_REFERENCES => {
                return Err(format!("more than {MAX_REFERENCES} references with escapes"));
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
        let mut target = target(&original, &reference)
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

fn target(root: &Value, reference: &str) -> Option<Value> {
    root.pointer(&percent_decoded(reference.strip_prefix('#')?)?).cloned()
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
