//! IQ2_XS: 256 weights in 74 bytes, points of 8 numbers, in 16 groups of 16 with a scale of 4 bits.
//!
//! `w[i] = d * (2 * scale + 1) / 8 * number[i]`. A point has 16 bits: 9 of its index, then 7 signs, the eighth making the number of
//! negative ones even. Source: ggml.

use bytemuck::{Pod, Zeroable};

use crate::block::{Block, assert_layout};
use crate::format::Format;
use crate::grid;
use crate::half::Half;
use crate::scaled::Stepped;

/// 256 weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockIq2Xs {
    /// Multiplies the scales.
    pub d: Half,
    /// By point: a little-endian integer of 16 bits.
    pub qs: [[u8; 2]; 32],
    /// Two groups a byte.
    pub scales: [u8; 8],
}

assert_layout!(BlockIq2Xs, 256);

impl Stepped<256> for BlockIq2Xs {
    const FORMAT: Format = Format::IQ2_XS;
    const LARGEST: u8 = 43;
    const STEP: f32 = 0.125;

    #[inline(always)]
    fn d(&self) -> Half {
        self.d
    }

    #[inline(always)]
    fn multiple(&self, group: usize) -> u8 {
        2 * (self.scales[group / 2] >> (4 * (group % 2)) & 15) + 1
    }

    #[inline(always)]
    fn integers(&self, out: &mut [i8; 256]) {
        for (out, &q) in out.as_chunks_mut::<8>().0.iter_mut().zip(&self.qs) {
            let q = u16::from_le_bytes(q);
            let signs = grid::even_signs(u32::from(q >> 9));
            *out = grid::signed(grid::IQ2_XS[usize::from(q & 511)], signs);
        }
    }
}
