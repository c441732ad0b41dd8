//! Rows as `f32` by AVX2: by hand for formats whose portable code the compiler makes slow there, the portable code for the others.
//!
//! The operations are those of `quant`, a vector at a time, and so are the bits.

use super::WHOLE;
use quant::{Block, BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ6K, Format, scale_min};
use std::arch::x86_64::*;

/// The numbers of `bytes`, of which `out` has room for one each.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn dequantize(format: Format, bytes: &[u8], out: &mut [f32]) {
    match format {
        Format::Q4_0 => q4_0(blocks(bytes), out),
        Format::Q4_1 => q4_1(blocks(bytes), out),
        Format::Q4_K => q4_k(blocks(bytes), out),
        Format::Q6_K => q6_k(blocks(bytes), out),
        _ => format.dequantize_here(bytes, out).expect(WHOLE),
    }
}

fn blocks<B: Block<N>, const N: usize>(bytes: &[u8]) -> &[B] {
    quant::cast(bytes).expect(WHOLE)
}

#[target_feature(enable = "avx2")]
fn q4_0(blocks: &[BlockQ4_0], out: &mut [f32]) {
    for (block, out) in blocks.iter().zip(out.as_chunks_mut::<32>().0) {
        let d = _mm256_set1_ps(block.d.to_f32());
        let q = _mm256_sub_epi8(nibbles(&block.qs), _mm256_set1_epi8(8));
        store(out, numbers(q).map(|q| _mm256_mul_ps(d, q)));
    }
}

#[target_feature(enable = "avx2")]
fn q4_1(blocks: &[BlockQ4_1], out: &mut [f32]) {
    for (block, out) in blocks.iter().zip(out.as_chunks_mut::<32>().0) {
        let (d, m) = (_mm256_set1_ps(block.d.to_f32()), _mm256_set1_ps(block.m.to_f32()));
        store(out, numbers(nibbles(&block.qs)).map(|q| _mm256_add_ps(_mm256_mul_ps(d, q), m)));
    }
}

#[target_feature(enable = "avx2")]
fn q4_k(blocks: &[BlockQ4K], out: &mut [f32]) {
    let low_nibbles = _mm256_set1_epi8(15);
    for (block, out) in blocks.iter().zip(out.as_chunks_mut::<256>().0) {
        let (d, dmin) = (block.d.to_f32(), block.dmin.to_f32());
        let scaled = |q: __m256i, group: usize| {
            let (scale, min) = scale_min(&block.scales, group);
            let (d, m) = (_mm256_set1_ps(d * f32::from(scale)), _mm256_set1_ps(dmin * f32::from(min)));
            numbers(q).map(|q| _mm256_sub_ps(_mm256_mul_ps(d, q), m))
        };
        let groups = out.as_chunks_mut::<32>().0.as_chunks_mut::<2>().0;
        for (j, (qs, [first, second])) in block.qs.as_chunks::<32>().0.iter().zip(groups).enumerate() {
            let q = load(qs);
            store(first, scaled(_mm256_and_si256(q, low_nibbles), 2 * j));
            store(second, scaled(_mm256_and_si256(_mm256_srli_epi16::<4>(q), low_nibbles), 2 * j + 1));
        }
    }
}

#[target_feature(enable = "avx2")]
fn q6_k(blocks: &[BlockQ6K], out: &mut [f32]) {
    let (low_nibbles, low_twos) = (_mm256_set1_epi8(15), _mm256_set1_epi8(3));
    for (block, out) in blocks.iter().zip(out.as_chunks_mut::<256>().0) {
        let d = block.d.to_f32();
        let (ql, qh) = (block.ql.as_chunks::<32>().0, block.qh.as_chunks::<32>().0);
        for (j, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let (half, quarter) = (j / 4, j % 4);
            let shifted = |q: __m256i, by: usize| _mm256_srl_epi16(q, _mm_cvtsi32_si128(by as i32));
            let low =
                _mm256_and_si256(shifted(load(&ql[2 * half + quarter % 2]), 4 * (quarter / 2)), low_nibbles);
            let high = _mm256_and_si256(shifted(load(&qh[half]), 2 * quarter), low_twos);
            let q = _mm256_or_si256(low, _mm256_slli_epi16::<4>(high));
            let [a, b, c, e] = numbers(_mm256_sub_epi8(q, _mm256_set1_epi8(32)));
            let scale = |k: usize| _mm256_set1_ps(d * f32::from(block.scales[2 * j + k]));
            let (first, second) = (scale(0), scale(1));
            let products = [
                _mm256_mul_ps(first, a),
                _mm256_mul_ps(first, b),
                _mm256_mul_ps(second, c),
                _mm256_mul_ps(second, e),
            ];
            store(out, products);
        }
    }
}

/// The low nibbles of 16 bytes, then the high ones.
#[inline]
#[target_feature(enable = "avx2")]
fn nibbles(bytes: &[u8; 16]) -> __m256i {
    // SAFETY: 16 bytes.
    let q = unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) };
    let q = _mm256_set_m128i(_mm_srli_epi16::<4>(q), q);
    _mm256_and_si256(q, _mm256_set1_epi8(15))
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: 32 bytes.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// 32 signed bytes as `f32`.
#[inline]
#[target_feature(enable = "avx2")]
fn numbers(q: __m256i) -> [__m256; 4] {
    let (low, high) = (_mm256_castsi256_si128(q), _mm256_extracti128_si256::<1>(q));
    [
        _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(low)),
        _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128::<8>(low))),
        _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(high)),
        _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128::<8>(high))),
    ]
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(out: &mut [f32; 32], numbers: [__m256; 4]) {
    for (out, numbers) in out.as_chunks_mut::<8>().0.iter_mut().zip(numbers) {
        // SAFETY: room for 8 numbers.
        unsafe { _mm256_storeu_ps(out.as_mut_ptr(), numbers) };
    }
}
