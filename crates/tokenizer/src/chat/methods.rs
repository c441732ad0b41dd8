//! What do the methods of maps, lists, numbers and loops do? Python's, as far as they change nothing.

use std::rc::Rc;

use super::args::Args;
use super::budget::Result;
use super::eval::Renderer;
use super::value::{Dict, Key, Kind, Value};

impl Renderer<'_, '_> {
    pub(super) fn method(&mut self, value: &Value, name: &str, args: &Args) -> Result<Value> {
        match value {
            Value::Str(text) => {
                let text = Rc::clone(text);
                self.string_method(&text, name, args)
            }
            Value::Markup(text) => {
                let text = Rc::clone(text);
                self.markup_method(&text, name, args)
            }
            Value::Map(map) => match name {
                "items" => {
                    let [] = self.bind(name, args, [])?;
                    self.budget.take(map.entries.len() * 144)?;
                    let keys = self.keys_of(map)?.into_iter();
                    let pairs = keys.zip(map.entries.values());
                    let items = pairs.map(|(key, item)| Value::tuple(vec![key, item.clone()])).collect();
                    self.budget.admit(Value::several(items, Kind::View("dict_items")))
                }
                "keys" => {
                    let [] = self.bind(name, args, [])?;
                    let keys = self.keys_of(map)?;
                    self.budget.admit(Value::several(keys, Kind::View("dict_keys")))
                }
                "values" => {
                    let [] = self.bind(name, args, [])?;
                    let values = map.entries.values().cloned().collect();
                    self.budget.admit(Value::several(values, Kind::View("dict_values")))
                }
                "get" => {
                    let [key, default] = self.bind(name, args, ["", ""])?;
                    let Some(key) = key else { return self.budget.fail("get needs a key") };
                    let found = match key.as_str() {
                        Some(text) => {
                            self.budget.scan(text.len())?;
                            map.entries.get(text)
                        }
                        None => map.entries.get(&self.key(key)?),
                    };
                    Ok(found.or(default).cloned().unwrap_or(Value::None))
                }
                "copy" => {
                    let [] = self.bind(name, args, [])?;
                    Ok(value.clone())
                }
                _ => self.no_method(value, name),
            },
            Value::List(list) => match (name, list.kind) {
                ("index", Kind::List | Kind::Tuple | Kind::Group) => {
                    let [Some(wanted)] = self.bind(name, args, [""])? else {
                        return self.budget.fail("index needs a value");
                    };
                    for (place, item) in list.items.iter().enumerate() {
                        if self.equal(item, wanted)? {
                            return Ok(Value::Int(place as i128));
                        }
                    }
                    self.budget.fail("index: the value is not in the list")
                }
                ("count", Kind::List | Kind::Tuple | Kind::Group) => {
                    let [Some(wanted)] = self.bind(name, args, [""])? else {
                        return self.budget.fail("count needs a value");
                    };
                    let mut count = 0;
                    for item in &list.items {
                        count += i128::from(self.equal(item, wanted)?);
                    }
                    Ok(Value::Int(count))
                }
                ("copy", Kind::List) => {
                    let [] = self.bind(name, args, [])?;
                    Ok(value.clone())
                }
                _ => self.no_method(value, name),
            },
            Value::Float(number) if name == "is_integer" => {
                let [] = self.bind(name, args, [])?;
                Ok(Value::Bool(number.fract() == 0.0))
            }
            Value::Int(number) if name == "bit_length" => {
                let [] = self.bind(name, args, [])?;
                Ok(Value::Int((128 - number.unsigned_abs().leading_zeros()).into()))
            }
            Value::Cycler(cycler) => {
                let [] = self.bind(name, args, [])?;
                match name {
                    "next" => {
                        let at = cycler.at.get();
                        cycler.at.set((at + 1) % cycler.items.len().max(1));
                        Ok(cycler.items.get(at).cloned().unwrap_or(Value::Undefined))
                    }
                    "reset" => {
                        cycler.at.set(0);
                        Ok(Value::None)
                    }
                    _ => self.no_method(value, name),
                }
            }
            Value::Loop(number) => self.loop_method(*number, name, args),
            Value::Undefined => self.budget.fail(format!("an undefined value has no method {name:?}")),
            _ => self.no_method(value, name),
        }
    }

    /// A map's keys as values.
    pub(super) fn keys_of(&mut self, map: &Dict) -> Result<Vec<Value>> {
        let parts: usize = map.entries.keys().map(Key::parts).sum();
        self.budget.take(parts * size_of::<Value>())?;
        Ok(map.entries.keys().map(Key::value).collect())
    }

    pub(super) fn no_method<T>(&self, value: &Value, name: &str) -> Result<T> {
        self.budget.fail(format!("{} has no method {name:?} that is supported", value.kind()))
    }

    fn loop_method(&mut self, number: usize, name: &str, args: &Args) -> Result<Value> {
        let found = self.loops.iter().rposition(|state| state.number == number);
        let Some(state) = found.and_then(|place| self.loops.get(place)) else {
            return self.budget.fail("the loop is over");
        };
        if !args.named.is_empty() {
            return self.budget.fail(format!("loop.{name} has no named arguments"));
        }
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
                self.budget.take(args.positional.len() * size_of::<Value>())?;
                if let Some(state) = found.and_then(|place| self.loops.get_mut(place)) {
                    state.last_changed = Some(args.positional.clone());
                }
                Ok(Value::Bool(!same))
            }
            _ => self.budget.fail(format!("loop has no method {name:?}")),
        }
    }
}
