//! Why a request was refused or failed.

use model::ExecutorError;
use thiserror::Error;

/// Why a request was refused or failed. Many requests may fail for one reason, so it can be cloned.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EngineError {
    /// The request cannot run on this executor, however long it waits.
    #[error("{field}: expected {expected}, found {found}")]
    Request {
        /// A field of [`crate::EngineRequest`].
        field: &'static str,
        /// What would be accepted.
        expected: String,
        /// What was given.
        found: String,
    },
    /// Too many requests are unfinished; the same request may be accepted later.
    #[error("busy: at most {limit} unfinished requests, and there are as many")]
    Busy {
        /// How many may be unfinished.
        limit: usize,
    },
    /// The logits, mask and bans left no token to choose.
    #[error("no token may be chosen at position {position}: every logit is masked, banned or not a number")]
    NothingAllowed {
        /// Position in the sequence.
        position: usize,
    },
    /// The device failed; this engine accepts nothing more.
    #[error("device error: {0}")]
    Device(String),
    /// The engine failed for another reason, such as a panic; it accepts nothing more.
    #[error("the engine failed: {0}")]
    Failed(String),
    /// The engine was shut down before the request had ended.
    #[error("the engine is shut down")]
    Stopped,
}

/// What an executor's error means for the requests that meet it.
impl From<ExecutorError> for EngineError {
    fn from(error: ExecutorError) -> EngineError {
        match error {
            ExecutorError::Device(text) => EngineError::Device(text),
            other => EngineError::Failed(other.to_string()),
        }
    }
}
