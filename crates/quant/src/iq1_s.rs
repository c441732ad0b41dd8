//! IQ1_S: 256 weights in 50 bytes, points of 8 numbers that are -1, 0 or 1, in 8 groups of 32 with a scale and an offset.
//!
//! `w[i] = d * (2 * scale + 1) * (number[i] + offset)`, the offset an eighth or minus that. Point `p` is number `qs[p]` of the grid, with
//! upper three bits from `qh[p / 4]`, which also holds the group's scale (bits 12 to 14) and its offset's sign. Source: ggml.

use bytemuck::{Pod, Zeroable};

use crate::block::{Block, assert_layout};
use crate::format::Format;
use crate::grid;
use crate::half::Half;
use crate::scaled::Stepped;

/// 256 weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockIq1S {
    /// Multiplies the scales.
    pub d: Half,
    /// The points' lower bits.
    pub qs: [u8; 32],
    /// By group: a little-endian integer of 16 bits.
    pub qh: [[u8; 2]; 8],
}

assert_layout!(BlockIq1S, 256);

impl Stepped<256> for BlockIq1S {
    const FORMAT: Format = Format::IQ1_S;
    const LARGEST: u8 = 9;
    const STEP: f32 = 0.125;

    #[inline(always)]
    fn d(&self) -> Half {
        self.d
    }

    #[inline(always)]
    fn multiple(&self, group: usize) -> u8 {
        2 * (self.qh[group / 2][1] >> 4 & 7) + 1
    }

    #[inline(always)]
    fn integers(&self, out: &mut [i8; 256]) {
        for (p, (out, &low)) in out.as_chunks_mut::<8>().0.iter_mut().zip(&self.qs).enumerate() {
            let high = u32::from(u16::from_le_bytes(self.qh[p / 4]));
            let index = u32::from(low) | (high >> (3 * (p % 4)) & 7) << 8;
            *out = grid::iq1(index, high >> 15 == 1);
        }
    }
}
