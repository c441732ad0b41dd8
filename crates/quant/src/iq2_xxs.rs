//! IQ2_XXS: 256 weights in 66 bytes, points of 8 numbers, in 8 groups of 32 with a scale of 4 bits.
//!
//! `w[i] = d * (2 * scale + 1) / 8 * number[i]`. A group has the indices of four points, a byte each, and an integer of 32 bits:
//! four times 7 bits of signs, the eighth sign making the number of negative ones even, then the scale. Source: ggml.

use bytemuck::{Pod, Zeroable};

use crate::block::{Block, assert_layout};
use crate::format::Format;
use crate::grid;
use crate::half::Half;
use crate::scaled::Stepped;

/// 256 weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockIq2Xxs {
    /// Multiplies the scales.
    pub d: Half,
    /// By group: four indices, then a little-endian integer.
    pub qs: [[u8; 8]; 8],
}

assert_layout!(BlockIq2Xxs, 256);

impl Stepped<256> for BlockIq2Xxs {
    const FORMAT: Format = Format::IQ2_XXS;
    const LARGEST: u8 = 43;
    const STEP: f32 = 0.125;

    #[inline(always)]
    fn d(&self) -> Half {
        self.d
    }

    #[inline(always)]
    fn multiple(&self, group: usize) -> u8 {
        2 * (self.qs[group / 2][7] >> 4) + 1
    }

    #[inline(always)]
    fn integers(&self, out: &mut [i8; 256]) {
        for (p, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let [a, b, c, d, word @ ..] = self.qs[p / 4];
            let signs = grid::even_signs(u32::from_le_bytes(word) >> (7 * (p % 4)));
            *out = grid::signed(grid::IQ2_XXS[usize::from([a, b, c, d][p % 4])], signs);
        }
    }
}
