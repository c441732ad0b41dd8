//! The tokens that are left while top-k, typical, top-p and min-p narrow the choice.
//!
//! Nothing is sorted: each filter keeps the start of a total order, and a start is found by halving (quickselect), in time
//! proportional to the candidates.

use std::cmp::Reverse;

use super::SamplingParams;
use super::weight::{self, exponent, share};

/// A token that may still be drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    /// Rank, greatest first: the logit in the high half, ordered as an integer; the complement of the id in the low half.
    key: u64,
    /// Above 0.
    weight: u64,
}

impl Candidate {
    pub(super) fn new(id: u32, z: f32, weight: u64) -> Candidate {
        Candidate { key: rank_key(id, z), weight }
    }

    pub(super) fn id(&self) -> u32 {
        !(self.key as u32)
    }

    /// The logit (−0 has become 0).
    fn z(&self) -> f32 {
        let ordered = (self.key >> 32) as u32;
        f32::from_bits(if ordered >> 31 == 1 { ordered & 0x7FFF_FFFF } else { !ordered })
    }
}

/// Greater for a larger logit, then for a lower id. NaN is not given.
pub(super) fn rank_key(id: u32, z: f32) -> u64 {
    let bits = (z + 0.0).to_bits();
    let ordered = if bits >> 31 == 1 { !bits } else { bits | 0x8000_0000 };
    u64::from(ordered) << 32 | u64::from(!id)
}

/// Keeps the `k` first by rank; 0 keeps all.
pub(super) fn top_k(candidates: &mut Vec<Candidate>, k: usize) {
    if k > 0 && k < candidates.len() {
        candidates.select_nth_unstable_by_key(k - 1, |c| Reverse(c.key));
        candidates.truncate(k);
    }
}

/// Step 8. `max` and `scale` are those of the weights' exponents.
pub(super) fn typical(candidates: &mut Vec<Candidate>, p: f32, max: f32, scale: f32) {
    if p >= 1.0 {
        return;
    }
    let fixed = |c: &Candidate| (f64::from(exponent(c.z(), max, scale)) * f64::from(1 << 20)) as i64;
    let sum: i128 = candidates.iter().map(|c| i128::from(c.weight) * i128::from(fixed(c))).sum();
    let total = total(candidates);
    let mean = sum.div_euclid(i128::from(total.max(1))) as i64;
    keep_mass(candidates, share(total, p), |c| (mean.abs_diff(fixed(c)), Reverse(c.key)));
}

/// Step 9, where all that is left weighs `total`; the candidates may already lack what cannot be kept.
pub(super) fn top_p(candidates: &mut Vec<Candidate>, p: f32, total: u64) {
    if p < 1.0 {
        keep_mass(candidates, share(total, p), |c| Reverse(c.key));
    }
}

/// Step 10.
pub(super) fn min_p(candidates: &mut Vec<Candidate>, p: f32) {
    if p > 0.0
        && let Some(first) = candidates.iter().max_by_key(|c| c.key)
    {
        let least = share(first.weight, p);
        candidates.retain(|c| c.weight >= least);
    }
}

/// The candidate at which the running sum of weights, in the order of ids, exceeds `floor(bits * total / 2^64)`.
pub(super) fn draw(candidates: &mut Vec<Candidate>, bits: u64) -> Option<u32> {
    let r = ((u128::from(bits) * u128::from(total(candidates))) >> 64) as u64;
    keep_mass(candidates, r + 1, Candidate::id);
    candidates.last().map(Candidate::id)
}

pub(super) fn total(candidates: &[Candidate]) -> u64 {
    candidates.iter().map(|c| c.weight).sum()
}

/// Keeps the shortest start, in the order of `key`, whose weights reach `need` (all if they never do; at least one), and leaves
/// its last member last.
fn keep_mass<K: Ord>(candidates: &mut Vec<Candidate>, mut need: u64, key: impl Fn(&Candidate) -> K) {
    let (mut low, mut high) = (0, candidates.len());
    while high - low > 1 {
        let half = (high - low) / 2;
        let range = &mut candidates[low..high];
        range.select_nth_unstable_by_key(half, &key);
        let mass: u64 = range[..half].iter().map(|c| c.weight).sum();
        if mass >= need {
            high = low + half;
        } else {
            need -= mass;
            low += half;
        }
    }
    candidates.truncate(low + 1);
}

/// No token with an exponent below this can outlive top-p or min-p, where neither top-k nor typical comes before: what lies
/// below it weighs, all together, no more than top-p drops; or less than min-p asks for. One bit of margin covers rounding.
pub(super) fn least_exponent(params: &SamplingParams, n_vocab: usize, total: u64) -> f32 {
    let dropped = total - share(total, params.top_p).min(total);
    let by_top_p = (dropped as f64 / n_vocab as f64 / weight::ONE as f64).log2() - 1.0;
    let by_min_p = f64::from(params.min_p).log2() - 1.0;
    by_top_p.max(by_min_p) as f32
}
