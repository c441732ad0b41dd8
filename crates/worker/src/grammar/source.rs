//! What a client may say of an answer's form, as a grammar's text, within bounds on its size and depth.

use llguidance::api::{GrammarWithLexer, TopLevelGrammar};
use serde_json::{Value, json};

use super::gbnf;
use super::prepare::{ESCAPES, each, prepare};
use super::unique::Places;
use crate::request::Asked;
use crate::{Format, WorkerError};

/// The most bytes of a regular expression, a grammar or all schemas of a request, as JSON without spaces.
pub const MAX_SCHEMA_BYTES: usize = 64 << 10;

/// The most levels of a schema, or of a grammar's brackets.
pub const MAX_GRAMMAR_DEPTH: usize = 64;

/// The most patterns, and bytes of them together, below a part of a schema that combines others. What several patterns have in common is
/// found by multiplying their alternatives, which nothing in the library bounds.
const MAX_COMBINED: Patterns = Patterns { n: 4, bytes: 512 };

/// White space between the tokens of JSON, as llama.cpp has it: a space, or one or two line ends and an indentation. A small model that is
/// allowed more may fill its answer with it.
const JSON_SPACE: &str = r" |(\r?\n){1,2}[ \t]{0,20}";

/// What it was in receipts that are older.
const OLD_JSON_SPACE: &str = r"[ \t\r\n]{1,32}";

/// The key of the library's options in a schema.
const OPTIONS: &str = "x-guidance";

fn options() -> Value {
    json!({ "whitespace_pattern": JSON_SPACE })
}

/// Whether options are those that this program writes, or wrote into receipts.
fn are_own(found: &Value) -> bool {
    [JSON_SPACE, OLD_JSON_SPACE].iter().any(|space| *found == json!({ "whitespace_pattern": space }))
}

/// A grammar before it is compiled.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// The request's field that asks for it.
    field: &'static str,
    /// The first one starts the answer and may name the others.
    parts: Vec<GrammarWithLexer>,
}

impl Source {
    /// The grammar of a format that stands in a field of its kind's name.
    #[cfg(test)]
    pub(crate) fn of_format(format: &Format) -> Result<Source, WorkerError> {
        Source::of_asked((format, None))
    }

    /// The grammar of a format.
    pub(crate) fn of_asked((format, field): Asked<'_>) -> Result<Source, WorkerError> {
        let field = field.unwrap_or(match format {
            Format::JsonObject | Format::JsonSchema(_) => "response_format",
            Format::Regex(_) => "regex",
            Format::Grammar(_) => "grammar",
        });
        let schema = |schema| Source::of_parts(field, vec![Source::schema_part("answer", schema)]);
        let lark = |lark: String| -> Result<Source, WorkerError> {
            check_lark(field, &lark)?;
            Ok(Source::of_parts(field, vec![GrammarWithLexer::from_lark(lark)]))
        };
        match format {
            Format::JsonObject => Ok(schema(json!({ "type": "object" }))),
            Format::JsonSchema(found @ Value::Object(_)) => Ok(schema(found.clone())),
            Format::JsonSchema(_) => {
                let expected = "a JSON schema, which is an object".to_owned();
                Err(invalid(field, expected, "another value"))
            }
            Format::Regex(regex) => {
                // Before the library makes a grammar of it, which copies it.
                bytes_within(field, regex.len())?;
                Ok(Source::of_parts(field, vec![GrammarWithLexer::from_regex(regex)]))
            }
            Format::Grammar(text) if gbnf::is_gbnf(text) => {
                bytes_within(field, text.len())?;
                lark(gbnf::to_lark(text).map_err(|fault| invalid(field, fault.expected, &fault.found))?)
            }
            Format::Grammar(text) => lark(text.clone()),
        }
    }

    /// A schema as a part of a grammar.
    pub(crate) fn schema_part(name: &str, mut schema: Value) -> GrammarWithLexer {
        // One that a client wrote is left for the check to find.
        if schema.get(OPTIONS).is_none() {
            schema[OPTIONS] = options();
        }
        GrammarWithLexer { name: Some(name.to_owned()), ..GrammarWithLexer::from_json_schema(schema) }
    }

    /// A grammar of parts, none of which a client wrote unless it is checked.
    pub(crate) fn of_parts(field: &'static str, parts: Vec<GrammarWithLexer>) -> Source {
        Source { field, parts }
    }

    /// A grammar out of a receipt, which may be a stranger's.
    pub(crate) fn of_receipt(parts: Vec<GrammarWithLexer>) -> Result<Source, WorkerError> {
        if parts.is_empty() {
            return Err(invalid("constraint", "a grammar of one part or more".to_owned(), "none"));
        }
        for lark in parts.iter().filter_map(|part| part.lark_grammar.as_ref()) {
            check_lark("constraint", lark)?;
        }
        Ok(Source::of_parts("constraint", parts))
    }

    /// What it is made of.
    pub(crate) fn parts(&self) -> &[GrammarWithLexer] {
        &self.parts
    }

    /// The text that decides what is compiled.
    pub(super) fn key(&self) -> String {
        serde_json::to_string(&self.parts).unwrap_or_default()
    }

    pub(crate) fn field(&self) -> &'static str {
        self.field
    }

    /// Its first part, to be part of another grammar by this name.
    pub(crate) fn named(mut self, name: &str) -> GrammarWithLexer {
        GrammarWithLexer { name: Some(name.to_owned()), ..self.parts.swap_remove(0) }
    }

    /// As the library compiles it, with the places in the answer that need more than a grammar; or what cannot be enforced.
    pub(super) fn grammar(&self) -> Result<(TopLevelGrammar, Option<Places>), String> {
        let mut grammars = self.parts.clone();
        let mut schemas: Vec<&mut Value> =
            grammars.iter_mut().filter_map(|part| part.json_schema.as_mut()).collect();
        schemas.iter_mut().try_for_each(|schema| prepare(schema))?;
        let is_wrapped = self.parts.first().is_some_and(|part| part.json_schema.is_none());
        let places = Places::of(&schemas.iter().map(|schema| &**schema).collect::<Vec<_>>(), is_wrapped);
        for schema in schemas {
            each(schema, &mut |node| {
                node.shift_remove("uniqueItems");
                Ok(())
            })?;
            schema[OPTIONS]["json_allowed_escapes"] = ESCAPES.into();
        }
        Ok((TopLevelGrammar { grammars, max_tokens: None }, places))
    }

    pub(super) fn check(&self) -> Result<(), WorkerError> {
        let mut bytes = 0;
        for schema in self.parts.iter().filter_map(|part| part.json_schema.as_ref()) {
            bytes += check_schema(self.field, schema)?;
            if schema.get(OPTIONS).is_some_and(|found| !are_own(found)) {
                return Err(invalid(self.field, format!("a schema without {OPTIONS}"), OPTIONS));
            }
        }
        bytes_within(self.field, bytes)
    }

    pub(super) fn refused(&self, reason: &str) -> WorkerError {
        invalid(self.field, "what can be enforced".to_owned(), reason)
    }
}

/// A schema's size and depth, and how much of it has to be combined.
fn check_schema(field: &'static str, schema: &Value) -> Result<usize, WorkerError> {
    if !is_within(schema, MAX_GRAMMAR_DEPTH) {
        return Err(invalid(field, format!("at most {MAX_GRAMMAR_DEPTH} levels"), "more"));
    }
    let bytes = schema.to_string().len();
    bytes_within(field, bytes)?;
    let found = combined(schema, schema);
    if found.n > MAX_COMBINED.n || found.bytes > MAX_COMBINED.bytes {
        let Patterns { n, bytes } = MAX_COMBINED;
        let expected = format!("at most {n} patterns of {bytes} bytes together where schemas are combined");
        return Err(invalid(field, expected, &format!("{} of {}", found.n, found.bytes)));
    }
    Ok(bytes)
}

/// Regular expressions in a schema.
#[derive(Clone, Copy, Debug, Default)]
struct Patterns {
    n: usize,
    bytes: usize,
}

impl Patterns {
    fn and(self, other: Patterns) -> Patterns {
        Patterns { n: self.n + other.n, bytes: self.bytes + other.bytes }
    }

    fn or(self, other: Patterns) -> Patterns {
        Patterns { n: self.n.max(other.n), bytes: self.bytes.max(other.bytes) }
    }
}

/// The most patterns below any part that combines others.
fn combined(root: &Value, schema: &Value) -> Patterns {
    let below = match schema {
        Value::Array(items) => {
            items.iter().map(|item| combined(root, item)).fold(Patterns::default(), Patterns::or)
        }
        Value::Object(entries) => {
            entries.values().map(|item| combined(root, item)).fold(Patterns::default(), Patterns::or)
        }
        _ => return Patterns::default(),
    };
    if n_source(schema) < 2 {
        return below;
    }
    // What a reference names may be anywhere.
    below.or(patterns(if has_key(schema, "$ref") { root } else { schema }))
}

/// Keywords that say nothing of a value where they stand.
pub(super) const SAYS_NOTHING: [&str; 10] = [
    "$defs",
    "$id",
    "$schema",
    "default",
    "definitions",
    "deprecated",
    "description",
    "examples",
    "title",
    "x-guidance",
];

/// Of how many parts is this schema made?
pub(super) fn n_source(schema: &Value) -> usize {
    let Value::Object(entries) = schema else { return 0 };
    let mut own = 0;
    let mut others = 0;
    for (key, value) in entries {
        match (key.as_str(), value) {
            ("allOf", Value::Array(items)) => others += items.len(),
            ("anyOf" | "oneOf" | "$ref" | "if", _) => others += 1,
            // Their keys must have nothing in common.
            ("patternProperties", Value::Object(entries)) => others += entries.len(),
            (key, _) if SAYS_NOTHING.contains(&key) => {}
            _ => own = 1,
        }
    }
    own + others
}

fn patterns(schema: &Value) -> Patterns {
    match schema {
        Value::Array(items) => items.iter().map(patterns).fold(Patterns::default(), Patterns::and),
        Value::Object(entries) => entries.iter().fold(Patterns::default(), |found, (key, value)| {
            let here = match (key.as_str(), value) {
                ("pattern" | "format", Value::String(text)) => Patterns { n: 1, bytes: text.len() },
                ("patternProperties", Value::Object(entries)) => {
                    Patterns { n: entries.len(), bytes: entries.keys().map(String::len).sum() }
                }
                _ => Patterns::default(),
            };
            found.and(here).and(patterns(value))
        }),
        _ => Patterns::default(),
    }
}

pub(super) fn has_key(value: &Value, wanted: &str) -> bool {
    match value {
        Value::Array(items) => items.iter().any(|item| has_key(item, wanted)),
        Value::Object(entries) => entries.iter().any(|(key, item)| key == wanted || has_key(item, wanted)),
        _ => false,
    }
}

fn bytes_within(field: &'static str, bytes: usize) -> Result<(), WorkerError> {
    if bytes > MAX_SCHEMA_BYTES {
        return Err(invalid(field, format!("at most {MAX_SCHEMA_BYTES} bytes"), &bytes.to_string()));
    }
    Ok(())
}

fn is_within(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(items) => levels > 0 && items.iter().all(|item| is_within(item, levels - 1)),
        Value::Object(entries) => levels > 0 && entries.values().all(|item| is_within(item, levels - 1)),
        _ => true,
    }
}

/// A grammar's brackets, and whether it asks for what has no bound: what several terminals have in common, what is no terminal, and
/// schemas, which have a field of their own.
fn check_lark(field: &'static str, lark: &str) -> Result<(), WorkerError> {
    bytes_within(field, lark.len())?;
    let (mut depth, mut deepest) = (0usize, 0usize);
    let mut chars = lark.chars().peekable();
    let refused = |what: &str| Err(invalid(field, format!("a grammar without {what}"), "one with it"));
    while let Some(c) = chars.next() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            '&' => return refused("&"),
            '~' => {
                // After an item it counts repetitions.
                while chars.next_if_eq(&' ').is_some() {}
                if !chars.peek().is_some_and(char::is_ascii_digit) {
                    return refused("~");
                }
            }
            ':' if chars.clone().take(2).eq(":=".chars()) => {
                let expected =
                    "a grammar in llguidance's dialect of Lark, whose rules are `name: ..`".to_owned();
                return Err(invalid(field, expected, "GBNF, `name ::= ..`"));
            }
            '%' if chars.clone().take(4).eq("json".chars()) => return refused("%json"),
            '#' => while chars.next_if(|&c| c != '\n').is_some() {},
            '/' if chars.peek() == Some(&'/') => while chars.next_if(|&c| c != '\n').is_some() {},
            '"' | '/' | '<' => {
                let close = if c == '<' { '>' } else { c };
                loop {
                    match chars.next() {
                        Some(inner) if inner == close => break,
                        Some('\\') if c != '<' => drop(chars.next()),
                        Some('\n') if c != '/' => return refused("a text that goes over a line's end"),
                        Some(_) => {}
                        None => return refused("an open end"),
                    }
                }
            }
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    if deepest > MAX_GRAMMAR_DEPTH {
        let expected = format!("at most {MAX_GRAMMAR_DEPTH} levels of brackets");
        return Err(invalid(field, expected, &deepest.to_string()));
    }
    Ok(())
}

/// A text as grammars write it.
pub(crate) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn invalid(field: &'static str, expected: String, found: &str) -> WorkerError {
    WorkerError::Invalid { field, expected, found: found.to_owned() }
}
