//! IQ4_NL: 32 weights in 18 bytes, 4 bits each that pick one of 16 unevenly spaced values.
//!
//! `w[i] = d * IQ4_NL_VALUES[q[i]]`. The low nibbles of `qs` are weights 0 to 15, the high nibbles weights 16 to 31. Source:
//! ggml.

use bytemuck::{Pod, Zeroable};

use crate::block::{Block, assert_layout};
use crate::format::Format;
use crate::half::Half;

/// What the 4 bits of IQ4_NL and IQ4_XS stand for.
pub const IQ4_NL_VALUES: [i8; 16] =
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// 32 weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockIq4Nl {
    /// The scale.
    pub d: Half,
    /// Two weights a byte.
    pub qs: [u8; 16],
}

assert_layout!(BlockIq4Nl, 32);

impl Block<32> for BlockIq4Nl {
    const FORMAT: Format = Format::IQ4_NL;

    #[inline]
    fn dequantize(&self, out: &mut [f32; 32]) {
        let d = self.d.to_f32();
        let (low, high) = out.split_at_mut(16);
        for ((low, high), &q) in low.iter_mut().zip(high).zip(&self.qs) {
            *low = d * f32::from(IQ4_NL_VALUES[usize::from(q & 15)]);
            *high = d * f32::from(IQ4_NL_VALUES[usize::from(q >> 4)]);
        }
    }
}
