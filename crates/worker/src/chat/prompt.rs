//! From a conversation to the text of its prompt, by the model's template.

use serde_json::Value;
use tokenizer::{ChatInput, ChatTemplate, Tokenizer, TokenizerError};

use super::Chat;
use super::messages::{self, Shape};
use crate::WorkerError;

/// The prompt's text.
pub(crate) fn render(tokenizer: &Tokenizer, chat: &Chat) -> Result<String, WorkerError> {
    messages::check(chat)?;
    let template = template_for(tokenizer, chat).ok_or(WorkerError::NoChatTemplate)?;
    let developer_is_system = !template.source().contains("developer");
    let shape = Shape { developer_is_system, ..Shape::default() };
    let text = write(template, chat, &messages::normalise(&chat.messages, shape)?);
    match text {
        // Templates of before there were objects join the text of arguments.
        Err(TokenizerError::TemplateRender { .. }) if has_calls(chat) => {
            let shape = Shape { text_arguments: true, ..shape };
            let again = write(template, chat, &messages::normalise(&chat.messages, shape)?);
            // Where neither will do, the first complaint is about the usual shape.
            if again.is_ok() { Ok(again?) } else { Ok(text?) }
        }
        text => Ok(text?),
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

fn write(template: &ChatTemplate, chat: &Chat, messages: &[Value]) -> Result<String, TokenizerError> {
    let tools = chat.offered();
    template.render(&ChatInput {
        messages,
        add_generation_prompt: chat.add_generation_prompt,
        tools: (!tools.is_empty()).then_some(tools),
        extra: &chat.extra,
        now: None,
    })
}
