//! What is an expression worth? Jinja's expressions with Python's meaning.

use minijinja::machinery::ast::{BinOpKind, Expr, Slice, UnaryOpKind};
use minijinja::value::ValueKind;

use super::attributes::same_type;
use super::budget::Result;
use super::eval::Renderer;
use super::functions::FUNCTIONS;
use super::value::{Kind, Map, Value};

impl<'t, 's> Renderer<'t, 's> {
    pub(super) fn eval(&mut self, expr: &'t Expr<'s>) -> Result<Value> {
        self.budget.enter()?;
        self.budget.step(1)?;
        let value = self.eval_inner(expr)?;
        self.budget.leave();
        Ok(value)
    }

    fn eval_inner(&mut self, expr: &'t Expr<'s>) -> Result<Value> {
        match expr {
            Expr::Var(var) => self.variable(var.id),
            Expr::Const(constant) => self.constant(&constant.value),
            Expr::List(list) => {
                let items = self.all(&list.items)?;
                self.budget.list(items)
            }
            Expr::Tuple(tuple) => {
                let items = self.all(&tuple.items)?;
                self.budget.admit(Value::tuple(items))
            }
            Expr::Map(map) => {
                let mut entries = Map::new();
                for (key, value) in map.keys.iter().zip(&map.values) {
                    let key = self.eval(key)?;
                    let value = self.eval(value)?;
                    entries.insert(self.key(&key)?, value);
                }
                self.budget.admit(Value::map(entries))
            }
            Expr::UnaryOp(unary) => {
                let value = self.eval(&unary.expr)?;
                match (&unary.op, &value) {
                    (UnaryOpKind::Not, _) => Ok(Value::Bool(!value.truth())),
                    (UnaryOpKind::Neg, Value::Float(number)) => Ok(Value::Float(-number)),
                    (UnaryOpKind::Neg, _) => match value.as_int().and_then(i128::checked_neg) {
                        Some(number) => Ok(Value::Int(number)),
                        None => self.budget.fail(format!("cannot negate {}", value.kind())),
                    },
                }
            }
            Expr::BinOp(op) => {
                let left = self.eval(&op.left)?;
                match op.op {
                    BinOpKind::ScAnd if !left.truth() => Ok(left),
                    BinOpKind::ScOr if left.truth() => Ok(left),
                    BinOpKind::ScAnd | BinOpKind::ScOr => self.eval(&op.right),
                    kind => {
                        let right = self.eval(&op.right)?;
                        self.binary(kind, &left, &right)
                    }
                }
            }
            Expr::Compare(compare) => {
                let mut left = self.eval(&compare.expr)?;
                for op in &compare.ops {
                    let right = self.eval(&op.expr)?;
                    if !self.compare(op.op, &left, &right)? {
                        return Ok(Value::Bool(false));
                    }
                    left = right;
                }
                Ok(Value::Bool(true))
            }
            Expr::IfExpr(choice) => {
                if self.eval(&choice.test_expr)?.truth() {
                    return self.eval(&choice.true_expr);
                }
                choice.false_expr.as_ref().map_or(Ok(Value::Undefined), |expr| self.eval(expr))
            }
            Expr::Filter(filter) => {
                let value = match &filter.expr {
                    Some(expr) => self.eval(expr)?,
                    None => Value::Undefined,
                };
                let args = self.arguments(&filter.args)?;
                self.filter(filter.name, &value, &args)
            }
            Expr::Test(test) => {
                let value = self.eval(&test.expr)?;
                let args = self.arguments(&test.args)?;
                self.test(test.name, &value, &args).map(Value::Bool)
            }
            Expr::GetAttr(attr) => {
                if self.is_template(&attr.expr)? {
                    return Ok(Value::Undefined);
                }
                let value = self.eval(&attr.expr)?;
                self.attribute(&value, attr.name)
            }
            Expr::GetItem(item) => {
                if self.is_template(&item.expr)? {
                    return self.eval(&item.subscript_expr).map(|_| Value::Undefined);
                }
                let value = self.eval(&item.expr)?;
                let key = self.eval(&item.subscript_expr)?;
                self.item(&value, &key)
            }
            Expr::Slice(slice) => self.slice(slice),
            Expr::Call(call) => self.call(call, None),
        }
    }

    /// Applies a filter expression whose innermost operand is missing (`{% filter a | b %}`) to a value.
    pub(super) fn filter_chain(&mut self, expr: &'t Expr<'s>, value: Value) -> Result<Value> {
        let Expr::Filter(filter) = expr else { return self.budget.fail("expected a filter") };
        self.budget.enter()?;
        let value = match &filter.expr {
            Some(inner) => self.filter_chain(inner, value)?,
            None => value,
        };
        self.budget.leave();
        let args = self.arguments(&filter.args)?;
        self.filter(filter.name, &value, &args)
    }

    fn variable(&mut self, name: &str) -> Result<Value> {
        if let Some(value) = self.lookup(name)? {
            return Ok(value);
        }
        if name == "self" {
            return self.budget.fail("self is not supported");
        }
        let known = FUNCTIONS.iter().find(|known| **known == name);
        Ok(known.map_or(Value::Undefined, |known| Value::Function(known)))
    }

    /// Is this `self`, the template? All that can be read of it are its blocks, and a chat template has none.
    fn is_template(&mut self, expr: &Expr<'s>) -> Result<bool> {
        Ok(matches!(expr, Expr::Var(var) if var.id == "self") && self.lookup("self")?.is_none())
    }

    fn constant(&mut self, value: &minijinja::Value) -> Result<Value> {
        if let Some(text) = value.as_str() {
            return self.budget.string(text);
        }
        match value.kind() {
            ValueKind::None => Ok(Value::None),
            ValueKind::Bool => Ok(Value::Bool(value.is_true())),
            ValueKind::Number if value.is_integer() => match i128::try_from(value.clone()) {
                Ok(number) => Ok(Value::Int(number)),
                Err(_) => self.budget.fail("a number does not fit 128 bits"),
            },
            ValueKind::Number => match f64::try_from(value.clone()) {
                Ok(number) => Ok(Value::Float(number)),
                Err(_) => Ok(Value::Undefined),
            },
            _ => Ok(Value::Undefined),
        }
    }

    fn all(&mut self, exprs: &'t [Expr<'s>]) -> Result<Vec<Value>> {
        exprs.iter().map(|expr| self.eval(expr)).collect()
    }

    fn slice(&mut self, slice: &'t Slice<'s>) -> Result<Value> {
        let value = self.eval(&slice.expr)?;
        let mut bound = |expr: &'t Option<Expr<'s>>| match expr {
            None => Ok(None),
            Some(expr) => match self.eval(expr)? {
                Value::None => Ok(None),
                other => match other.as_int() {
                    Some(number) => Ok(Some(number)),
                    None => self.budget.fail(format!("a slice's bounds are numbers, not {}", other.kind())),
                },
            },
        };
        let (start, stop, step) =
            (bound(&slice.start)?, bound(&slice.stop)?, bound(&slice.step)?.unwrap_or(1));
        if step == 0 {
            return self.budget.fail("a slice's step cannot be 0");
        }
        let items: Vec<Value> = match &value {
            Value::List(list) if list.is_sequence() || matches!(list.kind, Kind::Range(..)) => {
                self.iterate(&value)?
            }
            Value::Str(_) | Value::Markup(_) => self.iterate(&value)?,
            other => return self.budget.fail(format!("cannot slice {}", other.kind())),
        };
        let (first, last, step) = slice_bounds(items.len(), start, stop, step);
        let picked = slice_places(first, last, step).filter_map(|place| items.get(place).cloned());
        match &value {
            Value::List(list) => match list.kind {
                Kind::Range(start, _, width) => self.slice_of_range((start, width), (first, last, step)),
                kind => {
                    let kind = if kind == Kind::Group { Kind::Tuple } else { kind };
                    self.budget.admit(Value::several(picked.collect(), kind))
                }
            },
            _ => {
                let text: String = picked.filter_map(|c| c.as_str().map(str::to_owned)).collect();
                self.budget.take(text.len() + 16)?;
                Ok(same_type(&value, &text))
            }
        }
    }

    /// A slice of a range is a range.
    fn slice_of_range(
        &mut self,
        (start, width): (i128, i128),
        (first, last, step): (i128, i128, i128),
    ) -> Result<Value> {
        let at = |place: i128| start + place * width;
        let (from, to, by) = (at(first), at(last), width.saturating_mul(step));
        let places = slice_places(first, last, step);
        let items = places.map(|place| Value::Int(at(place as i128))).collect();
        self.budget.admit(Value::several(items, Kind::Range(from, to, by)))
    }
}

/// Python's `slice(start, stop, step).indices(len)`.
fn slice_bounds(len: usize, start: Option<i128>, stop: Option<i128>, step: i128) -> (i128, i128, i128) {
    let len = len as i128;
    let (low, high) = if step > 0 { (0, len) } else { (-1, len - 1) };
    let clamp = |bound: i128| (if bound < 0 { bound.saturating_add(len) } else { bound }).clamp(low, high);
    let start = start.map_or(if step > 0 { low } else { high }, clamp);
    let stop = stop.map_or(if step > 0 { high } else { low }, clamp);
    (start, stop, step)
}

/// Python's `range(first, last, step)`, as places in a list.
fn slice_places(first: i128, last: i128, step: i128) -> impl Iterator<Item = usize> {
    let mut at = first;
    std::iter::from_fn(move || {
        let inside = if step > 0 { at < last } else { at > last };
        let place = inside.then(|| usize::try_from(at).ok()).flatten()?;
        at = at.saturating_add(step);
        Some(place)
    })
}
