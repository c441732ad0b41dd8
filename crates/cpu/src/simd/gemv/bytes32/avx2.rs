//! 32 bytes in a register of AVX2: products by `vpmaddubsw` of unsigned weights with signed activations, or by `vpdpbusd` where there is
//! AVX-VNNI.
//!
//! Signed weights go in as magnitudes, with their signs moved to the activations; no pair of products then exceeds 16 bits, and in formats
//! of small codes no sum of four pairs does. Sums are exact by either instruction, so the bits are the same.

use std::arch::asm;
use std::arch::x86_64::*;

use super::super::Columns;
use super::super::blocks::Blocks;
use super::super::dispatch::Job;
use super::Unpack;
use super::vector::{Bytes, is_small};
use crate::simd::isa::Isa;
use crate::simd::lanes::Avx2;

/// Computes the product of the job. Only where `isa` and AVX2, FMA and F16C were detected.
pub(in super::super) fn gemv<B: Unpack>(isa: Isa, job: &Job<'_>, out: &mut Columns<'_>) {
    // SAFETY: the entry of the module checked that the processor has what `isa` stands for, which is `Isa::Avx2` and more.
    unsafe {
        match isa {
            Isa::AvxVnni => rows::<B, true>(job, out),
            _ => rows::<B, false>(job, out),
        }
    }
}

/// # Safety
/// If `VNNI`, the processor has AVX-VNNI.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn rows<B: Unpack, const VNNI: bool>(job: &Job<'_>, out: &mut Columns<'_>) {
    // SAFETY: the caller's, and this function's own instruction set.
    unsafe { super::rows::<Ymm<VNNI>, B>(job, out) }
}

/// A register, with AVX-VNNI's dot products or without.
#[derive(Clone, Copy)]
struct Ymm<const VNNI: bool>(__m256i);

// SAFETY of every block: the caller has the instruction set and pointers that reach what is read.
impl<const VNNI: bool> Bytes for Ymm<VNNI> {
    type Floats = Avx2;

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        // SAFETY: as said above.
        unsafe { Ymm(_mm256_loadu_si256(from.cast())) }
    }
    #[inline(always)]
    unsafe fn splat(byte: u8) -> Self {
        // SAFETY: as said above.
        unsafe { Ymm(_mm256_set1_epi8(byte.cast_signed())) }
    }
    #[inline(always)]
    unsafe fn nibbles(from: *const u8) -> Self {
        // SAFETY: as said above.
        unsafe {
            let bytes = _mm256_broadcastsi128_si256(_mm_loadu_si128(from.cast()));
            let shifted = _mm256_srlv_epi32(bytes, _mm256_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4));
            Ymm(_mm256_and_si256(shifted, _mm256_set1_epi8(15)))
        }
    }
    #[inline(always)]
    unsafe fn of_bits(bits: u32) -> Self {
        // SAFETY: as said above.
        unsafe {
            let of =
                _mm256_setr_epi64x(0, 0x0101_0101_0101_0101, 0x0202_0202_0202_0202, 0x0303_0303_0303_0303);
            let bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(bits.cast_signed()), of);
            let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64.cast_signed());
            Ymm(_mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit))
        }
    }

    #[inline(always)]
    unsafe fn and(self, b: Self) -> Self {
        // SAFETY: as said above.
        unsafe { Ymm(_mm256_and_si256(self.0, b.0)) }
    }
    #[inline(always)]
    unsafe fn or(self, b: Self) -> Self {
        // SAFETY: as said above.
        unsafe { Ymm(_mm256_or_si256(self.0, b.0)) }
    }
    #[inline(always)]
    unsafe fn xor(self, b: Self) -> Self {
        // SAFETY: as said above.
        unsafe { Ymm(_mm256_xor_si256(self.0, b.0)) }
    }
    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        // SAFETY: as said above.
        unsafe { Ymm(_mm256_sub_epi8(self.0, b.0)) }
    }
    #[inline(always)]
    unsafe fn equal(self, b: Self) -> Self {
        // SAFETY: as said above.
        unsafe { Ymm(_mm256_cmpeq_epi8(self.0, b.0)) }
    }
    #[inline(always)]
    unsafe fn shifted_left<const N: i32>(self) -> Self {
        // SAFETY: as said above.
        unsafe { Ymm(_mm256_slli_epi16::<N>(self.0)) }
    }
    #[inline(always)]
    unsafe fn shifted_right<const N: i32>(self) -> Self {
        // SAFETY: as said above.
        unsafe { Ymm(_mm256_srli_epi16::<N>(self.0)) }
    }
    #[inline(always)]
    unsafe fn looked_up(self, table: &[i8; 16]) -> Self {
        // SAFETY: as said above.
        unsafe {
            let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
            Ymm(_mm256_shuffle_epi8(table, self.0))
        }
    }

    #[inline(always)]
    unsafe fn transposed([a, b, c, d]: [Self; 4]) -> [Self; 4] {
        // SAFETY: as said above.
        unsafe {
            let (ab_low, ab_high) = (_mm256_unpacklo_epi32(a.0, b.0), _mm256_unpackhi_epi32(a.0, b.0));
            let (cd_low, cd_high) = (_mm256_unpacklo_epi32(c.0, d.0), _mm256_unpackhi_epi32(c.0, d.0));
            [
                Ymm(_mm256_unpacklo_epi64(ab_low, cd_low)),
                Ymm(_mm256_unpackhi_epi64(ab_low, cd_low)),
                Ymm(_mm256_unpacklo_epi64(ab_high, cd_high)),
                Ymm(_mm256_unpackhi_epi64(ab_high, cd_high)),
            ]
        }
    }

    #[inline(always)]
    unsafe fn products<B: Blocks>(w: &[Self; 4], x: *const i8) -> Avx2 {
        // SAFETY: as said above.
        unsafe {
            let [a, b, c, d] = [
                factors::<B>(w[0].0, x),
                factors::<B>(w[1].0, x.add(64)),
                factors::<B>(w[2].0, x.add(128)),
                factors::<B>(w[3].0, x.add(192)),
            ];
            let total = if VNNI {
                let mut total = _mm256_setzero_si256();
                for factors in [a, b, c, d] {
                    total = add_products(total, factors);
                }
                total
            } else {
                let ones = _mm256_set1_epi16(1);
                let [a, b, c, d] = [
                    _mm256_maddubs_epi16(a.0, a.1),
                    _mm256_maddubs_epi16(b.0, b.1),
                    _mm256_maddubs_epi16(c.0, c.1),
                    _mm256_maddubs_epi16(d.0, d.1),
                ];
                if const { is_small::<B>() } {
                    let sum = _mm256_add_epi16(_mm256_add_epi16(a, b), _mm256_add_epi16(c, d));
                    _mm256_madd_epi16(sum, ones)
                } else {
                    let low = _mm256_add_epi32(_mm256_madd_epi16(a, ones), _mm256_madd_epi16(b, ones));
                    let high = _mm256_add_epi32(_mm256_madd_epi16(c, ones), _mm256_madd_epi16(d, ones));
                    _mm256_add_epi32(low, high)
                }
            };
            Avx2(_mm256_cvtepi32_ps(total))
        }
    }

    #[inline(always)]
    unsafe fn half(bits: u16) -> f32 {
        // SAFETY: as said above.
        unsafe { _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(bits)))) }
    }
    #[inline(always)]
    unsafe fn halves_by_block(halves: [u16; 8]) -> [Avx2; 2] {
        let [a, b, c, d, e, f, g, h] = halves;
        // SAFETY: as said above.
        unsafe {
            let halves = _mm_setr_epi16(
                a.cast_signed(),
                b.cast_signed(),
                c.cast_signed(),
                d.cast_signed(),
                e.cast_signed(),
                f.cast_signed(),
                g.cast_signed(),
                h.cast_signed(),
            );
            by_block(_mm256_cvtph_ps(halves))
        }
    }
    #[inline(always)]
    unsafe fn pairs_by_block(pairs: [u32; 8]) -> [[Avx2; 2]; 2] {
        let [a, b, c, d, e, f, g, h] = pairs;
        // SAFETY: as said above.
        unsafe {
            let four = [a.cast_signed(), b.cast_signed(), c.cast_signed(), d.cast_signed()];
            let more = [e.cast_signed(), f.cast_signed(), g.cast_signed(), h.cast_signed()];
            let apart = _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
            let low = _mm_shuffle_epi8(_mm_setr_epi32(four[0], four[1], four[2], four[3]), apart);
            let high = _mm_shuffle_epi8(_mm_setr_epi32(more[0], more[1], more[2], more[3]), apart);
            let lows = _mm256_cvtph_ps(_mm_unpacklo_epi64(low, high));
            let highs = _mm256_cvtph_ps(_mm_unpackhi_epi64(low, high));
            [by_block(lows), by_block(highs)]
        }
    }
    #[inline(always)]
    unsafe fn bytes_by_block(bytes: u64, factor: f32) -> [Avx2; 2] {
        // SAFETY: as said above.
        unsafe {
            let values = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(bytes.cast_signed()));
            by_block(_mm256_mul_ps(_mm256_cvtepi32_ps(values), _mm256_set1_ps(factor)))
        }
    }
    #[inline(always)]
    unsafe fn bytes_by_group(bytes: &[u8; 16], factor: f32) -> [Avx2; 2] {
        // SAFETY: as said above.
        unsafe {
            let lanes = _mm_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15);
            let bytes = _mm_shuffle_epi8(_mm_loadu_si128(bytes.as_ptr().cast()), lanes);
            let (low, high) = (bytes, _mm_unpackhi_epi64(bytes, bytes));
            let factor = _mm256_set1_ps(factor);
            [
                Avx2(_mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(low)), factor)),
                Avx2(_mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(high)), factor)),
            ]
        }
    }
    #[inline(always)]
    unsafe fn by_group(v: &[f32; 16]) -> [Avx2; 2] {
        // SAFETY: as said above.
        unsafe {
            [
                Avx2(_mm256_setr_ps(v[0], v[2], v[4], v[6], v[1], v[3], v[5], v[7])),
                Avx2(_mm256_setr_ps(v[8], v[10], v[12], v[14], v[9], v[11], v[13], v[15])),
            ]
        }
    }
}

/// A value for each of eight blocks as the lanes of two halves.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn by_block(values: __m256) -> [Avx2; 2] {
    // SAFETY: the caller's.
    unsafe {
        [
            Avx2(_mm256_permute2f128_ps::<0x00>(values, values)),
            Avx2(_mm256_permute2f128_ps::<0x11>(values, values)),
        ]
    }
}

/// Unsigned and signed factors with the products of `w` and what is at `x`. Two of them are at most 2 * 128 * 127, which fits 16 bits.
///
/// # Safety
/// The processor has AVX2, and 32 bytes can be read at `x`.
#[inline(always)]
unsafe fn factors<B: Blocks>(w: __m256i, x: *const i8) -> (__m256i, __m256i) {
    // SAFETY: the caller's.
    unsafe {
        let x = _mm256_loadu_si256(x.cast());
        if B::TABLE.is_some() || B::OFFSET > 0 {
            (_mm256_abs_epi8(w), _mm256_sign_epi8(x, w))
        } else {
            (w, x)
        }
    }
}

/// `sum` and four products of an unsigned and a signed byte, in each lane.
///
/// Written as an instruction of its own so that the functions around it need not be compiled for AVX-VNNI.
///
/// # Safety
/// The processor has AVX-VNNI.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn add_products(mut sum: __m256i, (unsigned, signed): (__m256i, __m256i)) -> __m256i {
    // SAFETY: the caller vouches for the instruction; it reads and writes registers only.
    unsafe {
        asm!(
            "{{vex}} vpdpbusd {sum}, {unsigned}, {signed}",
            sum = inout(ymm_reg) sum,
            unsigned = in(ymm_reg) unsigned,
            signed = in(ymm_reg) signed,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sum
}
