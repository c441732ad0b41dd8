//! What do filters do? Those of Jinja 2, with its parameters, and `tojson` as transformers has it.
//!
//! A filter that is not here, or an argument that it does not have, is an error: no filter gives another value than Jinja's.

mod numbers;
mod sequences;
mod strings;

use super::args::{Args, given, size};
use super::budget::Result;
use super::eval::Renderer;
use super::json::{self, Style};
use super::value::{Kind, Value};

/// The names of Jinja's filters, for `is filter`.
pub(super) const NAMES: [&str; 54] = [
    "abs",
    "attr",
    "batch",
    "capitalize",
    "center",
    "count",
    "d",
    "default",
    "dictsort",
    "e",
    "escape",
    "filesizeformat",
    "first",
    "float",
    "forceescape",
    "format",
    "groupby",
    "indent",
    "int",
    "items",
    "join",
    "last",
    "length",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "pprint",
    "random",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "safe",
    "select",
    "selectattr",
    "slice",
    "sort",
    "string",
    "striptags",
    "sum",
    "title",
    "tojson",
    "trim",
    "truncate",
    "unique",
    "upper",
    "urlencode",
    "urlize",
    "wordcount",
    "wordwrap",
    "xmlattr",
];

impl Renderer<'_, '_> {
    pub(super) fn filter(&mut self, name: &str, value: &Value, args: &Args) -> Result<Value> {
        match name {
            "tojson" => self.tojson(value, args),
            "length" | "count" => {
                let [] = self.bind(name, args, [])?;
                self.length(value).map(|len| Value::Int(len as i128))
            }
            "default" | "d" => {
                let [default, boolean] = self.bind(name, args, ["default_value", "boolean"])?;
                let falsy = boolean.is_some_and(Value::truth) && !value.truth();
                let missing = falsy || matches!(value, Value::Undefined);
                Ok(if missing { default.cloned().unwrap_or_else(|| Value::str("")) } else { value.clone() })
            }
            "string" => {
                let [] = self.bind(name, args, [])?;
                self.soft_string(value)
            }
            "safe" | "escape" | "e" | "forceescape" => {
                let [] = self.bind(name, args, [])?;
                let text = self.budget.text_of(value)?;
                if name == "safe" || (name != "forceescape" && matches!(value, Value::Markup(_))) {
                    return Ok(Value::Markup(text.into()));
                }
                self.budget.take(text.len().saturating_mul(6))?;
                Ok(Value::Markup(escaped(&text).into()))
            }
            "int" | "float" | "abs" | "round" | "filesizeformat" => self.number_filter(name, value, args),
            "indent" | "trim" | "upper" | "lower" | "title" | "capitalize" | "replace" | "center"
            | "truncate" | "wordcount" | "format" | "urlencode" => self.text_filter(name, value, args),
            _ => self.sequence_filter(name, value, args),
        }
    }

    /// A value's text, which counts as escaped if it did.
    fn soft_string(&mut self, value: &Value) -> Result<Value> {
        if value.as_str().is_some() {
            return Ok(value.clone());
        }
        let text = self.budget.text_of(value)?;
        self.budget.string(&text)
    }

    /// Python's `len()`.
    pub(super) fn length(&mut self, value: &Value) -> Result<usize> {
        Ok(match value {
            Value::Undefined => 0,
            Value::Str(text) | Value::Markup(text) => {
                self.budget.scan(text.len())?;
                super::operators::plain(text).chars().count()
            }
            Value::List(list) if list.kind != Kind::Iterator => list.items.len(),
            Value::Map(map) => map.entries.len(),
            other => return self.budget.fail(format!("{} has no length", other.kind())),
        })
    }

    fn tojson(&mut self, value: &Value, args: &Args) -> Result<Value> {
        let names = ["ensure_ascii", "indent", "separators", "sort_keys"];
        let [ensure_ascii, indent, separators, sort_keys] = self.bind("tojson", args, names)?;
        let indent = match given(indent) {
            Some(Value::Str(text)) => Some(text.as_ref().to_owned()),
            Some(width) => {
                let width = size(self.whole("tojson", Some(width), 0)?);
                self.budget.take(width)?;
                Some(" ".repeat(width))
            }
            None => None,
        };
        let separators = match given(separators) {
            Some(Value::List(list)) if list.kind != Kind::Iterator => match list.items.as_slice() {
                [Value::Str(comma), Value::Str(colon)] => {
                    Some((comma.as_ref().to_owned(), colon.as_ref().to_owned()))
                }
                _ => return self.budget.fail("tojson: separators are two strings"),
            },
            Some(_) => return self.budget.fail("tojson: separators are two strings"),
            None => None,
        };
        let flag = |value: Option<&Value>| value.is_some_and(Value::truth);
        let style =
            Style { indent, separators, sort_keys: flag(sort_keys), ensure_ascii: flag(ensure_ascii) };
        let text = self.budget.written(|sink| json::write(value, &style, 0, sink))?;
        Ok(Value::Str(text.into()))
    }
}

/// Text with HTML's signs escaped, as Jinja's `escape` does it.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}
