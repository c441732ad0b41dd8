//! Keys of latent attention. Files name a head's sizes as the model has them in `attention.key_length_mla` and `attention.value_length_mla`, where
//! `attention.key_length` and `attention.value_length` are those of the rows that are kept; files from before 2025-04 in the latter alone.

use std::ops::RangeInclusive;

use super::attention::{HEAD_DIM, N_HEAD};
use super::{Keys, N_WIDTH};
use crate::architecture::{Architecture, Latent, Mixer, Pairing};
use crate::error::ModelError;

/// Width of the rows that are kept, which are heads to the cache; published models have 256 and 512.
const KV_RANK: RangeInclusive<usize> = HEAD_DIM;

impl Keys<'_> {
    /// As [`Keys::gated_decoder`], with latent attention in all layers.
    ///
    /// # Errors
    /// Any key absent without a default, of another type, or out of range.
    pub fn latent_decoder(&self, pairing: Pairing) -> Result<Architecture, ModelError> {
        let latent = self.latent()?;
        self.decoder_of(pairing, latent.head_dim(), vec![Mixer::Latent(latent); self.sizes()?.n_layer])
    }

    fn latent(&self) -> Result<Latent, ModelError> {
        let n_head = self.size("attention.head_count", N_HEAD, None)?;
        let kv_rank = self.size("attention.kv_lora_rank", KV_RANK, None)?;
        let [kept_key, kept_value] = ["attention.key_length", "attention.value_length"];
        let has_both = self.usize_of("attention.key_length_mla")?.is_some();
        let [of_keys, of_values] = match has_both {
            true => ["attention.key_length_mla", "attention.value_length_mla"],
            false => [kept_key, kept_value],
        };
        let head_dim = self.size(of_keys, HEAD_DIM, None)?;
        let n_value = self.size(of_values, HEAD_DIM, None)?;
        let n_rot = self.n_rot("rope.dimension_count", head_dim)?;
        if n_rot == head_dim {
            return Err(self.wrong(
                "rope.dimension_count",
                format!("less than {of_keys} = {head_dim}"),
                n_rot,
            ));
        }
        let exactly = |key: &str, n: usize| self.size(key, n..=n, Some(n));
        if has_both {
            exactly(kept_key, kv_rank + n_rot)?;
            exactly(kept_value, kv_rank)?;
        }
        exactly("attention.head_count_kv", if has_both { 1 } else { n_head })?;
        let q_rank = match self.usize_of("attention.q_lora_rank")?.unwrap_or(0) {
            0 => None,
            _ => Some(self.size("attention.q_lora_rank", N_WIDTH, None)?),
        };
        Ok(Latent { n_head, q_rank, kv_rank, n_rot, n_plain: head_dim - n_rot, n_value })
    }
}
