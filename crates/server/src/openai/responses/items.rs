//! Items of a conversation, as clients send them and as responses have them, and the messages of a chat that they stand for.
//!
//! What a model says at once is several items and one message: its reasoning, its text and its calls. Types and fields were held against the document
//! before; here is what a field of one type means to the others.

use serde_json::{Map, Value, json};

use crate::error::ApiError;

/// The messages that these items stand for.
pub(super) fn messages(items: &[Value]) -> Result<Vec<Value>, ApiError> {
    let mut messages = Messages::default();
    for (i, item) in items.iter().enumerate() {
        messages.add(item, &format!("input[{i}]"))?;
    }
    messages.no_reasoning("the end")?;
    Ok(messages.done)
}

#[derive(Default)]
struct Messages {
    done: Vec<Value>,
    /// What the model thought before what comes next, and where that stood.
    reasoning: Option<(String, String)>,
}

impl Messages {
    fn add(&mut self, item: &Value, at: &str) -> Result<(), ApiError> {
        match item["type"].as_str().unwrap_or("message") {
            "reasoning" => {
                self.no_reasoning("reasoning")?;
                let text = format!("{}{}", joined(&item["summary"]), joined(&item["content"]));
                self.reasoning = Some((text, at.to_owned()));
            }
            "function_call" => {
                let call = json!({
                    "id": text(item, "call_id", at)?,
                    "type": "function",
                    "function": {"name": text(item, "name", at)?, "arguments": text(item, "arguments", at)?},
                });
                // Calls and the text before them are one message.
                if self.reasoning.is_none()
                    && let Some(last) = self.done.last_mut().filter(|last| last["role"] == "assistant")
                {
                    match last["tool_calls"].as_array_mut() {
                        Some(calls) => calls.push(call),
                        None => last["tool_calls"] = json!([call]),
                    }
                    return Ok(());
                }
                self.say(json!({"role": "assistant", "content": null, "tool_calls": [call]}));
            }
            "function_call_output" => {
                self.no_reasoning("a function's output")?;
                let output = content(&item["output"], &format!("{at}.output"))?;
                self.done.push(
                    json!({"role": "tool", "tool_call_id": text(item, "call_id", at)?, "content": output}),
                );
            }
            _ => {
                let role = text(item, "role", at)?;
                let content = content(&item["content"], &format!("{at}.content"))?;
                let message = json!({"role": role, "content": content});
                if role == "assistant" {
                    self.say(message);
                } else {
                    self.no_reasoning("another role's message")?;
                    self.done.push(message);
                }
            }
        }
        Ok(())
    }

    /// A message of the model's, with what it thought before.
    fn say(&mut self, mut message: Value) {
        if let Some((reasoning, _)) = self.reasoning.take() {
            message["reasoning_content"] = reasoning.into();
        }
        self.done.push(message);
    }

    /// Reasoning belongs to what the model says after it.
    fn no_reasoning(&self, found: &str) -> Result<(), ApiError> {
        match &self.reasoning {
            Some((_, at)) => {
                let message =
                    format!("expected a message or a call of the assistant's after it, found {found}");
                Err(ApiError::invalid(at.clone(), message))
            }
            None => Ok(()),
        }
    }
}

/// A field that this type of item must have.
fn text<'a>(item: &'a Value, name: &str, at: &str) -> Result<&'a str, ApiError> {
    let missing = || ApiError::invalid(format!("{at}.{name}"), "expected a string, found none");
    item[name].as_str().ok_or_else(missing)
}

/// The texts of parts.
fn joined(parts: &Value) -> String {
    parts.as_array().into_iter().flatten().filter_map(|part| part["text"].as_str()).collect()
}

/// A content as chats have it.
fn content(content: &Value, at: &str) -> Result<Value, ApiError> {
    let Some(parts) = content.as_array() else { return Ok(content.clone()) };
    let part = |(i, part): (usize, &Value)| -> Result<Value, ApiError> {
        let kind = if part["type"] == "refusal" { "refusal" } else { "text" };
        Ok(json!({"type": kind, kind: text(part, kind, &format!("{at}[{i}]"))?}))
    };
    parts.iter().enumerate().map(part).collect()
}

/// A tool as chats have it.
pub(super) fn tool(tool: &Value) -> Value {
    let mut function: Map<String, Value> = tool.as_object().cloned().unwrap_or_default();
    function.shift_remove("type");
    json!({"type": "function", "function": function})
}

/// Which tool is called, as chats say it.
pub(super) fn tool_choice(choice: &Value) -> Value {
    let named = |tool: &Value| json!({"type": "function", "function": {"name": tool["name"]}});
    match choice["type"].as_str() {
        Some("function") => named(choice),
        Some(_) => {
            let tools: Vec<Value> = choice["tools"].as_array().into_iter().flatten().map(named).collect();
            json!({"type": "allowed_tools", "allowed_tools": {"mode": choice["mode"], "tools": tools}})
        }
        None => choice.clone(),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(items: Value, expected: &Expect) {
        let Value::Array(items) = items else { panic!("{items}") };
        expected.assert_eq(&match messages(&items) {
            Ok(messages) => messages.iter().map(|message| format!("{message}\n")).collect(),
            Err(error) => format!("{:?}", error.openai()["error"]["message"]),
        });
    }

    #[test]
    fn what_a_model_says_at_once_is_one_message() {
        let call = |id: &str| json!({"type": "function_call", "id": "fc_1", "call_id": id, "name": "f", "arguments": "{}", "status": "completed"});
        check(
            json!([
                {"role": "developer", "content": "Be brief."},
                {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}]},
                {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "why"}]},
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "b", "annotations": []}, {"type": "refusal", "refusal": "no"}]},
                call("1"),
                call("2"),
                {"type": "function_call_output", "call_id": "1", "output": "one"},
                {"type": "function_call_output", "call_id": "2", "output": [{"type": "input_text", "text": "two"}]},
                call("3"),
            ]),
            &expect![[r#"
                {"role":"developer","content":"Be brief."}
                {"role":"user","content":[{"type":"text","text":"a"}]}
                {"role":"assistant","content":[{"type":"text","text":"b"},{"type":"refusal","refusal":"no"}],"reasoning_content":"why","tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}},{"id":"2","type":"function","function":{"name":"f","arguments":"{}"}}]}
                {"role":"tool","tool_call_id":"1","content":"one"}
                {"role":"tool","tool_call_id":"2","content":[{"type":"text","text":"two"}]}
                {"role":"assistant","content":null,"tool_calls":[{"id":"3","type":"function","function":{"name":"f","arguments":"{}"}}]}
            "#]],
        );
    }

    #[test]
    fn what_an_item_lacks_is_named() {
        check(
            json!([{"type": "function_call", "name": "f", "arguments": "{}"}]),
            &expect![[r#"String("input[0].call_id: expected a string, found none")"#]],
        );
        check(
            json!([{"role": "user", "content": [{"type": "input_text"}]}]),
            &expect![[r#"String("input[0].content[0].text: expected a string, found none")"#]],
        );
        check(
            json!([{"type": "reasoning", "summary": []}, {"role": "user", "content": "a"}]),
            &expect![[
                r#"String("input[0]: expected a message or a call of the assistant's after it, found another role's message")"#
            ]],
        );
    }
}
