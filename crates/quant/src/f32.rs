//! F32: weights as they are, one in 4 bytes.
//!
//! IEEE 754 binary32, little-endian. A block is one weight, held as bytes so that it can be cast from any place in a file.

use bytemuck::{Pod, Zeroable};

use crate::block::Block;
use crate::format::Format;

/// One weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub struct Float(pub [u8; 4]);

impl Float {
    /// The value.
    #[inline]
    #[must_use]
    pub fn to_f32(self) -> f32 {
        f32::from_le_bytes(self.0)
    }
}

impl Block<1> for Float {
    const FORMAT: Format = Format::F32;

    #[inline]
    fn dequantize(&self, out: &mut [f32; 1]) {
        out[0] = self.to_f32();
    }
}
