//! Filters of numbers: `int`, `float`, `round`, `abs`, `filesizeformat`.

use minijinja::machinery::ast::BinOpKind;

use super::super::args::{Args, size};
use super::super::budget::Result;
use super::super::eval::Renderer;
use super::super::number::{self, NoNumber, Number};
use super::super::value::Value;

/// The units of `filesizeformat`, without and with the letter of binary ones.
const UNITS: [[&str; 8]; 2] = [
    ["kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"],
    ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"],
];

/// How much slower than comparing is it to read a text as a number?
const PARSING: usize = 16;

impl Renderer<'_, '_> {
    pub(super) fn number_filter(&mut self, name: &str, value: &Value, args: &Args) -> Result<Value> {
        match name {
            "int" => {
                let [default, base] = self.bind(name, args, ["default", "base"])?;
                let base = self.whole(name, base, 10)?;
                Ok(self.int_of(value, base)?.or_else(|| default.cloned()).unwrap_or(Value::Int(0)))
            }
            "float" => {
                let [default] = self.bind(name, args, ["default"])?;
                Ok(self.float_of(value)?.or_else(|| default.cloned()).unwrap_or(Value::Float(0.0)))
            }
            "abs" => {
                let [] = self.bind(name, args, [])?;
                match value {
                    Value::Float(number) => Ok(Value::Float(number.abs())),
                    _ => match value.as_int().and_then(i128::checked_abs) {
                        Some(number) => Ok(Value::Int(number)),
                        None => self.budget.fail(format!("abs: {} is not a number", value.kind())),
                    },
                }
            }
            "round" => self.round(value, args),
            _ => self.file_size(value, args),
        }
    }

    /// What Python's `int()` makes of a value, or else of its float; none if there is no such number.
    fn int_of(&mut self, value: &Value, base: i128) -> Result<Option<Value>> {
        let whole = |this: &Self, number: f64| match number::truncated(number) {
            Ok(whole) => Ok(Some(Value::Int(whole))),
            Err(why) => this.budget.fail(why),
        };
        let Some(text) = value.as_str() else {
            return match value {
                Value::Float(number) if number.is_nan() => Ok(None),
                Value::Float(number) => whole(self, *number),
                Value::Undefined => self.budget.fail("int: an undefined value is not a number"),
                other => Ok(other.as_int().map(Value::Int)),
            };
        };
        self.budget.scan(text.len().saturating_mul(PARSING))?;
        match number::parse_int(text, base) {
            Ok(number) => Ok(Some(Value::Int(number))),
            Err(NoNumber::Refused(why)) => self.budget.fail(why),
            Err(NoNumber::Invalid) => match number::parse_float(text) {
                Ok(number) if number.is_finite() => whole(self, number),
                Err(NoNumber::Refused(why)) => self.budget.fail(why),
                _ => Ok(None),
            },
        }
    }

    fn float_of(&mut self, value: &Value) -> Result<Option<Value>> {
        let Some(text) = value.as_str() else {
            return match value {
                Value::Undefined => self.budget.fail("float: an undefined value is not a number"),
                other => Ok(other.as_float().map(Value::Float)),
            };
        };
        self.budget.scan(text.len().saturating_mul(PARSING))?;
        match number::parse_float(text) {
            Ok(number) => Ok(Some(Value::Float(number))),
            Err(NoNumber::Refused(why)) => self.budget.fail(why),
            Err(NoNumber::Invalid) => Ok(None),
        }
    }

    fn round(&mut self, value: &Value, args: &Args) -> Result<Value> {
        let [precision, method] = self.bind("round", args, ["precision", "method"])?;
        let places = self.whole("round", precision, 0)?;
        let method = method.map_or(Ok("common"), |method| self.text("round", Some(method)))?;
        let Some(found) = Number::of(value) else {
            return self.budget.fail(format!("round: {} is not a number", value.kind()));
        };
        if method == "common" {
            // A float is written out with all of its places.
            self.budget.step(size(places.min(1074)) / 8)?;
            return number::round(found, places).or_else(|why| self.budget.fail(why));
        }
        if !matches!(method, "ceil" | "floor") {
            return self.budget.fail("round: the method is common, ceil or floor");
        }
        let scale = self.binary(BinOpKind::Pow, &Value::Int(10), &Value::Int(places))?;
        let scaled = match self.binary(BinOpKind::Mul, value, &scale)? {
            Value::Float(number) => {
                let number = if method == "ceil" { number.ceil() } else { number.floor() };
                Value::Int(number::truncated(number).or_else(|why| self.budget.fail(why))?)
            }
            whole => whole,
        };
        self.binary(BinOpKind::Div, &scaled, &scale)
    }

    fn file_size(&mut self, value: &Value, args: &Args) -> Result<Value> {
        let [binary] = self.bind("filesizeformat", args, ["binary"])?;
        let binary = binary.is_some_and(Value::truth);
        let Some(Value::Float(bytes)) = self.float_of(value)? else {
            return self.budget.fail(format!("filesizeformat: {} is not a number", value.kind()));
        };
        let base: f64 = if binary { 1024.0 } else { 1000.0 };
        if bytes == 1.0 {
            return Ok(Value::str("1 Byte"));
        }
        if bytes < base {
            return match number::truncated(bytes) {
                Ok(whole) => Ok(Value::str(&format!("{whole} Bytes"))),
                Err(why) => self.budget.fail(why),
            };
        }
        if !bytes.is_finite() {
            return self.budget.fail("filesizeformat: not a size");
        }
        let mut unit = base;
        let mut name = "";
        for known in UNITS.get(usize::from(binary)).into_iter().flatten() {
            (unit, name) = (unit * base, known);
            if bytes < unit {
                break;
            }
        }
        Ok(Value::str(&format!("{:.1} {name}", base * bytes / unit)))
    }
}
