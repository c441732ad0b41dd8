//! Which rows of the residual stream are wanted themselves?

use std::ops::Range;

/// Which rows of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HiddenRows {
    /// All of them.
    All,
    /// The first.
    First,
    /// The last.
    Last,
}

impl HiddenRows {
    /// Their indices in a span of `n` rows.
    #[must_use]
    pub fn of(self, n: usize) -> Range<usize> {
        match self {
            HiddenRows::All => 0..n,
            HiddenRows::First => 0..n.min(1),
            HiddenRows::Last => n.saturating_sub(1)..n,
        }
    }
}
