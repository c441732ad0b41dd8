//! Q3_K: 256 weights in 110 bytes, 3 bits each, in 16 groups of 16 with a scale of 6 bits.
//!
//! `w[i] = (d * (scale - 32)) * q[i]` with the scale of group `i / 16`. The low two bits of `q` are laid out as in Q2_K; bit
//! `i / 32` of `hmask[i % 32]` is the third, and `q` is four less where it is clear. Source: ggml.

use bytemuck::{Pod, Zeroable};

use crate::block::{Block, assert_layout};
use crate::format::Format;
use crate::half::Half;

/// 256 weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ3K {
    /// The third bits.
    pub hmask: [u8; 32],
    /// The low two bits, four weights a byte.
    pub qs: [u8; 64],
    /// 16 scales of 6 bits: see [`BlockQ3K::scale`].
    pub scales: [u8; 12],
    /// Multiplies the scales.
    pub d: Half,
}

impl BlockQ3K {
    /// The scale of a group, from -32 to 31. Groups 0 to 7 have their low four bits in the low nibbles of bytes 0 to 7, groups
    /// 8 to 15 in the high ones; the upper two bits of group `g` are bits `g / 4 * 2` and up of byte `8 + g % 4`.
    ///
    /// # Panics
    /// If `group` is not below 16.
    #[inline]
    #[must_use]
    pub fn scale(&self, group: usize) -> i8 {
        let low = self.scales[group % 8] >> (group / 8 * 4) & 15;
        let high = self.scales[8 + group % 4] >> (group / 4 * 2) & 3;
        (low | high << 4) as i8 - 32
    }
}

assert_layout!(BlockQ3K, 256);

impl Block<256> for BlockQ3K {
    const FORMAT: Format = Format::Q3_K;

    #[inline]
    fn dequantize(&self, out: &mut [f32; 256]) {
        let d = self.d.to_f32();
        let (halves, _) = self.qs.as_chunks::<32>();
        for (j, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let (qs, shift) = (&halves[j / 4], 2 * (j % 4));
            for (k, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
                let dl = d * f32::from(self.scale(2 * j + k));
                let of_group = 16 * k..16 * k + 16;
                for ((out, &q), &mask) in out.iter_mut().zip(&qs[of_group.clone()]).zip(&self.hmask[of_group])
                {
                    let third = mask >> j & 1;
                    *out = dl * (f32::from((q >> shift & 3) | third << 2) - 4.0);
                }
            }
        }
    }
}
