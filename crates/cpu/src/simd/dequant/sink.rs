//! How do 32 dequantised numbers leave the registers, and how do the bytes of a block enter them?

use super::Target;
use crate::simd::vector::pack_bf16;
use std::arch::x86_64::*;

/// Writes the next 32 numbers of a row.
///
/// # Safety
/// As [`super::dequantize`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
pub(super) unsafe fn put<const BF16: bool>(target: &mut Target, low: __m512, high: __m512) {
    // SAFETY: the caller vouches for room for 32 numbers at `dst` and for the bfloat16 conversions.
    unsafe {
        if BF16 {
            _mm512_storeu_si512(target.dst.cast(), pack_bf16(low, high));
        } else {
            _mm512_storeu_ps(target.dst.cast(), low);
            _mm512_storeu_ps(target.dst.add(64).cast(), high);
        }
    }
    target.dst = target.dst.wrapping_add(target.step);
}

/// The float16 at `at` as `f32`, in every lane. Broadcast before it is converted: put into one lane, it would wait for
/// whatever the other lanes held.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
pub(super) fn halves(block: &[u8], at: usize) -> __m512 {
    _mm512_cvtph_ps(_mm256_set1_epi16(i16::from_le_bytes([block[at], block[at + 1]])))
}

/// The float16 at `at` as `f32`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
pub(super) fn half(block: &[u8], at: usize) -> f32 {
    _mm512_cvtss_f32(halves(block, at))
}

/// The 16 bytes at `at`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
pub(super) fn load16(block: &[u8], at: usize) -> __m128i {
    let bytes = &block[at..at + 16];
    // SAFETY: 16 bytes.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

/// The 32 bytes at `at`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
pub(super) fn load32(block: &[u8], at: usize) -> __m256i {
    let bytes = &block[at..at + 32];
    // SAFETY: 32 bytes.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// 32 signed bytes as `f32`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
pub(super) fn widen(q: __m256i) -> (__m512, __m512) {
    let low = _mm512_cvtepi8_epi32(_mm256_castsi256_si128(q));
    let high = _mm512_cvtepi8_epi32(_mm256_extracti128_si256::<1>(q));
    (_mm512_cvtepi32_ps(low), _mm512_cvtepi32_ps(high))
}
