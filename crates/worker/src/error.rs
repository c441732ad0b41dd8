//! Why a request is not run.

use thiserror::Error;

/// Why a request is not run.
#[derive(Debug, Error)]
pub enum WorkerError {
    /// A field of the request is not acceptable.
    #[error("{field}: expected {expected}, found {found}")]
    Invalid {
        /// The field's name, as in [`crate::Request`] or [`device::SamplingParams`].
        field: &'static str,
        /// What would be accepted.
        expected: String,
        /// What was given; never the text itself.
        found: String,
    },
    /// The prompt is longer than the context.
    #[error(
        "prompt: expected at most {longest} tokens, found {n_prompt}, {} too many: shorten it, or start with a --ctx of at least {}",
        n_prompt - longest,
        n_prompt.saturating_add(1)
    )]
    TooLong {
        /// Tokens.
        n_prompt: usize,
        /// The most tokens, which leave room for one more.
        longest: usize,
        /// Tokens of the context.
        n_ctx: usize,
    },
    /// The model or its device is not for what is asked.
    #[error("this model gives no {what}: {why}")]
    Unfit {
        /// What is asked for, in the plural.
        what: &'static str,
        /// Why there is none.
        why: &'static str,
    },
    /// A part of a conversation is not acceptable.
    #[error("{path}: expected {expected}, found {found}")]
    Message {
        /// Where, such as `messages[2].content[0].type`.
        path: String,
        /// What would be accepted.
        expected: &'static str,
        /// What was given; never the text itself.
        found: String,
    },
    /// The request is a conversation, and the model's file says nothing of how to write one down.
    #[error("the model has no chat template, so a conversation cannot be a prompt for it")]
    NoChatTemplate,
    /// The prompt cannot be rendered or tokenised.
    #[error(transparent)]
    Tokenizer(tokenizer::TokenizerError),
    /// The work on it was ended before it reached the engine.
    #[error(transparent)]
    Stopped(tokenizer::Stopped),
    /// Too much is prepared for other requests; the same one may be accepted later.
    #[error("busy: {what}")]
    Overloaded {
        /// What is too much.
        what: &'static str,
    },
    /// The engine refuses.
    #[error(transparent)]
    Engine(#[from] engine::EngineError),
}

impl From<tokenizer::TokenizerError> for WorkerError {
    fn from(error: tokenizer::TokenizerError) -> WorkerError {
        match error {
            tokenizer::TokenizerError::TemplateStopped { why, .. } => WorkerError::Stopped(why),
            error => WorkerError::Tokenizer(error),
        }
    }
}
