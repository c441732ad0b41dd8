//! MXFP4: 32 weights in 17 bytes, 4-bit floats (E2M1) under a shared power of two (E8M0).
//!
//! `w[i] = e8m0_half(e) * E2M1_DOUBLED[q[i]]`: the table holds twice the value, the scale half of it, so that both are exact.
//! The low nibbles of `qs` are weights 0 to 15, the high nibbles weights 16 to 31. Sources: OCP Microscaling Formats 1.0; ggml.

use bytemuck::{Pod, Zeroable};

use crate::block::{Block, assert_layout};
use crate::format::Format;

/// Twice what the 4 bits of an E2M1 float stand for. Its negative zero is a zero here.
pub const E2M1_DOUBLED: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// Half of `2^(e - 127)`. The standard calls `e = 255` NaN; ggml reads it as a number like the others, and so does this.
#[inline]
#[must_use]
pub fn e8m0_half(e: u8) -> f32 {
    // The halves of the two smallest are subnormal.
    f32::from_bits(if e < 2 { 0x0020_0000 << e } else { (u32::from(e) - 1) << 23 })
}

/// 32 weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockMxfp4 {
    /// The exponent, biased by 127.
    pub e: u8,
    /// Two weights a byte.
    pub qs: [u8; 16],
}

assert_layout!(BlockMxfp4, 32);

impl Block<32> for BlockMxfp4 {
    const FORMAT: Format = Format::MXFP4;

    #[inline]
    fn dequantize(&self, out: &mut [f32; 32]) {
        let d = e8m0_half(self.e);
        let (low, high) = out.split_at_mut(16);
        for ((low, high), &q) in low.iter_mut().zip(high).zip(&self.qs) {
            *low = d * f32::from(E2M1_DOUBLED[usize::from(q & 15)]);
            *high = d * f32::from(E2M1_DOUBLED[usize::from(q >> 4)]);
        }
    }
}
