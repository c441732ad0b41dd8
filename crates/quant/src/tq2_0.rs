//! TQ2_0: 256 weights in 66 bytes, each -1, 0 or 1 (or 2, which no encoder writes) times one scale; 2 bits each.
//!
//! Each half of 128 weights has 32 bytes of `qs`; byte `l` of them holds weights `l`, `l + 32`, `l + 64` and `l + 96` plus one, low bits
//! first. Source: ggml.

use bytemuck::{Pod, Zeroable};

use crate::block::{Block, assert_layout};
use crate::format::Format;
use crate::half::Half;
use crate::scaled::Stepped;

/// 256 weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockTq2_0 {
    /// Four weights a byte.
    pub qs: [u8; 64],
    /// The scale.
    pub d: Half,
}

assert_layout!(BlockTq2_0, 256);

impl Stepped<256> for BlockTq2_0 {
    const FORMAT: Format = Format::TQ2_0;
    const LARGEST: u8 = 2;

    #[inline(always)]
    fn d(&self) -> Half {
        self.d
    }

    #[inline(always)]
    fn integers(&self, out: &mut [i8; 256]) {
        let halves = self.qs.as_chunks::<32>().0;
        for (j, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            for (out, &q) in out.iter_mut().zip(&halves[j / 4]) {
                *out = (q >> (2 * (j % 4)) & 3) as i8 - 1;
            }
        }
    }
}
