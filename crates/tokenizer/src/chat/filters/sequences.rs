//! Filters of several values. What Jinja makes an iterator of, since it computes values only when they are wanted, is one here too.

use std::collections::HashSet;

use minijinja::machinery::ast::BinOpKind;

use super::super::args::{Args, given, size};
use super::super::budget::Result;
use super::super::characters;
use super::super::eval::Renderer;
use super::super::operators::SortKey;
use super::super::value::{Kind, Map, Value};

/// How an item's value for a filter is found.
struct Path {
    parts: Vec<Value>,
    default: Option<Value>,
    small_letters: bool,
}

impl Renderer<'_, '_> {
    pub(super) fn sequence_filter(&mut self, name: &str, value: &Value, args: &Args) -> Result<Value> {
        match name {
            "first" => {
                let [] = self.bind(name, args, [])?;
                let taken = if let Value::List(list) = value { list.taken.get() } else { None };
                let found = self.iterate(value)?.into_iter().next();
                if let (Value::List(list), Some(taken), Some(_)) = (value, taken, &found)
                    && list.kind == Kind::Iterator
                {
                    list.taken.set(Some(taken + 1));
                }
                Ok(found.unwrap_or(Value::Undefined))
            }
            "last" => {
                let [] = self.bind(name, args, [])?;
                self.no_iterator(name, value)?;
                Ok(self.iterate(value)?.into_iter().next_back().unwrap_or(Value::Undefined))
            }
            "list" => {
                let [] = self.bind(name, args, [])?;
                let items = self.iterate(value)?;
                self.budget.list(items)
            }
            "reverse" => {
                let [] = self.bind(name, args, [])?;
                let mut items = self.iterate(value)?;
                items.reverse();
                match value {
                    Value::Str(text) => self.budget.string(&text.chars().rev().collect::<String>()),
                    Value::Markup(text) => Ok(Value::Markup(text.chars().rev().collect::<String>().into())),
                    Value::List(list) if list.kind == Kind::Iterator => self.budget.list(items),
                    _ => self.iterator(items),
                }
            }
            "items" => {
                let [] = self.bind(name, args, [])?;
                let items = match value {
                    Value::Undefined => Vec::new(),
                    Value::Map(_) => {
                        let view = self.method(value, "items", args)?;
                        self.iterate(&view)?
                    }
                    other => return self.budget.fail(format!("items: {} is not a map", other.kind())),
                };
                self.iterator(items)
            }
            "dictsort" => self.dictsort(value, args),
            "join" => {
                let [separator, attribute] = self.bind(name, args, ["d", "attribute"])?;
                let separator = separator.map_or(Ok(String::new()), |text| self.budget.text_of(text))?;
                let mut items = self.iterate(value)?;
                if let Some(attribute) = given(attribute) {
                    let path = self.path(Some(attribute), None, true)?;
                    items = self.found_in(&items, &path)?;
                }
                self.join(&items, &separator)
            }
            "map" => self.map_filter(value, args),
            "select" | "reject" => self.pick(value, None, args, name == "select"),
            "selectattr" | "rejectattr" => match args.positional.split_first() {
                Some((path, rest)) => {
                    let args = Args { positional: rest.to_vec(), named: args.named.clone() };
                    self.pick(value, Some(path), &args, name == "selectattr")
                }
                None => self.budget.fail(format!("{name} needs the name of an attribute")),
            },
            "sort" => {
                let [reverse, case_sensitive, attribute] =
                    self.bind(name, args, ["reverse", "case_sensitive", "attribute"])?;
                let case_sensitive = case_sensitive.is_some_and(Value::truth);
                let mut paths = Vec::new();
                match attribute.and_then(Value::as_str) {
                    Some(text) => {
                        for part in text.split(',') {
                            paths.push(self.path(Some(&Value::str(part)), None, case_sensitive)?);
                        }
                    }
                    None => paths.push(self.path(attribute, None, case_sensitive)?),
                }
                let mut keyed = Vec::new();
                for item in self.iterate(value)? {
                    let keys = paths.iter().map(|path| self.find(&item, path));
                    keyed.push((SortKey::Several(keys.collect::<Result<Vec<Value>>>()?), item));
                }
                let reverse = self.whole(name, reverse, 0)? != 0;
                let sorted = self.sort_by_keys(keyed, reverse)?;
                self.budget.list(sorted.into_iter().map(|(_, item)| item).collect())
            }
            "groupby" => self.group(value, args),
            "unique" => {
                let [case_sensitive, attribute] = self.bind(name, args, ["case_sensitive", "attribute"])?;
                let path = self.path(attribute, None, case_sensitive.is_some_and(Value::truth))?;
                let (mut seen, mut kept) = (HashSet::new(), Vec::new());
                for item in self.iterate(value)? {
                    let found = self.find(&item, &path)?;
                    self.budget.take(96)?;
                    if seen.insert(self.key(&found)?) {
                        kept.push(item);
                    }
                }
                self.iterator(kept)
            }
            "min" | "max" => {
                let [case_sensitive, attribute] = self.bind(name, args, ["case_sensitive", "attribute"])?;
                let path = self.path(attribute, None, case_sensitive.is_some_and(Value::truth))?;
                let mut best: Option<(Value, Value)> = None;
                for item in self.iterate(value)? {
                    let key = self.find(&item, &path)?;
                    let better = match &best {
                        None => true,
                        Some((other, _)) => match self.order(&key, other)? {
                            Some(order) if name == "min" => order.is_lt(),
                            Some(order) => order.is_gt(),
                            None => false,
                        },
                    };
                    if better {
                        best = Some((key, item));
                    }
                }
                Ok(best.map_or(Value::Undefined, |(_, item)| item))
            }
            "sum" => {
                let [attribute, start] = self.bind(name, args, ["attribute", "start"])?;
                let mut total = start.cloned().unwrap_or(Value::Int(0));
                if total.as_str().is_some() {
                    return self.budget.fail("sum of strings is not supported");
                }
                let path = self.path(attribute, None, true)?;
                for item in self.iterate(value)? {
                    let item = self.find(&item, &path)?;
                    total = self.binary(BinOpKind::Add, &total, &item)?;
                }
                Ok(total)
            }
            "batch" | "slice" => self.chunks(name, value, args),
            "attr" => {
                let [Some(wanted)] = self.bind(name, args, ["name"])? else {
                    return self.budget.fail("attr needs a name");
                };
                let wanted = self.text(name, Some(wanted))?;
                match value {
                    // Not an item, unlike behind a dot.
                    Value::Map(_) => self.attribute(&Value::map(Map::new()), wanted),
                    _ => self.attribute(value, wanted),
                }
            }
            _ => self.budget.fail(format!("the filter {name:?} is not supported")),
        }
    }

    /// An iterator of these values.
    pub(in super::super) fn iterator(&mut self, items: Vec<Value>) -> Result<Value> {
        self.budget.admit(Value::several(items, Kind::Iterator))
    }

    fn no_iterator(&self, what: &str, value: &Value) -> Result<()> {
        match value {
            Value::List(list) if list.kind == Kind::Iterator => {
                self.budget.fail(format!("{what} of an iterator, which Jinja does not reverse"))
            }
            _ => Ok(()),
        }
    }

    /// `a.b.0`, or an item's number.
    fn path(
        &mut self,
        attribute: Option<&Value>,
        default: Option<&Value>,
        case_sensitive: bool,
    ) -> Result<Path> {
        let parts = match given(attribute) {
            None => Vec::new(),
            Some(path) => match path.as_str() {
                Some(text) => {
                    self.budget.take(text.len().saturating_mul(40))?;
                    if !text.is_ascii() && text.chars().any(|c| !c.is_ascii() && characters::is_digit(c)) {
                        return self.budget.fail("digits of other scripts are no places");
                    }
                    let part = |part: &str| match part.parse::<i128>() {
                        Ok(number) if part.bytes().all(|byte| byte.is_ascii_digit()) => Value::Int(number),
                        _ => Value::str(part),
                    };
                    text.split('.').map(part).collect()
                }
                None => vec![path.clone()],
            },
        };
        Ok(Path { parts, default: given(default).cloned(), small_letters: !case_sensitive })
    }

    /// What an item has at a path.
    fn find(&mut self, item: &Value, path: &Path) -> Result<Value> {
        let mut value = item.clone();
        self.budget.step(path.parts.len())?;
        for part in &path.parts {
            value = match (self.item(&value, part)?, &path.default) {
                (Value::Undefined, Some(default)) => default.clone(),
                (found, _) => found,
            };
        }
        match value.as_str() {
            Some(text) if path.small_letters => self.budget.string(&text.to_lowercase()),
            _ => Ok(value),
        }
    }

    fn found_in(&mut self, items: &[Value], path: &Path) -> Result<Vec<Value>> {
        items.iter().map(|item| self.find(item, path)).collect()
    }

    pub(in super::super) fn join(&mut self, items: &[Value], separator: &str) -> Result<Value> {
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

    fn dictsort(&mut self, value: &Value, args: &Args) -> Result<Value> {
        let [case_sensitive, by, reverse] =
            self.bind("dictsort", args, ["case_sensitive", "by", "reverse"])?;
        let place = match by.map_or(Ok("key"), |by| self.text("dictsort", Some(by)))? {
            "key" => 0,
            "value" => 1,
            _ => return self.budget.fail("dictsort sorts by key or value"),
        };
        if !matches!(value, Value::Map(_)) {
            return self.budget.fail(format!("dictsort: {} is not a map", value.kind()));
        }
        let view = self.method(value, "items", &Args::default())?;
        let path = self.path(Some(&Value::Int(place)), None, case_sensitive.is_some_and(Value::truth))?;
        let mut keyed = Vec::new();
        for item in self.iterate(&view)? {
            keyed.push((SortKey::One(self.find(&item, &path)?), item));
        }
        let reverse = self.whole("dictsort", reverse, 0)? != 0;
        let sorted = self.sort_by_keys(keyed, reverse)?;
        self.budget.list(sorted.into_iter().map(|(_, item)| item).collect())
    }

    fn map_filter(&mut self, value: &Value, args: &Args) -> Result<Value> {
        // As in Jinja, whatever is false has no items here, None too.
        let items = if value.truth() { self.iterate(value)? } else { Vec::new() };
        let items = match (args.named("attribute"), args.positional.split_first()) {
            (Some(attribute), None) => {
                let [_, default] = self.bind("map", args, ["attribute", "default"])?;
                let path = self.path(Some(attribute), default, true)?;
                self.found_in(&items, &path)?
            }
            (_, Some((Value::Str(filter), rest))) => {
                let args = Args { positional: rest.to_vec(), named: args.named.clone() };
                let filtered = items.iter().map(|item| self.filter(filter, item, &args));
                filtered.collect::<Result<Vec<Value>>>()?
            }
            _ => return self.budget.fail("map needs attribute= or the name of a filter"),
        };
        self.iterator(items)
    }

    /// The items of which a test (its name and arguments are `args`), or else their truth, is `keep`.
    fn pick(&mut self, value: &Value, attribute: Option<&Value>, args: &Args, keep: bool) -> Result<Value> {
        let path = self.path(attribute, None, true)?;
        let (name, rest) = match args.positional.split_first() {
            Some((name, rest)) => (Some(self.text("a test's name", Some(name))?), rest.to_vec()),
            None => (None, Vec::new()),
        };
        let args = Args { positional: rest, named: args.named.clone() };
        let mut kept = Vec::new();
        let items = if value.truth() { self.iterate(value)? } else { Vec::new() };
        for item in items {
            let probe = self.find(&item, &path)?;
            let holds = match name {
                Some(name) => self.test(name, &probe, &args)?,
                None => probe.truth(),
            };
            if holds == keep {
                kept.push(item);
            }
        }
        self.iterator(kept)
    }

    fn group(&mut self, value: &Value, args: &Args) -> Result<Value> {
        let [attribute, default, case_sensitive] =
            self.bind("groupby", args, ["attribute", "default", "case_sensitive"])?;
        let Some(attribute) = attribute else { return self.budget.fail("groupby needs an attribute") };
        let case_sensitive = case_sensitive.is_some_and(Value::truth);
        let path = self.path(Some(attribute), default, case_sensitive)?;
        let mut keyed = Vec::new();
        for item in self.iterate(value)? {
            keyed.push((SortKey::One(self.find(&item, &path)?), item));
        }
        let mut groups: Vec<(Value, Vec<Value>)> = Vec::new();
        for (key, item) in self.sort_by_keys(keyed, false)? {
            let SortKey::One(key) = key else { continue };
            match groups.last_mut() {
                Some((last, items)) if self.equal(last, &key)? => items.push(item),
                _ => groups.push((key, vec![item])),
            }
        }
        let path = self.path(Some(attribute), default, true)?;
        let mut found = Vec::with_capacity(groups.len());
        for (_, items) in groups {
            // The key as the first item has it, not in small letters.
            let key = items.first().map_or(Ok(Value::Undefined), |item| self.find(item, &path))?;
            let items = self.budget.list(items)?;
            found.push(self.budget.admit(Value::several(vec![key, items], Kind::Group))?);
        }
        self.budget.list(found)
    }

    /// `batch`: lists of so many items; `slice`: so many lists.
    fn chunks(&mut self, name: &str, value: &Value, args: &Args) -> Result<Value> {
        let parameter = if name == "batch" { "linecount" } else { "slices" };
        let [count, fill] = self.bind(name, args, [parameter, "fill_with"])?;
        let Some(count) = count else { return self.budget.fail(format!("{name} needs a number")) };
        let count = size(self.whole(name, Some(count), 0)?);
        if count == 0 {
            return self.budget.fail(format!("{name} needs a number above 0"));
        }
        let items = self.iterate(value)?;
        let mut found = Vec::new();
        if name == "batch" {
            for chunk in items.chunks(count) {
                let mut chunk = chunk.to_vec();
                if let Some(fill) = given(fill) {
                    self.budget.take((count - chunk.len()).saturating_mul(size_of::<Value>()))?;
                    chunk.resize(count, fill.clone());
                }
                found.push(self.budget.list(chunk)?);
            }
            return self.iterator(found);
        }
        let (each, longer) = (items.len() / count, items.len() % count);
        let mut rest = &items[..];
        for place in 0..count {
            self.budget.step(1)?;
            let (chunk, after) = rest.split_at(each + usize::from(place < longer));
            rest = after;
            let mut chunk = chunk.to_vec();
            if let (Some(fill), true) = (given(fill), place >= longer) {
                chunk.push(fill.clone());
            }
            found.push(self.budget.list(chunk)?);
        }
        self.iterator(found)
    }
}
