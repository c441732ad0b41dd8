//! What the kernels of sample.cu are given and give back, field for field.

use bytemuck::{Pod, Zeroable};
use device::batch::Sampled;
use device::sampling::MAX_ALTERNATIVES;
use device::sampling::weight::LogSoftmax;

use crate::driver::DevicePtr;

pub(super) const GREEDY: u32 = 1;
pub(super) const MASK: u32 = 2;
pub(super) const PENALTIES: u32 = 4;
pub(super) const TYPICAL: u32 = 8;
pub(super) const TOP_P: u32 = 16;
pub(super) const MIN_P: u32 = 32;
pub(super) const BIAS: u32 = 64;
/// The row is one of several of its slot, and counts only if those before it are right: `sample_check` decides that.
pub(super) const CHECKED: u32 = 128;

/// How one row's token is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct SampleRow {
    /// The random number of the token.
    pub(super) bits: u64,
    /// Fractions of 2^32.
    pub(super) top_p: u64,
    pub(super) min_p: u64,
    pub(super) typical_p: u64,
    /// `log2(e) / temperature`.
    pub(super) scale: f32,
    pub(super) repetition: f32,
    pub(super) presence: f32,
    pub(super) frequency: f32,
    /// Below `n_slot`; -1 where nothing is sampled.
    pub(super) slot: i32,
    pub(super) flags: u32,
    /// 0 keeps all.
    pub(super) top_k: u32,
    pub(super) n_alternatives: u32,
    /// Index in the area of the mask's first word.
    pub(super) mask: u32,
    /// Index in the area of the first pair (id, f32) of the bias, ordered by id.
    pub(super) bias: u32,
    /// Pairs.
    pub(super) n_bias: u32,
    /// Of a checked row: index in the area of the number of guesses before it, and then these.
    pub(super) guesses: u32,
}

const _: () = assert!(size_of::<SampleRow>() == 80);

impl SampleRow {
    /// A row for which nothing is sampled and nothing comes back.
    pub const PADDING: SampleRow = SampleRow {
        bits: 0,
        top_p: 0,
        min_p: 0,
        typical_p: 0,
        scale: 0.0,
        repetition: 0.0,
        presence: 0.0,
        frequency: 0.0,
        slot: -1,
        flags: 0,
        top_k: 0,
        n_alternatives: 0,
        mask: 0,
        bias: 0,
        n_bias: 0,
        guesses: 0,
    };
}

/// What one row gave.
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct SampleOut {
    pub(super) token: u32,
    /// 0: no token may be chosen.
    pub(super) chosen: u32,
    /// The token's own logit.
    pub(super) logit: f32,
    /// The largest logit of the row.
    pub(super) max: f32,
    /// Of the weights at temperature 1.
    pub(super) total: u64,
    pub(super) n_alternatives: u32,
    /// Of the first of a slot's checked rows: how many of them count.
    pub(super) n_kept: u32,
    /// Best first.
    pub(super) ids: [u32; MAX_ALTERNATIVES as usize],
    pub(super) logits: [f32; MAX_ALTERNATIVES as usize],
}

const _: () = assert!(size_of::<SampleOut>() == 192);

impl SampleOut {
    /// Of the first of a slot's checked rows: how many of them count, of `n`.
    #[must_use]
    pub fn n_kept(&self, n: usize) -> usize {
        (self.n_kept as usize).clamp(1, n)
    }

    /// The token with its log probabilities, as [`device::sampling::Sampler`] gives them.
    #[must_use]
    pub fn sampled(&self) -> Sampled {
        if self.chosen == 0 {
            return Sampled::nothing();
        }
        let softmax = LogSoftmax::new(self.max, self.total);
        let alternatives = self.ids.iter().zip(&self.logits).take(self.n_alternatives as usize);
        Sampled {
            token: self.token,
            logprob: softmax.of(self.logit),
            alternatives: alternatives.map(|(&id, &logit)| (id, softmax.of(logit))).collect(),
        }
    }
}

#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct SampleArgs {
    pub(super) logits: DevicePtr,
    pub(super) rows: DevicePtr,
    pub(super) area: DevicePtr,
    pub(super) last: DevicePtr,
    pub(super) counts: DevicePtr,
    pub(super) out: DevicePtr,
    pub(super) scratch: DevicePtr,
    pub(super) n_vocab: i32,
    pub(super) n_row: i32,
    pub(super) segment: i32,
    pub(super) reserved: i32,
}

const _: () = assert!(size_of::<SampleArgs>() == 72);

/// A sequence that starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct SampleBegin {
    /// Below `n_slot`.
    pub slot: u32,
    /// Index of its prompt's first id among the ids of [`begin`](super::SampleKernels::begin).
    pub first: u32,
    /// Ids of its prompt.
    pub n: u32,
    /// 0.
    pub reserved: u32,
}

const _: () = assert!(size_of::<SampleBegin>() == 16);

#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct SampleBeginArgs {
    pub(super) begins: DevicePtr,
    pub(super) ids: DevicePtr,
    pub(super) last: DevicePtr,
    pub(super) counts: DevicePtr,
    pub(super) n_vocab: i32,
    pub(super) reserved: i32,
}

const _: () = assert!(size_of::<SampleBeginArgs>() == 40);
