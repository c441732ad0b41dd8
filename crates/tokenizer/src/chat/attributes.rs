//! What is `value.name` and `value[key]`?
//!
//! As in Jinja, `a.b` is a method of `a` before it is its item, and `a['b']` its item before a method. So `schema.items` is a
//! method even where the map has such a key.

use super::budget::Result;
use super::eval::Renderer;
use super::key::size_of_key;
use super::value::{Key, Kind, Value};

const MAP_METHODS: [&str; 11] =
    ["clear", "copy", "fromkeys", "get", "items", "keys", "pop", "popitem", "setdefault", "update", "values"];
const LIST_METHODS: [&str; 11] =
    ["append", "clear", "copy", "count", "extend", "index", "insert", "pop", "remove", "reverse", "sort"];
const TUPLE_METHODS: [&str; 2] = ["count", "index"];
pub(super) const STRING_METHODS: [&str; 47] = [
    "capitalize",
    "casefold",
    "center",
    "count",
    "encode",
    "endswith",
    "expandtabs",
    "find",
    "format",
    "format_map",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "isidentifier",
    "islower",
    "isnumeric",
    "isprintable",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "maketrans",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "translate",
    "upper",
    "zfill",
];
const MARKUP_METHODS: [&str; 3] = ["escape", "striptags", "unescape"];
const INT_METHODS: [&str; 10] = [
    "as_integer_ratio",
    "bit_count",
    "bit_length",
    "conjugate",
    "denominator",
    "from_bytes",
    "imag",
    "numerator",
    "real",
    "to_bytes",
];
const FLOAT_METHODS: [&str; 7] =
    ["as_integer_ratio", "conjugate", "fromhex", "hex", "imag", "is_integer", "real"];
const RANGE_METHODS: [&str; 5] = ["count", "index", "start", "step", "stop"];
const VIEW_METHODS: [&str; 2] = ["isdisjoint", "mapping"];
const ITERATOR_METHODS: [&str; 7] =
    ["close", "gi_code", "gi_frame", "gi_running", "gi_yieldfrom", "send", "throw"];
const MACRO_METHODS: [&str; 6] =
    ["arguments", "caller", "catch_kwargs", "catch_varargs", "explicit_caller", "name"];
/// Methods that change a map or a list: Jinja's sandbox lets nobody near.
const CHANGES: [&str; 11] = [
    "append",
    "clear",
    "extend",
    "insert",
    "pop",
    "popitem",
    "remove",
    "reverse",
    "setdefault",
    "sort",
    "update",
];

/// Has Python's type of this value such an attribute?
fn has_attribute(value: &Value, name: &str) -> bool {
    match value {
        Value::Map(_) => MAP_METHODS.contains(&name),
        Value::Str(_) => STRING_METHODS.contains(&name),
        Value::Markup(_) => STRING_METHODS.contains(&name) || MARKUP_METHODS.contains(&name),
        Value::Int(_) | Value::Bool(_) => INT_METHODS.contains(&name),
        Value::Float(_) => FLOAT_METHODS.contains(&name),
        Value::List(list) => match list.kind {
            Kind::List => LIST_METHODS.contains(&name),
            Kind::Tuple | Kind::Group => TUPLE_METHODS.contains(&name),
            Kind::Range(..) => RANGE_METHODS.contains(&name),
            Kind::View(_) => VIEW_METHODS.contains(&name),
            Kind::Iterator => ITERATOR_METHODS.contains(&name),
        },
        Value::Macro(_) => MACRO_METHODS.contains(&name),
        Value::Loop(_) => matches!(name, "changed" | "cycle"),
        Value::Cycler(_) => matches!(name, "items" | "next" | "pos" | "reset"),
        Value::Joiner(_) => matches!(name, "sep" | "used"),
        Value::Function(_) | Value::Method => true,
        Value::Undefined | Value::None | Value::Namespace(_) => false,
    }
}

impl Renderer<'_, '_> {
    /// `value.name`.
    pub(super) fn attribute(&mut self, value: &Value, name: &str) -> Result<Value> {
        self.budget.step(name.len() / 64)?;
        match (value, name) {
            (Value::Undefined, _) => {
                return self.budget.fail(format!("an undefined value has no attribute {name:?}"));
            }
            (Value::Namespace(namespace), _) if !name.starts_with("__") => {
                return Ok(namespace.borrow().get(name).cloned().unwrap_or(Value::Undefined));
            }
            (Value::List(list), "grouper" | "list") if list.kind == Kind::Group => {
                let place = usize::from(name == "list");
                return Ok(list.items.get(place).cloned().unwrap_or(Value::Undefined));
            }
            (Value::Cycler(cycler), "current") => {
                return Ok(cycler.items.get(cycler.at.get()).cloned().unwrap_or(Value::Undefined));
            }
            (Value::Loop(number), _) if !has_attribute(value, name) => {
                return self.loop_attribute(*number, name);
            }
            _ => {}
        }
        if let Some(method) = self.method_of(value, name)? {
            return Ok(method);
        }
        match value {
            Value::Map(map) => Ok(map.entries.get(name).cloned().unwrap_or(Value::Undefined)),
            _ => Ok(Value::Undefined),
        }
    }

    /// The method of this name, if there is one that is of use.
    fn method_of(&self, value: &Value, name: &str) -> Result<Option<Value>> {
        if name.starts_with("__") {
            return self.budget.fail(format!("{name} is private"));
        }
        if !has_attribute(value, name) {
            return Ok(None);
        }
        let changes = matches!(value, Value::Map(_) | Value::List(_)) && CHANGES.contains(&name);
        let is_method = match value {
            Value::Int(_) | Value::Bool(_) => !matches!(name, "denominator" | "imag" | "numerator" | "real"),
            Value::Float(_) => !matches!(name, "imag" | "real"),
            Value::Map(_) | Value::Str(_) | Value::Markup(_) | Value::Loop(_) => true,
            Value::List(list) => list.is_sequence(),
            _ => false,
        };
        if changes || !is_method {
            return self.budget.fail(format!("{name:?} of {} cannot be used", value.kind()));
        }
        Ok(Some(Value::Method))
    }

    fn loop_attribute(&self, number: usize, name: &str) -> Result<Value> {
        let Some(state) = self.loops.iter().rev().find(|state| state.number == number) else {
            return self.budget.fail("the loop is over");
        };
        let (index, count) = (state.index, state.items.len());
        let int = |value: usize| Value::Int(value as i128);
        let at = |place: Option<usize>| {
            place.and_then(|place| state.items.get(place)).cloned().unwrap_or(Value::Undefined)
        };
        Ok(match name {
            "index" => int(index + 1),
            "index0" => int(index),
            "revindex" => int(count - index),
            "revindex0" => int(count - index - 1),
            "first" => Value::Bool(index == 0),
            "last" => Value::Bool(index + 1 == count),
            "length" => int(count),
            "depth" => int(state.depth + 1),
            "depth0" => int(state.depth),
            "previtem" => at(index.checked_sub(1)),
            "nextitem" => at(index.checked_add(1)),
            _ if name.starts_with('_') => return self.budget.fail(format!("{name} is private")),
            _ => Value::Undefined,
        })
    }

    /// `value[key]`.
    pub(super) fn item(&mut self, value: &Value, key: &Value) -> Result<Value> {
        let place = |len: usize| {
            let index = key.as_int()?;
            usize::try_from(if index < 0 { index.checked_add(len as i128)? } else { index }).ok()
        };
        self.budget.scan(key.as_str().map_or(0, str::len))?;
        let found = match value {
            Value::Undefined => return self.budget.fail("an undefined value has no items"),
            Value::List(list) if !matches!(list.kind, Kind::Iterator | Kind::View(_)) => {
                place(list.items.len()).and_then(|place| list.items.get(place)).cloned()
            }
            Value::Str(text) | Value::Markup(text) => {
                self.budget.scan(text.len())?;
                let len = if text.is_ascii() { text.len() } else { text.chars().count() };
                let found = place(len).and_then(|place| text.chars().nth(place));
                found.map(|c| same_type(value, c.encode_utf8(&mut [0; 4])))
            }
            Value::Map(map) => match key.as_str() {
                Some(name) => map.entries.get(name).cloned(),
                None => {
                    self.budget.step(size_of_key(key))?;
                    Key::of(key).and_then(|key| map.entries.get(&key).cloned())
                }
            },
            _ => None,
        };
        match (found, key.as_str()) {
            (Some(found), _) => Ok(found),
            (None, Some(name)) => self.attribute(value, name),
            (None, None) => Ok(Value::Undefined),
        }
    }
}

/// A text that counts as escaped if the one it was made of does.
pub(super) fn same_type(value: &Value, text: &str) -> Value {
    if matches!(value, Value::Markup(_)) { Value::Markup(text.into()) } else { Value::str(text) }
}
