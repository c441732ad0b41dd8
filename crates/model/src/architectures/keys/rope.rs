//! RoPE's keys, and the tensors of factors that belong to them.

use super::{Keys, N_CONTEXT};
use crate::architecture::{Architecture, Pairing, Position, Rope, RopeScaling, Ropes};
use crate::error::ModelError;

impl Keys<'_> {
    /// Rotary positions: from `rope.*` keys, and `rope_freqs.weight` or `rope_factors_*.weight` where the file has them.
    ///
    /// # Errors
    /// A number out of range, a scaling that is not known, a factor tensor of another length.
    pub fn rope(&self, pairing: Pairing, head_dim: usize, n_layer: usize) -> Result<Position, ModelError> {
        let n_rot = self.n_rot("rope.dimension_count", head_dim)?;
        let base = self.rope_base("rope.freq_base", 10_000.0)?;
        let rope = Rope { pairing, n_rot, base, scaling: self.rope_scaling(n_rot)? };
        Ok(Position::Rope(Ropes::everywhere(rope, n_layer)))
    }

    /// How many of a head's values are rotated, by default all.
    ///
    /// # Errors
    /// Odd, or more than there are.
    pub fn n_rot(&self, key: &str, head_dim: usize) -> Result<usize, ModelError> {
        let n_rot = self.size(key, 2..=head_dim.max(2), Some(head_dim))?;
        if n_rot % 2 == 0 && n_rot <= head_dim {
            return Ok(n_rot);
        }
        Err(self.wrong(key, format!("an even number up to the head's size {head_dim}"), n_rot))
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
        let attn_factor = self.yarn_attn_factor()? * (magnitude(1.0) / magnitude(all_dims));
        Ok(RopeScaling::Yarn { factor, original_context, beta_fast, beta_slow, rounded: true, attn_factor })
    }

    fn yarn_attn_factor(&self) -> Result<f32, ModelError> {
        Ok(self.f32("rope.scaling.attn_factor", 1.0)? * self.f32("rope.scaling.yarn_attn_factor", 1.0)?)
    }

    /// YaRN where `yarn_log_multiplier` is a tenth of the model's `mscale_all_dim`, which its `mscale` equals: cosines and sines stay as they are,
    /// and scores are multiplied by the square of `1 + yarn_log_multiplier * ln(factor)` (DeepSeek's reference implementation).
    ///
    /// # Errors
    /// A multiplier that makes this factor 0 or less.
    pub fn yarn_of_scores(&self, architecture: &mut Architecture) -> Result<(), ModelError> {
        let key = "rope.scaling.yarn_log_multiplier";
        let multiplier = self.f32(key, 0.0)?;
        let Position::Rope(ropes) = &mut architecture.position else { return Ok(()) };
        if let RopeScaling::Yarn { factor, attn_factor, .. } = &mut ropes.kinds[0].scaling
            && multiplier != 0.0
        {
            let magnitude = 1.0 + multiplier * factor.ln();
            if magnitude <= 0.0 {
                return Err(self.wrong(key, "a number of at least 0", multiplier));
            }
            *attn_factor = self.yarn_attn_factor()?;
            architecture.attention.scale *= magnitude * magnitude;
        }
        Ok(())
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
