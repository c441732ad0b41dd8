//! Rows of Q5_0, Q5_1 and Q8_0: blocks of 32 with one scale.

use super::Target;
use super::sink::{halves, load16, load32, put, widen};
use quant::Format;
use std::arch::x86_64::*;

/// The 5-bit numbers of a block: 16 bytes of low and high nibbles at `qs`, and a word of fifth bits at `qh`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
fn five_bits(block: &[u8], qh: usize, qs: usize) -> __m256i {
    let bytes = load16(block, qs);
    let nibbles = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(bytes), _mm_srli_epi16::<4>(bytes));
    let nibbles = _mm256_and_si256(nibbles, _mm256_set1_epi8(15));
    let fifth = u32::from_le_bytes([block[qh], block[qh + 1], block[qh + 2], block[qh + 3]]);
    _mm256_or_si256(nibbles, _mm256_maskz_set1_epi8(fifth, 16))
}

/// # Safety
/// As [`super::dequantize`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
pub(super) unsafe fn q5_0<const BF16: bool>(bytes: &[u8], mut target: Target) {
    for block in bytes.chunks_exact(Format::Q5_0.block_bytes()) {
        let d = halves(block, 0);
        let q = _mm256_sub_epi8(five_bits(block, 2, 6), _mm256_set1_epi8(16));
        let (low, high) = widen(q);
        // SAFETY: the caller's promises.
        unsafe { put::<BF16>(&mut target, _mm512_mul_ps(low, d), _mm512_mul_ps(high, d)) };
    }
}

/// # Safety
/// As [`super::dequantize`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
pub(super) unsafe fn q5_1<const BF16: bool>(bytes: &[u8], mut target: Target) {
    for block in bytes.chunks_exact(Format::Q5_1.block_bytes()) {
        let (d, m) = (halves(block, 0), halves(block, 2));
        let (low, high) = widen(five_bits(block, 4, 8));
        let low = _mm512_add_ps(_mm512_mul_ps(low, d), m);
        let high = _mm512_add_ps(_mm512_mul_ps(high, d), m);
        // SAFETY: the caller's promises.
        unsafe { put::<BF16>(&mut target, low, high) };
    }
}

/// # Safety
/// As [`super::dequantize`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
pub(super) unsafe fn q8_0<const BF16: bool>(bytes: &[u8], mut target: Target) {
    for block in bytes.chunks_exact(Format::Q8_0.block_bytes()) {
        let d = halves(block, 0);
        let (low, high) = widen(load32(block, 2));
        // SAFETY: the caller's promises.
        unsafe { put::<BF16>(&mut target, _mm512_mul_ps(low, d), _mm512_mul_ps(high, d)) };
    }
}
