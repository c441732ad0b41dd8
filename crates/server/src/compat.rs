//! What is made of fields that this server does not know? By default they are refused. Leniently, for clients that were written for other
//! servers, they are taken out and listed: in the header `x-ignored-fields` of the response, and in the log.
//!
//! A field that is known and not supported keeps its error in both modes, as an answer without it would not be the one that was asked for.
//! Where another server's field has the meaning of one here, it is renamed. Sources of the names: vLLM's, SGLang's, llama-server's and
//! Ollama's API references.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value, json};

use crate::error::ApiError;
use crate::openapi;

/// Where a response lists what was ignored.
pub(crate) const HEADER: HeaderName = HeaderName::from_static("x-ignored-fields");

/// The most names that are kept of a request.
pub(crate) const MAX_NAMES: usize = 64;

/// The most bytes of the list, the count of further names not included.
const MAX_BYTES: usize = 1024;

/// Other servers' names of what `structured_outputs` says.
const STRUCTURED: [(&str, &str); 6] = [
    ("guided_json", "json"),
    ("guided_regex", "regex"),
    ("guided_choice", "choice"),
    ("guided_grammar", "grammar"),
    ("json_schema", "json"),
    ("regex", "regex"),
];

/// Fields that cannot change the text of an answer here, at any value: which slot computes it, in which order, by which library, and what is
/// kept when a context shifts, which none does.
const WITHOUT_EFFECT: [&str; 5] =
    ["id_slot", "n_keep", "priority", "guided_decoding_backend", "data_parallel_rank"];

/// How fields that the document does not describe, and names of other models, are answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compat {
    /// Refused by name.
    #[default]
    Strict,
    /// Accepted and listed.
    Lenient,
    /// The same, and what is answered has llama-server's form where there is a choice: see the book's page on coming from llama.cpp.
    LlamaServer,
}

impl Compat {
    /// Whether what is not known is accepted and listed.
    pub(crate) fn is_lenient(self) -> bool {
        self != Compat::Strict
    }
}

/// What was ignored of a request, as far as is kept.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ignored(Arc<Mutex<Names>>);

#[derive(Debug, Default)]
struct Names {
    kept: Vec<String>,
    n_more: usize,
}

impl Ignored {
    /// Adds names. They are ASCII and short, as messages of errors have them.
    pub(crate) fn add(&self, names: impl IntoIterator<Item = String>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for name in names {
            if known.kept.len() < MAX_NAMES { known.kept.push(name) } else { known.n_more += 1 }
        }
    }

    /// The list as the header and the log have it, or none where nothing was ignored.
    pub(crate) fn list(&self) -> Option<String> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut list = String::new();
        let mut n_listed = 0;
        for name in &known.kept {
            if list.len() + name.len() + 2 > MAX_BYTES {
                break;
            }
            let comma = if list.is_empty() { "" } else { ", " };
            let _infallible = write!(list, "{comma}{name}");
            n_listed += 1;
        }
        match known.kept.len() - n_listed + known.n_more {
            0 => (n_listed > 0).then_some(list),
            n => Some(format!("{list}, and {n} more")),
        }
    }

    /// Writes the list into a response.
    pub(crate) fn write(list: &str, headers: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::from_str(list) {
            headers.insert(HEADER, value);
        }
    }
}

/// Other servers' names of the variable [`THINKING`] of chat templates.
const THINKS: [&str; 2] = [THINKING, "think"];

/// The variable by which templates are told whether the model is to reason.
pub(crate) const THINKING: &str = "enable_thinking";

/// Takes out what would be that variable, for a model whose template has none, and gives the names.
pub(crate) fn without_thinking(schema: &str, body: &mut Value) -> Vec<String> {
    let fields = body.as_object_mut().filter(|_| openapi::describes(schema, "chat_template_kwargs"));
    let Some(fields) = fields else { return Vec::new() };
    THINKS.iter().filter(|name| take(fields, name).is_some()).map(|&name| name.to_owned()).collect()
}

/// Renames fields of other servers to those of this schema, and takes out those without an effect, whose names it returns.
///
/// # Errors
/// Two fields that say the same thing differently.
pub(crate) fn translate(schema: &str, body: &mut Value) -> Result<Vec<String>, ApiError> {
    let Some(fields) = body.as_object_mut() else { return Ok(Vec::new()) };
    fields.retain(|name, value| !value.is_null() || openapi::describes(schema, name));
    // As in llama-server, no grammar.
    if fields.get("grammar").is_some_and(|text| text == "") && openapi::describes(schema, "grammar") {
        fields.shift_remove("grammar");
    }
    if openapi::describes(schema, "structured_outputs") {
        for (name, kind) in STRUCTURED {
            let Some(value) = take(fields, name) else { continue };
            // vLLM takes a schema as its text, too.
            let parsed =
                value.as_str().filter(|_| kind == "json").and_then(|text| serde_json::from_str(text).ok());
            let wanted = json!({ kind: parsed.unwrap_or(value) });
            set(fields, name, ("structured_outputs", wanted))?;
        }
    }
    if openapi::describes(schema, "chat_template_kwargs") {
        for name in THINKS {
            let Some(value) = take(fields, name) else { continue };
            let mut none = Map::new();
            let kwargs = fields.entry("chat_template_kwargs").or_insert(Value::Null);
            if kwargs.is_null() {
                *kwargs = json!({});
            }
            set(kwargs.as_object_mut().unwrap_or(&mut none), name, (THINKING, value))?;
        }
    }
    if openapi::describes(schema, "max_tokens")
        && !openapi::describes(schema, "n_predict")
        && let Some(value) = take(fields, "n_predict")
    {
        set(fields, "n_predict", ("max_tokens", value))?;
    }
    if let Some(n) = fields.get("n_probs").and_then(Value::as_u64).filter(|&n| n > 0) {
        if openapi::describes(schema, "top_logprobs") && openapi::describes(schema, "logprobs") {
            fields.shift_remove("n_probs");
            set(fields, "n_probs", ("logprobs", true.into()))?;
            set(fields, "n_probs", ("top_logprobs", n.into()))?;
        } else if openapi::describes(schema, "logprobs") {
            fields.shift_remove("n_probs");
            set(fields, "n_probs", ("logprobs", n.into()))?;
        }
    }
    let given =
        WITHOUT_EFFECT.into_iter().filter(|name| fields.get(*name).is_some_and(|value| !value.is_null()));
    let given: Vec<String> = given.map(str::to_owned).collect();
    for name in &given {
        fields.shift_remove(name);
    }
    Ok(given)
}

/// Takes a field that has a value.
fn take(fields: &mut Map<String, Value>, name: &str) -> Option<Value> {
    fields.get(name).filter(|value| !value.is_null())?;
    fields.shift_remove(name)
}

/// Sets a field to what another said, which it may say itself, but not differently.
fn set(fields: &mut Map<String, Value>, name: &str, (own, value): (&str, Value)) -> Result<(), ApiError> {
    match fields.get(own) {
        Some(said) if !said.is_null() && *said != value => {
            Err(ApiError::invalid(name, format!("expected the same as {own}, whose other name it is here")))
        }
        _ => {
            fields.insert(own.to_owned(), value);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(schema: &str, mut body: Value) -> Result<(Value, Vec<String>), String> {
        let ignored = translate(schema, &mut body).map_err(|error| error.to_string())?;
        Ok((body, ignored))
    }

    #[test]
    fn other_names_become_those_of_the_document() {
        for (schema, other, own) in [
            (
                "ChatRequest",
                json!({"guided_json": {"type": "object"}}),
                json!({"structured_outputs": {"json": {"type": "object"}}}),
            ),
            (
                "ChatRequest",
                json!({"guided_json": "{\"a\": 1}"}),
                json!({"structured_outputs": {"json": {"a": 1}}}),
            ),
            (
                "ChatRequest",
                json!({"guided_choice": ["a"]}),
                json!({"structured_outputs": {"choice": ["a"]}}),
            ),
            ("CompletionRequest", json!({"regex": "a+"}), json!({"structured_outputs": {"regex": "a+"}})),
            (
                "CompletionRequest",
                json!({"n_predict": 4, "n_probs": 2}),
                json!({"max_tokens": 4, "logprobs": 2}),
            ),
            ("ChatRequest", json!({"n_probs": 2}), json!({"logprobs": true, "top_logprobs": 2})),
            (
                "ChatRequest",
                json!({"think": false}),
                json!({"chat_template_kwargs": {"enable_thinking": false}}),
            ),
            (
                "ChatRequest",
                json!({"enable_thinking": true, "chat_template_kwargs": {"a": 1}}),
                json!({"chat_template_kwargs": {"a": 1, "enable_thinking": true}}),
            ),
            (
                "ChatRequest",
                json!({"guided_json": null, "max_tokens": 3}),
                json!({"guided_json": null, "max_tokens": 3}),
            ),
            ("ChatRequest", json!({"grammar": ""}), json!({})),
            // This one knows the name itself.
            ("InfillRequest", json!({"n_predict": 4}), json!({"n_predict": 4})),
        ] {
            assert_eq!(translated(schema, other), Ok((own, Vec::new())));
        }
        let (body, ignored) =
            translated("ChatRequest", json!({"id_slot": 3, "priority": 0, "n_keep": null})).unwrap();
        assert_eq!(
            (body, ignored),
            (json!({"n_keep": null}), vec!["id_slot".to_owned(), "priority".to_owned()])
        );
    }

    #[test]
    fn two_fields_that_disagree_are_an_error() {
        for (body, field) in [
            (json!({"n_predict": 4, "max_tokens": 5}), "n_predict"),
            (json!({"guided_regex": "a", "structured_outputs": {"regex": "b"}}), "guided_regex"),
            (json!({"guided_regex": "a", "guided_choice": ["b"]}), "guided_choice"),
            (
                json!({"enable_thinking": true, "chat_template_kwargs": {"enable_thinking": false}}),
                "enable_thinking",
            ),
        ] {
            let error = translated("ChatRequest", body).unwrap_err();
            assert!(error.contains("whose other name it is here"), "{field}: {error}");
        }
        assert!(translated("ChatRequest", json!({"n_predict": 4, "max_tokens": 4})).is_ok());
    }

    #[test]
    fn the_list_is_bounded_in_bytes_and_counts_what_it_leaves_out() {
        let ignored = Ignored::default();
        assert_eq!(ignored.list(), None);
        ignored.add(["foo".to_owned(), "messages[0].bar".to_owned()]);
        assert_eq!(ignored.list().as_deref(), Some("foo, messages[0].bar"));
        ignored.add((0..1000).map(|n| format!("a_rather_long_name_of_a_field_{n}")));
        let list = ignored.list().unwrap();
        assert!(list.len() <= MAX_BYTES + 32, "{}", list.len());
        let n_listed = list.matches(", ").count();
        assert!(list.ends_with(&format!(", and {} more", 1002 - n_listed)), "{list}");
    }
}
