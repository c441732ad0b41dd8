//! Q5_K: 256 weights in 176 bytes, 5 bits each, in 8 groups of 32 with a scale and a minimum of 6 bits.
//!
//! `w[i] = (d * scale) * q[i] - (dmin * min)` with the scale and the minimum of group `i / 32`. The low four bits are as in
//! Q4_K; bit `i / 32` of `qh[i % 32]` is the fifth. Source: ggml.

use bytemuck::{Pod, Zeroable};

use crate::block::{Block, assert_layout};
use crate::format::Format;
use crate::half::Half;
use crate::q4_k::scale_min;

/// 256 weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ5K {
    /// Multiplies the scales.
    pub d: Half,
    /// Multiplies the minimums.
    pub dmin: Half,
    /// 8 scales and 8 minimums of 6 bits: see [`scale_min`].
    pub scales: [u8; 12],
    /// The fifth bits.
    pub qh: [u8; 32],
    /// The low four bits, two weights a byte.
    pub qs: [u8; 128],
}

assert_layout!(BlockQ5K, 256);

impl Block<256> for BlockQ5K {
    const FORMAT: Format = Format::Q5_K;

    #[inline]
    fn dequantize(&self, out: &mut [f32; 256]) {
        let (d, dmin) = (self.d.to_f32(), self.dmin.to_f32());
        let (pairs, _) = self.qs.as_chunks::<32>();
        for (j, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let (scale, min) = scale_min(&self.scales, j);
            let dl = d * f32::from(scale);
            let ml = dmin * f32::from(min);
            let shift = 4 * (j % 2);
            for ((out, &q), &fifth) in out.iter_mut().zip(&pairs[j / 2]).zip(&self.qh) {
                *out = dl * f32::from(q >> shift & 15 | (fifth >> j & 1) << 4) - ml;
            }
        }
    }
}
