//! Q1_0: 128 weights in 18 bytes, each plus or minus one scale; a bit each.
//!
//! Bit `i % 8` of byte `i / 8`, the lowest first, is set where weight `i` is positive. Source: ggml.

use bytemuck::{Pod, Zeroable};

use crate::block::{Block, assert_layout};
use crate::format::Format;
use crate::half::Half;
use crate::scaled::Stepped;

/// 128 weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ1_0 {
    /// The scale.
    pub d: Half,
    /// Eight weights a byte.
    pub qs: [u8; 16],
}

assert_layout!(BlockQ1_0, 128);

impl Stepped<128> for BlockQ1_0 {
    const FORMAT: Format = Format::Q1_0;
    const LARGEST: u8 = 1;

    #[inline(always)]
    fn d(&self) -> Half {
        self.d
    }

    #[inline(always)]
    fn integers(&self, out: &mut [i8; 128]) {
        for (out, &q) in out.as_chunks_mut::<8>().0.iter_mut().zip(&self.qs) {
            for (i, out) in out.iter_mut().enumerate() {
                *out = 2 * (q >> i & 1) as i8 - 1;
            }
        }
    }
}
