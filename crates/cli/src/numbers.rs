//! How are numbers read that flags take?

use std::num::NonZeroUsize;

/// Reads a count for a flag.
pub(crate) fn at_least_one(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|_| "expected a whole number of at least 1".to_owned())
}
