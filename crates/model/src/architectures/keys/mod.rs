//! A family's metadata keys with its prefix, each read once, checked against the limits of what can be computed.
//!
//! Sizes here bound every allocation an executor makes, so each has a limit far above any published model.

mod attention;
mod feed_forward;
mod latent;
mod mixers;
mod rope;

use std::fmt::Display;
use std::ops::RangeInclusive;

use gguf::Gguf;

use super::Family;
use crate::architecture::{
    Activation, Architecture, FeedForwardKind, Mixer, Norm, NormKind, Pairing, Scales,
};
use crate::error::ModelError;

const N_LAYER: RangeInclusive<usize> = 1..=4096;
const N_WIDTH: RangeInclusive<usize> = 1..=1 << 20;
const N_CONTEXT: RangeInclusive<usize> = 1..=1 << 30;
/// Ids of a vocabulary. Published models have at most 262,144, and a row of logits has as many numbers.
const MAX_VOCAB: usize = 1 << 24;

/// Reads `FAMILY.key` values of one file.
pub struct Keys<'a> {
    gguf: &'a Gguf,
    family: &'static Family,
}

/// What every family has.
pub struct Sizes {
    /// Layers to run.
    pub n_layer: usize,
    /// Blocks after them that are not run.
    pub n_nextn: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// In tokens.
    pub n_ctx_train: usize,
}

impl<'a> Keys<'a> {
    /// Keys of `gguf` under the family's name.
    #[must_use]
    pub fn new(gguf: &'a Gguf, family: &'static Family) -> Keys<'a> {
        Keys { gguf, family }
    }

    /// Whether the family normalises what attention and feed-forward add.
    #[must_use]
    pub fn has_post_norms(&self) -> bool {
        self.family.norms.attn_post.is_some() || self.family.norms.ffn_post.is_some()
    }

    fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.family.name)
    }

    pub(crate) fn wrong(&self, key: &str, expected: impl Display, found: impl Display) -> ModelError {
        ModelError::Value { key: self.name(key), expected: expected.to_string(), found: found.to_string() }
    }

    /// Whether the file has a tensor of this name.
    #[must_use]
    pub fn has_tensor(&self, name: &str) -> bool {
        self.gguf.tensor(name).is_some()
    }

    /// A count that may be absent.
    ///
    /// # Errors
    /// A value of another type.
    pub fn usize_of(&self, key: &str) -> Result<Option<usize>, ModelError> {
        Ok(self.gguf.metadata().usize_of(&self.name(key))?)
    }

    /// A count within `range`; absent means `default`, or an error where there is none.
    ///
    /// # Errors
    /// Absent without a default, of another type, or outside the range.
    pub fn size(
        &self,
        key: &str,
        range: RangeInclusive<usize>,
        default: Option<usize>,
    ) -> Result<usize, ModelError> {
        let expected = || format!("a number from {} to {}", range.start(), range.end());
        let value = self.usize_of(key)?.or(default).ok_or_else(|| self.wrong(key, expected(), "nothing"))?;
        if range.contains(&value) { Ok(value) } else { Err(self.wrong(key, expected(), value)) }
    }

    /// A number that may be absent or negative.
    ///
    /// # Errors
    /// A value of another type.
    pub fn i64_of(&self, key: &str) -> Result<Option<i64>, ModelError> {
        Ok(self.gguf.metadata().i64_of(&self.name(key))?)
    }

    /// A list of texts that may be absent: how many there are.
    ///
    /// # Errors
    /// A value of another type.
    pub fn n_text_of(&self, key: &str) -> Result<Option<usize>, ModelError> {
        let Some(list) = self.gguf.metadata().array_of(&self.name(key))? else { return Ok(None) };
        let texts = list.strings().ok_or_else(|| self.wrong(key, "a list of texts", "another list"))?;
        Ok(Some(texts.len()))
    }

    /// A switch that may be absent.
    ///
    /// # Errors
    /// A value of another type.
    pub fn bool_of(&self, key: &str) -> Result<Option<bool>, ModelError> {
        Ok(self.gguf.metadata().bool_of(&self.name(key))?)
    }

    /// A list with a count for each block, of which the first `n_layer` are layers.
    ///
    /// # Errors
    /// Absent, no list of integers, of another length, or one outside the range.
    pub fn listed(
        &self,
        key: &str,
        range: RangeInclusive<usize>,
        n_layer: usize,
    ) -> Result<Vec<usize>, ModelError> {
        let n_block = self.n_block()?;
        let expected =
            format!("a number from {} to {} for each of {n_block} layers", range.start(), range.end());
        let list =
            self.list(key, n_block, &expected)?.ok_or_else(|| self.wrong(key, &expected, "nothing"))?;
        let numbers = list.integers().ok_or_else(|| self.wrong(key, &expected, "others"))?;
        let number = |n: i128| usize::try_from(n).ok().filter(|n| range.contains(n));
        let checked =
            |n: i128| number(n).ok_or_else(|| self.wrong(key, &expected, format!("{n} among them")));
        numbers.take(n_layer).map(checked).collect()
    }

    /// A finite number; absent means `default`.
    ///
    /// # Errors
    /// Of another type, or not finite.
    pub fn f32(&self, key: &str, default: f32) -> Result<f32, ModelError> {
        let value = self.gguf.metadata().f32_of(&self.name(key))?.unwrap_or(default);
        if value.is_finite() { Ok(value) } else { Err(self.wrong(key, "a finite number", value)) }
    }

    /// What most families share: RMS norm, rotary positions, no window, a gated feed-forward with SiLU. A family changes from here.
    ///
    /// # Errors
    /// Any key absent without a default, of another type, or out of range.
    pub fn gated_decoder(&self, pairing: Pairing) -> Result<Architecture, ModelError> {
        let n_layer = self.sizes()?.n_layer;
        self.decoder(pairing, &self.n_kv_heads(n_layer)?)
    }

    /// The same with these key heads by layer.
    ///
    /// # Errors
    /// As [`Keys::gated_decoder`].
    pub fn decoder(&self, pairing: Pairing, n_kv_heads: &[usize]) -> Result<Architecture, ModelError> {
        let heads = self.heads(self.sizes()?.n_embd, n_kv_heads)?;
        let head_dim = heads.first().map_or(0, |heads| heads.head_dim);
        self.decoder_of(pairing, head_dim, heads.into_iter().map(Mixer::Attention).collect())
    }

    /// The same with these mixers, whose queries and keys have heads of `head_dim` values.
    fn decoder_of(
        &self,
        pairing: Pairing,
        head_dim: usize,
        mixers: Vec<Mixer>,
    ) -> Result<Architecture, ModelError> {
        let Sizes { n_layer, n_nextn, n_embd, n_ctx_train } = self.sizes()?;
        Ok(Architecture {
            family: self.family.name,
            n_layer,
            n_nextn,
            n_embd,
            n_vocab: self.n_vocab(n_embd)?,
            n_ctx_train,
            norm: self.norm(NormKind::Rms)?,
            has_post_norms: self.has_post_norms(),
            position: self.rope(pairing, head_dim, n_layer)?,
            mixers,
            attention: Keys::attention(head_dim),
            feed_forward: self.feed_forward(FeedForwardKind::Gated, Activation::Silu, n_layer)?,
            scales: Scales::NONE,
            logit_cap: None,
            n_per_layer: None,
            has_layer_scales: false,
        })
    }

    /// `block_count`: the layers, and what the file has after them.
    fn n_block(&self) -> Result<usize, ModelError> {
        self.size("block_count", N_LAYER, None)
    }

    /// `block_count`, of which the last `nextn_predict_layers` are no layers, `embedding_length` and `context_length`.
    ///
    /// # Errors
    /// Absent or out of range.
    pub fn sizes(&self) -> Result<Sizes, ModelError> {
        let n_block = self.n_block()?;
        let n_nextn = self.size("nextn_predict_layers", 0..=n_block - 1, Some(0))?;
        Ok(Sizes {
            n_layer: n_block - n_nextn,
            n_nextn,
            n_embd: self.size("embedding_length", N_WIDTH, None)?,
            n_ctx_train: self.size("context_length", N_CONTEXT, None)?,
        })
    }

    /// Rows of the embedding, which say how large the vocabulary is.
    ///
    /// # Errors
    /// No `token_embd.weight`, or not a matrix.
    pub fn n_vocab(&self, n_embd: usize) -> Result<usize, ModelError> {
        let name = "token_embd.weight";
        let tensor = self.gguf.tensor(name).ok_or_else(|| ModelError::MissingTensor {
            name: name.to_owned(),
            shape: vec![n_embd, self.usize_of("vocab_size").ok().flatten().unwrap_or(0)],
        })?;
        match tensor.info.shape[..] {
            [_, rows] if (1..=MAX_VOCAB).contains(&rows) => Ok(rows),
            [_, rows] if rows > MAX_VOCAB => Err(ModelError::Value {
                key: name.to_owned(),
                expected: format!("at most {MAX_VOCAB} rows"),
                found: rows.to_string(),
            }),
            _ => Err(ModelError::TensorShape {
                name: name.to_owned(),
                expected: vec![n_embd, self.usize_of("vocab_size").ok().flatten().unwrap_or(1)],
                found: tensor.info.shape.clone(),
            }),
        }
    }

    /// `embedding_length_per_layer_input`; absent and 0 mean none.
    ///
    /// # Errors
    /// So large that all layers' together are beyond any embedding.
    pub fn n_per_layer(&self, n_layer: usize) -> Result<Option<usize>, ModelError> {
        let most = N_WIDTH.end() / n_layer.max(1);
        let n = self.size("embedding_length_per_layer_input", 0..=most, Some(0))?;
        Ok(Some(n).filter(|&n| n > 0))
    }

    /// RMS or layer norm with its epsilon.
    ///
    /// # Errors
    /// Epsilon absent, negative or not finite.
    pub fn norm(&self, kind: NormKind) -> Result<Norm, ModelError> {
        let key = match kind {
            NormKind::Rms => "attention.layer_norm_rms_epsilon",
            NormKind::Layer => "attention.layer_norm_epsilon",
        };
        let eps = self.f32(key, -1.0)?;
        if eps >= 0.0 { Ok(Norm { kind, eps }) } else { Err(self.wrong(key, "a number of at least 0", eps)) }
    }

    /// A number above 0 that something is multiplied or divided by; absent means `default`, or an error where there is none.
    ///
    /// # Errors
    /// Absent without a default, not above 0.
    pub fn factor(&self, key: &str, default: Option<f32>) -> Result<f32, ModelError> {
        let value = self.gguf.metadata().f32_of(&self.name(key))?.or(default);
        match value {
            Some(value) if value > 0.0 && value.is_finite() => Ok(value),
            Some(value) => Err(self.wrong(key, "a number above 0", value)),
            None => Err(self.wrong(key, "a number above 0", "nothing")),
        }
    }

    /// The bound of a soft cap; absent and 0 mean none.
    ///
    /// # Errors
    /// Negative or not finite.
    pub fn cap(&self, key: &str) -> Result<Option<f32>, ModelError> {
        match self.f32(key, 0.0)? {
            0.0 => Ok(None),
            cap if cap > 0.0 => Ok(Some(cap)),
            cap => Err(self.wrong(key, "a number of at least 0", cap)),
        }
    }

    /// Refuses a key that this reader has no use for, unless it is 0.
    ///
    /// # Errors
    /// It is there.
    pub fn refuse(&self, key: &str, expected: &str) -> Result<(), ModelError> {
        match self.usize_of(key)? {
            None | Some(0) => Ok(()),
            Some(found) => Err(self.wrong(key, expected, found)),
        }
    }

    /// Refuses a switch that is off, where off means something that this reader has no use for.
    ///
    /// # Errors
    /// It is there and false.
    pub fn refuse_false(&self, key: &str) -> Result<(), ModelError> {
        match self.bool_of(key)? {
            Some(false) => Err(self.wrong(key, "true", false)),
            _ => Ok(()),
        }
    }
}
