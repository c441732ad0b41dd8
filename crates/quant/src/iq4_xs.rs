//! IQ4_XS: 256 weights in 136 bytes, 4 bits each that pick one of 16 values, in 8 groups of 32 with a scale of 6 bits.
//!
//! `w[i] = (d * scale) * IQ4_NL_VALUES[q[i]]` with the scale of group `i / 32`. Each group has 16 bytes of `qs`: the low nibbles
//! are its weights 0 to 15, the high nibbles 16 to 31. Source: ggml.

use bytemuck::{Pod, Zeroable};

use crate::block::{Block, assert_layout};
use crate::format::Format;
use crate::half::Half;
use crate::iq4_nl::IQ4_NL_VALUES;

/// 256 weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockIq4Xs {
    /// Multiplies the scales.
    pub d: Half,
    /// The scales' upper two bits, group 0 first, a little-endian integer of 16 bits.
    pub scales_h: [u8; 2],
    /// The scales' low four bits, two groups a byte.
    pub scales_l: [u8; 4],
    /// Two weights a byte.
    pub qs: [u8; 128],
}

impl BlockIq4Xs {
    /// The scale of a group, from -32 to 31.
    ///
    /// # Panics
    /// If `group` is not below 8.
    #[inline]
    #[must_use]
    pub fn scale(&self, group: usize) -> i8 {
        let low = self.scales_l[group / 2] >> (4 * (group % 2)) & 15;
        let high = u16::from_le_bytes(self.scales_h) >> (2 * group) & 3;
        (low | (high as u8) << 4) as i8 - 32
    }
}

assert_layout!(BlockIq4Xs, 256);

impl Block<256> for BlockIq4Xs {
    const FORMAT: Format = Format::IQ4_XS;

    #[inline]
    fn dequantize(&self, out: &mut [f32; 256]) {
        let d = self.d.to_f32();
        for (j, (out, qs)) in
            out.as_chunks_mut::<32>().0.iter_mut().zip(self.qs.as_chunks::<16>().0).enumerate()
        {
            let dl = d * f32::from(self.scale(j));
            let (low, high) = out.split_at_mut(16);
            for ((low, high), &q) in low.iter_mut().zip(high).zip(qs) {
                *low = dl * f32::from(IQ4_NL_VALUES[usize::from(q & 15)]);
                *high = dl * f32::from(IQ4_NL_VALUES[usize::from(q >> 4)]);
            }
        }
    }
}
