//! Filters of text. Most are Python's methods of the value's text.

use super::super::args::{Args, given, size};
use super::super::budget::Result;
use super::super::characters;
use super::super::eval::Renderer;
use super::super::strings::{head, lines};
use super::super::value::Value;

impl Renderer<'_, '_> {
    pub(super) fn text_filter(&mut self, name: &str, value: &Value, args: &Args) -> Result<Value> {
        match name {
            "indent" => self.indent(value, args),
            "truncate" => self.truncate(value, args),
            "title" => {
                let [] = self.bind(name, args, [])?;
                let text = self.budget.text_of(value)?;
                self.budget.take(text.len().saturating_mul(3))?;
                if characters::has_sigma(&text) {
                    return self.budget.fail("title of this text is not supported");
                }
                let text = titled(&text);
                self.budget.string(&text)
            }
            "trim" => {
                let [chars] = self.bind(name, args, ["chars"])?;
                let text = self.soft_string(value)?;
                let args = Args { positional: chars.cloned().into_iter().collect(), named: Vec::new() };
                self.method(&text, "strip", &args)
            }
            "center" => {
                let [width] = self.bind(name, args, ["width"])?;
                let width = self.whole(name, width, 80)?;
                let text = self.soft_string(value)?;
                self.method(&text, name, &Args::of([Value::Int(width)]))
            }
            "replace" => {
                let [old, new, count] = self.bind(name, args, ["old", "new", "count"])?;
                let (Some(old), Some(new)) = (old, new) else {
                    return self.budget.fail("replace needs two strings");
                };
                let count = self.whole(name, given(count), -1)?;
                let [text, old, new] =
                    [self.budget.text_of(value)?, self.budget.text_of(old)?, self.budget.text_of(new)?];
                self.replaced(&text, &old, &new, count)
            }
            "wordcount" => {
                let [] = self.bind(name, args, [])?;
                let text = self.budget.text_of(value)?;
                let words = text.split(|c| c != '_' && !characters::is_alnum(c));
                Ok(Value::Int(words.filter(|word| !word.is_empty()).count() as i128))
            }
            "format" => {
                if !args.positional.is_empty() && !args.named.is_empty() {
                    return self.budget.fail("format takes values by position or by name");
                }
                if matches!(value, Value::Markup(_)) {
                    return self.budget.fail("format of escaped text is not supported");
                }
                let text = self.budget.text_of(value)?;
                let values = if args.named.is_empty() {
                    Value::tuple(args.positional.clone())
                } else {
                    let named = args.named.iter();
                    Value::map(named.map(|(name, value)| (name.as_str().into(), value.clone())).collect())
                };
                let values = self.budget.admit(values)?;
                self.percent_format(&text, &values)
            }
            "urlencode" => {
                let [] = self.bind(name, args, [])?;
                match value {
                    Value::List(_) | Value::Map(_) | Value::Undefined => {
                        self.budget.fail("urlencode of several values is not supported")
                    }
                    _ => {
                        let text = self.budget.text_of(value)?;
                        self.budget.take(text.len().saturating_mul(3))?;
                        self.budget.string(&url_quoted(&text))
                    }
                }
            }
            _ => {
                let [] = self.bind(name, args, [])?;
                let text = self.soft_string(value)?;
                self.method(&text, name, args)
            }
        }
    }

    fn indent(&mut self, value: &Value, args: &Args) -> Result<Value> {
        let [width, first, blank] = self.bind("indent", args, ["width", "first", "blank"])?;
        let Value::Str(text) = value else {
            return self.budget.fail(format!("indent of {} is not supported", value.kind()));
        };
        let pad = match width {
            Some(Value::Str(pad)) => pad.as_ref().to_owned(),
            _ => {
                let width = size(self.whole("indent", width, 4)?);
                self.budget.take(width)?;
                " ".repeat(width)
            }
        };
        let (first, blank) = (first.is_some_and(Value::truth), blank.is_some_and(Value::truth));
        let count = text.chars().filter(|&c| characters::is_line_end(c)).count() + 1;
        self.budget.take(text.len() + count.saturating_mul(pad.len() + 1))?;
        let mut out = String::new();
        // The line break that Jinja appends keeps a last empty line.
        for (i, line) in lines(&format!("{text}\n"), false).into_iter().enumerate() {
            if i > 0 {
                out.push('\n');
            }
            if (i == 0 && first) || (i > 0 && (blank || !line.is_empty())) {
                out.push_str(&pad);
            }
            out.push_str(line);
        }
        Ok(Value::Str(out.into()))
    }

    fn truncate(&mut self, value: &Value, args: &Args) -> Result<Value> {
        let names = ["length", "killwords", "end", "leeway"];
        let [length, killwords, end, leeway] = self.bind("truncate", args, names)?;
        let Value::Str(text) = value else {
            return self.budget.fail(format!("truncate of {} is not supported", value.kind()));
        };
        let end = end.map_or(Ok("..."), |end| self.text("truncate", Some(end)))?;
        let length = self.whole("truncate", length, 255)?;
        let leeway = self.whole("truncate", given(leeway), 5)?;
        let end_length = end.chars().count() as i128;
        if length < end_length || leeway < 0 {
            return self.budget.fail("truncate: the length is shorter than its end");
        }
        self.budget.scan(text.len())?;
        if text.chars().count() as i128 <= length.saturating_add(leeway) {
            return Ok(value.clone());
        }
        let kept = head(text, size(length - end_length));
        let kept = match kept.rsplit_once(' ') {
            Some((words, _)) if !killwords.is_some_and(Value::truth) => words,
            _ => kept,
        };
        self.budget.string(&[kept, end].concat())
    }
}

/// Jinja's `title`: words begin behind white space and some signs, and only there.
fn titled(text: &str) -> String {
    let begins = |c: char| characters::is_space(c) || matches!(c, '-' | '(' | '{' | '[' | '<');
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let signs = rest.len() - rest.trim_start_matches(begins).len();
        let (before, after) = rest.split_at(signs);
        out.push_str(before);
        let word = after.find(begins).map_or(after.len(), |end| end);
        let (word, after) = after.split_at(word);
        let mut chars = word.chars();
        out.extend(chars.next().into_iter().flat_map(char::to_uppercase));
        out.push_str(&chars.as_str().to_lowercase());
        rest = after;
    }
    out
}

fn url_quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'~' | b'/') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
