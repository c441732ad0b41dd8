//! Which kernel multiplies which format? One monomorphised kernel per format and instruction set, chosen once a call.

use quant::Format;

use super::blocks;
use super::bytes32::{self, Unpack};
use super::integers::Integers;
use super::{Columns, Weights, scalar};
use crate::simd::isa::{Isa, Vectors};
use crate::simd::quantize::{QuantizedRows, TILE};

/// A checked product: the weights are whole rows of `row_bytes`, and the activations have as many columns.
pub(super) struct Job<'a> {
    pub(super) weights: Weights<'a>,
    pub(super) row_bytes: usize,
    pub(super) x: &'a QuantizedRows,
}

impl<'a> Job<'a> {
    /// The weight rows.
    pub(super) fn rows(&self) -> impl Iterator<Item = &'a [u8]> {
        self.weights.bytes.chunks_exact(self.row_bytes)
    }

    /// Whole tiles of a row.
    pub(super) fn n_tiles(&self) -> usize {
        self.weights.n_cols / TILE
    }
}

/// Runs the kernel for the format and the instruction set.
pub(super) fn gemv(isa: Isa, job: &Job<'_>, out: &mut Columns<'_>) {
    #[cfg(target_arch = "x86_64")]
    if isa >= Isa::Avx512Vbmi {
        return super::avx512::gemv(job, out);
    }
    match job.weights.format {
        Format::F32 | Format::F16 | Format::BF16 => panic!("{} takes f32 activations", job.weights.format),
        Format::Q4_0 => rows::<blocks::Q4_0>(isa, job, out),
        Format::Q4_1 => rows::<blocks::Q4_1>(isa, job, out),
        Format::Q5_0 => rows::<blocks::Q5_0>(isa, job, out),
        Format::Q5_1 => rows::<blocks::Q5_1>(isa, job, out),
        Format::Q8_0 => rows::<blocks::Q8_0>(isa, job, out),
        Format::Q2_K => rows::<blocks::Q2K>(isa, job, out),
        Format::Q3_K => rows::<blocks::Q3K>(isa, job, out),
        Format::Q4_K => rows::<blocks::Q4K>(isa, job, out),
        Format::Q5_K => rows::<blocks::Q5K>(isa, job, out),
        Format::Q6_K => rows::<blocks::Q6K>(isa, job, out),
        Format::IQ4_NL => rows::<blocks::Iq4Nl>(isa, job, out),
        Format::IQ4_XS => rows::<blocks::Iq4Xs>(isa, job, out),
        Format::MXFP4 => rows::<blocks::Mxfp4>(isa, job, out),
        Format::IQ2_XXS => rows::<Integers<quant::BlockIq2Xxs, _>>(isa, job, out),
        Format::IQ2_XS => rows::<Integers<quant::BlockIq2Xs, _>>(isa, job, out),
        Format::IQ2_S => rows::<Integers<quant::BlockIq2S, _>>(isa, job, out),
        Format::IQ3_XXS => rows::<Integers<quant::BlockIq3Xxs, _>>(isa, job, out),
        Format::IQ3_S => rows::<Integers<quant::BlockIq3S, _>>(isa, job, out),
        Format::IQ1_S => rows::<Integers<quant::BlockIq1S, _>>(isa, job, out),
        Format::IQ1_M => rows::<Integers<quant::BlockIq1M, _>>(isa, job, out),
        Format::TQ1_0 => rows::<Integers<quant::BlockTq1_0, _>>(isa, job, out),
        Format::TQ2_0 => rows::<Integers<quant::BlockTq2_0, _>>(isa, job, out),
        Format::NVFP4 => rows::<Integers<quant::BlockNvfp4, _>>(isa, job, out),
        Format::Q1_0 => rows::<Integers<quant::BlockQ1_0, _>>(isa, job, out),
        Format::Q2_0 => rows::<Integers<quant::BlockQ2_0, _>>(isa, job, out),
    }
}

fn rows<B: Unpack>(isa: Isa, job: &Job<'_>, out: &mut Columns<'_>) {
    match isa.vectors() {
        #[cfg(target_arch = "x86_64")]
        Vectors::Bits256 | Vectors::Bits512 => bytes32::avx2::gemv::<B>(isa, job, out),
        #[cfg(target_arch = "aarch64")]
        Vectors::Neon => bytes32::neon::gemv::<B>(isa, job, out),
        _ => scalar::gemv::<B>(job, out),
    }
}
