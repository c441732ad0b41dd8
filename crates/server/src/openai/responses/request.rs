//! What does a body say, and how would a chat's say it?

use serde::Deserialize;
use serde_json::{Map, Value, json};
use worker::Defaults;

use super::items;
use super::store::Store;
use crate::admission::Held;
use crate::error::ApiError;
use crate::openai::body::{Body, Checked};
use crate::openai::chat::ChatRequest;

/// The schema `ResponseRequest`.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct ResponseRequest(Map<String, Value>);

impl Body for ResponseRequest {
    const SCHEMA: &'static str = "ResponseRequest";
}

/// Reads a body. A tool of free text is refused with advice: agents have such tools and know them as functions, too.
pub(super) fn read(held: &mut Held) -> Result<Checked<ResponseRequest>, ApiError> {
    Checked::of(held).map_err(|error| match error {
        ApiError::Invalid { param: Some(param), message }
            if param.starts_with("tools[") && message.ends_with("found \"custom\"") =>
        {
            let advice = "a tool of free text is written here as a function with one parameter, a string";
            ApiError::invalid(param, format!("{message}: {advice}"))
        }
        other => other,
    })
}

/// Fields that mean the same in a chat.
const SAME: [&str; 15] = [
    "model",
    "stream",
    "stream_options",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "stop",
    "seed",
    "receipt",
    "parallel_tool_calls",
    "chat_template_kwargs",
];

/// Names of a chat's fields, and of those that say the same here.
const NAMES: [(&str, &str); 6] = [
    ("messages", "input"),
    ("max_completion_tokens", "max_output_tokens"),
    ("max_tokens", "max_output_tokens"),
    ("response_format.json_schema", "text.format"),
    ("response_format", "text.format"),
    ("reasoning_effort", "reasoning.effort"),
];

/// What may be included.
pub(super) const INCLUDED: [&str; 2] = [LOGPROBS, ENCRYPTED];
const LOGPROBS: &str = "message.output_text.logprobs";
const ENCRYPTED: &str = "reasoning.encrypted_content";

/// A chat's field under its name here. Items are no messages, so a message's number would mislead.
pub(super) fn name_of(field: String) -> String {
    for (theirs, ours) in NAMES {
        match field.strip_prefix(theirs) {
            Some(_) if theirs == "messages" => return ours.to_owned(),
            Some(rest) if rest.is_empty() || rest.starts_with(['.', '[']) => return format!("{ours}{rest}"),
            _ => {}
        }
    }
    if field.starts_with("tools[") || field.starts_with("tools.") {
        field.replacen(".function", "", 1)
    } else {
        field
    }
}

/// A chat's error under the names that fields have here.
pub(super) fn in_our_words(error: ApiError) -> ApiError {
    match error {
        ApiError::Invalid { param: Some(param), message } => ApiError::invalid(name_of(param), message),
        other => other,
    }
}

impl ResponseRequest {
    fn field(&self, name: &str) -> &Value {
        self.0.get(name).unwrap_or(&Value::Null)
    }

    fn includes(&self, what: &str) -> bool {
        self.field("include").as_array().is_some_and(|all| all.iter().any(|one| one == what))
    }

    /// Whether a later request may name the response.
    pub(super) fn is_stored(&self) -> bool {
        *self.field("store") != false
    }

    /// The conversation: what is kept of it, and what is new.
    pub(super) fn items(&self, store: &Store, client: u64) -> Result<Vec<Value>, ApiError> {
        let mut items = match self.field("previous_response_id").as_str() {
            Some(id) => store
                .find(client, id)
                .ok_or_else(|| ApiError::ResponseNotFound { id: id.to_owned(), is_previous: true })?,
            None => Vec::new(),
        };
        match self.field("input") {
            Value::Array(new) => {
                for (i, item) in new.iter().enumerate() {
                    items.push(match item["type"].as_str() {
                        Some("item_reference") => referred(item, i, store, client)?,
                        _ => item.clone(),
                    });
                }
            }
            text => items.push(json!({"type": "message", "role": "user", "content": text})),
        }
        Ok(items)
    }

    /// Names what has no effect here.
    pub(super) fn note_ignored(&self, ignored: &mut Vec<String>) {
        for name in ["summary", "generate_summary"] {
            if !self.field("reasoning")[name].is_null() {
                ignored.push(format!("reasoning.{name}"));
            }
        }
        if self.includes(ENCRYPTED) {
            ignored.push(format!("include.{ENCRYPTED}"));
        }
    }

    /// The same as a chat's body, of the conversation with these items.
    pub(super) fn chat(&self, items: &[Value]) -> Result<ChatRequest, ApiError> {
        let top_logprobs = self.field("top_logprobs");
        if top_logprobs.as_u64().is_some_and(|n| n > 0) && !self.includes(LOGPROBS) {
            let message = format!("expected {LOGPROBS} in include beside it");
            return Err(ApiError::invalid("top_logprobs", message));
        }
        let mut messages = items::messages(items)?;
        if let Some(text) = self.field("instructions").as_str() {
            messages.insert(0, json!({"role": "developer", "content": text}));
        }
        let tools = self.field("tools").as_array().map(|tools| tools.iter().map(items::tool).collect());
        let mut chat = json!({
            "messages": messages,
            "tools": tools.map(Value::Array),
            "tool_choice": items::tool_choice(self.field("tool_choice")),
            "max_completion_tokens": self.field("max_output_tokens"),
            "reasoning_effort": self.field("reasoning")["effort"],
            "response_format": format(&self.field("text")["format"]),
            "logprobs": self.includes(LOGPROBS),
            "top_logprobs": top_logprobs,
        });
        for name in SAME {
            if let Some(value) = self.0.get(name) {
                chat[name] = value.clone();
            }
        }
        // All fields were held against the document.
        serde_path_to_error::deserialize(chat).map_err(|error| {
            let field = error.path().to_string();
            in_our_words(ApiError::invalid(field, error.into_inner().to_string()))
        })
    }

    /// What the response repeats of its request, defaults included.
    pub(super) fn said(&self, defaults: Defaults) -> Map<String, Value> {
        let defaults = json!(defaults);
        let or = |name: &str, default: Value| {
            let value = self.field(name);
            (name.to_owned(), if value.is_null() { default } else { value.clone() })
        };
        let null = Value::Null;
        Map::from_iter([
            or("instructions", null.clone()),
            or("max_output_tokens", null.clone()),
            or("metadata", json!({})),
            or("parallel_tool_calls", true.into()),
            or("previous_response_id", null),
            ("reasoning".to_owned(), json!({"effort": self.field("reasoning")["effort"], "summary": null})),
            or("store", true.into()),
            or("temperature", defaults["temperature"].clone()),
            ("text".to_owned(), json!({"format": self.text_format()})),
            or("tool_choice", "auto".into()),
            or("tools", json!([])),
            or("top_logprobs", 0.into()),
            or("top_p", defaults["top_p"].clone()),
            ("truncation".to_owned(), "disabled".into()),
        ])
    }

    fn text_format(&self) -> Value {
        match &self.field("text")["format"] {
            Value::Null => json!({"type": "text"}),
            format => format.clone(),
        }
    }
}

/// The item that a reference names.
fn referred(item: &Value, i: usize, store: &Store, client: u64) -> Result<Value, ApiError> {
    let found = item["id"].as_str().and_then(|id| store.item(client, id));
    found
        .ok_or_else(|| ApiError::invalid(format!("input[{i}].id"), "expected the id of an item that is kept"))
}

/// A text's format as chats say it.
fn format(format: &Value) -> Value {
    match format["type"].as_str() {
        Some("json_schema") => {
            json!({"type": "json_schema", "json_schema": {"name": format["name"], "schema": format["schema"]}})
        }
        _ => format.clone(),
    }
}
