//! IQ1_M: 256 weights in 56 bytes, points of 8 numbers that are -1, 0 or 1, each with an offset, in 16 groups of 16 with a scale.
//!
//! `w[i] = d * (2 * scale + 1) * (number[i] + offset)`, the offset an eighth or minus that. Point `p` is number `qs[p]` of the grid; nibble
//! `p` of `qh` has three upper bits and the offset's sign. The block's own scale is spread over the spare bits of the others. Source: ggml.

use bytemuck::{Pod, Zeroable};

use crate::block::{Block, assert_layout};
use crate::format::Format;
use crate::grid;
use crate::half::Half;
use crate::scaled::Stepped;

/// 256 weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockIq1M {
    /// The points' lower bits.
    pub qs: [u8; 32],
    /// Two points a byte.
    pub qh: [u8; 16],
    /// Little-endian integers of 16 bits: four groups' scales of three bits each, and four bits of the block's own.
    pub scales: [[u8; 2]; 4],
}

assert_layout!(BlockIq1M, 256);

impl Stepped<256> for BlockIq1M {
    const FORMAT: Format = Format::IQ1_M;
    const LARGEST: u8 = 9;
    const STEP: f32 = 0.125;

    #[inline(always)]
    fn d(&self) -> Half {
        let [a, b, c, d] = self.scales.map(|scales| scales[1]);
        Half([a >> 4 | b & 0xf0, c >> 4 | d & 0xf0])
    }

    #[inline(always)]
    fn multiple(&self, group: usize) -> u8 {
        let scales = u16::from_le_bytes(self.scales[group / 4]);
        2 * (scales >> (3 * (group % 4)) & 7) as u8 + 1
    }

    #[inline(always)]
    fn integers(&self, out: &mut [i8; 256]) {
        for (p, (out, &low)) in out.as_chunks_mut::<8>().0.iter_mut().zip(&self.qs).enumerate() {
            let high = u32::from(self.qh[p / 2] >> (4 * (p % 2)));
            *out = grid::iq1(u32::from(low) | (high & 7) << 8, high & 8 != 0);
        }
    }
}
