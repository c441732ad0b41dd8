//! Why text cannot be turned into ids, or a conversation into text.

use thiserror::Error;

/// Why a tokenizer cannot be loaded or used.
#[derive(Debug, Error)]
pub enum TokenizerError {
    /// The file itself.
    #[error(transparent)]
    Gguf(#[from] gguf::GgufError),
    /// The file has no vocabulary that can be used, and nothing beside it has one.
    #[error("no usable vocabulary: {found}; expected {expected}")]
    NoVocabulary {
        /// What the file says.
        found: String,
        /// What would be accepted.
        expected: String,
    },
    /// A key that the vocabulary needs is missing.
    #[error("{key}: missing; {why}")]
    Missing {
        /// The metadata key.
        key: String,
        /// What it is needed for.
        why: &'static str,
    },
    /// A value contradicts another or is outside what is possible.
    #[error("{key}: expected {expected}, found {found}")]
    Value {
        /// The metadata key or JSON field, with the index where it is an array.
        key: String,
        /// What would be accepted.
        expected: String,
        /// What the file says.
        found: String,
    },
    /// Something is larger than this crate's bounds (see [`crate::limits`]).
    #[error("{what}: at most {limit}, found {found}")]
    TooLarge {
        /// What was measured, with its unit.
        what: &'static str,
        /// The bound.
        limit: u64,
        /// What was found.
        found: u64,
    },
    /// A tokenizer.json that cannot be read.
    #[error("{path}: {why}")]
    Json {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// A chat template is not valid Jinja.
    #[error("chat template: line {line}: {why}")]
    TemplateSyntax {
        /// What is wrong.
        why: String,
        /// The line of the template, from 1.
        line: usize,
    },
    /// A chat template failed on this conversation.
    #[error("chat template: line {line}: {why}")]
    TemplateRender {
        /// What went wrong.
        why: String,
        /// The line of the template, from 1.
        line: usize,
    },
    /// A chat template refused the conversation with `raise_exception`.
    #[error("chat template refused the conversation: {0}")]
    TemplateRaised(String),
    /// A rendering was ended from outside before it was done; see [`crate::Stop`].
    #[error("chat template: line {line}: {why}")]
    TemplateStopped {
        /// What ended it.
        why: Stopped,
        /// The line of the template, from 1.
        line: usize,
    },
    /// A chat template went past one of the bounds in [`crate::limits`].
    #[error("chat template: line {line}: more than {limit} {what}")]
    TemplateLimit {
        /// What was counted.
        what: &'static str,
        /// The bound.
        limit: u64,
        /// The line of the template, from 1.
        line: usize,
    },
}

/// What ended a rendering from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Stopped {
    /// Its time was over.
    #[error("the request's time was over before its prompt was written")]
    Deadline,
    /// Nobody waits for it any more.
    #[error("the client left before its prompt was written")]
    Cancelled,
}
