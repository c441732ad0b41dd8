//! Q2_K: 256 weights in 84 bytes, 2 bits each, in 16 groups of 16 with a scale and a minimum of 4 bits.
//!
//! `w[i] = (d * scale) * q[i] - (dmin * min)` with the scale and the minimum of group `i / 16`. Each half of 128 weights has 32
//! bytes of `qs`; byte `l` of them holds weights `l`, `l + 32`, `l + 64` and `l + 96`, low bits first. Source: ggml.

use bytemuck::{Pod, Zeroable};

use crate::block::{Block, assert_layout};
use crate::format::Format;
use crate::half::Half;

/// 256 weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ2K {
    /// By group: the scale in the low nibble, the minimum in the high one.
    pub scales: [u8; 16],
    /// Four weights a byte.
    pub qs: [u8; 64],
    /// Multiplies the scales.
    pub d: Half,
    /// Multiplies the minimums.
    pub dmin: Half,
}

assert_layout!(BlockQ2K, 256);

impl Block<256> for BlockQ2K {
    const FORMAT: Format = Format::Q2_K;

    #[inline]
    fn dequantize(&self, out: &mut [f32; 256]) {
        let (d, dmin) = (self.d.to_f32(), self.dmin.to_f32());
        let (halves, _) = self.qs.as_chunks::<32>();
        for (j, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let (qs, shift) = (&halves[j / 4], 2 * (j % 4));
            for (k, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
                let scale = self.scales[2 * j + k];
                let dl = d * f32::from(scale & 15);
                let ml = dmin * f32::from(scale >> 4);
                for (out, &q) in out.iter_mut().zip(&qs[16 * k..16 * k + 16]) {
                    *out = dl * f32::from(q >> shift & 3) - ml;
                }
            }
        }
    }
}
