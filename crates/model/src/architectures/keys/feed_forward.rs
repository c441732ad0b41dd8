//! The feed-forward's keys: widths and experts.

use std::ops::RangeInclusive;

use super::{Keys, N_WIDTH};
use crate::architecture::FeedForwardKind;
use crate::error::ModelError;

const N_EXPERT: RangeInclusive<usize> = 1..=1 << 16;
/// Experts that a token may use: published models have 1 to 12, and a step's buffers grow with it.
const MAX_USED_EXPERT: usize = 256;

impl Keys<'_> {
    /// Width of the feed-forward.
    ///
    /// # Errors
    /// Absent or out of range.
    pub fn n_ff(&self) -> Result<usize, ModelError> {
        self.size("feed_forward_length", N_WIDTH, None)
    }

    /// `expert_count` and `expert_used_count`; the gated kind where the file has no experts.
    ///
    /// # Errors
    /// Out of range, or more experts used than there are.
    pub fn experts(&self) -> Result<FeedForwardKind, ModelError> {
        if self.usize_of("expert_count")?.unwrap_or(0) == 0 {
            return Ok(FeedForwardKind::Gated);
        }
        let n_expert = self.size("expert_count", N_EXPERT, None)?;
        let n_used = self.size("expert_used_count", 1..=n_expert.min(MAX_USED_EXPERT), None)?;
        Ok(FeedForwardKind::Experts { n_expert, n_used })
    }

    /// `expert_feed_forward_length`: the hidden width of one expert.
    ///
    /// # Errors
    /// Out of range.
    pub fn expert_width(&self, default: usize) -> Result<usize, ModelError> {
        self.size("expert_feed_forward_length", N_WIDTH, Some(default))
    }
}
