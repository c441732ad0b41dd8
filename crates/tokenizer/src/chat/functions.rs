//! What do functions do? Jinja's globals and the two that transformers adds, `raise_exception` and `strftime_now`.

use std::cell::Cell;
use std::rc::Rc;

use super::args::Args;
use super::budget::Result;
use super::eval::Renderer;
use super::key::size_of_key;
use super::time::strftime;
use super::value::{Cycler, Joiner, Key, Kind, Map, Value};
use crate::error::TokenizerError;
use crate::limits::MAX_RANGE;
use crate::special::unmarked;

/// The functions that every template sees.
pub(super) const FUNCTIONS: [&str; 8] =
    ["range", "dict", "namespace", "cycler", "joiner", "lipsum", "raise_exception", "strftime_now"];

impl Renderer<'_, '_> {
    pub(super) fn function(&mut self, name: &str, args: Args) -> Result<Value> {
        match name {
            "namespace" | "dict" => {
                let mut entries = Map::new();
                match args.positional.as_slice() {
                    [] => {}
                    [first] => entries = self.entries_of(first)?,
                    _ => return self.budget.fail(format!("{name} takes one map at most")),
                }
                for (key, value) in args.named {
                    self.budget.take(key.len() + 96)?;
                    entries.insert(Key::from(key.as_str()), value);
                }
                if name == "dict" { self.budget.admit(Value::map(entries)) } else { self.namespace(entries) }
            }
            "range" => self.range(&args),
            "cycler" => {
                if args.positional.is_empty() || !args.named.is_empty() {
                    return self.budget.fail("cycler needs values");
                }
                // Admitted as a list: a cycler's values are as plain as a list's.
                self.budget.list(args.positional.clone())?;
                Ok(Value::Cycler(Rc::new(Cycler { items: args.positional, at: Cell::new(0) })))
            }
            "joiner" => {
                let [separator] = self.bind(name, &args, ["sep"])?;
                let separator = separator.cloned().unwrap_or_else(|| Value::str(", "));
                self.budget.list(vec![separator.clone()])?;
                Ok(Value::Joiner(Rc::new(Joiner { separator, used: Cell::new(false) })))
            }
            "raise_exception" => {
                let [message] = self.bind(name, &args, ["message"])?;
                let why = match message {
                    Some(value) => self.budget.text_of(value)?,
                    None => return self.budget.fail("raise_exception needs a message"),
                };
                Err(TokenizerError::TemplateRaised(unmarked(&why).chars().take(2000).collect()))
            }
            "strftime_now" => {
                let [format] = self.bind(name, &args, ["format"])?;
                let format = self.text(name, format)?;
                self.budget.take(format.len().saturating_mul(10))?;
                self.budget.string(&strftime(format, self.now))
            }
            _ => self.budget.fail(format!("the function {name:?} is not supported")),
        }
    }

    /// A map's entries, or those of a list of pairs.
    fn entries_of(&mut self, value: &Value) -> Result<Map> {
        if let Value::Map(map) = value {
            self.budget.take(map.entries.len() * 96)?;
            return Ok(map.entries.clone());
        }
        let mut entries = Map::new();
        for pair in self.iterate(value)? {
            let pair = self.iterate(&pair)?;
            let [key, value] = pair.as_slice() else { return self.budget.fail("a map is made of pairs") };
            entries.insert(self.key(key)?, value.clone());
        }
        Ok(entries)
    }

    /// A value as the key of a map.
    pub(super) fn key(&mut self, value: &Value) -> Result<Key> {
        // Hashing reads all of a key, parts of a tuple too.
        self.budget.step(size_of_key(value))?;
        if let Value::List(list) = value {
            self.budget.take(list.items.len().saturating_mul(size_of::<Key>()))?;
        }
        match Key::of(value) {
            Some(key) => Ok(key),
            None => self.budget.fail(format!("{} cannot be a key", value.kind())),
        }
    }

    fn range(&mut self, args: &Args) -> Result<Value> {
        let numbers: Option<Vec<i128>> = args.positional.iter().map(Value::as_int).collect();
        let (start, stop, step) = match numbers.as_deref() {
            Some(&[stop]) if args.named.is_empty() => (0, stop, 1),
            Some(&[start, stop]) if args.named.is_empty() => (start, stop, 1),
            Some(&[start, stop, step]) if args.named.is_empty() && step != 0 => (start, stop, step),
            _ => return self.budget.fail("range needs one to three whole numbers"),
        };
        let span = if step > 0 { stop.checked_sub(start) } else { start.checked_sub(stop) };
        let size = step.unsigned_abs();
        let count = span.map(|span| span.max(0).unsigned_abs().div_ceil(size));
        let Some(count) = count.filter(|&count| count <= MAX_RANGE.unsigned_abs().into()) else {
            return Err(TokenizerError::TemplateLimit {
                what: "numbers in a range",
                limit: MAX_RANGE as u64,
                line: self.budget.line,
            });
        };
        self.budget.take(count as usize * size_of::<Value>())?;
        let items =
            (0..count as i128).map(|i| Value::Int(start.saturating_add(i.saturating_mul(step)))).collect();
        self.budget.admit(Value::several(items, Kind::Range(start, stop, step)))
    }
}
