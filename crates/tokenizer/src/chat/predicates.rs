//! What do tests (`value is ..`) say? Those of Jinja 2.

use minijinja::machinery::ast::BinOpKind;

use super::args::Args;
use super::budget::Result;
use super::characters;
use super::eval::Renderer;
use super::filters;
use super::key::size_of_key;
use super::operators::plain;
use super::value::{Key, Kind, Value};

/// The names of Jinja's tests, for `is test`.
pub(super) const NAMES: [&str; 39] = [
    "odd",
    "even",
    "divisibleby",
    "defined",
    "undefined",
    "filter",
    "test",
    "none",
    "boolean",
    "false",
    "true",
    "integer",
    "float",
    "lower",
    "upper",
    "string",
    "mapping",
    "number",
    "sequence",
    "iterable",
    "callable",
    "sameas",
    "escaped",
    "in",
    "==",
    "eq",
    "equalto",
    "!=",
    "ne",
    ">",
    "gt",
    "greaterthan",
    "ge",
    ">=",
    "<",
    "lt",
    "lessthan",
    "<=",
    "le",
];

impl Renderer<'_, '_> {
    pub(super) fn test(&mut self, name: &str, value: &Value, args: &Args) -> Result<bool> {
        if let "divisibleby" | "sameas" | "in" | "==" | "eq" | "equalto" | "!=" | "ne" | ">" | "gt"
        | "greaterthan" | "ge" | ">=" | "<" | "lt" | "lessthan" | "<=" | "le" = name
        {
            let [Some(other)] = self.bind(name, args, [""])? else {
                return self.budget.fail(format!("the test {name:?} needs a value"));
            };
            return self.test_with(name, value, other);
        }
        let [] = self.bind(name, args, [])?;
        Ok(match name {
            "defined" => !matches!(value, Value::Undefined),
            "undefined" => matches!(value, Value::Undefined),
            "none" => matches!(value, Value::None),
            "string" => matches!(value, Value::Str(_) | Value::Markup(_)),
            "number" => matches!(value, Value::Int(_) | Value::Float(_) | Value::Bool(_)),
            "integer" => matches!(value, Value::Int(_)),
            "float" => matches!(value, Value::Float(_)),
            "boolean" => matches!(value, Value::Bool(_)),
            "true" => matches!(value, Value::Bool(true)),
            "false" => matches!(value, Value::Bool(false)),
            "mapping" => matches!(value, Value::Map(_)),
            "sequence" => match value {
                Value::List(list) => !matches!(list.kind, Kind::View(_) | Kind::Iterator),
                _ => matches!(value, Value::Str(_) | Value::Markup(_) | Value::Map(_) | Value::Undefined),
            },
            "iterable" => matches!(
                value,
                Value::Str(_)
                    | Value::Markup(_)
                    | Value::List(_)
                    | Value::Map(_)
                    | Value::Undefined
                    | Value::Loop(_)
            ),
            "callable" => matches!(
                value,
                Value::Macro(_)
                    | Value::Function(_)
                    | Value::Method
                    | Value::Loop(_)
                    | Value::Joiner(_)
                    | Value::Undefined
            ),
            "escaped" => matches!(value, Value::Markup(_)),
            "odd" | "even" => {
                let rest = self.binary(BinOpKind::Rem, value, &Value::Int(2))?;
                self.equal(&rest, &Value::Int(i128::from(name == "odd")))?
            }
            "lower" | "upper" => {
                let text = self.budget.text_of(value)?;
                characters::has_case(&plain(&text), name == "upper")
            }
            "filter" | "test" => {
                self.budget.step(size_of_key(value))?;
                if !Key::is_one(value) {
                    return self.budget.fail(format!("{} is no name", value.kind()));
                }
                let names: &[&str] = if name == "filter" { &filters::NAMES } else { &NAMES };
                value.as_str().is_some_and(|known| names.contains(&known))
            }
            _ => return self.budget.fail(format!("unknown test {name:?}")),
        })
    }

    fn test_with(&mut self, name: &str, value: &Value, other: &Value) -> Result<bool> {
        let order = |this: &mut Self| this.order(value, other);
        Ok(match name {
            "divisibleby" => {
                let rest = self.binary(BinOpKind::Rem, value, other)?;
                self.equal(&rest, &Value::Int(0))?
            }
            "eq" | "equalto" | "==" => self.equal(value, other)?,
            "ne" | "!=" => !self.equal(value, other)?,
            "lt" | "lessthan" | "<" => order(self)?.is_some_and(std::cmp::Ordering::is_lt),
            "le" | "<=" => order(self)?.is_some_and(std::cmp::Ordering::is_le),
            "gt" | "greaterthan" | ">" => order(self)?.is_some_and(std::cmp::Ordering::is_gt),
            "ge" | ">=" => order(self)?.is_some_and(std::cmp::Ordering::is_ge),
            "in" => self.contains(other, value)?,
            _ => match (value, other) {
                (Value::None, Value::None) => true,
                (Value::Bool(a), Value::Bool(b)) => a == b,
                // Python keeps one object for each small number.
                (Value::Int(a), Value::Int(b)) if a == b && (-5..=256).contains(a) => true,
                _ if value.kind() != other.kind() || !self.equal(value, other)? => false,
                _ => return self.budget.fail("whether equal values are the same is not known"),
            },
        })
    }
}
