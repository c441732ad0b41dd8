//! What do a template's variables hold?
//!
//! The values of Jinja as Python has them. Lists and maps are shared and never changed after they are made; each knows how deep it
//! is, so that none can be nested past the bound. What can change (a namespace, a cycler, a joiner) is never part of another value:
//! so there are no cycles.

use indexmap::IndexMap;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

pub(super) use super::key::Key;

/// A map in insertion order.
pub(super) type Map = IndexMap<Key, Value>;

/// A value.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Undefined,
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(Rc<str>),
    /// Text that counts as escaped already: what is joined to it is escaped.
    Markup(Rc<str>),
    List(Rc<List>),
    Map(Rc<Dict>),
    Namespace(Rc<RefCell<Map>>),
    Cycler(Rc<Cycler>),
    Joiner(Rc<Joiner>),
    /// The state of a loop, by its number.
    Loop(usize),
    /// A macro, by its number in the renderer.
    Macro(usize),
    /// A function by name.
    Function(&'static str),
    /// A method that is not called: there, but of no use.
    Method,
}

/// Which of Python's types of several values is it?
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    List,
    Tuple,
    /// A tuple of `groupby`.
    Group,
    /// `range(start, stop, step)`.
    Range(i128, i128, i128),
    /// `dict_keys` and the like.
    View(&'static str),
    /// An iterator: what filters like `map` give. It is always true, has no length and no items by number, and each of its values
    /// is seen once.
    Iterator,
}

/// Several values.
#[derive(Debug)]
pub(super) struct List {
    pub(super) items: Vec<Value>,
    pub(super) kind: Kind,
    /// How many of an iterator's values were taken; none if nobody knows, since something stopped half-way.
    pub(super) taken: Cell<Option<usize>>,
    depth: usize,
}

impl List {
    pub(super) fn is_tuple(&self) -> bool {
        matches!(self.kind, Kind::Tuple | Kind::Group)
    }

    /// Is it what `[..]` makes or `(..)`?
    pub(super) fn is_sequence(&self) -> bool {
        matches!(self.kind, Kind::List | Kind::Tuple | Kind::Group)
    }
}

/// A map that no longer changes.
#[derive(Debug)]
pub(super) struct Dict {
    pub(super) entries: Map,
    depth: usize,
}

/// `cycler(..)`.
#[derive(Debug)]
pub(super) struct Cycler {
    pub(super) items: Vec<Value>,
    pub(super) at: Cell<usize>,
}

/// `joiner(..)`.
#[derive(Debug)]
pub(super) struct Joiner {
    pub(super) separator: Value,
    pub(super) used: Cell<bool>,
}

impl Value {
    pub(super) fn str(text: &str) -> Value {
        Value::Str(text.into())
    }

    /// Values of a kind; the caller checks [`Value::depth`].
    pub(super) fn several(items: Vec<Value>, kind: Kind) -> Value {
        let depth = 1 + items.iter().map(Value::depth).max().unwrap_or(0);
        Value::List(Rc::new(List { items, kind, taken: Cell::new(Some(0)), depth }))
    }

    pub(super) fn list(items: Vec<Value>) -> Value {
        Value::several(items, Kind::List)
    }

    pub(super) fn tuple(items: Vec<Value>) -> Value {
        Value::several(items, Kind::Tuple)
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
        !matches!(self, Value::Namespace(_) | Value::Loop(_) | Value::Cycler(_) | Value::Joiner(_))
    }

    /// Python's `bool()`.
    pub(super) fn truth(&self) -> bool {
        match self {
            Value::Undefined | Value::None => false,
            Value::Bool(value) => *value,
            Value::Int(value) => *value != 0,
            Value::Float(value) => *value != 0.0,
            Value::Str(text) | Value::Markup(text) => !text.is_empty(),
            Value::List(list) => list.kind == Kind::Iterator || !list.items.is_empty(),
            Value::Map(map) => !map.entries.is_empty(),
            _ => true,
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
            Value::Markup(_) => "Markup",
            Value::List(list) => match list.kind {
                Kind::List => "list",
                Kind::Tuple | Kind::Group => "tuple",
                Kind::Range(..) => "range",
                Kind::View(name) => name,
                Kind::Iterator => "an iterator",
            },
            Value::Map(_) => "dict",
            Value::Namespace(_) => "namespace",
            Value::Cycler(_) => "cycler",
            Value::Joiner(_) => "joiner",
            Value::Loop(_) => "loop",
            Value::Macro(_) => "macro",
            Value::Function(_) => "function",
            Value::Method => "method",
        }
    }

    /// Its text if it is a string.
    pub(super) fn as_str(&self) -> Option<&str> {
        match self {
            Value::Str(text) | Value::Markup(text) => Some(text),
            _ => None,
        }
    }

    /// A whole number; bools are 0 and 1, as in Python.
    pub(super) fn as_int(&self) -> Option<i128> {
        match self {
            Value::Int(value) => Some(*value),
            Value::Bool(value) => Some(i128::from(*value)),
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
}
