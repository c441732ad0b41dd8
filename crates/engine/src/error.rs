//! Why a request was refused or failed.

use std::any::Any;
use std::time::Duration;

use device::ExecutorError;
use thiserror::Error;

/// Why a request was refused or failed. Many requests may fail for one reason, so it can be cloned. Each variant says whether the same
/// request can succeed later or elsewhere; [`EngineError::is_retriable`] is that answer as code.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EngineError {
    /// The request cannot run on this executor, however long it waits. A retry does not help.
    #[error("{field}: expected {expected}, found {found}")]
    Request {
        /// A field of [`crate::EngineRequest`].
        field: &'static str,
        /// What would be accepted.
        expected: String,
        /// What was given.
        found: String,
    },
    /// Too many of the client's requests are unfinished, for all others that there are. A retry helps once some have ended.
    #[error("busy: this client may have {limit} unfinished requests now, and has as many")]
    Busy {
        /// How many of the client's may be unfinished now.
        limit: usize,
    },
    /// The logits, mask and bans left no token to choose. A retry gives the same logits, so it does not help.
    #[error("no token may be chosen at position {position}: every logit is masked, banned or not a number")]
    NothingAllowed {
        /// Position in the sequence.
        position: usize,
    },
    /// The logits left no token to choose though the request cannot have excluded all of them: the model or the device is broken, not the request. Others
    /// may be answered; a retry does not help here.
    #[error(
        "the model gives no token a probability at position {position}: its logits or hidden values are not numbers"
    )]
    NotNumbers {
        /// Position in the sequence.
        position: usize,
    },
    /// The request's constraint failed, panicked or gave a mask of another vocabulary; no other request is affected. A retry does not help.
    #[error("the request's constraint failed: {0}")]
    Constraint(String),
    /// One mask of the request's constraint took too long; no other request is affected. A retry seldom helps.
    #[error("the request's constraint has not come to one token's mask within {after:?}")]
    SlowConstraint {
        /// How long it may take.
        after: Duration,
    },
    /// The device failed; this engine accepts nothing more. A retry helps elsewhere, or once the program is started anew.
    #[error("device error: {0}")]
    Device(String),
    /// A call into the device or a constraint did not return; this engine accepts nothing more. A retry helps elsewhere, or once the program
    /// is started anew.
    #[error("the engine is stalled: one {call} has lasted longer than {after:?}")]
    Stalled {
        /// Which call.
        call: &'static str,
        /// How long it may last.
        after: Duration,
    },
    /// The model is not wholly in the device's own memory any more; this engine accepts nothing more. A retry helps elsewhere, or
    /// once the program is started anew.
    #[error("the model is not wholly in the device's own memory any more")]
    NotResident,
    /// The model's file was cut short or written to while it was in use; this engine accepts nothing more. A retry helps elsewhere, or once the
    /// program is started anew.
    #[error("MODEL_LOST: {0}")]
    ModelLost(String),
    /// The engine failed for another reason, such as a panic; it accepts nothing more. Such a fault is the program's and not the request's, so
    /// a retry may help elsewhere, or once the program is started anew.
    #[error("the engine failed: {0}")]
    Failed(String),
    /// The engine was shut down before the request had ended. A retry helps elsewhere, or once the program is started anew.
    #[error("the engine is shut down")]
    Stopped,
}

impl EngineError {
    /// Whether the same request can succeed later, elsewhere, or once the program is started anew.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            EngineError::Request { .. }
            | EngineError::NothingAllowed { .. }
            | EngineError::NotNumbers { .. }
            | EngineError::SlowConstraint { .. }
            | EngineError::Constraint(_) => false,
            EngineError::Busy { .. }
            | EngineError::Device(_)
            | EngineError::Stalled { .. }
            | EngineError::NotResident
            | EngineError::ModelLost(_)
            | EngineError::Failed(_)
            | EngineError::Stopped => true,
        }
    }
}

/// What a panic said.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    if let Some(text) = panic.downcast_ref::<&str>() {
        text
    } else {
        panic.downcast_ref::<String>().map_or("no message", String::as_str)
    }
}

/// What an executor's error means for the requests that meet it.
impl From<ExecutorError> for EngineError {
    fn from(error: ExecutorError) -> EngineError {
        match error {
            ExecutorError::Device(text) => EngineError::Device(text),
            ExecutorError::ModelLost(text) => EngineError::ModelLost(text),
            other => EngineError::Failed(other.to_string()),
        }
    }
}
