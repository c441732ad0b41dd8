//! Arguments that are not JSON: Gemma 4's `{key:value}` with strings in `<|"|>`, and Python's `name(key=value)`.

use serde_json::{Map, Number, Value};

use crate::integers;

/// Lists and objects in one another.
const MAX_DEPTH: usize = 64;

/// How values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Gemma,
    Python,
}

/// What is left of a text.
pub(super) struct Reader<'a> {
    pub(super) rest: &'a str,
    pub(super) dialect: Dialect,
}

const GEMMA_QUOTE: &str = "<|\"|>";

impl<'a> Reader<'a> {
    /// Takes this text, with white space before it, if it is next.
    pub(super) fn take(&mut self, text: &str) -> bool {
        match self.rest.trim_start().strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// The characters up to the first that is not wanted, without white space around them; `None` if there are none.
    pub(super) fn word(&mut self, wanted: impl Fn(char) -> bool) -> Option<&'a str> {
        let text = self.rest.trim_start();
        let end = text.find(|c| !wanted(c)).unwrap_or(text.len());
        let (word, rest) = text.split_at_checked(end)?;
        self.rest = rest;
        Some(word.trim_end()).filter(|word| !word.is_empty())
    }

    /// `key:value, ..` or `key=value, ..` up to the closing sign, which is taken.
    pub(super) fn pairs(&mut self, sign: &str, close: &str, depth: usize) -> Option<Map<String, Value>> {
        let mut map = Map::new();
        if self.take(close) {
            return Some(map);
        }
        loop {
            let key = match self.quoted() {
                Some(key) => key,
                None => self.word(|c| !":=,{}[]()'\"".contains(c))?.to_owned(),
            };
            if !self.take(sign) {
                return None;
            }
            map.insert(key, self.value(depth)?);
            // A comma may stand before the end.
            let more = self.take(",");
            if self.take(close) {
                return Some(map);
            }
            if !more {
                return None;
            }
        }
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        if depth > MAX_DEPTH {
            return None;
        }
        if let Some(text) = self.quoted() {
            return Some(Value::String(text));
        }
        if self.take("{") {
            return self.pairs(":", "}", depth + 1).map(Value::Object);
        }
        if self.take("[") {
            return self.list(depth + 1).map(Value::Array);
        }
        let word = self.word(|c| !",}])\"".contains(c))?;
        match (word, self.dialect) {
            ("True" | "true", _) => Some(Value::Bool(true)),
            ("False" | "false", _) => Some(Value::Bool(false)),
            ("None" | "null", _) => Some(Value::Null),
            (word, _) if is_rounded(word) => None,
            (word, Dialect::Gemma) => Some(number(word).unwrap_or_else(|| Value::String(word.to_owned()))),
            (word, Dialect::Python) => number(word),
        }
    }

    fn list(&mut self, depth: usize) -> Option<Vec<Value>> {
        let mut list = Vec::new();
        while !self.take("]") {
            if !list.is_empty() && !self.take(",") {
                return None;
            }
            if self.take("]") {
                break;
            }
            list.push(self.value(depth)?);
        }
        Some(list)
    }

    /// A string, if one is next and it ends.
    fn quoted(&mut self) -> Option<String> {
        let text = self.rest.trim_start();
        if self.dialect == Dialect::Gemma {
            let (text, rest) = text.strip_prefix(GEMMA_QUOTE)?.split_once(GEMMA_QUOTE)?;
            self.rest = rest;
            return Some(text.to_owned());
        }
        let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        let mut chars = text.get(1..)?.chars();
        let mut value = String::new();
        loop {
            match chars.next()? {
                '\\' => escape(&mut chars, &mut value)?,
                c if c == quote => break,
                c => value.push(c),
            }
        }
        self.rest = chars.as_str();
        Some(value)
    }
}

/// What follows a backslash in Python's strings; one that escapes nothing stands for itself.
fn escape(chars: &mut std::str::Chars<'_>, value: &mut String) -> Option<()> {
    let c = chars.next()?;
    let digits = match c {
        'x' => 2,
        'u' => 4,
        'U' => 8,
        _ => 0,
    };
    if digits > 0 {
        let text = chars.as_str().get(..digits)?;
        value.push(char::from_u32(u32::from_str_radix(text, 16).ok()?)?);
        *chars = chars.as_str().get(digits..)?.chars();
        return Some(());
    }
    match c {
        'n' => value.push('\n'),
        't' => value.push('\t'),
        'r' => value.push('\r'),
        'b' => value.push('\u{8}'),
        'f' => value.push('\u{c}'),
        '\n' => {}
        '\\' | '\'' | '"' | '/' => value.push(c),
        c => value.extend(['\\', c]),
    }
    Some(())
}

/// Would this number be another one?
fn is_rounded(word: &str) -> bool {
    integers::beyond_64_bits(word.as_bytes(), None).is_some() && number(word).is_some()
}

fn number(word: &str) -> Option<Value> {
    serde_json::from_str::<Number>(word).ok().map(Value::Number)
}
