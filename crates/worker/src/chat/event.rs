//! What a chat's client hears, in order: at most one `Started`, any number of `Prompt` and then of `Delta`, one `End` or `Error`.

use device::Sampled;
use engine::{EngineError, Scored, Timings, Usage};

use crate::StopReason;

/// What happens to a chat.
#[derive(Clone, Debug, PartialEq)]
pub enum ChatEvent {
    /// It runs from now on.
    Started {
        /// Tokens of the prompt.
        n_prompt: usize,
        /// The seed that was given or drawn.
        seed: u64,
    },
    /// How likely the next of the prompt's tokens were, where that was asked for.
    Prompt(Vec<Scored>),
    /// More of the answer.
    Delta(ChatDelta),
    /// The answer is complete. Terminal.
    End {
        /// What ended it.
        reason: StopReason,
        /// The same in the words of chat clients.
        finish: Finish,
        /// What was computed for it.
        usage: Usage,
        /// How long it took.
        timings: Timings,
        /// Of the answer's tokens, those of reasoning.
        n_reasoning: usize,
    },
    /// The request failed. Terminal.
    Error(EngineError),
}

/// More of an answer. Any field may be empty; texts are whole characters.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChatDelta {
    /// What the user is told.
    pub content: String,
    /// What the model thinks before it.
    pub reasoning: String,
    /// Calls of tools: pieces of one call have one index, and the first of them has its id and name.
    pub tool_calls: Vec<ToolCallDelta>,
    /// The tokens since the last delta whose part is decided, those of markup among them.
    pub tokens: Vec<Sampled>,
    /// For each of `tokens`: does it belong to the content?
    pub is_content: Vec<bool>,
}

impl ChatDelta {
    /// The tokens that belong to the content: those of which chat clients want log probabilities.
    pub fn content_tokens(&self) -> impl Iterator<Item = &Sampled> {
        self.tokens
            .iter()
            .zip(&self.is_content)
            .filter(|(_, is_content)| **is_content)
            .map(|(token, _)| token)
    }

    /// Is there nothing in it?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.content.is_empty()
            && self.reasoning.is_empty()
            && self.tool_calls.is_empty()
            && self.tokens.is_empty()
    }
}

/// More of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolCallDelta {
    /// Which call of the answer, from 0.
    pub index: usize,
    /// With the first piece.
    pub id: Option<String>,
    /// With the first piece.
    pub name: Option<String>,
    /// The next of the JSON text of its arguments.
    pub arguments: String,
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model was done, or a stop string came.
    Stop,
    /// `max_tokens`, or the context is full.
    Length,
    /// The model waits for what the tools say.
    ToolCalls,
    /// The client asked.
    Cancelled,
    /// The request's time is over.
    Deadline,
}
