//! Q4_1: 32 weights in 20 bytes, 4 bits each above a minimum.
//!
//! `w[i] = d * q[i] + m`. The low nibbles of `qs` are weights 0 to 15, the high nibbles weights 16 to 31. Source: ggml.

use bytemuck::{Pod, Zeroable};

use crate::block::{Block, assert_layout};
use crate::format::Format;
use crate::half::Half;

/// 32 weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ4_1 {
    /// The scale.
    pub d: Half,
    /// The minimum.
    pub m: Half,
    /// Two weights a byte.
    pub qs: [u8; 16],
}

assert_layout!(BlockQ4_1, 32);

impl Block<32> for BlockQ4_1 {
    const FORMAT: Format = Format::Q4_1;

    #[inline]
    fn dequantize(&self, out: &mut [f32; 32]) {
        let (d, m) = (self.d.to_f32(), self.m.to_f32());
        let (low, high) = out.split_at_mut(16);
        for ((low, high), &q) in low.iter_mut().zip(high).zip(&self.qs) {
            *low = d * f32::from(q & 15) + m;
            *high = d * f32::from(q >> 4) + m;
        }
    }
}
