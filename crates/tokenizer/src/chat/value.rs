//! What do a template's variables hold, and how does Python write them?
//!
//! The values of Jinja as Python has them: `str()` gives `True`, `None` and `['a', 1.0]`. Lists and maps are shared and never
//! changed after they are made; each knows how deep it is, so that none can be nested past the bound. Only a namespace can be
//! assigned to, and it is never part of another value: so there are no cycles.

use indexmap::IndexMap;
use std::cell::RefCell;
use std::fmt::{self, Write};
use std::rc::Rc;

/// A map in insertion order. Only strings are keys.
pub(super) type Map = IndexMap<Rc<str>, Value>;

/// A value.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Undefined,
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(Rc<str>),
    List(Rc<List>),
    Map(Rc<Dict>),
    Namespace(Rc<RefCell<Map>>),
    /// The state of a loop, by its number in the renderer.
    Loop(usize),
    /// A macro, by its number in the renderer.
    Macro(usize),
    /// A function by name.
    Function(&'static str),
}

/// A list or tuple.
#[derive(Debug)]
pub(super) struct List {
    pub(super) items: Vec<Value>,
    pub(super) tuple: bool,
    depth: usize,
}

/// A map that no longer changes.
#[derive(Debug)]
pub(super) struct Dict {
    pub(super) entries: Map,
    depth: usize,
}

impl Value {
    pub(super) fn str(text: &str) -> Value {
        Value::Str(text.into())
    }

    /// A list of `items`; the caller checks [`Value::depth`].
    pub(super) fn list(items: Vec<Value>) -> Value {
        let depth = 1 + items.iter().map(Value::depth).max().unwrap_or(0);
        Value::List(Rc::new(List { items, tuple: false, depth }))
    }

    pub(super) fn tuple(items: Vec<Value>) -> Value {
        let depth = 1 + items.iter().map(Value::depth).max().unwrap_or(0);
        Value::List(Rc::new(List { items, tuple: true, depth }))
    }

    pub(super) fn map(entries: Map) -> Value {
        let depth = 1 + entries.values().map(Value::depth).max().unwrap_or(0);
        Value::Map(Rc::new(Dict { entries, depth }))
    }

    /// How many lists and maps lie within each other.
    pub(super) fn depth(&self) -> usize {
        match self {
            Value::List(list) => list.depth,
            Value::Map(map) => map.depth,
            _ => 0,
        }
    }

    /// May it be part of a list, a map or a namespace?
    pub(super) fn is_plain(&self) -> bool {
        !matches!(self, Value::Namespace(_) | Value::Loop(_))
    }

    /// Python's `bool()`.
    pub(super) fn truth(&self) -> bool {
        match self {
            Value::Undefined | Value::None => false,
            Value::Bool(value) => *value,
            Value::Int(value) => *value != 0,
            Value::Float(value) => *value != 0.0,
            Value::Str(text) => !text.is_empty(),
            Value::List(list) => !list.items.is_empty(),
            Value::Map(map) => !map.entries.is_empty(),
            Value::Namespace(_) | Value::Loop(_) | Value::Macro(_) | Value::Function(_) => true,
        }
    }

    /// The name of its type, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::Undefined => "undefined",
            Value::None => "None",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float",
            Value::Str(_) => "str",
            Value::List(list) if list.tuple => "tuple",
            Value::List(_) => "list",
            Value::Map(_) => "dict",
            Value::Namespace(_) => "namespace",
            Value::Loop(_) => "loop",
            Value::Macro(_) => "macro",
            Value::Function(_) => "function",
        }
    }

    pub(super) fn as_str(&self) -> Option<&str> {
        match self {
            Value::Str(text) => Some(text),
            _ => None,
        }
    }

    /// A whole number; bools are 0 and 1, as in Python.
    pub(super) fn as_int(&self) -> Option<i64> {
        match self {
            Value::Int(value) => Some(*value),
            Value::Bool(value) => Some(i64::from(*value)),
            _ => None,
        }
    }

    /// Any number.
    pub(super) fn as_float(&self) -> Option<f64> {
        match self {
            Value::Float(value) => Some(*value),
            _ => self.as_int().map(|value| value as f64),
        }
    }

    /// Python's `str()`, written to `out`, which may refuse to take more.
    pub(super) fn write_str(&self, out: &mut impl Write) -> fmt::Result {
        match self {
            Value::Undefined => Ok(()),
            Value::Str(text) => out.write_str(text),
            _ => self.write_repr(out),
        }
    }

    /// Python's `repr()`.
    pub(super) fn write_repr(&self, out: &mut impl Write) -> fmt::Result {
        match self {
            Value::Undefined => out.write_str("Undefined"),
            Value::None => out.write_str("None"),
            Value::Bool(true) => out.write_str("True"),
            Value::Bool(false) => out.write_str("False"),
            Value::Int(value) => write!(out, "{value}"),
            Value::Float(value) => write_float(*value, out),
            Value::Str(text) => write_quoted(text, out),
            Value::List(list) => {
                let (open, close) = if list.tuple { ('(', ')') } else { ('[', ']') };
                out.write_char(open)?;
                for (i, item) in list.items.iter().enumerate() {
                    if i > 0 {
                        out.write_str(", ")?;
                    }
                    item.write_repr(out)?;
                }
                if list.tuple && list.items.len() == 1 {
                    out.write_char(',')?;
                }
                out.write_char(close)
            }
            Value::Map(map) => {
                out.write_char('{')?;
                for (i, (key, item)) in map.entries.iter().enumerate() {
                    if i > 0 {
                        out.write_str(", ")?;
                    }
                    write_quoted(key, out)?;
                    out.write_str(": ")?;
                    item.write_repr(out)?;
                }
                out.write_char('}')
            }
            other => write!(out, "<{}>", other.kind()),
        }
    }
}

/// Python's `repr()` of a float: shortest, with an exponent below 1e-4 and from 1e16.
pub(super) fn write_float(value: f64, out: &mut impl Write) -> fmt::Result {
    if value.is_nan() {
        return out.write_str("nan");
    }
    if value.is_infinite() {
        return out.write_str(if value > 0.0 { "inf" } else { "-inf" });
    }
    let size = value.abs();
    if size != 0.0 && !(1e-4..1e16).contains(&size) {
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = match exponent.strip_prefix('-') {
            Some(rest) => ('-', rest),
            None => ('+', exponent),
        };
        return write!(out, "{digits}e{sign}{exponent:0>2}");
    }
    if value.fract() == 0.0 { write!(out, "{value:.1}") } else { write!(out, "{value}") }
}

/// Python's `repr()` of a string.
fn write_quoted(text: &str, out: &mut impl Write) -> fmt::Result {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.write_char(quote)?;
    for c in text.chars() {
        match c {
            '\\' => out.write_str("\\\\")?,
            '\n' => out.write_str("\\n")?,
            '\r' => out.write_str("\\r")?,
            '\t' => out.write_str("\\t")?,
            c if c == quote => write!(out, "\\{c}")?,
            c if c.is_control() && u32::from(c) < 0x100 => write!(out, "\\x{:02x}", u32::from(c))?,
            c => out.write_char(c)?,
        }
    }
    out.write_char(quote)
}
