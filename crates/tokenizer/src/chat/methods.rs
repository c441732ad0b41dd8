//! What do the methods of strings, lists and maps do? Python's, as far as they change nothing.

use std::rc::Rc;

use super::budget::{Result, Sink};
use super::eval::Renderer;
use super::expr::Args;
use super::value::Value;

impl Renderer<'_, '_> {
    pub(super) fn method(&mut self, value: &Value, name: &str, args: &Args) -> Result<Value> {
        match value {
            Value::Str(text) => self.string_method(text, name, args),
            Value::Map(map) => match name {
                "items" => {
                    self.budget.take(map.entries.len() * 128)?;
                    let pair = |(key, item): (&Rc<str>, &Value)| {
                        Value::tuple(vec![Value::Str(Rc::clone(key)), item.clone()])
                    };
                    self.budget.list(map.entries.iter().map(pair).collect())
                }
                "keys" => {
                    let keys = self.iterate(value)?;
                    self.budget.list(keys)
                }
                "values" => self.budget.list(map.entries.values().cloned().collect()),
                "get" => {
                    let found = args.get(0, "").and_then(Value::as_str).and_then(|key| map.entries.get(key));
                    Ok(found.or_else(|| args.get(1, "")).cloned().unwrap_or(Value::None))
                }
                "copy" => Ok(value.clone()),
                _ => match map.entries.get(name) {
                    Some(Value::Macro(number)) => self.call_macro(*number, args),
                    _ => self.no_method(value, name),
                },
            },
            Value::List(list) => match (name, args.get(0, "")) {
                ("index", Some(wanted)) => {
                    for (place, item) in list.items.iter().enumerate() {
                        if self.equal(item, wanted)? {
                            return Ok(Value::Int(place as i64));
                        }
                    }
                    self.budget.fail("index: the value is not in the list")
                }
                ("count", Some(wanted)) => {
                    let mut count = 0;
                    for item in &list.items {
                        count += i64::from(self.equal(item, wanted)?);
                    }
                    Ok(Value::Int(count))
                }
                ("copy", None) => Ok(value.clone()),
                _ => self.no_method(value, name),
            },
            Value::Loop(number) => self.loop_method(*number, name, args),
            Value::Undefined => self.budget.fail(format!("an undefined value has no method {name:?}")),
            _ => self.no_method(value, name),
        }
    }

    fn no_method<T>(&self, value: &Value, name: &str) -> Result<T> {
        self.budget.fail(format!("{} has no method {name:?} that changes nothing", value.kind()))
    }

    fn loop_method(&mut self, number: usize, name: &str, args: &Args) -> Result<Value> {
        let Some(state) = self.loops.get(number) else { return Ok(Value::Undefined) };
        match name {
            "cycle" if !args.positional.is_empty() => {
                let place = state.index % args.positional.len();
                Ok(args.positional.get(place).cloned().unwrap_or(Value::Undefined))
            }
            "changed" => {
                let before = state.last_changed.clone();
                let same = match before {
                    Some(before) => {
                        self.equal(&Value::list(before), &Value::list(args.positional.clone()))?
                    }
                    None => false,
                };
                if let Some(state) = self.loops.get_mut(number) {
                    state.last_changed = Some(args.positional.clone());
                }
                Ok(Value::Bool(!same))
            }
            _ => self.budget.fail(format!("loop has no method {name:?}")),
        }
    }

    fn string_method(&mut self, text: &str, name: &str, args: &Args) -> Result<Value> {
        self.budget.scan(text.len())?;
        let first = args.get(0, "");
        let part = first.and_then(Value::as_str);
        match (name, part) {
            ("strip" | "lstrip" | "rstrip", _) => {
                let chars = part.or_else(|| args.get(0, "chars").and_then(Value::as_str));
                let mut kept = text;
                let strip = |c: char| chars.map_or(c.is_whitespace(), |chars| chars.contains(c));
                self.budget.scan(text.len().saturating_mul(chars.map_or(1, str::len)))?;
                if name != "rstrip" {
                    kept = kept.trim_start_matches(strip);
                }
                if name != "lstrip" {
                    kept = kept.trim_end_matches(strip);
                }
                self.budget.string(kept)
            }
            ("upper", _) => self.budget.string(&text.to_uppercase()),
            ("lower" | "casefold", _) => self.budget.string(&text.to_lowercase()),
            ("capitalize", _) => {
                let mut chars = text.chars();
                let first: String = chars.next().into_iter().flat_map(char::to_uppercase).collect();
                self.budget.string(&(first + &chars.as_str().to_lowercase()))
            }
            ("title", _) => {
                let mut after_letter = false;
                let mut out = String::with_capacity(text.len());
                for c in text.chars() {
                    if after_letter {
                        out.extend(c.to_lowercase());
                    } else {
                        out.extend(c.to_uppercase());
                    }
                    after_letter = c.is_alphabetic();
                }
                self.budget.string(&out)
            }
            ("startswith" | "endswith", _) => {
                let fits = |part: &str| match name {
                    "startswith" => text.starts_with(part),
                    _ => text.ends_with(part),
                };
                match first {
                    Some(Value::Str(part)) => Ok(Value::Bool(fits(part))),
                    Some(Value::List(parts)) => {
                        self.budget.step(parts.items.len())?;
                        Ok(Value::Bool(parts.items.iter().filter_map(Value::as_str).any(fits)))
                    }
                    _ => self.budget.fail(format!("{name} needs a string")),
                }
            }
            ("removeprefix", Some(part)) => self.budget.string(text.strip_prefix(part).unwrap_or(text)),
            ("removesuffix", Some(part)) => self.budget.string(text.strip_suffix(part).unwrap_or(text)),
            ("find" | "rfind" | "index" | "rindex", Some(part)) => {
                let found = if name.starts_with('r') { text.rfind(part) } else { text.find(part) };
                let place =
                    found.and_then(|place| text.get(..place)).map(|before| before.chars().count() as i64);
                match place {
                    None if name.ends_with("index") => self.budget.fail(format!("{name}: not found")),
                    place => Ok(Value::Int(place.unwrap_or(-1))),
                }
            }
            ("count", Some("")) => Ok(Value::Int(text.chars().count() as i64 + 1)),
            ("count", Some(part)) => Ok(Value::Int(text.matches(part).count() as i64)),
            ("replace", _) => self.replace(text, args),
            ("split" | "rsplit", _) => self.split(text, name == "rsplit", args),
            ("splitlines", _) => {
                self.budget.take(text.len().saturating_mul(40))?;
                self.budget.list(text.lines().map(Value::str).collect())
            }
            ("partition", Some(part)) => {
                self.budget.take(text.len() + 128)?;
                let (before, middle, after) = match text.split_once(part) {
                    Some((before, after)) => (before, part, after),
                    None => (text, "", ""),
                };
                self.budget.admit(Value::tuple(vec![
                    Value::str(before),
                    Value::str(middle),
                    Value::str(after),
                ]))
            }
            ("join", _) => {
                let items = self.iterate(first.unwrap_or(&Value::Undefined))?;
                self.join(&items, text)
            }
            ("isdigit" | "isnumeric" | "isdecimal", _) => {
                Ok(Value::Bool(!text.is_empty() && text.chars().all(char::is_numeric)))
            }
            ("isalpha", _) => Ok(Value::Bool(!text.is_empty() && text.chars().all(char::is_alphabetic))),
            ("isalnum", _) => Ok(Value::Bool(!text.is_empty() && text.chars().all(char::is_alphanumeric))),
            ("isspace", _) => Ok(Value::Bool(!text.is_empty() && text.chars().all(char::is_whitespace))),
            ("isupper", _) => {
                Ok(Value::Bool(text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase)))
            }
            ("islower", _) => {
                Ok(Value::Bool(text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase)))
            }
            ("format", _) => self.brace_format(text, args),
            _ => self.no_method(&Value::str(""), name),
        }
    }

    fn replace(&mut self, text: &str, args: &Args) -> Result<Value> {
        let (Some(old), Some(new)) = (args.get(0, "old"), args.get(1, "new")) else {
            return self.budget.fail("replace needs two strings");
        };
        let (old, new) = (self.budget.text_of(old)?, self.budget.text_of(new)?);
        let limit =
            args.get(2, "count").and_then(Value::as_int).and_then(|count| usize::try_from(count).ok());
        let count = text.matches(old.as_str()).count().min(limit.unwrap_or(usize::MAX));
        self.budget.take(text.len().saturating_add(count.saturating_mul(new.len())))?;
        Ok(Value::Str(text.replacen(&old, &new, count).into()))
    }

    fn split(&mut self, text: &str, from_right: bool, args: &Args) -> Result<Value> {
        self.budget.take(text.len().saturating_mul(40))?;
        let limit =
            args.get(1, "maxsplit").and_then(Value::as_int).and_then(|count| usize::try_from(count).ok());
        let pieces = limit.map_or(usize::MAX, |limit| limit.saturating_add(1));
        let separator = match args.get(0, "sep") {
            None | Some(Value::None) => None,
            Some(Value::Str(separator)) if !separator.is_empty() => Some(separator.as_ref()),
            Some(_) => return self.budget.fail("split needs a string that is not empty"),
        };
        let items: Vec<Value> = match (separator, from_right) {
            (None, _) if limit.is_none() => text.split_whitespace().map(Value::str).collect(),
            (None, _) => {
                let mut rest = text.trim_start();
                let mut items = Vec::new();
                while !rest.is_empty() {
                    match rest.split_once(char::is_whitespace) {
                        Some((word, after)) if items.len() + 1 < pieces => {
                            items.push(Value::str(word));
                            rest = after.trim_start();
                        }
                        _ => {
                            items.push(Value::str(rest));
                            rest = "";
                        }
                    }
                }
                items
            }
            (Some(separator), false) => text.splitn(pieces, separator).map(Value::str).collect(),
            (Some(separator), true) => {
                let mut items: Vec<Value> = text.rsplitn(pieces, separator).map(Value::str).collect();
                items.reverse();
                items
            }
        };
        self.budget.list(items)
    }

    /// `'{} {0} {name}'.format(..)`, without format specifications.
    fn brace_format(&mut self, text: &str, args: &Args) -> Result<Value> {
        let mut out = String::new();
        let mut rest = text;
        let mut next = 0;
        while let Some(place) = rest.find(['{', '}']) {
            let (before, after) = rest.split_at(place);
            out.push_str(before);
            if let Some(after) = after.strip_prefix("{{").or_else(|| after.strip_prefix("}}")) {
                out.push_str(rest.get(place..=place).unwrap_or_default());
                rest = after;
                continue;
            }
            let Some((field, after)) = after.strip_prefix('{').and_then(|after| after.split_once('}')) else {
                return self.budget.fail("format: a brace without its partner");
            };
            let value = match field.parse::<usize>() {
                Ok(place) => args.positional.get(place),
                Err(_) if field.is_empty() => {
                    next += 1;
                    args.positional.get(next - 1)
                }
                Err(_) => args.named.iter().find(|(name, _)| name == field).map(|(_, value)| value),
            };
            let Some(value) = value else {
                return self.budget.fail(format!("format: no value for {field:?}"));
            };
            out.push_str(&self.budget.text_of(value)?);
            rest = after;
        }
        out.push_str(rest);
        self.budget.string(&out)
    }

    /// `'%s and %d' % values`.
    pub(super) fn percent_format(&mut self, text: &str, values: &Value) -> Result<Value> {
        let values = match values {
            Value::List(list) if list.tuple => list.items.clone(),
            other => vec![other.clone()],
        };
        let mut values = values.into_iter();
        let mut out = Sink::new(self.budget.memory_left());
        let mut parts = text.split('%');
        out.text.push_str(parts.next().unwrap_or_default());
        while let Some(part) = parts.next() {
            let mut chars = part.chars();
            match chars.next() {
                None => {
                    out.text.push('%');
                    out.text.push_str(parts.next().unwrap_or_default());
                }
                Some(conversion @ ('s' | 'd' | 'i' | 'r')) => {
                    let Some(value) = values.next() else {
                        return self.budget.fail("%: too few values");
                    };
                    let written = match (conversion, value.as_int()) {
                        ('d' | 'i', None) => return self.budget.fail(format!("%d of {}", value.kind())),
                        ('r', _) => value.write_repr(&mut out),
                        _ => value.write_str(&mut out),
                    };
                    if written.is_err() {
                        self.budget.take(usize::MAX)?;
                    }
                    out.text.push_str(chars.as_str());
                }
                Some(other) => return self.budget.fail(format!("%{other} is not supported")),
            }
        }
        self.budget.string(&out.text)
    }
}
