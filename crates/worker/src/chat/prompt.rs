//! From a conversation to the text of its prompt, by the model's template.

use serde_json::Value;
use tokenizer::{ChatInput, ChatTemplate, RenderedChat, Tokenizer, TokenizerError};

use super::family::Family;
use super::messages::{self, Shape};
use super::{Chat, history};
use crate::WorkerError;

/// A conversation's prompt, and in which form it will be answered.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) rendered: RenderedChat,
    pub(crate) text: String,
    pub(crate) family: Family,
}

/// Writes the prompt.
pub(crate) fn render(tokenizer: &Tokenizer, chat: &Chat) -> Result<Written, WorkerError> {
    messages::check(chat)?;
    check_roles(tokenizer, chat)?;
    let template = template_for(tokenizer, chat).ok_or(WorkerError::NoChatTemplate)?;
    let family = Family::of(tokenizer, Some(template));
    let shape = shape_of(template);
    let write = |shape: Shape| -> Result<_, WorkerError> {
        let messages = history::adapt(messages::normalise(&chat.messages, shape)?, chat.offered(), &family);
        let input = input(chat, &messages, &family);
        Ok(tokenizer.render_chat(template, &input))
    };
    let rendered = match write(shape)? {
        // Templates of before there were objects join the text of arguments.
        Err(error @ TokenizerError::TemplateRender { .. }) if has_calls(chat) => {
            // Where neither will do, the first complaint is about the usual shape.
            write(Shape { text_arguments: true, ..shape })?.map_err(|_| error)?
        }
        rendered => rendered?,
    };
    Ok(Written { text: rendered.text(), rendered, family })
}

/// What the template's text says of how it takes messages.
fn shape_of(template: &ChatTemplate) -> Shape {
    let has = |text: &str| template.source().contains(text);
    let asks_for_null = ["content is n", "content'] is n", "content\"] is n"];
    Shape {
        text_arguments: false,
        developer_is_system: !has("developer"),
        null_content: asks_for_null.into_iter().any(has),
    }
}

/// Some files have a template of its own for conversations with tools.
fn template_for<'a>(tokenizer: &'a Tokenizer, chat: &Chat) -> Option<&'a ChatTemplate> {
    let tool_use = (!chat.offered().is_empty()).then(|| tokenizer.named_chat_template("tool_use")).flatten();
    tool_use.or_else(|| tokenizer.chat_template())
}

fn has_calls(chat: &Chat) -> bool {
    chat.messages.iter().any(|message| message.get("tool_calls").is_some_and(Value::is_array))
}

fn input<'a>(chat: &'a Chat, messages: &'a [Value], family: &Family) -> ChatInput<'a> {
    let tools = if family.template_has_tools { chat.offered() } else { &[] };
    ChatInput {
        messages,
        add_generation_prompt: chat.add_generation_prompt,
        tools: (!tools.is_empty()).then_some(tools),
        extra: &chat.extra,
        now: None,
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
