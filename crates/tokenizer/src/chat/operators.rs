//! What do operators do? Python's arithmetic, order, equality and `in`.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::rc::Rc;

use minijinja::machinery::ast::{BinOpKind, CompareOpKind};

use super::args::size;
use super::budget::Result;
use super::eval::Renderer;
use super::filters::escaped;
use super::number::{self, Number};
use super::value::{Kind, Value};
use crate::special::unmarked;

impl Renderer<'_, '_> {
    pub(super) fn binary(&mut self, op: BinOpKind, left: &Value, right: &Value) -> Result<Value> {
        if let Some(kind) = as_comparison(op) {
            return self.compare(kind, left, right).map(Value::Bool);
        }
        match (op, left, right) {
            (BinOpKind::Concat, ..) => {
                let mut text = self.budget.text_of(left)?;
                text.push_str(&self.budget.text_of(right)?);
                self.budget.string(&text)
            }
            (BinOpKind::Add, Value::Str(a), Value::Str(b)) => {
                self.budget.take(a.len() + b.len() + 16)?;
                Ok(Value::Str(Rc::from([a.as_ref(), b.as_ref()].concat())))
            }
            (BinOpKind::Add, Value::Str(_) | Value::Markup(_), Value::Str(_) | Value::Markup(_)) => {
                let mut text = self.markup_of(left)?;
                text.push_str(&self.markup_of(right)?);
                self.budget.take(text.len() + 16)?;
                Ok(Value::Markup(text.into()))
            }
            (BinOpKind::Add, Value::List(a), Value::List(b))
                if a.is_sequence() && b.is_sequence() && a.is_tuple() == b.is_tuple() =>
            {
                self.budget.take((a.items.len() + b.items.len()) * size_of::<Value>())?;
                let items = a.items.iter().chain(&b.items).cloned().collect();
                self.budget.admit(if a.is_tuple() { Value::tuple(items) } else { Value::list(items) })
            }
            (BinOpKind::Mul, Value::Str(_) | Value::Markup(_) | Value::List(_), _)
                if let Some(times) = right.as_int() =>
            {
                self.repeat(left, size(times))
            }
            (BinOpKind::Mul, _, Value::Str(_) | Value::Markup(_) | Value::List(_))
                if let Some(times) = left.as_int() =>
            {
                self.repeat(right, size(times))
            }
            (BinOpKind::Rem, Value::Str(text), _) => self.percent_format(text, right),
            _ => match (Number::of(left), Number::of(right)) {
                (Some(a), Some(b)) => match number::arithmetic(op, a, b) {
                    Ok(value) => Ok(value),
                    Err(why) => self.budget.fail(why),
                },
                _ => self.budget.fail(format!("cannot compute with {} and {}", left.kind(), right.kind())),
            },
        }
    }

    /// A string's text, escaped unless it is already.
    fn markup_of(&mut self, value: &Value) -> Result<String> {
        let text = self.budget.text_of(value)?;
        if matches!(value, Value::Markup(_)) {
            return Ok(text);
        }
        self.budget.take(text.len().saturating_mul(6))?;
        Ok(escaped(&text))
    }

    fn repeat(&mut self, value: &Value, times: usize) -> Result<Value> {
        match value {
            Value::List(list) if list.is_sequence() => {
                let count = list.items.len().saturating_mul(times);
                self.budget.take(count.saturating_mul(size_of::<Value>()))?;
                let items = list.items.iter().cycle().take(count).cloned().collect();
                self.budget.admit(if list.is_tuple() { Value::tuple(items) } else { Value::list(items) })
            }
            Value::Str(text) | Value::Markup(text) => {
                self.budget.take(text.len().saturating_mul(times))?;
                let repeated = text.repeat(if text.is_empty() { 0 } else { times }).into();
                Ok(if matches!(value, Value::Str(_)) {
                    Value::Str(repeated)
                } else {
                    Value::Markup(repeated)
                })
            }
            other => self.budget.fail(format!("cannot repeat {}", other.kind())),
        }
    }

    pub(super) fn compare(&mut self, op: CompareOpKind, left: &Value, right: &Value) -> Result<bool> {
        Ok(match op {
            CompareOpKind::Eq => self.equal(left, right)?,
            CompareOpKind::Ne => !self.equal(left, right)?,
            CompareOpKind::In => self.contains(right, left)?,
            CompareOpKind::NotIn => !self.contains(right, left)?,
            CompareOpKind::Lt => self.order(left, right)?.is_some_and(Ordering::is_lt),
            CompareOpKind::Lte => self.order(left, right)?.is_some_and(Ordering::is_le),
            CompareOpKind::Gt => self.order(left, right)?.is_some_and(Ordering::is_gt),
            CompareOpKind::Gte => self.order(left, right)?.is_some_and(Ordering::is_ge),
        })
    }

    /// The order of two values that have one; none where a NaN decides, which is neither less nor more than anything.
    pub(super) fn order(&mut self, left: &Value, right: &Value) -> Result<Option<Ordering>> {
        self.budget.step(1)?;
        if let (Some(a), Some(b)) = (left.as_str(), right.as_str()) {
            self.budget.scan(a.len().saturating_add(b.len()))?;
            return Ok(Some(plain(a).cmp(&plain(b))));
        }
        if let (Some(a), Some(b)) = (Number::of(left), Number::of(right)) {
            return Ok(number::compare(a, b));
        }
        match (left, right) {
            (Value::List(a), Value::List(b))
                if a.is_sequence() && b.is_sequence() && a.is_tuple() == b.is_tuple() =>
            {
                self.order_of_lists(&a.items, &b.items)
            }
            _ => self.budget.fail(format!("cannot order {} and {}", left.kind(), right.kind())),
        }
    }

    /// The first items that differ decide.
    pub(super) fn order_of_lists(&mut self, a: &[Value], b: &[Value]) -> Result<Option<Ordering>> {
        for (a, b) in a.iter().zip(b) {
            if !self.equal(a, b)? {
                return self.order(a, b);
            }
        }
        Ok(Some(a.len().cmp(&b.len())))
    }

    pub(super) fn equal(&mut self, left: &Value, right: &Value) -> Result<bool> {
        self.budget.step(1)?;
        if let (Some(a), Some(b)) = (left.as_str(), right.as_str()) {
            self.budget.scan(a.len().saturating_add(b.len()))?;
            return Ok(plain(a) == plain(b));
        }
        if let (Some(a), Some(b)) = (Number::of(left), Number::of(right)) {
            return Ok(number::compare(a, b) == Some(Ordering::Equal));
        }
        Ok(match (left, right) {
            (Value::Undefined, Value::Undefined) | (Value::None, Value::None) => true,
            (Value::List(a), Value::List(b)) => {
                let same_type = a.is_tuple() == b.is_tuple() && a.is_sequence() == b.is_sequence();
                match (a.kind, b.kind) {
                    // What an iterator is equal to is itself, and sets of keys and items are not compared here.
                    (Kind::Iterator, _) | (_, Kind::Iterator) => Rc::ptr_eq(a, b),
                    (Kind::View(_), Kind::View(_)) => return self.budget.fail("views are not compared"),
                    (Kind::View(_), _) | (_, Kind::View(_)) => false,
                    _ if !same_type || a.items.len() != b.items.len() => false,
                    _ => {
                        for (a, b) in a.items.iter().zip(&b.items) {
                            if !self.equal(a, b)? {
                                return Ok(false);
                            }
                        }
                        true
                    }
                }
            }
            (Value::Map(a), Value::Map(b)) => {
                if a.entries.len() != b.entries.len() {
                    return Ok(false);
                }
                for (key, a) in &a.entries {
                    self.budget.step(key.size())?;
                    match b.entries.get(key) {
                        Some(b) if self.equal(a, b)? => {}
                        _ => return Ok(false),
                    }
                }
                true
            }
            (Value::Namespace(a), Value::Namespace(b)) => Rc::ptr_eq(a, b),
            (Value::Cycler(a), Value::Cycler(b)) => Rc::ptr_eq(a, b),
            (Value::Joiner(a), Value::Joiner(b)) => Rc::ptr_eq(a, b),
            (Value::Macro(a), Value::Macro(b)) | (Value::Loop(a), Value::Loop(b)) => a == b,
            (Value::Function(a), Value::Function(b)) => a == b,
            (Value::Method, Value::Method) => return self.budget.fail("methods are not compared"),
            _ => false,
        })
    }

    /// `needle in value`.
    pub(super) fn contains(&mut self, value: &Value, needle: &Value) -> Result<bool> {
        match (value, needle) {
            (Value::Undefined, _) => Ok(false),
            (Value::Str(text) | Value::Markup(text), Value::Str(part) | Value::Markup(part)) => {
                self.budget.scan(text.len().saturating_add(part.len()))?;
                Ok(plain(text).contains(plain(part).as_ref()))
            }
            (Value::List(list), _) => {
                if list.kind == Kind::View("dict_keys") {
                    self.key(needle)?;
                }
                let iterator = list.kind == Kind::Iterator;
                let items = if iterator { &self.iterate(value)?[..] } else { &list.items[..] };
                for item in items {
                    if self.equal(item, needle)? {
                        // An iterator goes on behind what was found.
                        list.taken.set(if iterator { None } else { Some(0) });
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            (Value::Map(map), _) => {
                if let Some(text) = needle.as_str() {
                    self.budget.scan(text.len())?;
                    return Ok(map.entries.contains_key(text));
                }
                let key = self.key(needle)?;
                Ok(map.entries.contains_key(&key))
            }
            _ => self.budget.fail(format!("cannot look for {} in {}", needle.kind(), value.kind())),
        }
    }

    /// Sorts by keys as Python does, which keeps equal ones in their order, also backwards.
    pub(super) fn sort_by_keys(
        &mut self,
        keyed: Vec<(SortKey, Value)>,
        reverse: bool,
    ) -> Result<Vec<(SortKey, Value)>> {
        self.budget.take(keyed.len().saturating_mul(2 * size_of::<(SortKey, Value)>()))?;
        self.merge_sort(keyed, reverse)
    }

    /// A sort of its own: the library's may panic where an order fails half-way.
    fn merge_sort(&mut self, keyed: Vec<(SortKey, Value)>, reverse: bool) -> Result<Vec<(SortKey, Value)>> {
        if keyed.len() < 2 {
            return Ok(keyed);
        }
        self.budget.step(keyed.len())?;
        let mut left = keyed;
        let right = left.split_off(left.len() / 2);
        let left = self.merge_sort(left, reverse)?;
        let right = self.merge_sort(right, reverse)?;
        let mut merged = Vec::with_capacity(left.len() + right.len());
        let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
        while let (Some((a, _)), Some((b, _))) = (left.peek(), right.peek()) {
            let order = match (a, b) {
                (SortKey::Several(a), SortKey::Several(b)) => self.order_of_lists(a, b)?,
                (SortKey::One(a), SortKey::One(b)) => self.order(a, b)?,
                _ => None,
            };
            let Some(order) = order else {
                return self.budget.fail("values that are not a number have no order");
            };
            let from_right = if reverse { order.is_lt() } else { order.is_gt() };
            merged.extend(if from_right { right.next() } else { left.next() });
        }
        merged.extend(left);
        merged.extend(right);
        Ok(merged)
    }
}

/// What something is sorted by.
pub(super) enum SortKey {
    /// A value, which has to be less or more than others.
    One(Value),
    /// A list of values: equal ones need no order.
    Several(Vec<Value>),
}

/// A text as it is compared: which token the template's own text is for is no part of it.
pub(super) fn plain(text: &str) -> Cow<'_, str> {
    unmarked(text)
}

fn as_comparison(op: BinOpKind) -> Option<CompareOpKind> {
    Some(match op {
        BinOpKind::Eq => CompareOpKind::Eq,
        BinOpKind::Ne => CompareOpKind::Ne,
        BinOpKind::Lt => CompareOpKind::Lt,
        BinOpKind::Lte => CompareOpKind::Lte,
        BinOpKind::Gt => CompareOpKind::Gt,
        BinOpKind::Gte => CompareOpKind::Gte,
        BinOpKind::In => CompareOpKind::In,
        _ => return None,
    })
}
