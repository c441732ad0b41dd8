//! How are the two 16-bit float formats decoded?
//!
//! [`Half`] is IEEE 754 binary16, [`Bf16`] the upper half of a binary32. Both are little-endian bytes of alignment 1, so
//! that the block structs which hold them can be cast from any place in a file. Decoding is exact and has no branch, so
//! that loops over it vectorise; encoding rounds to nearest, ties to even.

use bytemuck::{Pod, Zeroable};

use crate::block::Block;
use crate::format::Format;

/// An IEEE 754 binary16 in little-endian bytes: a block's scale, or a weight of [`Format::F16`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub struct Half(pub [u8; 2]);

impl Half {
    /// The value; infinities and NaNs stay what they are.
    #[inline]
    #[must_use]
    pub fn to_f32(self) -> f32 {
        let bits = u32::from(u16::from_le_bytes(self.0));
        let magnitude = bits & 0x7fff;
        // With the exponent field moved to its place in a binary32 (from bit 10 to bit 23), the value is 2^112 times too
        // small. Rebiasing by 224 instead of 112 makes the all-ones exponent of infinities and NaNs all ones again, and the
        // multiplication by 2^-112 takes the excess away from the rest.
        let normal = f32::from_bits((magnitude << 13) + (224 << 23)) * f32::from_bits((127 - 112) << 23);
        // A subnormal is its mantissa times 2^-24: placed in the last bits of 0.5, whose unit in the last place is 2^-24.
        let subnormal = f32::from_bits(magnitude | (126 << 23)) - 0.5;
        let value = if magnitude < 1 << 10 { subnormal } else { normal };
        f32::from_bits(value.to_bits() | (bits & 0x8000) << 16)
    }

    /// The nearest value, ties to even; what is too large becomes an infinity.
    #[inline]
    #[must_use]
    pub fn from_f32(value: f32) -> Half {
        Half(half::f16::from_f32(value).to_le_bytes())
    }
}

impl Block<1> for Half {
    const FORMAT: Format = Format::F16;

    #[inline]
    fn dequantize(&self, out: &mut [f32; 1]) {
        out[0] = self.to_f32();
    }
}

/// The upper 16 bits of an IEEE 754 binary32 in little-endian bytes: a weight of [`Format::BF16`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub struct Bf16(pub [u8; 2]);

impl Bf16 {
    /// The value.
    #[inline]
    #[must_use]
    pub fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(u16::from_le_bytes(self.0)) << 16)
    }

    /// The nearest value, ties to even.
    #[inline]
    #[must_use]
    pub fn from_f32(value: f32) -> Bf16 {
        Bf16(half::bf16::from_f32(value).to_le_bytes())
    }
}

impl Block<1> for Bf16 {
    const FORMAT: Format = Format::BF16;

    #[inline]
    fn dequantize(&self, out: &mut [f32; 1]) {
        out[0] = self.to_f32();
    }
}
