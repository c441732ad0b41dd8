//! What is an expression worth? Jinja's expressions with Python's meaning.
//!
//! Attributes: `a.b` is a method of `a` before it is its item, `a['b']` the item alone. Arithmetic that Python would refuse, or that
//! does not fit 64 bits, is an error.

use std::cmp::Ordering;
use std::rc::Rc;

use minijinja::machinery::ast::{BinOpKind, Call, CallArg, CompareOpKind, Expr, Slice, UnaryOpKind};
use minijinja::value::ValueKind;

use super::budget::Result;
use super::eval::Renderer;
use super::value::{Map, Value};

/// Evaluated arguments.
#[derive(Default)]
pub(super) struct Args {
    pub(super) positional: Vec<Value>,
    pub(super) named: Vec<(String, Value)>,
}

impl Args {
    /// The argument at a place or of a name.
    pub(super) fn get(&self, place: usize, name: &str) -> Option<&Value> {
        self.positional
            .get(place)
            .or_else(|| self.named.iter().find(|(found, _)| found == name).map(|(_, value)| value))
    }
}

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
            Expr::Var(var) => Ok(self.variable(var.id)),
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
                    match key {
                        Value::Str(key) => drop(entries.insert(key, value)),
                        other => {
                            return self
                                .budget
                                .fail(format!("a map's keys are strings, not {}", other.kind()));
                        }
                    }
                }
                self.budget.admit(Value::map(entries))
            }
            Expr::UnaryOp(unary) => {
                let value = self.eval(&unary.expr)?;
                match (&unary.op, &value) {
                    (UnaryOpKind::Not, _) => Ok(Value::Bool(!value.truth())),
                    (UnaryOpKind::Neg, Value::Float(number)) => Ok(Value::Float(-number)),
                    (UnaryOpKind::Neg, _) => match value.as_int().and_then(i64::checked_neg) {
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
                self.test(test.name, &value, args.get(0, "")).map(Value::Bool)
            }
            Expr::GetAttr(attr) => {
                let value = self.eval(&attr.expr)?;
                self.attribute(&value, attr.name)
            }
            Expr::GetItem(item) => {
                let value = self.eval(&item.expr)?;
                let key = self.eval(&item.subscript_expr)?;
                self.item(&value, &key)
            }
            Expr::Slice(slice) => self.slice(slice),
            Expr::Call(call) => self.call(call),
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

    fn variable(&self, name: &str) -> Value {
        const FUNCTIONS: [&str; 5] = ["range", "dict", "namespace", "raise_exception", "strftime_now"];
        self.lookup(name).unwrap_or_else(|| {
            FUNCTIONS
                .iter()
                .find(|known| **known == name)
                .map_or(Value::Undefined, |known| Value::Function(known))
        })
    }

    fn constant(&mut self, value: &minijinja::Value) -> Result<Value> {
        if let Some(text) = value.as_str() {
            return self.budget.string(text);
        }
        match value.kind() {
            ValueKind::None => Ok(Value::None),
            ValueKind::Bool => Ok(Value::Bool(value.is_true())),
            ValueKind::Number => match (value.is_integer(), value.as_i64()) {
                (true, Some(number)) => Ok(Value::Int(number)),
                (true, None) => self.budget.fail("a number does not fit 64 bits"),
                (false, _) => Ok(f64::try_from(value.clone()).map_or(Value::Undefined, Value::Float)),
            },
            _ => Ok(Value::Undefined),
        }
    }

    fn all(&mut self, exprs: &'t [Expr<'s>]) -> Result<Vec<Value>> {
        exprs.iter().map(|expr| self.eval(expr)).collect()
    }

    fn arguments(&mut self, args: &'t [CallArg<'s>]) -> Result<Args> {
        let mut found = Args::default();
        for arg in args {
            match arg {
                CallArg::Pos(expr) => found.positional.push(self.eval(expr)?),
                CallArg::Kwarg(name, expr) => found.named.push(((*name).to_owned(), self.eval(expr)?)),
                CallArg::PosSplat(expr) => {
                    let list = self.eval(expr)?;
                    found.positional.extend(self.iterate(&list)?);
                }
                CallArg::KwargSplat(expr) => match self.eval(expr)? {
                    Value::Map(map) => {
                        self.budget.take(map.entries.len() * 64)?;
                        let named =
                            map.entries.iter().map(|(key, value)| (key.as_ref().to_owned(), value.clone()));
                        found.named.extend(named);
                    }
                    other => return self.budget.fail(format!("** needs a map, not {}", other.kind())),
                },
            }
        }
        Ok(found)
    }

    pub(super) fn call(&mut self, call: &'t Call<'s>) -> Result<Value> {
        if let Expr::GetAttr(attr) = &call.expr {
            let receiver = self.eval(&attr.expr)?;
            let callable = match &receiver {
                Value::Namespace(namespace) => namespace.borrow().get(attr.name).cloned(),
                _ => None,
            };
            let args = self.arguments(&call.args)?;
            return match callable {
                Some(Value::Macro(number)) => self.call_macro(number, &args),
                _ => self.method(&receiver, attr.name, &args),
            };
        }
        let callable = self.eval(&call.expr)?;
        let args = self.arguments(&call.args)?;
        match callable {
            Value::Macro(number) => self.call_macro(number, &args),
            Value::Function(name) => self.function(name, args),
            other => {
                let name = if let Expr::Var(var) = &call.expr { var.id } else { "the value" };
                self.budget.fail(format!("{name} is {} and cannot be called", other.kind()))
            }
        }
    }

    /// `value.name`.
    pub(super) fn attribute(&mut self, value: &Value, name: &str) -> Result<Value> {
        match value {
            Value::Undefined => self.budget.fail(format!("an undefined value has no attribute {name:?}")),
            Value::Map(map) => Ok(map.entries.get(name).cloned().unwrap_or(Value::Undefined)),
            Value::Namespace(namespace) => {
                Ok(namespace.borrow().get(name).cloned().unwrap_or(Value::Undefined))
            }
            Value::Loop(number) => Ok(self.loop_attribute(*number, name)),
            _ => Ok(Value::Undefined),
        }
    }

    fn loop_attribute(&self, number: usize, name: &str) -> Value {
        let Some(state) = self.loops.get(number) else { return Value::Undefined };
        let (index, count) = (state.index, state.items.len());
        let int = |value: usize| Value::Int(value as i64);
        let at = |place: Option<usize>| {
            place.and_then(|place| state.items.get(place)).cloned().unwrap_or(Value::Undefined)
        };
        match name {
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
            _ => Value::Undefined,
        }
    }

    /// `value[key]`.
    pub(super) fn item(&mut self, value: &Value, key: &Value) -> Result<Value> {
        let place = |len: usize| {
            let index = key.as_int()?;
            let index = if index < 0 { index.checked_add(len as i64)? } else { index };
            usize::try_from(index).ok()
        };
        match value {
            Value::Undefined => self.budget.fail("an undefined value has no items"),
            Value::List(list) => {
                let found = place(list.items.len()).and_then(|place| list.items.get(place));
                Ok(found.cloned().unwrap_or(Value::Undefined))
            }
            Value::Str(text) => {
                self.budget.scan(text.len())?;
                let len = if text.is_ascii() { text.len() } else { text.chars().count() };
                let found = place(len).and_then(|place| text.chars().nth(place));
                Ok(found.map_or(Value::Undefined, |c| Value::str(c.encode_utf8(&mut [0; 4]))))
            }
            _ => match key {
                Value::Str(name) => self.attribute(value, name),
                _ => Ok(Value::Undefined),
            },
        }
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
            Value::List(_) | Value::Str(_) => self.iterate(&value)?,
            Value::Undefined => return Ok(Value::Undefined),
            other => return self.budget.fail(format!("cannot slice {}", other.kind())),
        };
        let places = slice_places(items.len(), start, stop, step);
        let picked = places.filter_map(|place| items.get(place).cloned());
        match &value {
            Value::Str(_) => {
                let text: String = picked.filter_map(|c| c.as_str().map(str::to_owned)).collect();
                self.budget.string(&text)
            }
            Value::List(list) if list.tuple => self.budget.admit(Value::tuple(picked.collect())),
            _ => self.budget.list(picked.collect()),
        }
    }

    fn binary(&mut self, op: BinOpKind, left: &Value, right: &Value) -> Result<Value> {
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
            (BinOpKind::Add, Value::List(a), Value::List(b)) if a.tuple == b.tuple => {
                self.budget.take((a.items.len() + b.items.len()) * size_of::<Value>())?;
                let items = a.items.iter().chain(&b.items).cloned().collect();
                Ok(if a.tuple { Value::tuple(items) } else { Value::list(items) })
            }
            (BinOpKind::Mul, Value::Str(text), _) if right.as_int().is_some() => self.repeat(text, right),
            (BinOpKind::Mul, _, Value::Str(text)) if left.as_int().is_some() => self.repeat(text, left),
            (BinOpKind::Mul, Value::List(list), _) if let Some(times) = right.as_int() => {
                let times = usize::try_from(times).unwrap_or(0);
                self.budget
                    .take(list.items.len().saturating_mul(times).saturating_mul(size_of::<Value>()))?;
                let count = list.items.len().saturating_mul(times);
                self.budget.list(list.items.iter().cycle().take(count).cloned().collect())
            }
            (BinOpKind::Rem, Value::Str(text), _) => self.percent_format(text, right),
            _ => self.arithmetic(op, left, right),
        }
    }

    fn repeat(&mut self, text: &str, times: &Value) -> Result<Value> {
        let times = usize::try_from(times.as_int().unwrap_or(0)).unwrap_or(0);
        self.budget.take(text.len().saturating_mul(times))?;
        Ok(Value::str(&text.repeat(times)))
    }

    fn arithmetic(&mut self, op: BinOpKind, left: &Value, right: &Value) -> Result<Value> {
        let refuse = |this: &Self| {
            this.budget.fail(format!("cannot compute with {} and {}", left.kind(), right.kind()))
        };
        if let (Some(a), Some(b)) = (left.as_int(), right.as_int()) {
            if b == 0 && matches!(op, BinOpKind::Div | BinOpKind::FloorDiv | BinOpKind::Rem) {
                return self.budget.fail("division by zero");
            }
            let whole = match op {
                BinOpKind::Add => a.checked_add(b),
                BinOpKind::Sub => a.checked_sub(b),
                BinOpKind::Mul => a.checked_mul(b),
                BinOpKind::Div => return Ok(Value::Float(a as f64 / b as f64)),
                BinOpKind::FloorDiv => a.checked_div_euclid(b).map(|_| floor_div(a, b)),
                BinOpKind::Rem => a.checked_rem(b).map(|_| a - b * floor_div(a, b)),
                BinOpKind::Pow if b < 0 => return Ok(Value::Float((a as f64).powf(b as f64))),
                BinOpKind::Pow => u32::try_from(b).ok().and_then(|b| a.checked_pow(b)),
                _ => return refuse(self),
            };
            return whole
                .map_or_else(|| self.budget.fail("a number does not fit 64 bits"), |n| Ok(Value::Int(n)));
        }
        let (Some(a), Some(b)) = (left.as_float(), right.as_float()) else { return refuse(self) };
        if b == 0.0 && matches!(op, BinOpKind::Div | BinOpKind::FloorDiv | BinOpKind::Rem) {
            return self.budget.fail("division by zero");
        }
        Ok(Value::Float(match op {
            BinOpKind::Add => a + b,
            BinOpKind::Sub => a - b,
            BinOpKind::Mul => a * b,
            BinOpKind::Div => a / b,
            BinOpKind::FloorDiv => (a / b).floor(),
            BinOpKind::Rem => a - b * (a / b).floor(),
            BinOpKind::Pow => a.powf(b),
            _ => return refuse(self),
        }))
    }

    fn compare(&mut self, op: CompareOpKind, left: &Value, right: &Value) -> Result<bool> {
        Ok(match op {
            CompareOpKind::Eq => self.equal(left, right)?,
            CompareOpKind::Ne => !self.equal(left, right)?,
            CompareOpKind::In => self.contains(right, left)?,
            CompareOpKind::NotIn => !self.contains(right, left)?,
            CompareOpKind::Lt => self.order(left, right)?.is_lt(),
            CompareOpKind::Lte => self.order(left, right)?.is_le(),
            CompareOpKind::Gt => self.order(left, right)?.is_gt(),
            CompareOpKind::Gte => self.order(left, right)?.is_ge(),
        })
    }

    pub(super) fn order(&mut self, left: &Value, right: &Value) -> Result<Ordering> {
        let found = match (left, right) {
            (Value::Str(a), Value::Str(b)) => {
                self.budget.scan(a.len().min(b.len()))?;
                Some(a.cmp(b))
            }
            _ => match (left.as_int(), right.as_int()) {
                (Some(a), Some(b)) => Some(a.cmp(&b)),
                _ => left.as_float().zip(right.as_float()).and_then(|(a, b)| a.partial_cmp(&b)),
            },
        };
        match found {
            Some(order) => Ok(order),
            None => self.budget.fail(format!("cannot order {} and {}", left.kind(), right.kind())),
        }
    }

    pub(super) fn equal(&mut self, left: &Value, right: &Value) -> Result<bool> {
        self.budget.step(1)?;
        Ok(match (left, right) {
            (Value::Undefined, Value::Undefined) | (Value::None, Value::None) => true,
            (Value::Str(a), Value::Str(b)) => {
                self.budget.scan(a.len().min(b.len()))?;
                a == b
            }
            (Value::List(a), Value::List(b)) => {
                if a.tuple != b.tuple || a.items.len() != b.items.len() {
                    return Ok(false);
                }
                for (a, b) in a.items.iter().zip(&b.items) {
                    if !self.equal(a, b)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Value::Map(a), Value::Map(b)) => {
                if a.entries.len() != b.entries.len() {
                    return Ok(false);
                }
                for (key, a) in &a.entries {
                    match b.entries.get(key) {
                        Some(b) if self.equal(a, b)? => {}
                        _ => return Ok(false),
                    }
                }
                true
            }
            (Value::Macro(a), Value::Macro(b)) => a == b,
            _ => match (left.as_int(), right.as_int()) {
                (Some(a), Some(b)) => a == b,
                _ => left.as_float().zip(right.as_float()).is_some_and(|(a, b)| a == b),
            },
        })
    }

    /// `needle in value`.
    pub(super) fn contains(&mut self, value: &Value, needle: &Value) -> Result<bool> {
        match (value, needle) {
            (Value::Undefined, _) => Ok(false),
            (Value::Str(text), Value::Str(part)) => {
                self.budget.scan(text.len())?;
                Ok(text.contains(part.as_ref()))
            }
            (Value::List(list), _) => {
                for item in &list.items {
                    if self.equal(item, needle)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            (Value::Map(map), Value::Str(key)) => Ok(map.entries.contains_key(key)),
            (Value::Map(_), _) => Ok(false),
            _ => self.budget.fail(format!("cannot look for {} in {}", needle.kind(), value.kind())),
        }
    }
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

/// Rounds towards minus infinity; the caller has excluded a divisor of 0 and overflow.
fn floor_div(a: i64, b: i64) -> i64 {
    let quotient = a.wrapping_div(b);
    if a.wrapping_rem(b) != 0 && (a < 0) != (b < 0) { quotient - 1 } else { quotient }
}

/// Python's `range(*slice(start, stop, step).indices(len))`.
fn slice_places(len: usize, start: Option<i64>, stop: Option<i64>, step: i64) -> impl Iterator<Item = usize> {
    let len = len as i64;
    let (low, high) = if step > 0 { (0, len) } else { (-1, len - 1) };
    let clamp = |bound: i64| (if bound < 0 { bound.saturating_add(len) } else { bound }).clamp(low, high);
    let start = start.map_or(if step > 0 { low } else { high }, clamp);
    let stop = stop.map_or(if step > 0 { high } else { low }, clamp);
    let mut at = start;
    std::iter::from_fn(move || {
        let inside = if step > 0 { at < stop } else { at > stop };
        let place = inside.then(|| usize::try_from(at).ok()).flatten()?;
        at = at.saturating_add(step);
        Some(place)
    })
}
