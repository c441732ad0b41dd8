//! Attention's keys: heads, windows, the temperature of queries.

use std::ops::RangeInclusive;

use gguf::Value;

use super::{Keys, N_CONTEXT, N_LAYER};
use crate::architecture::{Attention, Temperature};
use crate::error::ModelError;

pub(super) const N_HEAD: RangeInclusive<usize> = 1..=4096;
pub(super) const HEAD_DIM: RangeInclusive<usize> = 1..=4096;

impl Keys<'_> {
    /// Key and value heads, by default as many as there are query heads.
    ///
    /// # Errors
    /// Out of range, or a list.
    pub fn n_kv_head(&self) -> Result<usize, ModelError> {
        let n_head = self.size("attention.head_count", N_HEAD, None)?;
        self.size("attention.head_count_kv", N_HEAD, Some(n_head))
    }

    /// Heads and their size; no window and no sinks.
    ///
    /// # Errors
    /// Counts absent or out of range, heads that do not share key heads evenly, keys and values of different sizes.
    pub fn attention(
        &self,
        n_layer: usize,
        n_embd: usize,
        n_kv_head: usize,
    ) -> Result<Attention, ModelError> {
        let n_head = self.size("attention.head_count", N_HEAD, None)?;
        if !n_head.is_multiple_of(n_kv_head) {
            let expected = format!("a divisor of head_count = {n_head}");
            return Err(self.wrong("attention.head_count_kv", expected, n_kv_head));
        }
        let head_dim = match self.usize_of("attention.key_length")? {
            Some(_) => self.size("attention.key_length", HEAD_DIM, None)?,
            None if n_embd.is_multiple_of(n_head) => n_embd / n_head,
            None => {
                let expected = format!("a divisor of embedding_length = {n_embd}");
                return Err(self.wrong("attention.head_count", expected, n_head));
            }
        };
        let value_dim = self.size("attention.value_length", HEAD_DIM, Some(head_dim))?;
        if value_dim != head_dim {
            return Err(self.wrong("attention.value_length", format!("key_length = {head_dim}"), value_dim));
        }
        let scale = 1.0 / (head_dim as f32).sqrt();
        Ok(Attention {
            n_head,
            n_kv_head,
            head_dim,
            scale,
            window: vec![None; n_layer],
            sinks: false,
            score_cap: None,
            qk_norm: None,
            temperature: None,
            gated: false,
        })
    }

    /// `attention.temperature_scale`; absent and 0 mean none.
    ///
    /// # Errors
    /// A scale that is negative or not finite, or no context that it counts in.
    pub fn temperature(&self) -> Result<Option<Temperature>, ModelError> {
        let Some(scale) = self.cap("attention.temperature_scale")? else { return Ok(None) };
        let context = self.size("rope.scaling.original_context_length", N_CONTEXT, None)?;
        Ok(Some(Temperature { scale, context }))
    }

    /// `attention.sliding_window`: absent and 0 mean none.
    ///
    /// # Errors
    /// Of another type.
    pub fn window(&self) -> Result<Option<usize>, ModelError> {
        Ok(self.usize_of("attention.sliding_window")?.filter(|&w| w > 0))
    }

    /// Which layers see a window: as `attention.sliding_window_pattern` says by layer or by period, else all but the last of each `period`.
    ///
    /// # Errors
    /// A list of another length, a period of 0, a value of another type.
    pub fn window_layers(&self, period: usize) -> Result<Vec<bool>, ModelError> {
        let key = "attention.sliding_window_pattern";
        let n_layer = self.size("block_count", N_LAYER, None)?;
        let all_but_last = |period: usize| (0..n_layer).map(|n| (n + 1) % period != 0).collect();
        let listed = match self.gguf.metadata().get(&self.name(key)) {
            Some(Value::Array(list)) => list.bools().map(Iterator::collect::<Vec<_>>).or(Some(Vec::new())),
            Some(_) => return Ok(all_but_last(self.size(key, N_LAYER, None)?)),
            None => return Ok(all_but_last(period)),
        };
        listed.filter(|layers| layers.len() == n_layer).ok_or_else(|| {
            self.wrong(
                key,
                format!("a period, or true or false for each of {n_layer} layers"),
                "another list",
            )
        })
    }
}
