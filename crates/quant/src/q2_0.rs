//! Q2_0: 64 weights in 18 bytes, each -1, 0, 1 or 2 times one scale; 2 bits each.
//!
//! Bits `2 (i % 4)` of byte `i / 4` are weight `i` plus one. Source: ggml.

use bytemuck::{Pod, Zeroable};

use crate::block::{Block, assert_layout};
use crate::format::Format;
use crate::half::Half;
use crate::scaled::Stepped;

/// 64 weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ2_0 {
    /// The scale.
    pub d: Half,
    /// Four weights a byte.
    pub qs: [u8; 16],
}

assert_layout!(BlockQ2_0, 64);

impl Stepped<64> for BlockQ2_0 {
    const FORMAT: Format = Format::Q2_0;
    const LARGEST: u8 = 2;

    #[inline(always)]
    fn d(&self) -> Half {
        self.d
    }

    #[inline(always)]
    fn integers(&self, out: &mut [i8; 64]) {
        for (out, &q) in out.as_chunks_mut::<4>().0.iter_mut().zip(&self.qs) {
            for (i, out) in out.iter_mut().enumerate() {
                *out = (q >> (2 * i) & 3) as i8 - 1;
            }
        }
    }
}
