//! IQ3_S: 256 weights in 110 bytes, points of 4 numbers with 4 signs, in 8 groups of 32 with a scale of 4 bits.
//!
//! `w[i] = d * (2 * scale + 1) * number[i]`. Point `p` has index `qs[p]` and bit `p % 8` of `qh[p / 8]` as its ninth bit. Source: ggml.

use bytemuck::{Pod, Zeroable};

use crate::block::{Block, assert_layout};
use crate::format::Format;
use crate::grid;
use crate::half::Half;
use crate::scaled::Stepped;

/// 256 weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockIq3S {
    /// Multiplies the scales.
    pub d: Half,
    /// The points' lower bits, two points for each eight weights.
    pub qs: [[u8; 2]; 32],
    /// The points' ninth bits.
    pub qh: [u8; 8],
    /// By eight weights: a bit for each negative one.
    pub signs: [u8; 32],
    /// Two groups of 32 a byte.
    pub scales: [u8; 4],
}

assert_layout!(BlockIq3S, 256);

impl Stepped<256> for BlockIq3S {
    const FORMAT: Format = Format::IQ3_S;
    const LARGEST: u8 = 15;
    const STEP: f32 = 1.0;

    #[inline(always)]
    fn d(&self) -> Half {
        self.d
    }

    #[inline(always)]
    fn multiple(&self, group: usize) -> u8 {
        2 * (self.scales[group / 4] >> (4 * (group / 2 % 2)) & 15) + 1
    }

    #[inline(always)]
    fn integers(&self, out: &mut [i8; 256]) {
        for (p, (out, &[low, high])) in out.as_chunks_mut::<8>().0.iter_mut().zip(&self.qs).enumerate() {
            let ninth = usize::from(self.qh[p / 4] >> (2 * (p % 4)));
            let low = u64::from(grid::IQ3_S[usize::from(low) | (ninth & 1) << 8]);
            let high = u64::from(grid::IQ3_S[usize::from(high) | (ninth >> 1 & 1) << 8]);
            *out = grid::signed(low | high << 32, self.signs[p]);
        }
    }
}
