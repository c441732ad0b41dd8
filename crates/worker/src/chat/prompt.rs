//! From a conversation to the text of its prompt, by the model's template.

use serde_json::Value;
use tokenizer::{ChatInput, ChatTemplate, RenderedChat, Stop, Tokenizer, TokenizerError};

use super::family::{Family, Form};
use super::lost::{WRITTEN, left_out, texts};
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

/// Writes the prompt. A template that fails, or leaves out what was said or the names of the tools, is given the same messages in the
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
    let usual = Shape {
        parts: reads.parts,
        other_parts: reads.other_parts,
        system_in_user: !reads.system,
        ..shape_of(template)
    };
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
                let is_read = (reads.parts || !shape.parts) && (reads.other_parts || !shape.other_parts);
                if (shape.parts || shape.other_parts) && is_printed(&text) && !(is_read && may_print(chat)) {
                    let found = "parts that it prints as a list";
                    complaint.get_or_insert(messages::wrong("messages".to_owned(), WRITTEN, found));
                    continue;
                }
                // One that never reads messages writes its own prompt for every conversation.
                let is_of_messages = template.source().contains("messages");
                match left_out(chat, template.source(), &text).filter(|_| is_of_messages) {
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

/// Is there something in the conversation itself that looks like a list of parts?
fn may_print(chat: &Chat) -> bool {
    let given = |value: &Value| ["type", "text"].into_iter().all(|word| value.to_string().contains(word));
    let calls = |message: &Value| given(&message["tool_calls"]) || given(&message["function_call"]);
    let says = |message: &Value| texts(message).into_iter().any(is_printed);
    chat.tools.iter().any(given) || chat.messages.iter().any(|message| says(message) || calls(message))
}

/// The shapes to try, the usual one first.
fn shapes(usual: Shape, chat: &Chat) -> Vec<Shape> {
    let mut shapes = vec![usual];
    if has_calls(chat) {
        // Templates of before there were objects join the text of arguments.
        shapes.push(Shape { text_arguments: true, ..usual });
        shapes.push(Shape { null_content: !usual.null_content, ..usual });
    }
    let other_parts = !usual.other_parts;
    if chat.messages.iter().any(|message| !history::is_told(message)) {
        shapes.push(Shape { other_parts, ..usual });
    }
    let (parts, system_in_user) = (!usual.parts, !usual.system_in_user);
    shapes.push(Shape { parts, other_parts, ..usual });
    shapes.push(Shape { system_in_user, ..usual });
    shapes.push(Shape { parts, other_parts, system_in_user, ..usual });
    shapes
}

/// The last step towards a shape; `None` where these messages cannot have it.
fn shaped(messages: Vec<Value>, shape: Shape) -> Option<Vec<Value>> {
    let messages = if shape.system_in_user { history::without_system(messages)? } else { messages };
    Some(history::in_parts(
        messages,
        |said| if history::is_told(said) { shape.parts } else { shape.other_parts },
    ))
}

/// What the template's text says of how it takes messages.
fn shape_of(template: &ChatTemplate) -> Shape {
    let has = |text: &str| template.source().contains(text);
    let asks_for_null = ["content is n", "content'] is n", "content\"] is n"];
    Shape {
        text_arguments: false,
        developer_is_system: !has("developer"),
        null_content: asks_for_null.into_iter().any(has),
        ..Shape::default()
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
