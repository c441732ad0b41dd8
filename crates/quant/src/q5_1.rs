//! Q5_1: 32 weights in 24 bytes, 5 bits each above a minimum.
//!
//! `w[i] = d * q[i] + m`. The low four bits are as in Q4_1; bit `i` of `qh` is the fifth bit of weight `i`. Source: ggml.

use bytemuck::{Pod, Zeroable};

use crate::block::{Block, assert_layout};
use crate::format::Format;
use crate::half::Half;

/// 32 weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ5_1 {
    /// The scale.
    pub d: Half,
    /// The minimum.
    pub m: Half,
    /// The fifth bits, a little-endian integer of 32 bits.
    pub qh: [u8; 4],
    /// The low four bits, two weights a byte.
    pub qs: [u8; 16],
}

assert_layout!(BlockQ5_1, 32);

impl Block<32> for BlockQ5_1 {
    const FORMAT: Format = Format::Q5_1;

    #[inline]
    fn dequantize(&self, out: &mut [f32; 32]) {
        let (d, m) = (self.d.to_f32(), self.m.to_f32());
        let qh = u32::from_le_bytes(self.qh);
        let (low, high) = out.split_at_mut(16);
        for (j, ((low, high), &q)) in low.iter_mut().zip(high).zip(&self.qs).enumerate() {
            let low_fifth = (qh >> j & 1) << 4;
            let high_fifth = (qh >> (j + 16) & 1) << 4;
            *low = d * (u32::from(q & 15) | low_fifth) as f32 + m;
            *high = d * (u32::from(q >> 4) | high_fifth) as f32 + m;
        }
    }
}
