//! Rows of Q2_K, Q3_K, Q5_K and Q6_K: blocks of 256 with a scale for each 16 or 32.
//!
//! Block layouts: ggml's `ggml-common.h`, by the names of `quant`.

use super::Target;
use super::sink::{half, load16, load32, put, widen};
use super::table::scales_and_mins;
use quant::Format;
use std::arch::x86_64::*;

/// # Safety
/// As [`super::dequantize`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
pub(super) unsafe fn q2_k<const BF16: bool>(bytes: &[u8], mut target: Target) {
    let low2 = _mm256_set1_epi8(3);
    for block in bytes.chunks_exact(Format::Q2_K.block_bytes()) {
        let scales = load16(block, 0);
        let mins = _mm_and_si128(_mm_srli_epi16::<4>(scales), _mm_set1_epi8(15));
        let d = scaled(_mm_and_si128(scales, _mm_set1_epi8(15)), half(block, 80));
        let m = scaled(mins, half(block, 82));
        for part in 0..2 {
            let mut qs = load32(block, 16 + 32 * part);
            for j in 0..4 {
                let (low, high) = widen(_mm256_and_si256(qs, low2));
                let at = 8 * part + 2 * j;
                let low = _mm512_mul_ps(low, _mm512_set1_ps(d[at]));
                let high = _mm512_mul_ps(high, _mm512_set1_ps(d[at + 1]));
                let low = _mm512_sub_ps(low, _mm512_set1_ps(m[at]));
                let high = _mm512_sub_ps(high, _mm512_set1_ps(m[at + 1]));
                // SAFETY: the caller's promises.
                unsafe { put::<BF16>(&mut target, low, high) };
                qs = _mm256_srli_epi16::<2>(qs);
            }
        }
    }
}

/// # Safety
/// As [`super::dequantize`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
pub(super) unsafe fn q3_k<const BF16: bool>(bytes: &[u8], mut target: Target) {
    let (low2, four, one) = (_mm256_set1_epi8(3), _mm256_set1_epi8(4), _mm256_set1_epi8(1));
    for block in bytes.chunks_exact(Format::Q3_K.block_bytes()) {
        let word = |at: usize| u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
        // Sixteen six-bit scales: nibbles in the first two words, the top two bits of all of them in the third.
        let (a, b, c) = (word(96), word(100), word(104));
        let (low4, top2) = (0x0f0f_0f0f, 0x3030_3030);
        let scales = [
            a & low4 | (c << 4) & top2,
            b & low4 | (c << 2) & top2,
            (a >> 4) & low4 | c & top2,
            (b >> 4) & low4 | (c >> 2) & top2,
        ]
        .map(|w| w as i32);
        let scales = _mm_set_epi32(scales[3], scales[2], scales[1], scales[0]);
        let d = scaled(_mm_sub_epi8(scales, _mm_set1_epi8(32)), half(block, 108));
        let mut high_bits = load32(block, 0);
        for part in 0..2 {
            let mut qs = load32(block, 32 + 32 * part);
            for j in 0..4 {
                // A clear high bit means four less.
                let less =
                    _mm256_and_si256(_mm256_slli_epi16::<2>(_mm256_andnot_si256(high_bits, one)), four);
                let q = _mm256_sub_epi8(_mm256_and_si256(qs, low2), less);
                let (low, high) = widen(q);
                let at = 8 * part + 2 * j;
                let low = _mm512_mul_ps(low, _mm512_set1_ps(d[at]));
                let high = _mm512_mul_ps(high, _mm512_set1_ps(d[at + 1]));
                // SAFETY: the caller's promises.
                unsafe { put::<BF16>(&mut target, low, high) };
                qs = _mm256_srli_epi16::<2>(qs);
                high_bits = _mm256_srli_epi16::<1>(high_bits);
            }
        }
    }
}

/// # Safety
/// As [`super::dequantize`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
pub(super) unsafe fn q5_k<const BF16: bool>(bytes: &[u8], mut target: Target) {
    let (low4, one) = (_mm256_set1_epi8(15), _mm256_set1_epi8(1));
    for block in bytes.chunks_exact(Format::Q5_K.block_bytes()) {
        let (d, m) = scales_and_mins(block);
        let mut fifth = load32(block, 16);
        for part in 0..4 {
            let qs = load32(block, 48 + 32 * part);
            for (j, nibbles) in [qs, _mm256_srli_epi16::<4>(qs)].into_iter().enumerate() {
                let bit = _mm256_slli_epi16::<4>(_mm256_and_si256(fifth, one));
                let (low, high) = widen(_mm256_or_si256(_mm256_and_si256(nibbles, low4), bit));
                let (d, m) = (_mm512_set1_ps(d[2 * part + j]), _mm512_set1_ps(m[2 * part + j]));
                let low = _mm512_sub_ps(_mm512_mul_ps(low, d), m);
                let high = _mm512_sub_ps(_mm512_mul_ps(high, d), m);
                // SAFETY: the caller's promises.
                unsafe { put::<BF16>(&mut target, low, high) };
                fifth = _mm256_srli_epi16::<1>(fifth);
            }
        }
    }
}

/// # Safety
/// As [`super::dequantize`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
pub(super) unsafe fn q6_k<const BF16: bool>(bytes: &[u8], mut target: Target) {
    let (low4, top2) = (_mm256_set1_epi8(15), _mm256_set1_epi8(0x30));
    for block in bytes.chunks_exact(Format::Q6_K.block_bytes()) {
        let d = scaled(load16(block, 192), half(block, 208));
        for part in 0..2 {
            let (a, b) = (load32(block, 64 * part), load32(block, 64 * part + 32));
            let qh = load32(block, 128 + 32 * part);
            let quarters = [
                (a, _mm256_slli_epi16::<4>(qh)),
                (b, _mm256_slli_epi16::<2>(qh)),
                (_mm256_srli_epi16::<4>(a), qh),
                (_mm256_srli_epi16::<4>(b), _mm256_srli_epi16::<2>(qh)),
            ];
            for (j, (nibbles, bits)) in quarters.into_iter().enumerate() {
                let q = _mm256_or_si256(_mm256_and_si256(nibbles, low4), _mm256_and_si256(bits, top2));
                let (low, high) = widen(_mm256_sub_epi8(q, _mm256_set1_epi8(32)));
                let at = 8 * part + 2 * j;
                let low = _mm512_mul_ps(low, _mm512_set1_ps(d[at]));
                let high = _mm512_mul_ps(high, _mm512_set1_ps(d[at + 1]));
                // SAFETY: the caller's promises.
                unsafe { put::<BF16>(&mut target, low, high) };
            }
        }
    }
}

/// 16 signed bytes times `d`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
fn scaled(bytes: __m128i, d: f32) -> [f32; 16] {
    let mut out = [0.0; 16];
    let scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes)), _mm512_set1_ps(d));
    // SAFETY: room for 16 numbers.
    unsafe { _mm512_storeu_ps(out.as_mut_ptr(), scaled) };
    out
}
