//! How are numbers read that flags take?

use std::num::NonZeroUsize;

/// The most threads: more than any machine has processors. Each takes memory of its own.
const MAX_THREADS: usize = 4096;

/// Reads a count for a flag.
pub(crate) fn at_least_one(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|_| "expected a whole number of at least 1".to_owned())
}

/// Reads a number of threads for a flag.
pub(crate) fn threads(text: &str) -> Result<NonZeroUsize, String> {
    at_least_one(text)
        .ok()
        .filter(|n| n.get() <= MAX_THREADS)
        .ok_or_else(|| format!("expected a whole number from 1 to {MAX_THREADS}"))
}
