//! Are a conversation's messages what a template can be given? If so, in the one shape that templates know.
//!
//! Clients of OpenAI's API write a content as text, as parts or as null, and a call's arguments as JSON in a text; templates are
//! written for transformers, where a content is text and arguments are objects. Errors name the place, never the text.

use serde_json::{Map, Value, json};

use super::{Chat, MAX_MESSAGES, MAX_TOOLS, ToolChoice};
use crate::{WorkerError, integers};

/// How a template wants what may be written in several ways.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shape {
    /// Leave the arguments of calls as the text they are.
    pub(super) text_arguments: bool,
    /// The template knows no role `developer`: it is `system` there.
    pub(super) developer_is_system: bool,
    /// Leave the content of a message that calls tools null.
    pub(super) null_content: bool,
    /// A user's or system's content is a list of parts.
    pub(super) parts: bool,
    /// Another's is.
    pub(super) other_parts: bool,
    /// The text of a system message begins the user's first message.
    pub(super) system_in_user: bool,
}

/// Checks everything but the template's own wishes.
pub(super) fn check(chat: &Chat) -> Result<(), WorkerError> {
    if chat.messages.is_empty() || chat.messages.len() > MAX_MESSAGES {
        return Err(WorkerError::Invalid {
            field: "messages",
            expected: format!("1 to {MAX_MESSAGES}"),
            found: chat.messages.len().to_string(),
        });
    }
    if chat.continue_final_message {
        check_continued(chat)?;
    }
    if chat.tools.len() > MAX_TOOLS {
        return Err(WorkerError::Invalid {
            field: "tools",
            expected: format!("at most {MAX_TOOLS}"),
            found: chat.tools.len().to_string(),
        });
    }
    let mut names = Vec::with_capacity(chat.tools.len());
    for (i, tool) in chat.tools.iter().enumerate() {
        let name = check_tool(tool, &format!("tools[{i}]"))?;
        if names.contains(&name) {
            return Err(wrong(
                format!("tools[{i}].function.name"),
                "a name of its own",
                "the name of another",
            ));
        }
        names.push(name);
    }
    let missing = |found: &str| WorkerError::Invalid {
        field: "tool_choice",
        expected: "a tool of the request".to_owned(),
        found: found.to_owned(),
    };
    match &chat.tool_choice {
        ToolChoice::Required if names.is_empty() => Err(missing("a request without tools")),
        ToolChoice::Named(name) if !names.contains(&name.as_str()) => Err(missing("another name")),
        _ => Ok(()),
    }
}

/// Is the last message one that an answer can go on with?
fn check_continued(chat: &Chat) -> Result<(), WorkerError> {
    let at = chat.messages.len() - 1;
    let last = &chat.messages[at];
    let found = match (&last["role"], content(last.get("content"), &format!("messages[{at}]"))?) {
        (role, _) if role != "assistant" => "another role's",
        _ if last["tool_calls"].as_array().is_some_and(|calls| !calls.is_empty()) => "one with calls",
        (_, Some(text)) if !text.trim().is_empty() => return Ok(()),
        _ => "one without text",
    };
    let expected = "an assistant's message of text where continue_final_message is true";
    Err(wrong(format!("messages[{at}]"), expected, found))
}

/// Names are what every format of calls can hold, and what functions are called in practice.
fn check_tool<'a>(tool: &'a Value, at: &str) -> Result<&'a str, WorkerError> {
    if tool["type"] != "function" {
        return Err(wrong(format!("{at}.type"), "function", &kind(&tool["type"])));
    }
    let name = &tool["function"]["name"];
    let is_name = |name: &str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-.:".contains(&b);
        (1..=128).contains(&name.len()) && name.bytes().all(plain)
    };
    let parameters = &tool["function"]["parameters"];
    if !(parameters.is_null() || parameters.is_object()) {
        return Err(wrong(format!("{at}.function.parameters"), "a JSON schema", &kind(parameters)));
    }
    name.as_str().filter(|name| is_name(name)).ok_or_else(|| {
        let expected = "1 to 128 letters, digits and _-.:";
        wrong(format!("{at}.function.name"), expected, if name.is_string() { "another text" } else { "none" })
    })
}

/// The messages as templates take them.
pub(super) fn normalise(messages: &[Value], shape: Shape) -> Result<Vec<Value>, WorkerError> {
    let mut plain = Vec::with_capacity(messages.len());
    for (i, given) in messages.iter().enumerate() {
        let mut message = one(given, (i, &format!("messages[{i}]")), shape)?;
        if given["role"] == "function" && message.get("tool_call_id").is_none() {
            answers_legacy_call(&mut message, plain.last());
        }
        plain.push(message);
    }
    Ok(plain)
}

fn one(message: &Value, (i, at): (usize, &str), shape: Shape) -> Result<Value, WorkerError> {
    let Value::Object(message) = message else {
        return Err(wrong(at.to_owned(), "an object", &kind(message)));
    };
    let mut message = message.clone();
    let role = match message.get("role") {
        Some(Value::String(role)) if !role.is_empty() => role.clone(),
        other => return Err(wrong(format!("{at}.role"), "text", &kind(other.unwrap_or(&Value::Null)))),
    };
    if role == "developer" && shape.developer_is_system {
        message.insert("role".to_owned(), "system".into());
    }
    for key in ["name", "tool_call_id", "reasoning_content", "reasoning"] {
        match message.get(key) {
            None | Some(Value::String(_)) => {}
            Some(Value::Null) => drop(message.shift_remove(key)),
            Some(other) => return Err(wrong(format!("{at}.{key}"), "text", &kind(other))),
        }
    }
    if role == "function" {
        message.insert("role".to_owned(), "tool".into());
    }
    legacy_call(&mut message, (i, at))?;
    let has_calls = calls(&mut message, at, shape)?;
    let content = content(message.get("content"), at)?;
    // A message that refuses says so in a field of its own.
    let content = match message.shift_remove("refusal") {
        Some(Value::String(refusal)) => content.filter(|content| !content.is_empty()).or(Some(refusal)),
        _ => content,
    };
    // Some templates write calls only where the content is null; elsewhere a null cannot be joined to text.
    let null = has_calls && shape.null_content;
    let content = content.map_or_else(|| if null { Value::Null } else { Value::from("") }, Value::from);
    message.insert("content".to_owned(), content);
    if let Some(reasoning) = message.shift_remove("reasoning")
        && !message.contains_key("reasoning_content")
    {
        message.insert("reasoning_content".to_owned(), reasoning);
    }
    Ok(Value::Object(message))
}

/// The text of a content: that of its parts is joined by line breaks.
fn content(content: Option<&Value>, at: &str) -> Result<Option<String>, WorkerError> {
    let parts = match content {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => return Ok(Some(text.clone())),
        Some(Value::Array(parts)) => parts,
        Some(other) => return Err(wrong(format!("{at}.content"), "text or parts", &kind(other))),
    };
    let text = |(i, part): (usize, &Value)| {
        let key = match part["type"].as_str() {
            Some("text") => "text",
            Some("refusal") => "refusal",
            other => {
                let found = other.map_or_else(|| kind(&part["type"]), name_of);
                return Err(wrong(format!("{at}.content[{i}].type"), "text", &found));
            }
        };
        let missing = || wrong(format!("{at}.content[{i}].{key}"), "text", &kind(&part[key]));
        part[key].as_str().map(str::to_owned).ok_or_else(missing)
    };
    let texts: Vec<String> = parts.iter().enumerate().map(text).collect::<Result<_, _>>()?;
    Ok(Some(texts.join("\n")))
}

/// The id of the call that a message's `function_call` becomes, in the one form that all templates take.
fn legacy_id(i: usize) -> String {
    format!("call{i:05}")
}

/// A `function_call`, as the API was before there were several calls, becomes a call like others; beside others it is their copy.
fn legacy_call(message: &mut Map<String, Value>, (i, at): (usize, &str)) -> Result<(), WorkerError> {
    let function = match message.shift_remove("function_call") {
        None | Some(Value::Null) => return Ok(()),
        Some(function @ Value::Object(_)) => function,
        Some(other) => return Err(wrong(format!("{at}.function_call"), "an object", &kind(&other))),
    };
    if !function["name"].is_string() {
        return Err(wrong(format!("{at}.function_call.name"), "text", &kind(&function["name"])));
    }
    if message.get("tool_calls").and_then(Value::as_array).is_none_or(Vec::is_empty) {
        let call = json!({ "id": legacy_id(i), "type": "function", "function": function });
        message.insert("tool_calls".to_owned(), json!([call]));
    }
    Ok(())
}

/// What a function gave has no id of its call: it is the one before it.
fn answers_legacy_call(message: &mut Value, before: Option<&Value>) {
    let id = before.map(|before| &before["tool_calls"][0]["id"]);
    if let (Some(id @ Value::String(_)), Some(fields)) = (id, message.as_object_mut()) {
        fields.insert("tool_call_id".to_owned(), id.clone());
    }
}

/// Checks a message's calls and parses their arguments; are there any?
fn calls(message: &mut Map<String, Value>, at: &str, shape: Shape) -> Result<bool, WorkerError> {
    let calls = match message.get_mut("tool_calls") {
        None => return Ok(false),
        Some(Value::Array(calls)) if !calls.is_empty() => calls,
        // Clients that keep every field of an answer send an empty list or null; templates ask only whether it is there.
        Some(Value::Null | Value::Array(_)) => {
            message.shift_remove("tool_calls");
            return Ok(false);
        }
        Some(other) => return Err(wrong(format!("{at}.tool_calls"), "a list", &kind(other))),
    };
    for (i, call) in calls.iter_mut().enumerate() {
        let at = format!("{at}.tool_calls[{i}]");
        let function = match call.get_mut("function") {
            Some(Value::Object(function)) => function,
            other => {
                let found = other.map_or_else(|| kind(&Value::Null), |other| kind(other));
                return Err(wrong(format!("{at}.function"), "an object", &found));
            }
        };
        if !function.get("name").is_some_and(Value::is_string) {
            return Err(wrong(format!("{at}.function.name"), "text", "none"));
        }
        match function.get("arguments") {
            None | Some(Value::Null) => {
                let none = if shape.text_arguments { "{}".into() } else { Map::new().into() };
                function.insert("arguments".to_owned(), none);
            }
            Some(Value::Object(object)) if shape.text_arguments => {
                let text = serde_json::to_string(object).unwrap_or_default();
                function.insert("arguments".to_owned(), text.into());
            }
            Some(Value::Object(_)) => {}
            // An answer that was cut off may hold arguments that are not JSON: these stay the text they are.
            Some(Value::String(text)) if !shape.text_arguments => {
                let text = if text.trim().is_empty() { "{}" } else { text };
                if let Ok(parsed @ Value::Object(_)) = serde_json::from_str(&integers::with_plain_zeros(text))
                {
                    if let Some(path) = integers::beyond_64_bits(text.as_bytes(), None) {
                        let at = format!("{at}.function.arguments.{path}");
                        return Err(wrong(at, integers::EXPECTED, "a larger number"));
                    }
                    function.insert("arguments".to_owned(), parsed);
                }
            }
            Some(Value::String(_)) => {}
            Some(other) => {
                return Err(wrong(format!("{at}.function.arguments"), "JSON as text", &kind(other)));
            }
        }
    }
    Ok(true)
}

pub(super) fn wrong(path: String, expected: &'static str, found: &str) -> WorkerError {
    WorkerError::Message { path, expected, found: found.to_owned() }
}

fn kind(value: &Value) -> String {
    let kind = match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a bool",
        Value::Number(_) => "a number",
        Value::String(_) => "another text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    kind.to_owned()
}

/// The name of a part's type, where it looks like one.
fn name_of(name: &str) -> String {
    let plain = name.len() <= 32 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if plain { name.to_owned() } else { "another text".to_owned() }
}
