//! How is a conversation's answer read? In plain data, since a receipt has to say it: what is content decides where stop strings are looked for,
//! and a call may end the answer.

use serde::{Deserialize, Serialize};
use tokenizer::Tokenizer;

use super::answer::{Answer, Body, Harmony, HarmonyIds, Tagged, Think, ThinkStart};
use crate::WorkerError;

/// How an answer is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChatForm {
    /// How calls of tools, and with gpt-oss all parts, are written.
    pub calls: CallForm,
    /// Whether reasoning between tags comes first.
    pub thinking: ThinkStart,
    /// The names of the tools that may be called.
    pub tools: Vec<String>,
    /// Does the answer end with its first call?
    pub one_call: bool,
}

/// The form of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallForm {
    /// `<tool_call>{"name": .., "arguments": ..}</tool_call>`.
    Tagged,
    /// `{"name": .., "parameters": ..}` and nothing else.
    Bare,
    /// Messages between gpt-oss's special tokens.
    Harmony,
}

/// What reads an answer.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    pub(crate) parser: Answer,
    /// It ends with its first call.
    pub(crate) one_call: bool,
}

impl Reading {
    /// Of an answer in which everything is content.
    pub(crate) fn plain() -> Reading {
        Reading { parser: Answer::Marked(Think::new(ThinkStart::None, Body::Plain)), one_call: false }
    }
}

impl ChatForm {
    /// What reads such an answer of this model.
    pub(crate) fn reading(&self, tokenizer: &Tokenizer) -> Result<Reading, WorkerError> {
        let names = self.tools.clone();
        let body = match self.calls {
            CallForm::Harmony => {
                let ids = HarmonyIds::of(tokenizer).ok_or_else(|| WorkerError::Invalid {
                    field: "chat",
                    expected: "a vocabulary with gpt-oss's special tokens".to_owned(),
                    found: "another".to_owned(),
                })?;
                let parser = Answer::Harmony(Harmony::new(ids, names));
                return Ok(Reading { parser, one_call: self.one_call });
            }
            _ if names.is_empty() => Body::Plain,
            CallForm::Tagged => Body::Tagged(Tagged::new()),
            CallForm::Bare => Body::bare(names),
        };
        Ok(Reading { parser: Answer::Marked(Think::new(self.thinking, body)), one_call: self.one_call })
    }
}
