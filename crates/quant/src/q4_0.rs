//! Q4_0: 32 weights in 18 bytes, 4 bits each around a scale.
//!
//! `w[i] = d * (q[i] - 8)`. The low nibbles of `qs` are weights 0 to 15, the high nibbles weights 16 to 31. Source: ggml.

use bytemuck::{Pod, Zeroable};

use crate::block::{Block, assert_layout};
use crate::format::Format;
use crate::half::Half;

/// 32 weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ4_0 {
    /// The scale.
    pub d: Half,
    /// Two weights a byte.
    pub qs: [u8; 16],
}

assert_layout!(BlockQ4_0, 32);

impl Block<32> for BlockQ4_0 {
    const FORMAT: Format = Format::Q4_0;

    #[inline]
    fn dequantize(&self, out: &mut [f32; 32]) {
        let d = self.d.to_f32();
        let (low, high) = out.split_at_mut(16);
        for ((low, high), &q) in low.iter_mut().zip(high).zip(&self.qs) {
            *low = d * (f32::from(q & 15) - 8.0);
            *high = d * (f32::from(q >> 4) - 8.0);
        }
    }
}
