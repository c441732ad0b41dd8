//! As [`super::nibbles`], with vectors of 512 bits: 32 integers are looked up at a time, and two spans share what is found before that.

use super::WHOLE;
use super::nibbles::{Nibbles, Small};
use super::table;
use crate::simd::gemm::integer::{self, LARGEST, SPAN};
use quant::{Block, BlockQ4_0, BlockQ4_1, BlockQ4K, Format, Half};
use std::arch::x86_64::*;

/// Two spans' integers.
type Out = [[i16; SPAN]; 2];

/// As [`super::nibbles::spans`], of two at a time.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
pub(super) fn spans(format: Format, bytes: &[u8], (panel, scales): (&mut [i16], &mut [f32])) -> usize {
    let panel: &mut [Out] = panel.as_chunks_mut().0.as_chunks_mut().0;
    let spans = panel.iter_mut().zip(scales.as_chunks_mut().0);
    match format {
        Format::Q4_0 => small::<BlockQ4_0>(bytes, spans),
        Format::Q4_1 => small::<BlockQ4_1>(bytes, spans),
        Format::Q4_K => q4_k(bytes, spans),
        _ => 0,
    }
}

/// What is known of two spans, which are eight groups of 32 weights.
struct Pair {
    /// What nibbles' numbers are multiplied by, of each group, and then what is added.
    factors: [f32; 16],
    /// What the first span's values are multiplied by, and the scale of its integers; then the second's.
    scaling: [f32; 4],
}

impl Pair {
    /// Of `factors` as in a [`Pair`], and the [`ends`]; none if the spans have to go through floats. For each format anew, as with AVX2.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    fn of<N: Nibbles>(factors: __m512, ends: __m512i) -> Option<Pair> {
        let order = _mm512_setr_epi32(0, 0, 4, 4, 2, 2, 6, 6, 1, 1, 5, 5, 3, 3, 7, 7);
        let scales = _mm512_permutexvar_ps(order, factors);
        let added = _mm512_permutexvar_ps(_mm512_or_si512(order, _mm512_set1_epi32(8)), factors);
        let numbers = _mm512_add_ps(_mm512_cvtepi32_ps(ends), _mm512_set1_ps(N::NUMBERS[0]));
        let values = _mm512_add_ps(_mm512_mul_ps(scales, numbers), added);
        // As integers, magnitudes are in the same order, and a NaN is above all of them. In the end lanes 0 and 1 have the first span's largest, and
        // 2 and 3 the second's.
        let values = _mm512_and_si512(_mm512_castps_si512(values), _mm512_set1_epi32(0x7fff_ffff));
        let most = _mm512_max_epu32(values, _mm512_shuffle_i64x2::<0b01_00_11_10>(values, values));
        let most = _mm512_max_epu32(most, _mm512_shuffle_i64x2::<0b10_11_00_01>(most, most));
        let most = _mm512_max_epu32(most, _mm512_shuffle_epi32::<0b10_11_00_01>(most));
        let magnitudes = _mm_castsi128_ps(_mm512_castsi512_si128(most));
        let largest = _mm_set1_ps(LARGEST);
        let scaling = _mm_div_ps(
            _mm_blend_ps::<0b1010>(largest, magnitudes),
            _mm_blend_ps::<0b0101>(largest, magnitudes),
        );
        // Infinities and NaNs.
        let no_numbers =
            _mm_fpclass_ps_mask::<0b1001_1001>(magnitudes) | _mm_fpclass_ps_mask::<0b1001_1001>(scaling);
        let mut pair = Pair { factors: [0.0; 16], scaling: [0.0; 4] };
        // SAFETY: room for 16 numbers and for 4.
        unsafe {
            _mm512_storeu_ps(pair.factors.as_mut_ptr(), factors);
            _mm_storeu_ps(pair.scaling.as_mut_ptr(), scaling);
        }
        (no_numbers == 0).then_some(pair)
    }

    /// The integers of the groups' nibbles, a word each, and the spans' scales.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    fn write<N: Nibbles>(&self, nibbles: [__m512i; 8], out: &mut Out) -> [f32; 2] {
        let counted = _mm512_setr_ps(0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11., 12., 13., 14., 15.);
        let numbers = _mm512_add_ps(counted, _mm512_set1_ps(N::NUMBERS[0]));
        let [first, first_scale, second, second_scale] = self.scaling;
        let inverses = [_mm512_set1_ps(first), _mm512_set1_ps(second)];
        for (g, out) in out.as_flattened_mut().as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let values = _mm512_mul_ps(_mm512_set1_ps(self.factors[g]), numbers);
            let values = _mm512_add_ps(values, _mm512_set1_ps(self.factors[8 + g]));
            let integers = _mm512_cvtps_epi32(_mm512_mul_ps(values, inverses[g / 4]));
            let table = _mm512_castsi256_si512(_mm512_cvtepi32_epi16(integers));
            // SAFETY: room for 32 integers.
            unsafe {
                _mm512_storeu_si512(out.as_mut_ptr().cast(), _mm512_permutexvar_epi16(nibbles[g], table));
            }
        }
        [first_scale, second_scale]
    }
}

/// The least nibble and the greatest of the groups 0, 4, 2, 6, 1, 5, 3 and 7, as words. `least` and `most` have 16 of each group, of 0, 2, 1 and 3 and of
/// 4, 6, 5 and 7.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn ends(least: [__m512i; 2], most: [__m512i; 2]) -> __m512i {
    let [a, b] = least;
    let least = _mm512_min_epu8(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
    let [a, b] = most;
    let most = _mm512_max_epu8(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
    let least = _mm512_min_epu8(least, _mm512_srli_epi64::<32>(least));
    let most = _mm512_max_epu8(most, _mm512_srli_epi64::<32>(most));
    let least = _mm512_min_epu8(least, _mm512_srli_epi64::<16>(least));
    let most = _mm512_max_epu8(most, _mm512_srli_epi64::<16>(most));
    let least = _mm512_min_epu8(least, _mm512_srli_epi64::<8>(least));
    let most = _mm512_max_epu8(most, _mm512_srli_epi64::<8>(most));
    let byte = _mm512_set1_epi64(255);
    _mm512_or_si512(_mm512_and_si512(least, byte), _mm512_slli_epi64::<32>(_mm512_and_si512(most, byte)))
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
fn q4_k<'a>(bytes: &[u8], spans: impl Iterator<Item = (&'a mut Out, &'a mut [f32; 2])>) -> usize {
    let blocks: &[BlockQ4K] = quant::cast(bytes).expect(WHOLE);
    for ((block, bytes), (out, scales)) in
        blocks.iter().zip(bytes.chunks_exact(size_of::<BlockQ4K>())).zip(spans)
    {
        let pair = Pair::of::<BlockQ4K>(factors_of_block(bytes), ends_of_block(block));
        let mut nibbles = [_mm512_setzero_si512(); 8];
        // Loops, as closures would not have this function's instruction set.
        for (nibbles, qs) in nibbles.as_chunks_mut::<2>().0.iter_mut().zip(block.qs.as_chunks::<32>().0) {
            // SAFETY: 32 bytes.
            let words = _mm512_cvtepu8_epi16(unsafe { _mm256_loadu_si256(qs.as_ptr().cast()) });
            *nibbles = [_mm512_and_si512(words, _mm512_set1_epi16(15)), _mm512_srli_epi16::<4>(words)];
        }
        *scales = match pair {
            Some(pair) => pair.write::<BlockQ4K>(nibbles, out),
            None => through_floats(std::slice::from_ref(block), out),
        };
    }
    blocks.len() * 256
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
fn factors_of_block(block: &[u8]) -> __m512 {
    let factors = _mm512_castps_si512(table::factors(block));
    let minus = _mm512_castps_si512(_mm512_set1_ps(-0.0));
    _mm512_castsi512_ps(_mm512_mask_xor_epi32(factors, 0xff00, factors, minus))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn ends_of_block(block: &BlockQ4K) -> __m512i {
    let low = _mm512_set1_epi8(15);
    let (mut least, mut most) = ([_mm512_setzero_si512(); 2], [_mm512_setzero_si512(); 2]);
    for (i, qs) in block.qs.as_chunks::<64>().0.iter().enumerate() {
        // SAFETY: 64 bytes.
        let q = unsafe { _mm512_loadu_si512(qs.as_ptr().cast()) };
        let (even, odd) = (_mm512_and_si512(q, low), _mm512_and_si512(_mm512_srli_epi16::<4>(q), low));
        // Half of each of the groups, and the other half.
        let a = _mm512_shuffle_i64x2::<0b10_00_10_00>(even, odd);
        let b = _mm512_shuffle_i64x2::<0b11_01_11_01>(even, odd);
        (least[i], most[i]) = (_mm512_min_epu8(a, b), _mm512_max_epu8(a, b));
    }
    ends(least, most)
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
fn small<'a, B: Small>(bytes: &[u8], spans: impl Iterator<Item = (&'a mut Out, &'a mut [f32; 2])>) -> usize {
    let blocks: &[B] = quant::cast(bytes).expect(WHOLE);
    let blocks = blocks.as_chunks::<8>().0;
    let shifts = _mm512_inserti64x4::<1>(_mm512_setzero_si512(), _mm256_set1_epi16(4));
    for (blocks, (out, scales)) in blocks.iter().zip(spans) {
        let pair = Pair::of::<B>(factors_of_blocks(blocks), ends_of_blocks(blocks));
        let mut nibbles = [_mm512_setzero_si512(); 8];
        for (nibbles, block) in nibbles.iter_mut().zip(blocks) {
            // SAFETY: 16 bytes.
            let q = unsafe { _mm_loadu_si128(block.qs().as_ptr().cast()) };
            let twice = _mm512_cvtepu8_epi16(_mm256_broadcastsi128_si256(q));
            *nibbles = _mm512_and_si512(_mm512_srlv_epi16(twice, shifts), _mm512_set1_epi16(15));
        }
        *scales = match pair {
            Some(pair) => pair.write::<B>(nibbles, out),
            None => through_floats(blocks, out),
        };
    }
    blocks.len() * 2 * SPAN
}

#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx2,f16c")]
fn factors_of_blocks<B: Small>(blocks: &[B; 8]) -> __m512 {
    let mut words = [0; 8];
    for (word, block) in words.iter_mut().zip(blocks) {
        let [Half([a, b]), Half([c, d])] = block.factors();
        *word = i32::from_le_bytes([a, b, c, d]);
    }
    // SAFETY: 8 words.
    let factors = _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(words.as_ptr().cast()) });
    let order = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15);
    _mm512_permutexvar_ps(order, factors)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2")]
fn ends_of_blocks<B: Small>(blocks: &[B; 8]) -> __m512i {
    let low = _mm512_set1_epi8(15);
    let (mut least, mut most) = ([_mm512_setzero_si512(); 2], [_mm512_setzero_si512(); 2]);
    for (i, blocks) in blocks.as_chunks::<4>().0.iter().enumerate() {
        let mut quarters = [_mm_setzero_si128(); 4];
        for (quarter, block) in quarters.iter_mut().zip(blocks) {
            // SAFETY: 16 bytes.
            *quarter = unsafe { _mm_loadu_si128(block.qs().as_ptr().cast()) };
        }
        let [a, b, c, d] = quarters;
        let first = _mm512_castsi256_si512(_mm256_set_m128i(c, a));
        let q = _mm512_inserti64x4::<1>(first, _mm256_set_m128i(d, b));
        let (even, odd) = (_mm512_and_si512(q, low), _mm512_and_si512(_mm512_srli_epi16::<4>(q), low));
        (least[i], most[i]) = (_mm512_min_epu8(even, odd), _mm512_max_epu8(even, odd));
    }
    ends(least, most)
}

/// The integers and scales of two spans, which are some blocks of `N` weights each.
#[cold]
fn through_floats<B: Block<N>, const N: usize>(blocks: &[B], out: &mut Out) -> [f32; 2] {
    let mut floats = [0.0; 2 * SPAN];
    for (block, floats) in blocks.iter().zip(floats.as_chunks_mut().0) {
        block.dequantize(floats);
    }
    let [first, second] = out;
    let (spans, _) = floats.as_chunks::<SPAN>();
    [integer::quantize_span(&spans[0], first), integer::quantize_span(&spans[1], second)]
}
