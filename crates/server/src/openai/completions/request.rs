//! What does a completion's body say, and how does the worker put it?

use serde::Deserialize;
use worker::{Before, Defaults, Prompt, Request, Worker, WorkerError};

use crate::context::Context;
use crate::error::ApiError;
use crate::openai::body::Body;
use crate::openai::sampling::{Likely, Sampling};
use crate::state::Served;

/// The schema `CompletionRequest`.
#[derive(Debug, Deserialize)]
pub(crate) struct CompletionRequest {
    #[serde(flatten)]
    pub(in crate::openai) sampling: Sampling,
    prompt: Prompts,
    suffix: Option<String>,
    pub(super) logprobs: Option<u32>,
    pub(super) echo: Option<bool>,
    pub(super) prompt_logprobs: Option<u32>,
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
        if let Some(best_of) = self.best_of.filter(|&n| n != self.sampling.n()) {
            let message = format!("expected n, {}, found {best_of}", self.sampling.n());
            return Err(ApiError::invalid("best_of", message));
        }
        if let (Some(n), Some(found)) = (self.logprobs, self.prompt_logprobs)
            && n != found
        {
            let message = format!("expected as many as logprobs, {n}, found {found}");
            return Err(ApiError::invalid("prompt_logprobs", message));
        }
        if self.prompt_logprobs.is_some() && self.sampling.stream == Some(true) {
            let message = "expected no stream beside it: it comes with the whole answer";
            return Err(ApiError::invalid("prompt_logprobs", message));
        }
        if self.suffix().is_some() && self.echoes_logprobs() {
            let message =
                "expected false beside suffix and logprobs: the prompt is not the text that would be scored";
            return Err(ApiError::invalid("echo", message));
        }
        self.sampling.check_receipt()
    }

    /// What follows the answer, if anything.
    pub(super) fn suffix(&self) -> Option<&str> {
        self.suffix.as_deref().filter(|suffix| !suffix.is_empty())
    }

    /// Whether an answer's log probabilities begin with those of its prompt.
    pub(super) fn echoes_logprobs(&self) -> bool {
        self.echo == Some(true) && self.logprobs.is_some()
    }

    /// The prompts, and the request for each of them.
    pub(super) fn into_request(
        self,
        defaults: Defaults,
        context: &Context,
    ) -> Result<(Request, Vec<OnePrompt>), ApiError> {
        let likely = Likely {
            n_alternatives: self.logprobs.or(self.prompt_logprobs).unwrap_or(0),
            of_prompt: self.echoes_logprobs() || self.prompt_logprobs.is_some(),
        };
        let add_special = self.add_special_tokens.unwrap_or(true);
        let text = |text| OnePrompt::Text { text, add_special };
        let prompts = match self.prompt {
            Prompts::Text(one) => vec![text(one)],
            Prompts::Tokens(ids) => vec![OnePrompt::Tokens(ids)],
            Prompts::Texts(texts) => texts.into_iter().map(text).collect(),
            Prompts::TokenLists(lists) => lists.into_iter().map(OnePrompt::Tokens).collect(),
        };
        let empty = Prompt::Tokens(Vec::new());
        Ok((self.sampling.request(empty, likely, defaults, context)?, prompts))
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

    /// The prompt whose answer stands between this and a suffix.
    pub(super) fn before(self, suffix: &str, worker: &Worker) -> Result<Prompt, WorkerError> {
        let before = match self {
            OnePrompt::Text { text, add_special } => Before::Text { text, add_special },
            OnePrompt::Tokens(ids) => Before::Tokens(ids),
        };
        worker.fill_between(before, suffix, "suffix").map(Prompt::Tokens)
    }

    pub(super) fn into_worker(self) -> Prompt {
        match self {
            OnePrompt::Text { text, add_special } => Prompt::Text { text, add_special, parse_special: true },
            OnePrompt::Tokens(ids) => Prompt::Tokens(ids),
        }
    }
}
