//! NVFP4: 64 weights in 36 bytes, 4-bit floats (E2M1), in 4 groups of 16 with a scale of 8 bits (E4M3 without a sign).
//!
//! `w[i] = ue4m3_half(d[i / 16]) * E2M1_DOUBLED[q[i]]`. Each group has 8 bytes of `qs`: the low nibbles are its weights 0 to 7, the high
//! nibbles 8 to 15. A file may hold a scale for a whole tensor beside it, which is not part of the block. Source: ggml.

use bytemuck::{Pod, Zeroable};

use crate::block::{Block, assert_layout};
use crate::format::Format;
use crate::mxfp4::E2M1_DOUBLED;
use crate::scaled::Scaled;

/// Half of what an E4M3 float stands for; its sign is not looked at. The standard's NaN, 0x7F, is a zero as in ggml.
#[inline(always)]
#[must_use]
pub fn ue4m3_half(bits: u8) -> f32 {
    let (exponent, mantissa) = (bits >> 3 & 15, bits & 7);
    if bits == 0x7f {
        0.0
    } else if exponent == 0 {
        f32::from(mantissa) * (1.0 / 1024.0)
    } else {
        // The mantissa is three bits of 23, the exponent's bias 7 of 127, and one less for the half.
        f32::from_bits((u32::from(exponent) + 127 - 8) << 23 | u32::from(mantissa) << 20)
    }
}

/// 64 weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockNvfp4 {
    /// The scales.
    pub d: [u8; 4],
    /// Two weights a byte.
    pub qs: [u8; 32],
}

assert_layout!(BlockNvfp4, 64);

impl Scaled<64> for BlockNvfp4 {
    const FORMAT: Format = Format::NVFP4;
    const LARGEST: u8 = 12;

    #[inline(always)]
    fn integers(&self, out: &mut [i8; 64]) {
        for (out, qs) in out.as_chunks_mut::<16>().0.iter_mut().zip(self.qs.as_chunks::<8>().0) {
            let (low, high) = out.split_at_mut(8);
            for ((low, high), &q) in low.iter_mut().zip(high).zip(qs) {
                *low = E2M1_DOUBLED[usize::from(q & 15)];
                *high = E2M1_DOUBLED[usize::from(q >> 4)];
            }
        }
    }

    #[inline(always)]
    fn scale(&self, group: usize) -> f32 {
        ue4m3_half(self.d[group])
    }
}
