//! What can the kernels not compute? Said by name.

use thiserror::Error;

/// What the kernels cannot compute.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("not supported on a GPU: {what}: expected {expected}, found {found}")]
pub struct Unsupported {
    /// Of the model.
    pub what: &'static str,
    /// What the kernels are made for.
    pub expected: String,
    /// What the model has.
    pub found: String,
}

#[allow(clippy::needless_pass_by_value)] // So that callers can pass what they make on the spot.
pub(super) fn unsupported(
    what: &'static str,
    expected: impl ToString,
    found: impl ToString,
) -> Result<(), Unsupported> {
    Err(Unsupported { what, expected: expected.to_string(), found: found.to_string() })
}
