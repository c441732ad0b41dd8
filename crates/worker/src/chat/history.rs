//! A conversation's messages in the dialect of one family of models, where its template does not see to that.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::family::{Family, Form};
use super::{CallForm, message};

/// The messages as this family's template takes them; `tools` are described in them where the template cannot.
pub(super) fn adapt(messages: Vec<Value>, tools: &[Value], family: &Family) -> Vec<Value> {
    let messages = match family.form {
        Form::Harmony(_) => messages,
        _ => messages.into_iter().map(twice_named).collect(),
    };
    match family.form {
        Form::Whole(form) if !family.template_has_tools => return with_description(messages, tools, form),
        _ if !family.template_has_tools => return describe(messages, tools),
        _ => {}
    }
    match family.form {
        Form::Whole(CallForm::Mistral | CallForm::MistralList) => short_ids(messages),
        Form::Tagged | Form::Whole(_) => messages,
        Form::Bare => one_call_each(messages),
        Form::Harmony(_) => one_call_each(one_instruction(messages)).into_iter().map(thinking).collect(),
    }
}

/// For templates that refuse or leave out a system message: its text begins the user's first message. `None` where there is no such
/// message, or none to put it into.
pub(super) fn without_system(mut messages: Vec<Value>) -> Option<Vec<Value>> {
    let n = messages.iter().take_while(|message| message["role"] == "system").count();
    let user = messages.iter().position(|message| message["role"] == "user")?;
    if n == 0 || user < n {
        return None;
    }
    let mut texts: Vec<&str> = messages[..n].iter().map(text).collect();
    texts.push(text(&messages[user]));
    let joined = texts.join("\n\n");
    messages[user]["content"] = joined.into();
    messages.drain(..n);
    Some(messages)
}

/// The last message is to be continued: `mark` stands where its text ends. Gives the white space that its text ended with, which many
/// templates would leave out.
pub(super) fn mark_end(messages: &mut [Value], mark: &str) -> String {
    let Some(content) = messages.last_mut().and_then(|last| last.get_mut("content")) else {
        return String::new();
    };
    let text = content.as_str().unwrap_or_default();
    let kept = text.trim_end();
    let (marked, space) = (format!("{kept}{mark}"), text.get(kept.len()..).unwrap_or_default().to_owned());
    *content = marked.into();
    space
}

/// Does this message tell the model what to do, as opposed to what it or a tool said?
pub(super) fn is_told(message: &Value) -> bool {
    ["user", "system", "developer"].into_iter().any(|role| message["role"] == role)
}

/// For templates that loop over a content's parts: each text of the messages that `takes_parts` names is a list of one part.
pub(super) fn in_parts(mut messages: Vec<Value>, takes_parts: impl Fn(&Value) -> bool) -> Vec<Value> {
    for message in messages.iter_mut().filter(|message| takes_parts(message)) {
        if let Value::String(text) = &message["content"] {
            message["content"] = json!([{ "type": "text", "text": text }]);
        }
    }
    messages
}

/// How tools are described to a model whose template knows none.
fn description(tools: &[Value], example: &str) -> String {
    let mut text =
        String::from("# Tools\n\nThese functions can be called, one JSON object a line:\n<tools>\n");
    for tool in tools {
        let _infallible = writeln!(text, "{}", tool["function"]);
    }
    text.push_str("</tools>\n\nTo call one, write its name and arguments as JSON between these tags:\n");
    text.push_str(example);
    text
}

const TAGGED: &str = "<tool_call>\n{\"name\": \"...\", \"arguments\": {...}}\n</tool_call>";

/// For templates that write calls, but no tools: these stand at the end of the system message.
fn with_description(mut messages: Vec<Value>, tools: &[Value], form: CallForm) -> Vec<Value> {
    let example = match form {
        CallForm::DeepseekFenced => {
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME\n```json\n{...}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
        }
        _ => {
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>NAME<｜tool▁sep｜>{...}<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
        }
    };
    if !tools.is_empty() {
        instruct(&mut messages, &description(tools, example));
    }
    messages
}

/// Adds to the system message.
fn instruct(messages: &mut Vec<Value>, more: &str) {
    match messages.first_mut().filter(|first| first["role"] == "system") {
        Some(system) => system["content"] = format!("{}\n\n{more}", text(system)).into(),
        None => messages.insert(0, message("system", more)),
    }
}

/// Templates without tools: these stand at the end of the system message, calls in the assistant's text, and what tools say in the
/// user's.
fn describe(messages: Vec<Value>, tools: &[Value]) -> Vec<Value> {
    let mut adapted: Vec<Value> = Vec::with_capacity(messages.len() + 1);
    for mut next in messages {
        let last = adapted.last_mut();
        match next["role"].as_str() {
            // Text of the same role one after the other is one message: templates may want turns.
            Some("system") if last.as_ref().is_some_and(|last| last["role"] == "system") => {
                if let Some(last) = last {
                    let text = format!("{}\n\n{}", text(last), text(&next));
                    last["content"] = text.into();
                }
            }
            Some("tool") => {
                let said = format!("<tool_response>\n{}\n</tool_response>", text(&next));
                match last {
                    Some(last) if last["role"] == "user" && text(last).ends_with("</tool_response>") => {
                        last["content"] = format!("{}\n{said}", text(last)).into();
                    }
                    _ => adapted.push(message("user", &said)),
                }
            }
            _ => {
                let calls = next.as_object_mut().and_then(|next| next.shift_remove("tool_calls"));
                let mut written = text(&next).to_owned();
                for call in calls.as_ref().and_then(Value::as_array).into_iter().flatten() {
                    let function = &call["function"];
                    let object = json!({ "name": function["name"], "arguments": function["arguments"] });
                    let before = if written.is_empty() { "" } else { "\n" };
                    let _infallible = write!(written, "{before}<tool_call>\n{object}\n</tool_call>");
                }
                next["content"] = written.into();
                adapted.push(next);
            }
        }
    }
    if !tools.is_empty() {
        instruct(&mut adapted, &description(tools, TAGGED));
    }
    adapted
}

/// Templates that know one call a message: each call is a message of its own, with what its tool said after it.
fn one_call_each(messages: Vec<Value>) -> Vec<Value> {
    let mut adapted = Vec::with_capacity(messages.len());
    let mut messages = messages.into_iter().peekable();
    while let Some(message) = messages.next() {
        let calls = message["tool_calls"].as_array().map_or(0, Vec::len);
        if calls < 2 {
            adapted.push(message);
            continue;
        }
        let mut said: Vec<Value> = Vec::new();
        while let Some(next) = messages.next_if(|next| next["role"] == "tool") {
            said.push(next);
        }
        for i in 0..calls {
            let call = message["tool_calls"][i].clone();
            let mut one =
                if i == 0 { message.clone() } else { json!({ "role": "assistant", "content": "" }) };
            one["tool_calls"] = json!([call]);
            adapted.push(one);
            // An id that none has, or all, tells nothing: then they come in order.
            let of_this =
                said.iter().position(|said| !call["id"].is_null() && said["tool_call_id"] == call["id"]);
            let of_this = of_this.or_else(|| (!said.is_empty()).then_some(0));
            adapted.extend(of_this.map(|at| said.remove(at)));
        }
        adapted.append(&mut said);
    }
    adapted
}

/// Mistral's templates take ids of nine letters and digits alone: another is made from each that is longer or has other signs.
fn short_ids(mut messages: Vec<Value>) -> Vec<Value> {
    for message in &mut messages {
        if let Some(id) = message.get_mut("tool_call_id") {
            *id = short_id(id);
        }
        for call in message.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten() {
            let id = call.get("id").unwrap_or(&Value::Null);
            let id = short_id(id);
            if let Some(call) = call.as_object_mut() {
                call.insert("id".to_owned(), id);
            }
        }
    }
    messages
}

/// FNV-1a of an id in nine digits of base 36, so that the same id gives the same text.
fn short_id(id: &Value) -> Value {
    let text = id.as_str().unwrap_or_default();
    if text.len() == 9 && text.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return id.clone();
    }
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let mut hash = text.bytes().fold(0xcbf2_9ce4_8422_2325, fold);
    let mut digit = || {
        let digit = char::from_digit((hash % 36) as u32, 36).unwrap_or('0');
        hash /= 36;
        digit
    };
    Value::from((0..9).map(|_| digit()).collect::<String>())
}

/// gpt-oss's template takes instructions from the first message alone.
fn one_instruction(messages: Vec<Value>) -> Vec<Value> {
    let is_instruction = |message: &Value| message["role"] == "system" || message["role"] == "developer";
    let n = messages.iter().take_while(|message| is_instruction(message)).count();
    if n < 2 {
        return messages;
    }
    let texts: Vec<&str> = messages[..n].iter().map(text).collect();
    let mut adapted = vec![message("developer", &texts.join("\n\n"))];
    adapted.extend_from_slice(&messages[n..]);
    adapted
}

/// gpt-oss's template joins every tool's description to text, which OpenAI's API lets be absent.
pub(super) fn described(tools: &[Value]) -> Vec<Value> {
    let mut tools = tools.to_vec();
    for tool in &mut tools {
        if let Some(function) = tool["function"].as_object_mut()
            && !function.get("description").is_some_and(Value::is_string)
        {
            function.insert("description".to_owned(), "".into());
        }
    }
    tools
}

/// Templates read reasoning by one of two names; like transformers, give it both.
fn twice_named(mut message: Value) -> Value {
    if let Some(fields) = message.as_object_mut()
        && let Some(reasoning) = fields.get("reasoning_content").cloned()
        && !fields.contains_key("thinking")
    {
        fields.shift_insert(0, "thinking".to_owned(), reasoning);
    }
    message
}

/// gpt-oss's template calls reasoning `thinking`, and beside a call takes one text alone.
fn thinking(mut message: Value) -> Value {
    let Some(fields) = message.as_object_mut() else { return message };
    let reasoning = fields.shift_remove("reasoning_content");
    if fields.get("role").is_none_or(|role| role != "assistant") {
        return message;
    }
    let has_calls = fields.contains_key("tool_calls");
    if let Some(Value::String(reasoning)) = reasoning.filter(|r| r != "") {
        let thinking = joined(fields, reasoning, has_calls);
        fields.insert("thinking".to_owned(), thinking.into());
    }
    message
}

/// The reasoning, with the content where that may not stand beside it.
fn joined(fields: &mut Map<String, Value>, reasoning: String, has_calls: bool) -> String {
    match fields.get("content").and_then(Value::as_str) {
        Some(content) if has_calls && !content.is_empty() => {
            let both = format!("{reasoning}\n{content}");
            fields.insert("content".to_owned(), "".into());
            both
        }
        _ => reasoning,
    }
}

fn text(message: &Value) -> &str {
    message["content"].as_str().unwrap_or_default()
}
