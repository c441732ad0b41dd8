//! Rows of the 4-bit formats: a nibble is an index into the 16 values that its scale (and minimum) allow.
//!
//! The 16 values are computed once for each scale and looked up with one permutation for each 16 or 32 weights, which
//! reads only as many low bits of an index as it needs. Block layouts: ggml's `ggml-common.h`, by the names of `quant`.

use super::Target;
use super::sink::{half, halves};
use crate::simd::vector::pack_bf16;
use quant::Format;
use std::arch::x86_64::*;

/// The values of a nibble of Q4_0, Q4_1 and Q4_K before scaling.
const CENTRED: [f32; 16] =
    [-8.0, -7.0, -6.0, -5.0, -4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0];
const UNSIGNED: [f32; 16] =
    [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0];
/// The non-linear values of IQ4_NL and IQ4_XS.
const NON_LINEAR: [f32; 16] = [
    -127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0, 89.0, 113.0,
];
/// Twice the values of E2M1 (OCP Microscaling Formats 1.0); the scale is halved instead.
const E2M1_DOUBLED: [f32; 16] =
    [0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 0.0, -1.0, -2.0, -3.0, -4.0, -6.0, -8.0, -12.0];

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
fn constants(values: &[f32; 16]) -> __m512 {
    // SAFETY: 16 numbers.
    unsafe { _mm512_loadu_ps(values.as_ptr()) }
}

/// Writes 32 numbers: the first 16 by the low nibbles of 16 bytes, the others by the high ones.
///
/// # Safety
/// As [`super::dequantize`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
unsafe fn put_halves<const BF16: bool>(target: &mut Target, values: __m512, bytes: &[u8]) {
    let bytes = &bytes[..16];
    // SAFETY: 16 bytes are read; the caller vouches for the rest.
    unsafe {
        let bytes = _mm_loadu_si128(bytes.as_ptr().cast());
        if BF16 {
            // The table twice over, so that bit 4 of an index does not matter.
            let table = pack_bf16(values, values);
            let words = _mm512_cvtepu8_epi16(_mm256_broadcastsi128_si256(bytes));
            let shifts = _mm512_inserti64x4::<1>(_mm512_setzero_si512(), _mm256_set1_epi16(4));
            let index = _mm512_srlv_epi16(words, shifts);
            _mm512_storeu_si512(target.dst.cast(), _mm512_permutexvar_epi16(index, table));
        } else {
            let index = _mm512_cvtepu8_epi32(bytes);
            let low = _mm512_permutexvar_ps(index, values);
            let high = _mm512_permutexvar_ps(_mm512_srli_epi32::<4>(index), values);
            _mm512_storeu_ps(target.dst.cast(), low);
            _mm512_storeu_ps(target.dst.add(64).cast(), high);
        }
    }
    target.dst = target.dst.wrapping_add(target.step);
}

/// Writes 64 numbers: the first 32 by the low nibbles of 32 bytes and `low`, the others by the high ones and `high`.
///
/// # Safety
/// As [`super::dequantize`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
unsafe fn put_planes<const BF16: bool>(target: &mut Target, low: __m512, high: __m512, bytes: &[u8]) {
    let bytes = &bytes[..32];
    let Target { dst, step } = *target;
    // SAFETY: 32 bytes are read; the caller vouches for the rest.
    unsafe {
        let bytes = _mm256_loadu_si256(bytes.as_ptr().cast());
        if BF16 {
            let index = _mm512_cvtepu8_epi16(bytes);
            let first = _mm512_permutexvar_epi16(index, pack_bf16(low, low));
            let second = _mm512_permutexvar_epi16(_mm512_srli_epi16::<4>(index), pack_bf16(high, high));
            _mm512_storeu_si512(dst.cast(), first);
            _mm512_storeu_si512(dst.add(step).cast(), second);
        } else {
            let index = [_mm256_castsi256_si128(bytes), _mm256_extracti128_si256::<1>(bytes)];
            for (i, index) in index.into_iter().enumerate() {
                let index = _mm512_cvtepu8_epi32(index);
                _mm512_storeu_ps(dst.add(64 * i).cast(), _mm512_permutexvar_ps(index, low));
                let second = _mm512_permutexvar_ps(_mm512_srli_epi32::<4>(index), high);
                _mm512_storeu_ps(dst.add(step + 64 * i).cast(), second);
            }
        }
    }
    target.dst = dst.wrapping_add(2 * step);
}

/// # Safety
/// As [`super::dequantize`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
pub(super) unsafe fn q4_0<const BF16: bool>(bytes: &[u8], mut target: Target) {
    for block in bytes.chunks_exact(Format::Q4_0.block_bytes()) {
        let values = _mm512_mul_ps(constants(&CENTRED), halves(block, 0));
        // SAFETY: the caller's promises.
        unsafe { put_halves::<BF16>(&mut target, values, &block[2..]) };
    }
}

/// # Safety
/// As [`super::dequantize`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
pub(super) unsafe fn q4_1<const BF16: bool>(bytes: &[u8], mut target: Target) {
    for block in bytes.chunks_exact(Format::Q4_1.block_bytes()) {
        let (d, m) = (halves(block, 0), halves(block, 2));
        let values = _mm512_add_ps(_mm512_mul_ps(constants(&UNSIGNED), d), m);
        // SAFETY: the caller's promises.
        unsafe { put_halves::<BF16>(&mut target, values, &block[4..]) };
    }
}

/// # Safety
/// As [`super::dequantize`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
pub(super) unsafe fn iq4_nl<const BF16: bool>(bytes: &[u8], mut target: Target) {
    for block in bytes.chunks_exact(Format::IQ4_NL.block_bytes()) {
        let values = _mm512_mul_ps(constants(&NON_LINEAR), halves(block, 0));
        // SAFETY: the caller's promises.
        unsafe { put_halves::<BF16>(&mut target, values, &block[2..]) };
    }
}

/// # Safety
/// As [`super::dequantize`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
pub(super) unsafe fn mxfp4<const BF16: bool>(bytes: &[u8], mut target: Target) {
    for block in bytes.chunks_exact(Format::MXFP4.block_bytes()) {
        // 2^(e - 128): below e = 2 a subnormal number.
        let e = u32::from(block[0]);
        let scale = f32::from_bits(if e < 2 { 0x0020_0000 << e } else { (e - 1) << 23 });
        let values = _mm512_mul_ps(constants(&E2M1_DOUBLED), _mm512_set1_ps(scale));
        // SAFETY: the caller's promises.
        unsafe { put_halves::<BF16>(&mut target, values, &block[1..]) };
    }
}

/// # Safety
/// As [`super::dequantize`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
pub(super) unsafe fn iq4_xs<const BF16: bool>(bytes: &[u8], mut target: Target) {
    for block in bytes.chunks_exact(Format::IQ4_XS.block_bytes()) {
        let d = half(block, 0);
        let high = u32::from(u16::from_le_bytes([block[2], block[3]]));
        let low = u32::from_le_bytes([block[4], block[5], block[6], block[7]]);
        for (i, qs) in block[8..].chunks_exact(16).enumerate() {
            let scale = (low >> (4 * i) & 15 | (high >> (2 * i) & 3) << 4) as i32 - 32;
            let values = _mm512_mul_ps(constants(&NON_LINEAR), _mm512_set1_ps(d * scale as f32));
            // SAFETY: the caller's promises.
            unsafe { put_halves::<BF16>(&mut target, values, qs) };
        }
    }
}

/// # Safety
/// As [`super::dequantize`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
pub(super) unsafe fn q4_k<const BF16: bool>(bytes: &[u8], mut target: Target) {
    for block in bytes.chunks_exact(Format::Q4_K.block_bytes()) {
        let (d, m) = scales_and_mins(block);
        for (i, qs) in block[16..].chunks_exact(32).enumerate() {
            let table = |j: usize| {
                let scaled = _mm512_mul_ps(constants(&UNSIGNED), _mm512_set1_ps(d[j]));
                _mm512_sub_ps(scaled, _mm512_set1_ps(m[j]))
            };
            // SAFETY: the caller's promises.
            unsafe { put_planes::<BF16>(&mut target, table(2 * i), table(2 * i + 1), qs) };
        }
    }
}

/// The 8 scales and then the 8 minima of a block of Q4_K or Q5_K, which begins with their own two scales and 12 bytes of
/// six-bit numbers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
pub(super) fn factors(block: &[u8]) -> __m512 {
    let word = |at: usize| u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
    let (a, b, c) = (word(4), word(8), word(12));
    // Four numbers a word: the first four scales and minima are whole, the others' top two bits are those words' spare.
    let (low6, low4, top2) = (0x3f3f_3f3f, 0x0f0f_0f0f, 0x3030_3030);
    let scales = [a & low6, c & low4 | (a >> 2) & top2];
    let mins = [b & low6, (c >> 4) & low4 | (b >> 2) & top2];
    let all = _mm_set_epi32(mins[1] as i32, mins[0] as i32, scales[1] as i32, scales[0] as i32);
    let all = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(all));
    let of = _mm512_insertf32x8::<1>(halves(block, 0), _mm512_castps512_ps256(halves(block, 2)));
    _mm512_mul_ps(all, of)
}

/// The same as numbers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
pub(super) fn scales_and_mins(block: &[u8]) -> ([f32; 8], [f32; 8]) {
    let all = factors(block);
    let (mut d, mut m) = ([0.0; 8], [0.0; 8]);
    // SAFETY: both have room for 8 numbers.
    unsafe {
        _mm256_storeu_ps(d.as_mut_ptr(), _mm512_castps512_ps256(all));
        _mm256_storeu_ps(m.as_mut_ptr(), _mm512_extractf32x8_ps::<1>(all));
    }
    (d, m)
}
