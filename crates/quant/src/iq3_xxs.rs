//! IQ3_XXS: 256 weights in 98 bytes, points of 4 numbers, in 8 groups of 32 with a scale of 4 bits.
//!
//! `w[i] = d * (2 * scale + 1) / 4 * number[i]`. A point has a byte of index; a group has an integer of 32 bits: four times 7 signs of
//! 8 numbers, the eighth making the number of negative ones even, then the scale. Source: ggml.

use bytemuck::{Pod, Zeroable};

use crate::block::{Block, assert_layout};
use crate::format::Format;
use crate::grid;
use crate::half::Half;
use crate::scaled::Stepped;

/// 256 weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockIq3Xxs {
    /// Multiplies the scales.
    pub d: Half,
    /// A point a byte, two for each eight weights.
    pub qs: [[u8; 2]; 32],
    /// By group of 32: signs and scale, a little-endian integer.
    pub scales: [[u8; 4]; 8],
}

assert_layout!(BlockIq3Xxs, 256);

impl Stepped<256> for BlockIq3Xxs {
    const FORMAT: Format = Format::IQ3_XXS;
    const LARGEST: u8 = 62;
    const STEP: f32 = 0.25;

    #[inline(always)]
    fn d(&self) -> Half {
        self.d
    }

    #[inline(always)]
    fn multiple(&self, group: usize) -> u8 {
        2 * (self.scales[group / 2][3] >> 4) + 1
    }

    #[inline(always)]
    fn integers(&self, out: &mut [i8; 256]) {
        for (p, (out, pair)) in out.as_chunks_mut::<8>().0.iter_mut().zip(&self.qs).enumerate() {
            let signs = grid::even_signs(u32::from_le_bytes(self.scales[p / 4]) >> (7 * (p % 4)));
            let [low, high] = pair.map(|q| u64::from(grid::IQ3_XXS[usize::from(q)]));
            *out = grid::signed(low | high << 32, signs);
        }
    }
}
