//! Rows of F32, F16 and BF16, of any length: the last group of 32 is masked.

use super::Target;
use super::sink::put;
use std::arch::x86_64::*;

/// The lowest `n <= 16` lanes.
fn mask(n: usize) -> __mmask16 {
    ((1u32 << n) - 1) as __mmask16
}

/// Writes a group of `n <= 32` numbers; the lanes past them are zeros.
///
/// # Safety
/// As [`super::dequantize`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
unsafe fn put_some<const BF16: bool>(target: &mut Target, n: usize, low: __m512, high: __m512) {
    // SAFETY: a bfloat16 row has room for whole groups; in an `f32` row only the `n` numbers that are left are written,
    // and `wrapping_add` may point anywhere for the half whose mask is empty.
    unsafe {
        if BF16 || n == 32 {
            put::<BF16>(target, low, high);
        } else {
            _mm512_mask_storeu_ps(target.dst.cast(), mask(n.min(16)), low);
            _mm512_mask_storeu_ps(target.dst.wrapping_add(64).cast(), mask(n.saturating_sub(16)), high);
        }
    }
}

/// # Safety
/// As [`super::dequantize`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
pub(super) unsafe fn f32<const BF16: bool>(bytes: &[u8], mut target: Target) {
    for group in bytes.chunks(128) {
        let n = group.len() / 4;
        let src = group.as_ptr();
        // SAFETY: the masks let through the group's numbers only; a half with an empty mask is not read.
        unsafe {
            let low = _mm512_maskz_loadu_ps(mask(n.min(16)), src.cast());
            let high = _mm512_maskz_loadu_ps(mask(n.saturating_sub(16)), src.wrapping_add(64).cast());
            put_some::<BF16>(&mut target, n, low, high);
        }
    }
}

/// The 16-bit words of a group of up to 32.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
fn words(group: &[u8]) -> __m512i {
    let mask = u32::MAX >> (32 - group.len() / 2);
    // SAFETY: the mask lets through the group's words only.
    unsafe { _mm512_maskz_loadu_epi16(mask, group.as_ptr().cast()) }
}

/// # Safety
/// As [`super::dequantize`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
pub(super) unsafe fn f16<const BF16: bool>(bytes: &[u8], mut target: Target) {
    for group in bytes.chunks(64) {
        let words = words(group);
        let low = _mm512_cvtph_ps(_mm512_castsi512_si256(words));
        let high = _mm512_cvtph_ps(_mm512_extracti64x4_epi64::<1>(words));
        // SAFETY: the caller's promises.
        unsafe { put_some::<BF16>(&mut target, group.len() / 2, low, high) };
    }
}

/// # Safety
/// As [`super::dequantize`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
pub(super) unsafe fn bf16<const BF16: bool>(bytes: &[u8], mut target: Target) {
    for group in bytes.chunks(64) {
        let words = words(group);
        if BF16 {
            // SAFETY: a bfloat16 row has room for whole groups.
            unsafe { _mm512_storeu_si512(target.dst.cast(), words) };
            target.dst = target.dst.wrapping_add(target.step);
            continue;
        }
        let low = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm512_castsi512_si256(words)));
        let high = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64::<1>(words)));
        let (low, high) = (_mm512_castsi512_ps(low), _mm512_castsi512_ps(high));
        // SAFETY: the caller's promises.
        unsafe { put_some::<BF16>(&mut target, group.len() / 2, low, high) };
    }
}
