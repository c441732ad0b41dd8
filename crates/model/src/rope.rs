//! The angles by which RoPE turns a head's values, for each way of stretching them to long contexts.
//!
//! Pair `i` of `n_rot / 2` turns by `position * inv_freq[i]` radians, and cosine and sine are multiplied by `scale`.
//! Sources: RoPE, arXiv 2104.09864; LongRoPE, arXiv 2402.13753; YaRN, arXiv 2309.00071 (equations 17 to 25).

use crate::architecture::{Rope, RopeScaling};

/// The frequencies of one model at one context length.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeTable {
    /// Radians a token, `[n_rot / 2]`.
    pub inv_freq: Vec<f32>,
    /// Multiplies cosine and sine.
    pub scale: f32,
}

impl RopeTable {
    /// The table for sequences of up to `n_ctx` tokens. LongRoPE alone depends on that length: the whole sequence uses the long
    /// factors where `n_ctx` exceeds the original context, so that a token's angle never changes while its sequence grows.
    #[must_use]
    pub fn new(rope: &Rope, n_ctx: usize) -> RopeTable {
        let n_rot = rope.n_rot as f64;
        let base = f64::from(rope.base);
        let plain = (0..rope.n_rot / 2).map(|i| base.powf(-2.0 * i as f64 / n_rot));
        let divided =
            |factors: &[f32]| plain.clone().zip(factors).map(|(f, &d)| (f / f64::from(d)) as f32).collect();
        match &rope.scaling {
            RopeScaling::None => RopeTable { inv_freq: plain.map(|f| f as f32).collect(), scale: 1.0 },
            RopeScaling::Linear { factor } => {
                RopeTable { inv_freq: plain.map(|f| (f / f64::from(*factor)) as f32).collect(), scale: 1.0 }
            }
            RopeScaling::Llama3 { factors } => RopeTable { inv_freq: divided(factors), scale: 1.0 },
            RopeScaling::LongRope { short, long, original_context, attn_factor } => {
                let factors = if n_ctx > *original_context { long } else { short };
                RopeTable { inv_freq: divided(factors), scale: *attn_factor }
            }
            RopeScaling::Yarn { factor, original_context, beta_fast, beta_slow, rounded, attn_factor } => {
                let context = *original_context as f64;
                // The (fractional) pair that makes `turns` full turns over the original context.
                let pair_of = |turns: f32| {
                    n_rot * (context / (f64::from(turns) * std::f64::consts::TAU)).ln() / (2.0 * base.ln())
                };
                let (low, high) = (pair_of(*beta_fast), pair_of(*beta_slow));
                let (low, high) = if *rounded { (low.floor(), high.ceil()) } else { (low, high) };
                let low = low.max(0.0);
                let high = high.min(n_rot - 1.0).max(low + 0.001);
                let inv_freq = plain.enumerate().map(|(i, f)| {
                    let stretch = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
                    (f / f64::from(*factor) * stretch + f * (1.0 - stretch)) as f32
                });
                RopeTable { inv_freq: inv_freq.collect(), scale: *attn_factor }
            }
        }
    }

    /// Cosines and sines at one position, each `[n_rot / 2]`, scaled. The angle is a float32 product, as in the reference
    /// implementations; its cosine and sine are taken in float64.
    pub fn angles(&self, position: usize, cos: &mut [f32], sin: &mut [f32]) {
        for ((&f, c), s) in self.inv_freq.iter().zip(cos).zip(sin) {
            let (sine, cosine) = f64::from(position as f32 * f).sin_cos();
            *c = cosine as f32 * self.scale;
            *s = sine as f32 * self.scale;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::Pairing;

    fn table(scaling: RopeScaling, n_ctx: usize) -> RopeTable {
        RopeTable::new(&Rope { pairing: Pairing::HalfSplit, n_rot: 64, base: 150_000.0, scaling }, n_ctx)
    }

    fn yarn(rounded: bool) -> RopeTable {
        let scaling = RopeScaling::Yarn {
            factor: 32.0,
            original_context: 4096,
            beta_fast: 32.0,
            beta_slow: 1.0,
            rounded,
            attn_factor: 1.346_573_6,
        };
        table(scaling, 131_072)
    }

    #[test]
    fn yarn_keeps_the_fast_frequencies_and_divides_the_slow_ones() {
        let plain = table(RopeScaling::None, 4096);
        let yarn = yarn(false);
        // The correction range of gpt-oss is pairs 8.093 to 17.398 of 32.
        assert_eq!(yarn.inv_freq[..9], plain.inv_freq[..9]);
        assert!(yarn.inv_freq[9] < plain.inv_freq[9]);
        for i in 18..32 {
            assert!((yarn.inv_freq[i] * 32.0 / plain.inv_freq[i] - 1.0).abs() < 1e-6, "pair {i}");
        }
        // At pair 12 the stretch is (12 - 8.0927) / (17.3980 - 8.0927) = 0.4199.
        let kept = yarn.inv_freq[12] / plain.inv_freq[12];
        assert!((kept - (0.4199 / 32.0 + 1.0 - 0.4199)).abs() < 2e-4, "{kept}");
    }

    #[test]
    fn yarn_mixes_between_whole_pairs_where_the_family_rounds() {
        let (plain, yarn) = (table(RopeScaling::None, 4096), yarn(true));
        // 8.093 to 17.398 become 8 to 18: at pair 12 the stretch is 4 / 10, and pair 17 is still mixed.
        let kept = |i: usize| yarn.inv_freq[i] / plain.inv_freq[i];
        assert_eq!(kept(8), 1.0);
        for (i, stretch) in [(9, 0.1), (12, 0.4), (17, 0.9), (18, 1.0)] {
            assert!((kept(i) - (stretch / 32.0 + 1.0 - stretch)).abs() < 1e-5, "pair {i}: {}", kept(i));
        }
    }

    #[test]
    fn longrope_takes_the_long_factors_beyond_the_original_context() {
        let scaling = RopeScaling::LongRope {
            short: vec![1.0; 32],
            long: vec![2.0; 32],
            original_context: 100,
            attn_factor: 1.5,
        };
        let (short, long) = (table(scaling.clone(), 100), table(scaling, 101));
        assert_eq!(short.inv_freq[3], long.inv_freq[3] * 2.0);
        assert_eq!(long.scale, 1.5);
    }

    #[test]
    fn angles_follow_the_position() {
        let (mut cos, mut sin) = ([0.0; 32], [0.0; 32]);
        table(RopeScaling::None, 16).angles(3, &mut cos, &mut sin);
        assert_eq!((cos[0], sin[0]), (3f64.cos() as f32, 3f64.sin() as f32));
    }
}
