//! In what form are keys and values kept?
//!
//! A choice of whoever loads a model, since the cache is a large part of what long contexts read and take. Float16 rounds little; Q8_0 takes
//! 34 bytes for 32 values where float16 takes 64. This is also the rule by which values are rounded: executors that keep Q8_0 have
//! the same integers and scales. Source of the format: ggml's Q8_0.

use std::fmt;

use quant::BlockQ8_0;

/// How keys and values are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum KvType {
    /// Float16, or float32 where an executor computes exactly.
    #[default]
    F16,
    /// For each position, head and 32 values of it a float16 scale and 32 integers of 8 bits.
    Q8_0,
}

/// Values of a block of [`KvType::Q8_0`].
pub const KV_BLOCK: usize = 32;

/// What is larger counts as this: its scale times 127 is still a float16.
const LIMIT: f32 = 65_024.0;

impl KvType {
    /// Every type.
    pub const ALL: [KvType; 2] = [KvType::F16, KvType::Q8_0];

    /// As flags name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            KvType::F16 => "f16",
            KvType::Q8_0 => "q8_0",
        }
    }

    /// Bytes of `n` values, which are whole heads; saturating.
    #[must_use]
    pub fn bytes(self, n: u64) -> u64 {
        match self {
            KvType::F16 => n.saturating_mul(2),
            KvType::Q8_0 => (n / KV_BLOCK as u64).saturating_mul(size_of::<BlockQ8_0>() as u64),
        }
    }

    /// Whether heads of this many values can be kept so.
    #[must_use]
    pub fn takes(self, head_dim: usize) -> bool {
        self == KvType::F16 || head_dim.is_multiple_of(KV_BLOCK)
    }
}

impl fmt::Display for KvType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// 32 keys or values of a head as they are kept in [`KvType::Q8_0`]. What is not a number becomes 0.
#[inline]
#[must_use]
pub fn kv_block(values: &[f32; KV_BLOCK]) -> BlockQ8_0 {
    BlockQ8_0::quantize(&values.map(|v| v.clamp(-LIMIT, LIMIT)))
}

#[cfg(test)]
mod tests {
    use quant::Block;

    use super::*;

    fn rounded(values: [f32; KV_BLOCK]) -> [f32; KV_BLOCK] {
        let mut out = [0.0; KV_BLOCK];
        kv_block(&values).dequantize(&mut out);
        out
    }

    #[test]
    fn values_are_within_half_a_step_and_always_finite() {
        let values = std::array::from_fn(|i| (i as f32 - 11.0) * 0.37);
        let step = values.iter().fold(0f32, |m: f32, v| m.max(v.abs())) / 127.0;
        for (value, kept) in values.iter().zip(rounded(values)) {
            assert!((value - kept).abs() <= 0.51 * step, "{value} {kept}");
        }
        for strange in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, 1e-45] {
            let mut values = [0.25; KV_BLOCK];
            values[7] = strange;
            let kept = rounded(values);
            let in_half = kept.map(|v| quant::Half::from_f32(v).to_f32());
            assert!(in_half.iter().all(|v| v.is_finite()), "{strange}: {in_half:?}");
        }
        assert_eq!(rounded([f32::NAN; KV_BLOCK]), [0.0; KV_BLOCK]);
    }

    #[test]
    fn bytes_are_those_of_the_format() {
        assert_eq!(KvType::ALL.map(|t| t.bytes(128)), [256, 136]);
        assert_eq!(KvType::ALL.map(|t| t.takes(80)), [true, false]);
        assert_eq!(KvType::Q8_0.bytes(u64::MAX), u64::MAX);
    }
}
