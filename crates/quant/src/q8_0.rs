//! Q8_0: 32 weights in 34 bytes, 8 bits each with a sign.
//!
//! `w[i] = d * qs[i]`. Source: ggml.

use bytemuck::{Pod, Zeroable};

use crate::block::{Block, assert_layout};
use crate::format::Format;
use crate::half::Half;

/// 32 weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ8_0 {
    /// The scale.
    pub d: Half,
    /// A weight each.
    pub qs: [i8; 32],
}

assert_layout!(BlockQ8_0, 32);

impl Block<32> for BlockQ8_0 {
    const FORMAT: Format = Format::Q8_0;

    #[inline]
    fn dequantize(&self, out: &mut [f32; 32]) {
        let d = self.d.to_f32();
        for (out, &q) in out.iter_mut().zip(&self.qs) {
            *out = d * f32::from(q);
        }
    }
}

impl BlockQ8_0 {
    /// Encodes weights: the scale is the largest magnitude over 127, every weight the nearest multiple, ties away from zero.
    #[inline]
    #[must_use]
    pub fn quantize(weights: &[f32; 32]) -> BlockQ8_0 {
        let d = weights.iter().fold(0f32, |max, w| max.max(w.abs())) / 127.0;
        // The weights are divided by the scale before it is rounded to 16 bits, as ggml does.
        let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
        BlockQ8_0 { d: Half::from_f32(d), qs: weights.map(|w| (w * inverse).round() as i8) }
    }
}
