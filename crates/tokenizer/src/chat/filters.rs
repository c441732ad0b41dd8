//! What do filters, tests and functions do? Those that Jinja has and chat templates use.
//!
//! Names and meaning follow Jinja 2's builtin filters and tests, `tojson`, `raise_exception` and `strftime_now` transformers'.

use std::rc::Rc;

use super::budget::{Result, Sink};
use super::eval::Renderer;
use super::expr::Args;
use super::json::{self, Refused, Style};
use super::time::strftime;
use super::value::{Map, Value};
use crate::error::TokenizerError;
use crate::limits::MAX_RANGE;
use crate::special::unmarked;

impl Renderer<'_, '_> {
    pub(super) fn filter(&mut self, name: &str, value: &Value, args: &Args) -> Result<Value> {
        match name {
            "tojson" => self.tojson(value, args),
            "length" | "count" => self.length(value),
            "default" | "d" => {
                let falsy = args.get(1, "boolean").is_some_and(Value::truth);
                let missing = matches!(value, Value::Undefined) || (falsy && !value.truth());
                let default = || args.get(0, "default_value").cloned().unwrap_or_else(|| Value::str(""));
                Ok(if missing { default() } else { value.clone() })
            }
            "string" | "safe" => {
                let text = self.budget.text_of(value)?;
                Ok(Value::Str(text.into()))
            }
            "int" => Ok(Value::Int(match value {
                Value::Float(number) => *number as i64,
                Value::Str(text) => {
                    let text = text.trim();
                    let float = || text.parse::<f64>().map(|number| number as i64).ok();
                    text.parse().ok().or_else(float).unwrap_or_else(|| default_int(args))
                }
                other => other.as_int().unwrap_or_else(|| default_int(args)),
            })),
            "float" => Ok(Value::Float(match value {
                Value::Str(text) => text.trim().parse().unwrap_or(0.0),
                other => other.as_float().unwrap_or(0.0),
            })),
            "abs" => match value {
                Value::Float(number) => Ok(Value::Float(number.abs())),
                _ => match value.as_int().and_then(i64::checked_abs) {
                    Some(number) => Ok(Value::Int(number)),
                    None => self.budget.fail(format!("abs: {} is not a number", value.kind())),
                },
            },
            "round" => {
                let places = args.get(0, "precision").and_then(Value::as_int).unwrap_or(0).clamp(-15, 15);
                let scale = 10f64.powi(places as i32);
                match value.as_float() {
                    Some(number) => Ok(Value::Float((number * scale).round_ties_even() / scale)),
                    None => self.budget.fail(format!("round: {} is not a number", value.kind())),
                }
            }
            "first" => Ok(self.iterate(value)?.into_iter().next().unwrap_or(Value::Undefined)),
            "last" => Ok(self.iterate(value)?.into_iter().next_back().unwrap_or(Value::Undefined)),
            "list" => {
                let items = self.iterate(value)?;
                self.budget.list(items)
            }
            "reverse" => {
                let mut items = self.iterate(value)?;
                items.reverse();
                match value {
                    Value::Str(_) => self.join(&items, ""),
                    _ => self.budget.list(items),
                }
            }
            "items" => match value {
                Value::Undefined => self.budget.list(Vec::new()),
                _ => self.method(value, "items", args),
            },
            "dictsort" => {
                let items = self.method(value, "items", &Args::default())?;
                self.sorted(&items, &Args::default())
            }
            "join" => {
                let separator = match args.get(0, "d") {
                    Some(separator) => self.budget.text_of(separator)?,
                    None => String::new(),
                };
                let mut items = self.iterate(value)?;
                if let Some(attribute) = args.get(1, "attribute").cloned() {
                    items = self.each(&items, |this, item| this.by_path(item, &attribute))?;
                }
                self.join(&items, &separator)
            }
            "map" => self.map_filter(value, args),
            "select" | "reject" => self.pick(value, None, &args.positional, name == "select"),
            "selectattr" | "rejectattr" => match args.positional.split_first() {
                Some((path, rest)) => self.pick(value, Some(path), rest, name == "selectattr"),
                None => self.budget.fail(format!("{name} needs the name of an attribute")),
            },
            "sort" => self.sorted(value, args),
            "unique" => {
                let mut kept: Vec<Value> = Vec::new();
                for item in self.iterate(value)? {
                    let seen = Value::list(kept.clone());
                    self.budget.step(kept.len())?;
                    if !self.contains(&seen, &item)? {
                        kept.push(item);
                    }
                }
                self.budget.list(kept)
            }
            "min" | "max" => {
                let mut best = Value::Undefined;
                for item in self.iterate(value)? {
                    let better = match &best {
                        Value::Undefined => true,
                        _ if name == "min" => self.order(&item, &best)?.is_lt(),
                        _ => self.order(&item, &best)?.is_gt(),
                    };
                    if better {
                        best = item;
                    }
                }
                Ok(best)
            }
            "sum" => {
                let (mut whole, mut float) = (0i64, None);
                for item in self.iterate(value)? {
                    match (item.as_int(), item.as_float()) {
                        (Some(number), _) => whole = whole.saturating_add(number),
                        (None, Some(number)) => *float.get_or_insert(0.0) += number,
                        (None, None) => {
                            return self.budget.fail(format!("sum: {} is not a number", item.kind()));
                        }
                    }
                }
                Ok(float.map_or(Value::Int(whole), |float| Value::Float(float + whole as f64)))
            }
            "indent" => self.indent(value, args),
            "escape" | "e" | "forceescape" => {
                let text = self.budget.text_of(value)?;
                self.budget.take(text.len().saturating_mul(6))?;
                let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
                self.budget.string(&text.replace('"', "&#34;").replace('\'', "&#39;"))
            }
            "trim" => {
                let text = Value::Str(self.budget.text_of(value)?.into());
                self.method(&text, "strip", args)
            }
            "upper" | "lower" | "title" | "capitalize" | "replace" => {
                let text = Value::Str(self.budget.text_of(value)?.into());
                self.method(&text, name, args)
            }
            _ => self.budget.fail(format!("unknown filter {name:?}")),
        }
    }

    fn each(
        &mut self,
        items: &[Value],
        mut change: impl FnMut(&mut Self, &Value) -> Result<Value>,
    ) -> Result<Vec<Value>> {
        items.iter().map(|item| change(self, item)).collect()
    }

    fn length(&mut self, value: &Value) -> Result<Value> {
        let len = match value {
            Value::Undefined => 0,
            Value::Str(text) => {
                self.budget.scan(text.len())?;
                text.chars().count()
            }
            Value::List(list) => list.items.len(),
            Value::Map(map) => map.entries.len(),
            other => return self.budget.fail(format!("{} has no length", other.kind())),
        };
        Ok(Value::Int(len as i64))
    }

    pub(super) fn join(&mut self, items: &[Value], separator: &str) -> Result<Value> {
        let mut text = String::new();
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                self.budget.take(separator.len())?;
                text.push_str(separator);
            }
            text.push_str(&self.budget.text_of(item)?);
        }
        self.budget.string(&text)
    }

    fn tojson(&mut self, value: &Value, args: &Args) -> Result<Value> {
        let flag = |name| args.named.iter().any(|(found, value)| found == name && value.truth());
        let indent = match args.get(0, "indent") {
            Some(Value::Str(text)) => Some(text.as_ref().to_owned()),
            Some(other) => match other.as_int().and_then(|width| usize::try_from(width).ok()) {
                Some(width) => {
                    self.budget.take(width)?;
                    Some(" ".repeat(width))
                }
                None => None,
            },
            None => None,
        };
        let separators = match args.named.iter().find(|(name, _)| name == "separators") {
            Some((_, Value::List(list))) => match list.items.as_slice() {
                [Value::Str(comma), Value::Str(colon)] => {
                    Some((comma.as_ref().to_owned(), colon.as_ref().to_owned()))
                }
                _ => None,
            },
            _ => None,
        };
        let style =
            Style { indent, separators, sort_keys: flag("sort_keys"), ensure_ascii: flag("ensure_ascii") };
        let mut sink = Sink::new(self.budget.memory_left());
        match json::write(value, &style, 0, &mut sink) {
            Ok(()) => self.budget.string(&sink.text),
            Err(Refused::Full) => self.budget.take(usize::MAX).map(|()| Value::Undefined),
            Err(Refused::Kind(kind)) => self.budget.fail(format!("tojson: {kind} is not JSON")),
        }
    }

    /// `a.b.0` within an item.
    fn by_path(&mut self, item: &Value, path: &Value) -> Result<Value> {
        let Some(path) = path.as_str() else { return self.item(item, path) };
        let mut value = item.clone();
        for part in path.split('.') {
            value = match (&value, part.parse::<i64>()) {
                (Value::List(_), Ok(place)) => self.item(&value, &Value::Int(place))?,
                _ => self.attribute(&value, part)?,
            };
        }
        Ok(value)
    }

    fn map_filter(&mut self, value: &Value, args: &Args) -> Result<Value> {
        // As in Jinja, whatever is false has no items here, None too.
        let items = if value.truth() { self.iterate(value)? } else { Vec::new() };
        let named = |wanted: &str| args.named.iter().find(|(name, _)| name == wanted).map(|(_, value)| value);
        let items = match (named("attribute"), args.positional.split_first()) {
            (Some(attribute), _) => {
                let default = named("default").cloned();
                self.each(&items, |this, item| {
                    Ok(match (this.by_path(item, attribute)?, &default) {
                        (Value::Undefined, Some(default)) => default.clone(),
                        (found, _) => found,
                    })
                })?
            }
            (None, Some((Value::Str(filter), rest))) => {
                let args = Args { positional: rest.to_vec(), named: args.named.clone() };
                self.each(&items, |this, item| this.filter(filter, item, &args))?
            }
            _ => return self.budget.fail("map needs attribute= or the name of a filter"),
        };
        self.budget.list(items)
    }

    /// The items of which a test (`test` is its name and argument), or else their truth, is `keep`.
    fn pick(
        &mut self,
        value: &Value,
        attribute: Option<&Value>,
        test: &[Value],
        keep: bool,
    ) -> Result<Value> {
        let mut kept = Vec::new();
        let items = if value.truth() { self.iterate(value)? } else { Vec::new() };
        for item in items {
            let probe = match attribute {
                Some(path) => self.by_path(&item, path)?,
                None => item.clone(),
            };
            let holds = match test.first().and_then(Value::as_str) {
                Some(name) => self.test(name, &probe, test.get(1))?,
                None => probe.truth(),
            };
            if holds == keep {
                kept.push(item);
            }
        }
        self.budget.list(kept)
    }

    fn sorted(&mut self, value: &Value, args: &Args) -> Result<Value> {
        let reverse = args.get(0, "reverse").is_some_and(Value::truth);
        let case_sensitive = args.get(1, "case_sensitive").is_some_and(Value::truth);
        let attribute = args.get(2, "attribute").cloned();
        let mut keyed = Vec::new();
        for item in self.iterate(value)? {
            let key = match &attribute {
                Some(path) => self.by_path(&item, path)?,
                None => item.clone(),
            };
            let key = match key {
                Value::Str(text) if !case_sensitive => self.budget.string(&text.to_lowercase())?,
                Value::List(list) => list.items.first().cloned().unwrap_or(Value::Undefined),
                other => other,
            };
            keyed.push((key, item));
        }
        let mut failed = None;
        keyed.sort_by(|(a, _), (b, _)| {
            let order = self.order(a, b).unwrap_or_else(|error| {
                failed.get_or_insert(error);
                std::cmp::Ordering::Equal
            });
            if reverse { order.reverse() } else { order }
        });
        match failed {
            Some(error) => Err(error),
            None => self.budget.list(keyed.into_iter().map(|(_, item)| item).collect()),
        }
    }

    fn indent(&mut self, value: &Value, args: &Args) -> Result<Value> {
        let text = self.budget.text_of(value)?;
        let pad = match args.get(0, "width") {
            Some(Value::Str(pad)) => pad.as_ref().to_owned(),
            Some(width) => {
                let width = width.as_int().and_then(|width| usize::try_from(width).ok()).unwrap_or(0);
                self.budget.take(width)?;
                " ".repeat(width)
            }
            None => " ".repeat(4),
        };
        let first = args.get(1, "first").is_some_and(Value::truth);
        let blank = args.get(2, "blank").is_some_and(Value::truth);
        let lines = text.bytes().filter(|&byte| byte == b'\n').count() + 1;
        self.budget.take(text.len() + lines.saturating_mul(pad.len()))?;
        let mut out = String::new();
        for (i, line) in text.split('\n').enumerate() {
            if i > 0 {
                out.push('\n');
            }
            if (i > 0 || first) && (blank || !line.is_empty()) {
                out.push_str(&pad);
            }
            out.push_str(line);
        }
        Ok(Value::Str(out.into()))
    }

    pub(super) fn test(&mut self, name: &str, value: &Value, arg: Option<&Value>) -> Result<bool> {
        let other = arg.cloned().unwrap_or(Value::Undefined);
        Ok(match name {
            "defined" => !matches!(value, Value::Undefined),
            "undefined" => matches!(value, Value::Undefined),
            "none" => matches!(value, Value::None),
            "string" => matches!(value, Value::Str(_)),
            "number" => matches!(value, Value::Int(_) | Value::Float(_) | Value::Bool(_)),
            "integer" => matches!(value, Value::Int(_)),
            "float" => matches!(value, Value::Float(_)),
            "boolean" => matches!(value, Value::Bool(_)),
            "true" => matches!(value, Value::Bool(true)),
            "false" => matches!(value, Value::Bool(false)),
            "mapping" => matches!(value, Value::Map(_)),
            "sequence" => matches!(value, Value::Str(_) | Value::List(_) | Value::Map(_) | Value::Undefined),
            "iterable" => matches!(value, Value::Str(_) | Value::List(_) | Value::Map(_) | Value::Undefined),
            "callable" => matches!(value, Value::Macro(_) | Value::Function(_)),
            "odd" => value.as_int().is_some_and(|number| number % 2 != 0),
            "even" => value.as_int().is_some_and(|number| number % 2 == 0),
            "divisibleby" => match (value.as_int(), other.as_int()) {
                (Some(a), Some(b)) if b != 0 => a.wrapping_rem(b) == 0,
                _ => return self.budget.fail("divisibleby needs two numbers"),
            },
            "eq" | "equalto" | "==" => self.equal(value, &other)?,
            "ne" | "!=" => !self.equal(value, &other)?,
            "lt" | "lessthan" | "<" => self.order(value, &other)?.is_lt(),
            "le" | "<=" => self.order(value, &other)?.is_le(),
            "gt" | "greaterthan" | ">" => self.order(value, &other)?.is_gt(),
            "ge" | ">=" => self.order(value, &other)?.is_ge(),
            "in" => self.contains(&other, value)?,
            "sameas" => value.kind() == other.kind() && self.equal(value, &other)?,
            "lower" => value.as_str().is_some_and(|text| text == text.to_lowercase()),
            "upper" => value.as_str().is_some_and(|text| text == text.to_uppercase()),
            _ => return self.budget.fail(format!("unknown test {name:?}")),
        })
    }

    pub(super) fn function(&mut self, name: &str, args: Args) -> Result<Value> {
        match name {
            "namespace" | "dict" => {
                let mut entries = Map::new();
                if let Some(Value::Map(map)) = args.positional.first() {
                    self.budget.take(map.entries.len() * 96)?;
                    entries.clone_from(&map.entries);
                }
                entries.extend(args.named.into_iter().map(|(key, value)| (Rc::from(key), value)));
                if name == "dict" { self.budget.admit(Value::map(entries)) } else { self.namespace(entries) }
            }
            "range" => self.range(&args.positional),
            "raise_exception" => {
                let why = match args.positional.first() {
                    Some(value) => self.budget.text_of(value)?,
                    None => String::new(),
                };
                Err(TokenizerError::TemplateRaised(unmarked(&why).chars().take(2000).collect()))
            }
            "strftime_now" => {
                let format = match args.positional.first() {
                    Some(value) => self.budget.text_of(value)?,
                    None => String::new(),
                };
                self.budget.take(format.len().saturating_mul(10))?;
                self.budget.string(&strftime(&format, self.now))
            }
            _ => self.budget.fail(format!("unknown function {name:?}")),
        }
    }

    fn range(&mut self, args: &[Value]) -> Result<Value> {
        let numbers: Option<Vec<i64>> = args.iter().map(Value::as_int).collect();
        let (start, stop, step) = match numbers.as_deref() {
            Some(&[stop]) => (0, stop, 1),
            Some(&[start, stop]) => (start, stop, 1),
            Some(&[start, stop, step]) if step != 0 => (start, stop, step),
            _ => return self.budget.fail("range needs one to three whole numbers"),
        };
        let span = if step > 0 {
            i128::from(stop) - i128::from(start)
        } else {
            i128::from(start) - i128::from(stop)
        };
        let count = (span.max(0) + i128::from(step).abs() - 1) / i128::from(step).abs();
        if count > i128::from(MAX_RANGE) {
            return Err(TokenizerError::TemplateLimit {
                what: "numbers in a range",
                limit: MAX_RANGE as u64,
                line: self.budget.line,
            });
        }
        self.budget.take(count as usize * size_of::<Value>())?;
        let items = (0..count as i64).map(|i| Value::Int(start.saturating_add(i.saturating_mul(step))));
        self.budget.list(items.collect())
    }
}

fn default_int(args: &Args) -> i64 {
    args.get(0, "default").and_then(Value::as_int).unwrap_or(0)
}
