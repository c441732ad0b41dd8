//! IQ2_S: 256 weights in 82 bytes, points of 8 numbers with 8 signs, in 16 groups of 16 with a scale of 4 bits.
//!
//! `w[i] = d * (2 * scale + 1) / 8 * number[i]`. Point `p` has index `qs[p]` and two more bits of `qh[p / 4]`. Source: ggml.

use bytemuck::{Pod, Zeroable};

use crate::block::{Block, assert_layout};
use crate::format::Format;
use crate::grid;
use crate::half::Half;
use crate::scaled::Stepped;

/// 256 weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockIq2S {
    /// Multiplies the scales.
    pub d: Half,
    /// The points' lower bits.
    pub qs: [u8; 32],
    /// By point: a bit for each negative number.
    pub signs: [u8; 32],
    /// The points' upper two bits, four a byte.
    pub qh: [u8; 8],
    /// Two groups a byte.
    pub scales: [u8; 8],
}

assert_layout!(BlockIq2S, 256);

impl Stepped<256> for BlockIq2S {
    const FORMAT: Format = Format::IQ2_S;
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
        for (p, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let high = self.qh[p / 4] >> (2 * (p % 4)) & 3;
            let index = usize::from(self.qs[p]) | usize::from(high) << 8;
            *out = grid::signed(grid::IQ2_S[index], self.signs[p]);
        }
    }
}
