//! From a conversation to the text of its prompt, by the model's template.

use serde_json::Value;
use tokenizer::{ChatInput, ChatTemplate, RenderedChat, Stop, Tokenizer, TokenizerError};

use super::family::{Family, Form};
use super::messages::{self, Shape};
use super::probe::{Reads, WORD, is_printed};
use super::{Chat, history};
use crate::{Work, WorkerError};

/// A conversation's prompt, and in which form it will be answered.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) rendered: RenderedChat,
    pub(crate) text: String,
    pub(crate) family: Family,
}

/// Writes the prompt. A template that fails, or leaves out what a user said or the names of the tools, is given the same messages in the
/// other shapes that templates take; nothing is left out in silence.
pub(crate) fn render(tokenizer: &Tokenizer, chat: &Chat, work: &Work) -> Result<Written, WorkerError> {
    messages::check(chat)?;
    check_roles(tokenizer, chat)?;
    let (template, is_for_tools) = template_for(tokenizer, chat).ok_or(WorkerError::NoChatTemplate)?;
    let mut family = Family::of(tokenizer, Some(template));
    family.template_has_tools |= is_for_tools;
    let tools = match family.form {
        Form::Harmony(_) => history::described(chat.offered()),
        _ => chat.offered().to_vec(),
    };
    if chat.continue_final_message && matches!(family.form, Form::Harmony(_)) {
        return Err(WorkerError::Invalid {
            field: "continue_final_message",
            expected: "false for a model whose answers are divided into channels".to_owned(),
            found: "true".to_owned(),
        });
    }
    let mut complaint = None;
    let reads = Reads::of(tokenizer, template, chat, work);
    let usual = Shape { parts: reads.parts, system_in_user: !reads.system, ..shape_of(template) };
    for shape in shapes(usual, chat) {
        let mut messages = messages::normalise(&chat.messages, shape)?;
        let space = chat.continue_final_message.then(|| history::mark_end(&mut messages, WORD));
        let Some(messages) = shaped(history::adapt(messages, &tools, &family), shape) else { continue };
        let input = ChatInput { stop: work.stop(), ..input(chat, &messages, &tools, &family) };
        let wrong = match tokenizer.render_chat(template, &input) {
            Ok(rendered) => {
                let rendered = match space {
                    Some(space) => rendered.ended_at(WORD, &space),
                    None => Some(rendered),
                };
                let Some(rendered) = rendered else {
                    let at = format!("messages[{}].content", chat.messages.len() - 1);
                    complaint.get_or_insert(messages::wrong(at, WRITTEN, "text that it leaves out"));
                    continue;
                };
                let text = rendered.text();
                if shape.parts && !reads.parts && is_printed(&text) {
                    continue;
                }
                // One that never reads messages writes its own prompt for every conversation.
                let is_of_messages = template.source().contains("messages");
                match left_out(chat, &text).filter(|_| is_of_messages) {
                    None => return Ok(Written { rendered, text, family }),
                    Some(wrong) => wrong,
                }
            }
            // Another shape would go past the same bound.
            Err(error @ (TokenizerError::TemplateLimit { .. } | TokenizerError::TemplateStopped { .. })) => {
                return Err(error.into());
            }
            Err(error) => error.into(),
        };
        // Where no shape will do, the first complaint is about the usual one.
        complaint.get_or_insert(wrong);
    }
    Err(complaint.unwrap_or(WorkerError::NoChatTemplate))
}

/// The shapes to try, the usual one first.
fn shapes(usual: Shape, chat: &Chat) -> Vec<Shape> {
    let mut shapes = vec![usual];
    if has_calls(chat) {
        // Templates of before there were objects join the text of arguments.
        shapes.push(Shape { text_arguments: true, ..usual });
        shapes.push(Shape { null_content: !usual.null_content, ..usual });
    }
    for (parts, system) in [(true, false), (false, true), (true, true)] {
        let (parts, system_in_user) = (usual.parts ^ parts, usual.system_in_user ^ system);
        shapes.push(Shape { parts, system_in_user, ..usual });
    }
    shapes
}

/// The last step towards a shape; `None` where these messages cannot have it.
fn shaped(messages: Vec<Value>, shape: Shape) -> Option<Vec<Value>> {
    let messages = if shape.system_in_user { history::without_system(messages)? } else { messages };
    Some(if shape.parts { history::in_parts(messages) } else { messages })
}

const WRITTEN: &str = "what the model's chat template writes into the prompt";

/// What should be in the prompt and is not: a user's or system's text, or a tool. Templates trim and escape, so a text is looked for by its
/// words.
fn left_out(chat: &Chat, prompt: &str) -> Option<WorkerError> {
    let wrong = |path: String, found| Some(messages::wrong(path, WRITTEN, found));
    for (i, message) in chat.messages.iter().enumerate() {
        let is_told = ["user", "system", "developer"].into_iter().any(|role| message["role"] == role);
        let texts: Vec<&str> = match &message["content"] {
            Value::String(text) => vec![text],
            Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
            _ => Vec::new(),
        };
        if is_told && !texts.iter().all(|text| is_said(text, prompt)) {
            return wrong(format!("messages[{i}].content"), "text that it leaves out");
        }
    }
    let is_there = |tool: &Value| tool["function"]["name"].as_str().is_none_or(|name| prompt.contains(name));
    let missing = chat.offered().iter().position(|tool| !is_there(tool))?;
    wrong(format!("tools[{missing}]"), "a tool that it leaves out")
}

/// Are the words of this text in the prompt, in their order?
fn is_said(text: &str, prompt: &str) -> bool {
    let mut words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let mut rest = prompt;
    words.all(|word| rest.split_once(word).map(|(_, after)| rest = after).is_some())
}

/// What the template's text says of how it takes messages.
fn shape_of(template: &ChatTemplate) -> Shape {
    let has = |text: &str| template.source().contains(text);
    let asks_for_null = ["content is n", "content'] is n", "content\"] is n"];
    Shape {
        text_arguments: false,
        developer_is_system: !has("developer"),
        null_content: asks_for_null.into_iter().any(has),
        parts: false,
        system_in_user: false,
    }
}

/// Some files have a template of its own for conversations with tools: is it that one?
fn template_for<'a>(tokenizer: &'a Tokenizer, chat: &Chat) -> Option<(&'a ChatTemplate, bool)> {
    let tool_use = (!chat.offered().is_empty()).then(|| tokenizer.named_chat_template("tool_use")).flatten();
    let usual = || tokenizer.chat_template().map(|template| (template, false));
    tool_use.map(|template| (template, true)).or_else(usual)
}

fn has_calls(chat: &Chat) -> bool {
    let calls = |message: &Value| message["tool_calls"].is_array() || message["function_call"].is_object();
    chat.messages.iter().any(calls)
}

fn input<'a>(chat: &'a Chat, messages: &'a [Value], tools: &'a [Value], family: &Family) -> ChatInput<'a> {
    let tools = if family.template_has_tools { tools } else { &[] };
    ChatInput {
        messages,
        add_generation_prompt: chat.add_generation_prompt && !chat.continue_final_message,
        tools: (!tools.is_empty()).then_some(tools),
        extra: &chat.extra,
        now: None,
        stop: Stop::default(),
    }
}

/// Templates make names of control tokens of roles, `<|user|>` of `user`: a role must not make another, such as an end.
fn check_roles(tokenizer: &Tokenizer, chat: &Chat) -> Result<(), WorkerError> {
    const ROLES: [&str; 8] =
        ["assistant", "developer", "function", "ipython", "observation", "system", "tool", "user"];
    for (i, message) in chat.messages.iter().enumerate() {
        let Some(role) = message["role"].as_str() else { continue };
        let is_word =
            role.len() <= 64 && role.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
        let makes_token = ["<|", "<｜", "<"]
            .into_iter()
            .zip(["|>", "｜>", ">"])
            .any(|(open, close)| tokenizer.special_id(&format!("{open}{role}{close}")).is_some());
        if !ROLES.contains(&role) && (!is_word || makes_token) {
            return Err(WorkerError::Message {
                path: format!("messages[{i}].role"),
                expected: "a role",
                found: "another text".to_owned(),
            });
        }
    }
    Ok(())
}
