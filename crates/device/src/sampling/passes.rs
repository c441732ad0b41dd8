//! The two passes over all of a row's logits, block by block: the largest of each, and the sum of its weights.
//!
//! They are where a sampler's time goes, and every operation in them is exact or rounds in the same way everywhere. So a device may bring
//! the same code, compiled for the vectors that it has ([`Passes`]).

use super::weight::{exponent, weight};

/// Ids whose largest logit and sum of weights are kept together.
pub const BLOCK: usize = 128;

/// How the passes are made.
#[derive(Clone, Copy, Debug)]
pub struct Passes {
    /// [`largest`], or the same for other vectors.
    pub largest: fn(&[f32], &mut Vec<f32>),
    /// [`sums`], likewise.
    pub sums: fn(&[f32], (f32, f32), &mut Vec<u64>),
}

impl Default for Passes {
    fn default() -> Passes {
        Passes { largest, sums }
    }
}

/// The largest logit of each block that is a number; −∞ where there is none.
#[inline(always)]
pub fn largest(z: &[f32], out: &mut Vec<f32>) {
    out.clear();
    for block in z.chunks(BLOCK) {
        let mut lanes = [f32::NEG_INFINITY; 16];
        let (whole, rest) = block.as_chunks::<16>();
        for chunk in whole {
            for (lane, &z) in lanes.iter_mut().zip(chunk) {
                *lane = larger(*lane, z);
            }
        }
        out.push(lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, larger));
    }
}

/// The larger number; the first where the second is NaN.
#[inline(always)]
pub(super) fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

/// The sum of the weights of each block, of logits of which `max` is the largest, by `scale` ([`super::weight::scale`]).
#[inline(always)]
pub fn sums(z: &[f32], (max, scale): (f32, f32), out: &mut Vec<u64>) {
    out.clear();
    for block in z.chunks(BLOCK) {
        let mut sum = 0;
        for &z in block {
            sum += weight(exponent(z, max, scale));
        }
        out.push(sum);
    }
}
