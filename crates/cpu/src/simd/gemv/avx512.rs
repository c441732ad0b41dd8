//! The block formats' kernel for AVX-512 with VNNI and VBMI: 256 weights a step, with four `vpdpbusd` and two multiply-adds.
//!
//! A format unpacks 256 weights to unsigned bytes, in the lanes that the activations have, with a vector of scales and one of
//! minimums. A format of signed weights adds an offset to make them unsigned; its minimum is the negative offset times
//! the scale. The sum of a weight row with an activation row is in a register of its own, so its order never depends on
//! the rows beside them.

/// A table of an integer for every lane, from the number of its group of 16 weights.
macro_rules! by_group {
    (|$g:ident| $value:expr) => {
        &const {
            let mut table = [0i32; 16];
            let mut lane = 0;
            while lane < 16 {
                let $g = $crate::simd::quantize::group_of(lane) as i32;
                table[lane] = $value;
                lane += 1;
            }
            table
        }
    };
}

mod blocks256;
mod blocks32;
mod integers;
mod rows;

use std::arch::x86_64::*;

use quant::Format;

use super::Columns;
use super::dispatch::Job;
use super::integers::Integers;
use rows::rows;

/// 256 weights in registers.
#[derive(Clone, Copy)]
struct Unpacked {
    /// Unsigned weights: vector `v`, lane `l` holds weights `4 * v` to `4 * v + 3` of the lane's group of 16.
    q: [__m512i; 4],
    /// Scales of the lanes' groups.
    d: __m512,
    /// Minimums of the lanes' groups.
    m: __m512,
}

/// A block format, seen as tiles of 256 weights.
trait Unpack {
    /// Bytes of a tile.
    const BYTES: usize;

    /// Unpacks a tile.
    ///
    /// # Safety
    /// The processor has `Isa::Avx512Vbmi`, and `BYTES` bytes can be read at `tile`.
    unsafe fn unpack(tile: *const u8) -> Unpacked;
}

/// Computes the product of the job. Only where `Isa::Avx512Vbmi` was detected.
pub(super) fn gemv(job: &Job<'_>, out: &mut Columns<'_>) {
    use {blocks32 as b32, blocks256 as b256};
    let kernel = match job.weights.format {
        Format::F32 | Format::F16 | Format::BF16 => panic!("{} takes f32 activations", job.weights.format),
        Format::Q4_0 => rows::<b32::Q4_0>,
        Format::Q4_1 => rows::<b32::Q4_1>,
        Format::Q5_0 => rows::<b32::Q5_0>,
        Format::Q5_1 => rows::<b32::Q5_1>,
        Format::Q8_0 => rows::<b32::Q8_0>,
        Format::IQ4_NL => rows::<b32::Iq4Nl>,
        Format::MXFP4 => rows::<b32::Mxfp4>,
        Format::Q2_K => rows::<b256::Q2K>,
        Format::Q3_K => rows::<b256::Q3K>,
        Format::Q4_K => rows::<b256::Q4K>,
        Format::Q5_K => rows::<b256::Q5K>,
        Format::Q6_K => rows::<b256::Q6K>,
        Format::IQ4_XS => rows::<b256::Iq4Xs>,
        Format::IQ2_XXS => rows::<Integers<quant::BlockIq2Xxs, _>>,
        Format::IQ2_XS => rows::<Integers<quant::BlockIq2Xs, _>>,
        Format::IQ2_S => rows::<Integers<quant::BlockIq2S, _>>,
        Format::IQ3_XXS => rows::<Integers<quant::BlockIq3Xxs, _>>,
        Format::IQ3_S => rows::<Integers<quant::BlockIq3S, _>>,
        Format::IQ1_S => rows::<Integers<quant::BlockIq1S, _>>,
        Format::IQ1_M => rows::<Integers<quant::BlockIq1M, _>>,
        Format::TQ1_0 => rows::<Integers<quant::BlockTq1_0, _>>,
        Format::TQ2_0 => rows::<Integers<quant::BlockTq2_0, _>>,
        Format::NVFP4 => rows::<Integers<quant::BlockNvfp4, _>>,
        Format::Q1_0 => rows::<Integers<quant::BlockQ1_0, _>>,
        Format::Q2_0 => rows::<Integers<quant::BlockQ2_0, _>>,
    };
    // SAFETY: the entry of the module checked that the processor has what `Isa::Avx512Vbmi` stands for.
    unsafe { kernel(job, out) }
}

/// Signed values with `offset` added.
const fn raised(values: [i8; 16], offset: u8) -> [u8; 16] {
    let mut table = [0; 16];
    let mut i = 0;
    while i < 16 {
        table[i] = (values[i] as u8).wrapping_add(offset);
        i += 1;
    }
    table
}

/// The nibbles of eight blocks of 16 bytes, four in each operand: a block's low nibbles are its first 16 weights.
///
/// # Safety
/// The processor has `Isa::Avx512Vbmi`.
#[inline(always)]
unsafe fn nibbles_of_16(a: __m512i, b: __m512i) -> [__m512i; 4] {
    // SAFETY: the caller's processor.
    unsafe {
        let shift = lanes(by_group!(|g| g % 2 * 4));
        let vector = |table| {
            let qs = _mm512_permutex2var_epi32(a, lanes(table), b);
            _mm512_and_si512(_mm512_srlv_epi32(qs, shift), _mm512_set1_epi8(15))
        };
        [
            vector(by_group!(|g| g / 2 * 4)),
            vector(by_group!(|g| g / 2 * 4 + 1)),
            vector(by_group!(|g| g / 2 * 4 + 2)),
            vector(by_group!(|g| g / 2 * 4 + 3)),
        ]
    }
}

/// Loads a table of 64 byte indices.
///
/// # Safety
/// The processor has AVX-512 F.
#[inline(always)]
unsafe fn bytes(table: &[u8; 64]) -> __m512i {
    // SAFETY: the table has 64 bytes; the caller's processor.
    unsafe { _mm512_loadu_si512(table.as_ptr().cast()) }
}

/// Loads a table of 16 lane indices.
///
/// # Safety
/// The processor has AVX-512 F.
#[inline(always)]
unsafe fn lanes(table: &[i32; 16]) -> __m512i {
    // SAFETY: the table has 64 bytes; the caller's processor.
    unsafe { _mm512_loadu_si512(table.as_ptr().cast()) }
}
