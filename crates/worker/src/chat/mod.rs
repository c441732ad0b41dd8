//! A conversation as chat clients write it, and its answer told apart into text, reasoning and calls of tools.
//!
//! Messages are JSON objects in the shape of OpenAI's chat API; the model's template writes them down. Of the answer a
//! [`ChatGeneration`] says what each part is as it streams.

mod answer;
mod calls;
mod event;
mod family;
mod generation;
mod history;
mod lost;
mod messages;
mod probe;
mod prompt;
mod reading;
mod shape;
#[cfg(test)]
mod tests;

use serde_json::{Value, json};

pub use answer::{ThinkStart, ThinkTags};
pub use event::{ChatDelta, ChatEvent, Finish, ToolCallDelta};
pub use generation::ChatGeneration;
pub use reading::{CallForm, ChatForm};

pub(crate) use generation::start;
pub(crate) use prompt::render;
pub(crate) use reading::Reading;
pub(crate) use shape::grammar;

/// The most messages of a conversation.
pub const MAX_MESSAGES: usize = 4096;

/// The most tools of a conversation.
pub const MAX_TOOLS: usize = 128;

/// A conversation to be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chat {
    /// In order: objects with `role`, `content` (text, a list of parts of type `text`, or null), and what else the role has:
    /// `name`, `tool_calls` (whose `function.arguments` are JSON as text, or objects), `tool_call_id`, `reasoning_content`.
    pub messages: Vec<Value>,
    /// What may be called: `{"type": "function", "function": {"name", "description", "parameters"}}`.
    pub tools: Vec<Value>,
    /// Whether one has to be called.
    pub tool_choice: ToolChoice,
    /// May one answer call several tools? Where one is named, it is called once all the same.
    pub parallel_tool_calls: bool,
    /// More variables of the template by name, such as `enable_thinking`.
    pub extra: Vec<(String, Value)>,
    /// Does the prompt end with the start of an answer? Without it the last message is continued as the template leaves it.
    pub add_generation_prompt: bool,
    /// Does the prompt end with the text of the last message, an assistant's, so that the answer goes on with it? Then no start of an answer
    /// follows.
    pub continue_final_message: bool,
}

impl Chat {
    /// A conversation without tools.
    #[must_use]
    pub fn new(messages: Vec<Value>) -> Chat {
        Chat {
            messages,
            tools: Vec::new(),
            tool_choice: ToolChoice::Auto,
            parallel_tool_calls: true,
            extra: Vec::new(),
            add_generation_prompt: true,
            continue_final_message: false,
        }
    }

    /// The tools that this answer may call.
    pub(crate) fn offered(&self) -> &[Value] {
        if self.tool_choice == ToolChoice::None { &[] } else { &self.tools }
    }

    /// Does the answer end after its first call?
    pub(crate) fn one_call(&self) -> bool {
        !self.parallel_tool_calls || matches!(self.tool_choice, ToolChoice::Named(_))
    }
}

/// Whether an answer calls a tool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// As the model likes.
    #[default]
    Auto,
    /// It does not, and does not hear of the tools.
    None,
    /// It calls one or more.
    Required,
    /// It calls the one of this name.
    Named(String),
}

/// A message of text.
#[must_use]
pub fn message(role: &str, content: &str) -> Value {
    json!({ "role": role, "content": content })
}
