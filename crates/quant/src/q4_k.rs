//! Q4_K: 256 weights in 144 bytes, 4 bits each, in 8 groups of 32 with a scale and a minimum of 6 bits.
//!
//! `w[i] = (d * scale) * q[i] - (dmin * min)` with the scale and the minimum of group `i / 32`. Each two groups share 32 bytes
//! of `qs`: the low nibbles are the first group, the high nibbles the second. Source: ggml.

use bytemuck::{Pod, Zeroable};

use crate::block::{Block, assert_layout};
use crate::format::Format;
use crate::half::Half;

/// 256 weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ4K {
    /// Multiplies the scales.
    pub d: Half,
    /// Multiplies the minimums.
    pub dmin: Half,
    /// 8 scales and 8 minimums of 6 bits: see [`scale_min`].
    pub scales: [u8; 12],
    /// Two weights a byte.
    pub qs: [u8; 128],
}

/// The scale and the minimum of a group of Q4_K or Q5_K, from 0 to 63. Groups 0 to 3 have their scale in the low six bits of
/// bytes 0 to 3 and their minimum in those of bytes 4 to 7. Groups 4 to 7 have their low four bits in the nibbles of bytes 8 to
/// 11, scale low and minimum high, and their upper two in the top of the bytes of the group four before.
///
/// # Panics
/// If `group` is not below 8.
#[inline]
#[must_use]
pub fn scale_min(scales: &[u8; 12], group: usize) -> (u8, u8) {
    if group < 4 {
        (scales[group] & 63, scales[group + 4] & 63)
    } else {
        let low = scales[group + 4];
        (low & 15 | scales[group - 4] >> 6 << 4, low >> 4 | scales[group] >> 6 << 4)
    }
}

assert_layout!(BlockQ4K, 256);

impl Block<256> for BlockQ4K {
    const FORMAT: Format = Format::Q4_K;

    #[inline]
    fn dequantize(&self, out: &mut [f32; 256]) {
        let (d, dmin) = (self.d.to_f32(), self.dmin.to_f32());
        let (pairs, _) = self.qs.as_chunks::<32>();
        for (j, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let (scale, min) = scale_min(&self.scales, j);
            let dl = d * f32::from(scale);
            let ml = dmin * f32::from(min);
            let shift = 4 * (j % 2);
            for (out, &q) in out.iter_mut().zip(&pairs[j / 2]) {
                *out = dl * f32::from(q >> shift & 15) - ml;
            }
        }
    }
}
