//! How is a tensor of any format decoded?
//!
//! One `match` from the format that a file names to the block type that decodes it. For callers that do not know the format
//! when compiled; those that do call [`crate::dequantize`] with the block type.

use crate::block::{QuantError, dequantize};
use crate::f32::Float;
use crate::format::Format;
use crate::half::{Bf16, Half};
use crate::iq1_m::BlockIq1M;
use crate::iq1_s::BlockIq1S;
use crate::iq2_s::BlockIq2S;
use crate::iq2_xs::BlockIq2Xs;
use crate::iq2_xxs::BlockIq2Xxs;
use crate::iq3_s::BlockIq3S;
use crate::iq3_xxs::BlockIq3Xxs;
use crate::iq4_nl::BlockIq4Nl;
use crate::iq4_xs::BlockIq4Xs;
use crate::mxfp4::BlockMxfp4;
use crate::nvfp4::BlockNvfp4;
use crate::q1_0::BlockQ1_0;
use crate::q2_0::BlockQ2_0;
use crate::q2_k::BlockQ2K;
use crate::q3_k::BlockQ3K;
use crate::q4_0::BlockQ4_0;
use crate::q4_1::BlockQ4_1;
use crate::q4_k::BlockQ4K;
use crate::q5_0::BlockQ5_0;
use crate::q5_1::BlockQ5_1;
use crate::q5_k::BlockQ5K;
use crate::q6_k::BlockQ6K;
use crate::q8_0::BlockQ8_0;
use crate::tq1_0::BlockTq1_0;
use crate::tq2_0::BlockTq2_0;

impl Format {
    /// Decodes whole blocks into exactly as many weights as they hold.
    ///
    /// # Errors
    /// [`QuantError`] if `src` is not a whole number of blocks or `dst` has room for more or fewer weights; `dst` is then
    /// unchanged.
    pub fn dequantize(self, src: &[u8], dst: &mut [f32]) -> Result<(), QuantError> {
        self.dequantize_here(src, dst)
    }

    /// As [`Format::dequantize`], compiled as a part of the caller: for its instruction set.
    ///
    /// # Errors
    /// As [`Format::dequantize`].
    #[inline(always)]
    pub fn dequantize_here(self, src: &[u8], dst: &mut [f32]) -> Result<(), QuantError> {
        match self {
            Format::F32 => dequantize::<Float, _>(src, dst),
            Format::F16 => dequantize::<Half, _>(src, dst),
            Format::BF16 => dequantize::<Bf16, _>(src, dst),
            Format::Q4_0 => dequantize::<BlockQ4_0, _>(src, dst),
            Format::Q4_1 => dequantize::<BlockQ4_1, _>(src, dst),
            Format::Q5_0 => dequantize::<BlockQ5_0, _>(src, dst),
            Format::Q5_1 => dequantize::<BlockQ5_1, _>(src, dst),
            Format::Q8_0 => dequantize::<BlockQ8_0, _>(src, dst),
            Format::Q2_K => dequantize::<BlockQ2K, _>(src, dst),
            Format::Q3_K => dequantize::<BlockQ3K, _>(src, dst),
            Format::Q4_K => dequantize::<BlockQ4K, _>(src, dst),
            Format::Q5_K => dequantize::<BlockQ5K, _>(src, dst),
            Format::Q6_K => dequantize::<BlockQ6K, _>(src, dst),
            Format::IQ4_NL => dequantize::<BlockIq4Nl, _>(src, dst),
            Format::IQ4_XS => dequantize::<BlockIq4Xs, _>(src, dst),
            Format::MXFP4 => dequantize::<BlockMxfp4, _>(src, dst),
            Format::IQ2_XXS => dequantize::<BlockIq2Xxs, _>(src, dst),
            Format::IQ2_XS => dequantize::<BlockIq2Xs, _>(src, dst),
            Format::IQ3_XXS => dequantize::<BlockIq3Xxs, _>(src, dst),
            Format::IQ1_S => dequantize::<BlockIq1S, _>(src, dst),
            Format::IQ3_S => dequantize::<BlockIq3S, _>(src, dst),
            Format::IQ2_S => dequantize::<BlockIq2S, _>(src, dst),
            Format::IQ1_M => dequantize::<BlockIq1M, _>(src, dst),
            Format::TQ1_0 => dequantize::<BlockTq1_0, _>(src, dst),
            Format::TQ2_0 => dequantize::<BlockTq2_0, _>(src, dst),
            Format::NVFP4 => dequantize::<BlockNvfp4, _>(src, dst),
            Format::Q1_0 => dequantize::<BlockQ1_0, _>(src, dst),
            Format::Q2_0 => dequantize::<BlockQ2_0, _>(src, dst),
        }
    }
}
