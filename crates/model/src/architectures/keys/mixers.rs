//! Keys of layers whose mixer is a recurrence, and of which layers these are.

use std::ops::RangeInclusive;

use gguf::{Array, Value};

use super::attention::{HEAD_DIM, N_HEAD};
use super::{Keys, N_LAYER};
use crate::architecture::DeltaRule;
use crate::error::ModelError;

/// Taps of a convolution; published models have 3 and 4.
const N_TAP: RangeInclusive<usize> = 2..=64;

impl Keys<'_> {
    /// Key and value heads by block, 0 in layers without attention, and the number that the others share.
    ///
    /// # Errors
    /// No list of one number a layer, or layers that differ otherwise.
    pub fn kv_heads(&self) -> Result<(Vec<usize>, usize), ModelError> {
        let (key, n_block) = ("attention.head_count_kv", self.n_block()?);
        let expected = format!("0 or one and the same number for each of {n_block} layers");
        let list = self.list(key, n_block, &expected)?;
        let heads = list.and_then(|list| list.integers()?.map(|n| usize::try_from(n).ok()).collect());
        let heads: Vec<usize> = heads.unwrap_or_default();
        let n = heads.iter().copied().max().unwrap_or_default();
        if N_HEAD.contains(&n) && heads.iter().all(|&heads| heads == 0 || heads == n) {
            return Ok((heads, n));
        }
        Err(self.wrong(key, expected, "others"))
    }

    /// `shortconv.l_cache` or `ssm.conv_kernel`: the taps of a convolution.
    ///
    /// # Errors
    /// Absent or out of range.
    pub fn n_tap(&self, key: &str) -> Result<usize, ModelError> {
        self.size(key, N_TAP, None)
    }

    /// Sizes of a gated delta rule.
    ///
    /// # Errors
    /// Absent or out of range, value heads that do not share key heads evenly, another `ssm.inner_size` than theirs.
    pub fn delta_rule(&self) -> Result<DeltaRule, ModelError> {
        let rule = DeltaRule {
            n_k_head: self.size("ssm.group_count", N_HEAD, None)?,
            n_v_head: self.size("ssm.time_step_rank", N_HEAD, None)?,
            head_dim: self.size("ssm.state_size", HEAD_DIM, None)?,
            n_tap: self.n_tap("ssm.conv_kernel")?,
        };
        if !rule.n_v_head.is_multiple_of(rule.n_k_head) {
            let expected = format!("a divisor of time_step_rank = {}", rule.n_v_head);
            return Err(self.wrong("ssm.group_count", expected, rule.n_k_head));
        }
        let n_v = rule.n_v();
        self.size("ssm.inner_size", n_v..=n_v, None)?;
        Ok(rule)
    }

    /// Which blocks are recurrent: as `attention.recurrent_layers` lists them, else all but the last of each `full_attention_interval`.
    ///
    /// # Errors
    /// A list of another length, neither of the two.
    pub fn recurrent_layers(&self) -> Result<Vec<bool>, ModelError> {
        let (key, n_block) = ("attention.recurrent_layers", self.n_block()?);
        let expected = format!("true or false for each of {n_block} layers");
        let Some(list) = self.list(key, n_block, &expected)? else {
            let interval = self.size("full_attention_interval", N_LAYER, None)?;
            return Ok((0..n_block).map(|n| (n + 1) % interval != 0).collect());
        };
        list.bools().map(Iterator::collect).ok_or_else(|| self.wrong(key, expected, "others"))
    }

    /// `rope.dimension_sections`: which of a token's four coordinates turns each pair. A token of text has the same in all, so only
    /// their sum matters.
    ///
    /// # Errors
    /// Absent, or not four numbers that add up to the pairs of `n_rot` values.
    pub fn check_sections(&self, n_rot: usize) -> Result<(), ModelError> {
        let key = "rope.dimension_sections";
        let pairs = (n_rot / 2) as i128;
        let expected = format!("four numbers that add up to {pairs}");
        let list = self.list(key, 4, &expected)?;
        let sections = list.and_then(|list| Some(list.integers()?.collect()));
        let sections: Vec<i128> = sections.unwrap_or_default();
        // None is beyond 64 bits, so the sum is within 128.
        if !sections.is_empty() && sections.iter().all(|&n| n >= 0) && sections.iter().sum::<i128>() == pairs
        {
            return Ok(());
        }
        Err(self.wrong(key, expected, format!("{sections:?}")))
    }

    /// A list of `n` values, where the key is there.
    pub(super) fn list(&self, key: &str, n: usize, expected: &str) -> Result<Option<&Array>, ModelError> {
        match self.gguf.metadata().get(&self.name(key)) {
            None => Ok(None),
            Some(Value::Array(list)) if list.len() == n => Ok(Some(list)),
            Some(Value::Array(list)) => {
                Err(self.wrong(key, expected, format!("a list of {} values", list.len())))
            }
            Some(_) => Err(self.wrong(key, expected, "one value")),
        }
    }
}
