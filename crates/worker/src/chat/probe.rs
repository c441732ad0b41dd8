//! What does a template read? Asked by rendering short conversations with a word that no template writes itself: what a client said may be a
//! part of what the template writes, and would seem to be there.

use serde_json::Value;
use tokenizer::{ChatInput, ChatTemplate, Tokenizer};

use super::{Chat, history, message};
use crate::Work;

pub(super) const WORD: &str = "qzxvkwjyqzxvkwjy";

/// What a template was found to read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reads {
    /// The parts of a user's content, and no text.
    pub(super) parts: bool,
    /// Those of an assistant's too.
    pub(super) other_parts: bool,
    /// A system message; also true where the template does not render the conversations that are tried.
    pub(super) system: bool,
}

impl Reads {
    /// Tries what this conversation needs to know.
    pub(super) fn of(tokenizer: &Tokenizer, template: &ChatTemplate, chat: &Chat, work: &Work) -> Reads {
        let shows = |messages: Vec<Value>| {
            let input = ChatInput {
                messages: &messages,
                add_generation_prompt: true,
                tools: None,
                extra: &chat.extra,
                now: None,
                stop: work.stop(),
            };
            let text = tokenizer.render_chat(template, &input).map(|rendered| rendered.text());
            text.is_ok_and(|text| text.contains(WORD) && !is_printed(&text))
        };
        let in_parts = |messages| history::in_parts(messages, history::is_told);
        let user = vec![message("user", WORD)];
        let text = shows(user.clone());
        let parts = !text && template.source().contains("text") && shows(in_parts(user));
        let told = |messages| if parts { in_parts(messages) } else { messages };
        let answered = || vec![message("user", "hi"), message("assistant", WORD), message("user", "hi")];
        let other_parts =
            parts && chat.messages.iter().any(|said| !history::is_told(said)) && !shows(told(answered()));
        let instructs =
            chat.messages.iter().any(|said| said["role"] == "system" || said["role"] == "developer");
        if !(text || parts) || (!instructs && chat.offered().is_empty()) {
            return Reads { parts, other_parts, system: true };
        }
        let system = vec![message("system", WORD), message("user", "hi")];
        Reads { parts, other_parts, system: shows(told(system)) }
    }
}

/// Was a list written as Python prints it, or as JSON? A template that takes text does that to one.
pub(super) fn is_printed(text: &str) -> bool {
    ["'type': 'text'", "\"type\": \"text\""].into_iter().any(|printed| text.contains(printed))
}
