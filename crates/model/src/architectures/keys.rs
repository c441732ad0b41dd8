//! A family's metadata keys with its prefix, each read once, checked against the limits of what can be computed.
//!
//! Sizes here bound every allocation an executor makes, so each has a limit far above any published model.

use std::fmt::Display;
use std::ops::RangeInclusive;

use gguf::{Gguf, Value};

use super::Family;
use crate::architecture::{
    Activation, Architecture, Attention, FeedForward, FeedForwardKind, Norm, NormKind, Pairing, Position,
    Rope, RopeScaling, Ropes, Scales, Temperature,
};
use crate::error::ModelError;

const N_LAYER: RangeInclusive<usize> = 1..=4096;
const N_HEAD: RangeInclusive<usize> = 1..=4096;
const HEAD_DIM: RangeInclusive<usize> = 1..=4096;
const N_WIDTH: RangeInclusive<usize> = 1..=1 << 20;
const N_CONTEXT: RangeInclusive<usize> = 1..=1 << 30;
const N_EXPERT: RangeInclusive<usize> = 1..=1 << 16;
/// Ids of a vocabulary. Published models have at most 262,144, and a row of logits has as many numbers.
const MAX_VOCAB: usize = 1 << 24;
/// Experts that a token may use: published models have 1 to 12, and a step's buffers grow with it.
const MAX_USED_EXPERT: usize = 256;

/// Reads `FAMILY.key` values of one file.
pub struct Keys<'a> {
    gguf: &'a Gguf,
    family: &'static Family,
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

    fn wrong(&self, key: &str, expected: impl Display, found: impl Display) -> ModelError {
        ModelError::Value { key: self.name(key), expected: expected.to_string(), found: found.to_string() }
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
        let (n_layer, n_embd, n_ctx_train) = self.sizes()?;
        let attention = self.attention(n_layer, n_embd)?;
        Ok(Architecture {
            family: self.family.name,
            n_layer,
            n_embd,
            n_vocab: self.n_vocab(n_embd)?,
            n_ctx_train,
            norm: self.norm(NormKind::Rms)?,
            has_post_norms: self.has_post_norms(),
            position: self.rope(pairing, attention.head_dim, n_layer)?,
            attention,
            feed_forward: FeedForward {
                kind: FeedForwardKind::Gated,
                n_ff: self.n_ff()?,
                activation: Activation::Silu,
            },
            scales: Scales::NONE,
            logit_cap: None,
        })
    }

    /// `block_count`, `embedding_length` and `context_length`.
    ///
    /// # Errors
    /// Absent or out of range.
    pub fn sizes(&self) -> Result<(usize, usize, usize), ModelError> {
        Ok((
            self.size("block_count", N_LAYER, None)?,
            self.size("embedding_length", N_WIDTH, None)?,
            self.size("context_length", N_CONTEXT, None)?,
        ))
    }

    /// Width of the feed-forward.
    ///
    /// # Errors
    /// Absent or out of range.
    pub fn n_ff(&self) -> Result<usize, ModelError> {
        self.size("feed_forward_length", N_WIDTH, None)
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

    /// Heads and their size; no window and no sinks.
    ///
    /// # Errors
    /// Counts absent or out of range, heads that do not share key heads evenly, keys and values of different sizes.
    pub fn attention(&self, n_layer: usize, n_embd: usize) -> Result<Attention, ModelError> {
        let n_head = self.size("attention.head_count", N_HEAD, None)?;
        let n_kv_head = self.size("attention.head_count_kv", N_HEAD, Some(n_head))?;
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
        })
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

    /// `attention.temperature_scale`; absent and 0 mean none.
    ///
    /// # Errors
    /// A scale that is negative or not finite, or no context that it counts in.
    pub fn temperature(&self) -> Result<Option<Temperature>, ModelError> {
        let Some(scale) = self.cap("attention.temperature_scale")? else { return Ok(None) };
        let context = self.size("rope.scaling.original_context_length", N_CONTEXT, None)?;
        Ok(Some(Temperature { scale, context }))
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
        match self.gguf.metadata().bool_of(&self.name(key))? {
            Some(false) => Err(self.wrong(key, "true", false)),
            _ => Ok(()),
        }
    }

    /// `attention.sliding_window`: absent and 0 mean none.
    ///
    /// # Errors
    /// Of another type.
    pub fn window(&self) -> Result<Option<usize>, ModelError> {
        Ok(self.usize_of("attention.sliding_window")?.filter(|&w| w > 0))
    }

    /// Rotary positions: from `rope.*` keys, and `rope_freqs.weight` or `rope_factors_*.weight` where the file has them.
    ///
    /// # Errors
    /// A number out of range, a scaling that is not known, a factor tensor of another length.
    pub fn rope(&self, pairing: Pairing, head_dim: usize, n_layer: usize) -> Result<Position, ModelError> {
        let n_rot = self.size("rope.dimension_count", 2..=head_dim.max(2), Some(head_dim))?;
        if n_rot % 2 != 0 || n_rot > head_dim {
            let expected = format!("an even number up to the head's size {head_dim}");
            return Err(self.wrong("rope.dimension_count", expected, n_rot));
        }
        let base = self.rope_base("rope.freq_base", 10_000.0)?;
        let rope = Rope { pairing, n_rot, base, scaling: self.rope_scaling(n_rot)? };
        Ok(Position::Rope(Ropes::everywhere(rope, n_layer)))
    }

    /// The base of a rotation's frequencies.
    ///
    /// # Errors
    /// Not above 1.
    pub fn rope_base(&self, key: &str, default: f32) -> Result<f32, ModelError> {
        let base = self.f32(key, default)?;
        if base > 1.0 { Ok(base) } else { Err(self.wrong(key, "a number above 1", base)) }
    }

    fn rope_scaling(&self, n_rot: usize) -> Result<RopeScaling, ModelError> {
        let factors = |name: &str| self.rope_factors(name, n_rot / 2);
        if let Some(factors) = factors("rope_freqs.weight")? {
            return Ok(RopeScaling::Llama3 { factors });
        }
        let original = || self.size("rope.scaling.original_context_length", N_CONTEXT, None);
        if let (Some(short), Some(long)) =
            (factors("rope_factors_short.weight")?, factors("rope_factors_long.weight")?)
        {
            let attn_factor = self.f32("rope.scaling.attn_factor", 1.0)?;
            return Ok(RopeScaling::LongRope { short, long, original_context: original()?, attn_factor });
        }
        let kind_key = "rope.scaling.type";
        let kind = self.gguf.metadata().str_of(&self.name(kind_key))?;
        let factor = match self.f32("rope.scaling.factor", 0.0)? {
            0.0 => self.f32("rope.scale_linear", 1.0)?,
            factor => factor,
        };
        if factor <= 0.0 {
            return Err(self.wrong("rope.scaling.factor", "a number above 0", factor));
        }
        match kind {
            None | Some("linear") if factor != 1.0 => Ok(RopeScaling::Linear { factor }),
            None | Some("none" | "linear") => Ok(RopeScaling::None),
            Some("yarn") => self.yarn(factor, original()?),
            Some(other) => Err(self.wrong(kind_key, "none, linear or yarn", format!("{other:?}"))),
        }
    }

    /// YaRN with whole pairs; a family that was trained without rounding says so.
    fn yarn(&self, factor: f32, original_context: usize) -> Result<RopeScaling, ModelError> {
        let above_zero = |key: &str, default| match self.f32(key, default)? {
            value if value > 0.0 => Ok(value),
            value => Err(self.wrong(key, "a number above 0", value)),
        };
        let beta_slow = above_zero("rope.scaling.yarn_beta_slow", 1.0)?;
        let beta_fast = above_zero("rope.scaling.yarn_beta_fast", 32.0)?;
        if beta_fast < beta_slow {
            let expected = format!("at least yarn_beta_slow = {beta_slow}");
            return Err(self.wrong("rope.scaling.yarn_beta_fast", expected, beta_fast));
        }
        let mix = self.f32("rope.scaling.yarn_ext_factor", 1.0)?;
        if mix != 1.0 {
            return Err(self.wrong("rope.scaling.yarn_ext_factor", "1", mix));
        }
        let magnitude = |multiplier: f32| 0.1 * multiplier * factor.ln() + 1.0;
        // `mscale_all_dim` of the model's configuration; absent, nothing is divided.
        let all_dims = self.f32("rope.scaling.yarn_log_multiplier", 0.0)?;
        if magnitude(all_dims) <= 0.0 {
            return Err(self.wrong("rope.scaling.yarn_log_multiplier", "a number of at least 0", all_dims));
        }
        let attn_factor = self.f32("rope.scaling.attn_factor", 1.0)?
            * self.f32("rope.scaling.yarn_attn_factor", 1.0)?
            * (magnitude(1.0) / magnitude(all_dims));
        Ok(RopeScaling::Yarn { factor, original_context, beta_fast, beta_slow, rounded: true, attn_factor })
    }

    fn rope_factors(&self, name: &str, len: usize) -> Result<Option<Vec<f32>>, ModelError> {
        let Some(tensor) = self.gguf.tensor(name) else { return Ok(None) };
        let factors = crate::weights::vector(&tensor, len)?;
        match factors.iter().find(|f| !(f.is_finite() && **f > 0.0)) {
            None => Ok(Some(factors)),
            Some(bad) => Err(ModelError::Value {
                key: name.to_owned(),
                expected: "factors above 0".to_owned(),
                found: bad.to_string(),
            }),
        }
    }
}
