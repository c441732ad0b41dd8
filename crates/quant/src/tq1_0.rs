//! TQ1_0: 256 weights in 54 bytes, each -1, 0 or 1 times one scale; five weights a byte.
//!
//! A byte is a fraction of 256 whose digits to base 3, first digit first, are the weights plus one. The bytes come in runs of 32, 16
//! (both of `qs`) and 4 (`qh`, of four digits); digit `n` of byte `m` of a run of `r` is its weight `n * r + m`. Source: ggml.

use bytemuck::{Pod, Zeroable};

use crate::block::{Block, assert_layout};
use crate::format::Format;
use crate::half::Half;
use crate::scaled::Stepped;

/// 256 weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockTq1_0 {
    /// Five weights a byte: 160 and 80.
    pub qs: [u8; 48],
    /// Four weights a byte.
    pub qh: [u8; 4],
    /// The scale.
    pub d: Half,
}

assert_layout!(BlockTq1_0, 256);

/// The digits of a run, one after the other for all of its bytes.
#[inline(always)]
fn digits(run: &[u8], out: &mut [i8]) {
    let mut power = 1u8;
    for out in out.chunks_exact_mut(run.len()) {
        for (out, &byte) in out.iter_mut().zip(run) {
            *out = ((u16::from(byte.wrapping_mul(power)) * 3) >> 8) as i8 - 1;
        }
        power = power.wrapping_mul(3);
    }
}

impl Stepped<256> for BlockTq1_0 {
    const FORMAT: Format = Format::TQ1_0;
    const LARGEST: u8 = 1;

    #[inline(always)]
    fn d(&self) -> Half {
        self.d
    }

    #[inline(always)]
    fn integers(&self, out: &mut [i8; 256]) {
        digits(&self.qs[..32], &mut out[..160]);
        digits(&self.qs[32..], &mut out[160..240]);
        digits(&self.qh, &mut out[240..]);
    }
}
