//! What does a completion's body say, and how does the worker put it?

use serde::Deserialize;
use worker::{Defaults, Prompt, Request};

use crate::context::Context;
use crate::error::ApiError;
use crate::openai::body::Body;
use crate::openai::sampling::Sampling;
use crate::state::Served;

/// The schema `CompletionRequest`.
#[derive(Debug, Deserialize)]
pub(crate) struct CompletionRequest {
    #[serde(flatten)]
    pub(in crate::openai) sampling: Sampling,
    prompt: Prompts,
    pub(super) logprobs: Option<u32>,
    pub(super) echo: Option<bool>,
    best_of: Option<usize>,
    add_special_tokens: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Prompts {
    Text(String),
    Tokens(Vec<u32>),
    Texts(Vec<String>),
    TokenLists(Vec<Vec<u32>>),
}

/// One prompt.
pub(super) enum OnePrompt {
    Text { text: String, add_special: bool },
    Tokens(Vec<u32>),
}

impl Body for CompletionRequest {
    const SCHEMA: &'static str = "CompletionRequest";
}

impl CompletionRequest {
    /// Checks what fields say together.
    pub(super) fn check(&self) -> Result<(), ApiError> {
        match self.best_of {
            Some(best_of) if best_of != self.sampling.n() => {
                let message = format!("expected n, {}, found {best_of}", self.sampling.n());
                Err(ApiError::invalid("best_of", message))
            }
            _ => Ok(()),
        }
    }

    /// Whether the log probabilities of the prompt's own tokens are wanted.
    pub(super) fn scores_prompt(&self) -> bool {
        self.echo == Some(true) && self.logprobs.is_some()
    }

    /// The prompts, and the request for each of them.
    pub(super) fn into_request(
        self,
        defaults: Defaults,
        context: &Context,
    ) -> Result<(Request, Vec<OnePrompt>), ApiError> {
        let add_special = self.add_special_tokens.unwrap_or(true);
        let text = |text| OnePrompt::Text { text, add_special };
        let prompts = match self.prompt {
            Prompts::Text(one) => vec![text(one)],
            Prompts::Tokens(ids) => vec![OnePrompt::Tokens(ids)],
            Prompts::Texts(texts) => texts.into_iter().map(text).collect(),
            Prompts::TokenLists(lists) => lists.into_iter().map(OnePrompt::Tokens).collect(),
        };
        let empty = Prompt::Tokens(Vec::new());
        let n_alternatives = self.logprobs.unwrap_or(0);
        Ok((self.sampling.request(empty, n_alternatives, defaults, context)?, prompts))
    }
}

impl OnePrompt {
    /// As an answer repeats it.
    pub(super) fn text(&self, served: &Served) -> String {
        match self {
            OnePrompt::Text { text, .. } => text.clone(),
            OnePrompt::Tokens(ids) => served.worker.tokenizer().decode(ids, true),
        }
    }

    pub(super) fn into_worker(self) -> Prompt {
        match self {
            OnePrompt::Text { text, add_special } => Prompt::Text { text, add_special, parse_special: true },
            OnePrompt::Tokens(ids) => Prompt::Tokens(ids),
        }
    }
}
