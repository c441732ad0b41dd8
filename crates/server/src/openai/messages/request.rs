//! What does a body say, and how would a chat's say it?
//!
//! What a user's message holds may be several messages of a chat: each tool's result is one of its own.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::error::ApiError;
use crate::openai::body::Body;
use crate::openai::chat::ChatRequest;
use crate::state::Served;

/// The schema `MessageRequest`.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct MessageRequest(Map<String, Value>);

impl Body for MessageRequest {
    const SCHEMA: &'static str = "MessageRequest";
}

/// Fields that mean the same in a chat.
const SAME: [&str; 11] = [
    "model",
    "stream",
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "seed",
    "receipt",
    "chat_template_kwargs",
];

/// Names of a chat's fields, and of those that say the same here.
const NAMES: [(&str, &str); 5] = [
    ("continue_final_message", "messages"),
    ("response_format.json_schema", "output_config.format"),
    ("response_format", "output_config.format"),
    ("stop", "stop_sequences"),
    ("reasoning_effort", EFFORT),
];

/// Beside the answer's format.
const EFFORT: &str = "output_config.effort";

/// A chat's name under the one that it has here.
pub(super) fn name_of(param: &str) -> String {
    let named = NAMES.iter().find_map(|(theirs, ours)| {
        let rest = param.strip_prefix(theirs)?;
        (rest.is_empty() || rest.starts_with(['.', '['])).then(|| format!("{ours}{rest}"))
    });
    let tool = param.starts_with("tools[");
    named.unwrap_or_else(|| match tool {
        true => param.replacen(".function.parameters", ".input_schema", 1).replacen(".function", "", 1),
        false => param.to_owned(),
    })
}

/// A chat's error under the names that fields have here. Messages of a chat are not those of the body, so a message's number would mislead.
pub(super) fn in_our_words(error: ApiError) -> ApiError {
    let ApiError::Invalid { param: Some(param), message } = error else { return error };
    // An answer goes on with the last message where that is the assistant's: no field says so here.
    let message = match param.as_str() {
        "continue_final_message" => message
            .replace("expected false", "expected a user's message at the end")
            .replace("found true", "found an assistant's"),
        _ => message.replace("continue_final_message is true", "the last message is the assistant's"),
    };
    match name_of(&param) {
        name if name.starts_with("messages") => ApiError::invalid("messages", message),
        name => ApiError::invalid(name, message),
    }
}

impl MessageRequest {
    fn field(&self, name: &str) -> &Value {
        self.0.get(name).unwrap_or(&Value::Null)
    }

    /// A message must say how long its answer may be; for counting that does not matter.
    pub(super) fn has_max_tokens(&self) -> Result<(), ApiError> {
        let missing = || ApiError::invalid("max_tokens", "expected a value, found none");
        self.field("max_tokens").as_u64().map(|_| ()).ok_or_else(missing)
    }

    /// Blocks of content of all messages.
    fn blocks(&self) -> impl Iterator<Item = &Value> {
        let messages = self.field("messages").as_array().into_iter().flatten();
        messages.filter_map(|message| message["content"].as_array()).flatten()
    }

    /// Names what has no effect here.
    pub(super) fn note_ignored(&self, served: &Served, ignored: &mut Vec<String>) {
        let thinking = self.field("thinking");
        if !thinking.is_null() && !served.template_names("enable_thinking") {
            ignored.push("thinking".to_owned());
        } else if !thinking["budget_tokens"].is_null() {
            ignored.push("thinking.budget_tokens".to_owned());
        }
        if self.blocks().any(|block| block["is_error"] == true) {
            ignored.push("messages.content.is_error".to_owned());
        }
        // Arguments follow the schema of a tool that must be called.
        let must_call = matches!(self.field("tool_choice")["type"].as_str(), Some("any" | "tool"));
        let mut tools = self.field("tools").as_array().into_iter().flatten();
        if !must_call && tools.any(|tool| tool["strict"] == true) {
            ignored.push("tools.strict".to_owned());
        }
    }

    /// Whether what a chat does not use was said here: a chat has a variable for `thinking`.
    pub(super) fn says(&self, unused: &str) -> bool {
        let given = |name| !self.field("chat_template_kwargs")[name].is_null();
        unused.strip_prefix("chat_template_kwargs.").is_none_or(given)
    }

    /// The same as a chat's body.
    pub(super) fn chat(&self) -> Result<ChatRequest, ApiError> {
        let tools = self.field("tools").as_array().map(|tools| tools.iter().map(tool).collect());
        let choice = self.field("tool_choice");
        let mut chat = json!({
            "messages": self.messages()?,
            "tools": tools.map(Value::Array),
            "tool_choice": tool_choice(choice)?,
            "parallel_tool_calls": choice["disable_parallel_tool_use"] != true,
            "stop": self.field("stop_sequences"),
            "response_format": format(&self.field("output_config")["format"]),
            "reasoning_effort": effort(&self.field("output_config")["effort"]),
        });
        let messages = self.field("messages").as_array();
        if messages.and_then(|messages| messages.last()).is_some_and(|last| last["role"] == "assistant") {
            chat["continue_final_message"] = true.into();
        }
        for name in SAME {
            if let Some(value) = self.0.get(name) {
                chat[name] = value.clone();
            }
        }
        if let Some(kind) = self.field("thinking")["type"].as_str() {
            let kwargs = &mut chat["chat_template_kwargs"];
            if kwargs["enable_thinking"].is_null() {
                kwargs["enable_thinking"] = (kind != "disabled").into();
            }
        }
        // All fields were held against the document.
        serde_path_to_error::deserialize(chat).map_err(|error| {
            let field = error.path().to_string();
            in_our_words(ApiError::invalid(field, error.into_inner().to_string()))
        })
    }

    fn messages(&self) -> Result<Vec<Value>, ApiError> {
        let mut messages = Vec::new();
        let system = texts(self.field("system"), "system")?;
        if !system.is_null() {
            messages.push(json!({"role": "system", "content": system}));
        }
        for (i, message) in self.field("messages").as_array().into_iter().flatten().enumerate() {
            let at = format!("messages[{i}].content");
            match message["content"].as_array() {
                None => messages.push(json!({"role": message["role"], "content": message["content"]})),
                Some(blocks) if message["role"] == "assistant" => messages.push(assistant(blocks, &at)?),
                Some(blocks) => user(blocks, &at, &mut messages)?,
            }
        }
        Ok(messages)
    }
}

/// What the model said: thoughts, texts and calls.
fn assistant(blocks: &[Value], at: &str) -> Result<Value, ApiError> {
    let (mut thoughts, mut parts, mut calls) = (String::new(), Vec::new(), Vec::new());
    for (i, block) in blocks.iter().enumerate() {
        let at = format!("{at}[{i}]");
        match block["type"].as_str() {
            Some("text") => parts.push(part(block, &at)?),
            Some("thinking") => thoughts.push_str(text(block, "thinking", &at)?),
            Some("tool_use") => {
                let input = &block["input"];
                if !input.is_object() {
                    return Err(ApiError::invalid(format!("{at}.input"), "expected an object, found none"));
                }
                let function = json!({"name": text(block, "name", &at)?, "arguments": input});
                calls.push(json!({"id": text(block, "id", &at)?, "type": "function", "function": function}));
            }
            _ => return Err(misplaced(&at, "of an assistant's message")),
        }
    }
    let mut message =
        json!({"role": "assistant", "content": if parts.is_empty() { Value::Null } else { parts.into() }});
    if !thoughts.is_empty() {
        message["reasoning_content"] = thoughts.into();
    }
    if !calls.is_empty() {
        message["tool_calls"] = calls.into();
    }
    Ok(message)
}

/// What the user said, and what tools gave, in order.
fn user(blocks: &[Value], at: &str, messages: &mut Vec<Value>) -> Result<(), ApiError> {
    let mut parts: Vec<Value> = Vec::new();
    let say = |parts: &mut Vec<Value>, messages: &mut Vec<Value>| {
        if !parts.is_empty() {
            messages.push(json!({"role": "user", "content": std::mem::take(parts)}));
        }
    };
    for (i, block) in blocks.iter().enumerate() {
        let at = format!("{at}[{i}]");
        match block["type"].as_str() {
            Some("text") => parts.push(part(block, &at)?),
            Some("tool_result") => {
                say(&mut parts, messages);
                let content = texts(&block["content"], &format!("{at}.content"))?;
                let content = if content.is_null() { "".into() } else { content };
                let id = text(block, "tool_use_id", &at)?;
                messages.push(json!({"role": "tool", "tool_call_id": id, "content": content}));
            }
            _ => return Err(misplaced(&at, "of a user's message")),
        }
    }
    say(&mut parts, messages);
    Ok(())
}

fn misplaced(at: &str, place: &str) -> ApiError {
    ApiError::invalid(format!("{at}.type"), format!("expected a block {place}, found another"))
}

/// A field that this type of block must have.
fn text<'a>(block: &'a Value, name: &str, at: &str) -> Result<&'a str, ApiError> {
    let missing = || ApiError::invalid(format!("{at}.{name}"), "expected a string, found none");
    block[name].as_str().ok_or_else(missing)
}

/// A block of text as chats have it.
fn part(block: &Value, at: &str) -> Result<Value, ApiError> {
    Ok(json!({"type": "text", "text": text(block, "text", at)?}))
}

/// A content that is text or blocks of text, as chats have it.
fn texts(content: &Value, at: &str) -> Result<Value, ApiError> {
    let Some(blocks) = content.as_array() else { return Ok(content.clone()) };
    let part = |(i, block): (usize, &Value)| -> Result<Value, ApiError> {
        let at = format!("{at}[{i}]");
        if block["type"] == "text" { part(block, &at) } else { Err(misplaced(&at, "of text")) }
    };
    let parts: Vec<Value> = blocks.iter().enumerate().map(part).collect::<Result<_, _>>()?;
    Ok(if parts.is_empty() { Value::Null } else { parts.into() })
}

/// A tool as chats have it.
fn tool(tool: &Value) -> Value {
    let mut function = json!({"name": tool["name"], "parameters": tool["input_schema"]});
    if tool["description"].is_string() {
        function["description"] = tool["description"].clone();
    }
    json!({"type": "function", "function": function})
}

/// Which tool is called, as chats say it.
fn tool_choice(choice: &Value) -> Result<Value, ApiError> {
    Ok(match choice["type"].as_str() {
        None => Value::Null,
        Some("any") => "required".into(),
        Some("tool") => {
            json!({"type": "function", "function": {"name": text(choice, "name", "tool_choice")?}})
        }
        Some(mode) => mode.into(),
    })
}

/// The effort as chats say it, which have no maximum.
fn effort(effort: &Value) -> Value {
    if effort == "max" { "xhigh".into() } else { effort.clone() }
}

/// An answer's format as chats say it.
fn format(format: &Value) -> Value {
    match format["schema"].as_object() {
        Some(schema) => json!({"type": "json_schema", "json_schema": {"schema": schema}}),
        None => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chat_s_fields_have_the_names_that_they_have_here() {
        let said = |param: &str, message: &str| match in_our_words(ApiError::invalid(param, message)) {
            ApiError::Invalid { param: Some(param), message } => format!("{param}: {message}"),
            other => panic!("{other}"),
        };
        assert_eq!(
            said("continue_final_message", "expected false for a model of channels, found true"),
            "messages: expected a user's message at the end for a model of channels, found an assistant's"
        );
        assert_eq!(
            said("response_format", "expected none where continue_final_message is true, found one"),
            "output_config.format: expected none where the last message is the assistant's, found one"
        );
        assert_eq!(said("tools[0].function.name", "a"), "tools[0].name: a");
        assert_eq!(said("stop", "a"), "stop_sequences: a");
    }
}
