//! Rows of nibbles as 16-bit integers by AVX2, with no floats in between; by AVX-512 in [`super::nibbles512`].
//!
//! 32 weights that share a scale have but 16 values, which are rounded to integers once; a shuffle then looks up 32 of them. What a
//! span's integers are scaled by follows from its largest magnitude: a value of the least or the greatest nibble of one of its four
//! groups, for a value grows or falls with its nibble. If that is no number, or nothing, the span goes through floats. The operations
//! are those of `quant` and of [`integer`], and so are the bits.

use super::{WHOLE, avx2};
use crate::simd::gemm::integer::{self, LARGEST, SPAN};
use quant::{Block, BlockQ4_0, BlockQ4_1, BlockQ4K, Format, Half};
use std::arch::x86_64::*;

/// A format whose weights are nibbles.
pub(super) trait Nibbles {
    /// What they count, in the order in which two vectors of integers are packed into one.
    const NUMBERS: [f32; 16];
}

const UNSIGNED: [f32; 16] = [0., 1., 2., 3., 8., 9., 10., 11., 4., 5., 6., 7., 12., 13., 14., 15.];

impl Nibbles for BlockQ4_0 {
    const NUMBERS: [f32; 16] = [-8., -7., -6., -5., 0., 1., 2., 3., -4., -3., -2., -1., 4., 5., 6., 7.];
}

impl Nibbles for BlockQ4_1 {
    const NUMBERS: [f32; 16] = UNSIGNED;
}

impl Nibbles for BlockQ4K {
    const NUMBERS: [f32; 16] = UNSIGNED;
}

/// The integers and scales of whole spans of a row of `bytes`, up to the first column that is not in one; gives that column. 0 if there is no such
/// way for the format.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn spans(format: Format, bytes: &[u8], (panel, scales): (&mut [i16], &mut [f32])) -> usize {
    let spans = panel.as_chunks_mut::<SPAN>().0.iter_mut().zip(scales);
    match format {
        Format::Q4_0 => small::<BlockQ4_0>(bytes, spans),
        Format::Q4_1 => small::<BlockQ4_1>(bytes, spans),
        Format::Q4_K => q4_k(bytes, spans),
        _ => 0,
    }
}

/// Four groups of 32 weights.
struct Groups {
    /// What nibbles' numbers are multiplied by, of each group, and then what is added.
    factors: __m256,
    /// The nibbles, a byte each: the first and third eight, then the second and fourth.
    nibbles: [__m256i; 4],
}

impl Groups {
    /// Writes the span's integers and gives their scale; none if they have to go through floats. For each format anew: in its one place the compiler
    /// keeps in registers what it takes.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn write<N: Nibbles>(&self, out: &mut [i16; SPAN]) -> Option<f32> {
        let numbers = &N::NUMBERS;
        // SAFETY: 8 numbers each.
        let [first, second] = [0, 8].map(|at| unsafe { _mm256_loadu_ps(numbers.as_ptr().add(at)) });
        // Of the groups 0, 2, 1 and 3 the value of the least nibble and that of the greatest, without signs.
        let factors = self.factors;
        let scales = _mm256_permutevar8x32_ps(factors, _mm256_setr_epi32(0, 0, 2, 2, 1, 1, 3, 3));
        let added = _mm256_permutevar8x32_ps(factors, _mm256_setr_epi32(4, 4, 6, 6, 5, 5, 7, 7));
        let numbers_of_ends = _mm256_add_ps(_mm256_cvtepi32_ps(self.ends()), _mm256_set1_ps(numbers[0]));
        let values = _mm256_castps_si256(_mm256_add_ps(_mm256_mul_ps(scales, numbers_of_ends), added));
        let values = _mm256_and_si256(values, _mm256_set1_epi32(0x7fff_ffff));
        // As integers, magnitudes are in the same order, and a NaN is above all of them.
        let largest = _mm256_max_epu32(values, _mm256_permute2x128_si256::<1>(values, values));
        let largest = _mm256_max_epu32(largest, _mm256_shuffle_epi32::<0b0100_1110>(largest));
        let largest = _mm256_max_epu32(largest, _mm256_shuffle_epi32::<0b1011_0001>(largest));
        let magnitude = f32::from_bits(_mm256_cvtsi256_si32(largest).cast_unsigned());
        let inverse = LARGEST / magnitude;
        if !(magnitude.is_finite() && inverse.is_finite()) {
            return None;
        }
        let inverse = _mm256_set1_ps(inverse);
        let mut each = [0.0; 8];
        // SAFETY: room for 8 numbers.
        unsafe { _mm256_storeu_ps(each.as_mut_ptr(), factors) };
        for (g, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let (scale, added) = (_mm256_set1_ps(each[g]), _mm256_set1_ps(each[4 + g]));
            let rounded = |numbers: __m256| {
                let values = _mm256_add_ps(_mm256_mul_ps(scale, numbers), added);
                _mm256_cvtps_epi32(_mm256_mul_ps(values, inverse))
            };
            let integers = _mm256_packs_epi32(rounded(first), rounded(second));
            // Their low bytes twice, and their high ones.
            let bytes = _mm256_packus_epi16(
                _mm256_and_si256(integers, _mm256_set1_epi16(255)),
                _mm256_srli_epi16::<8>(integers),
            );
            let low = _mm256_shuffle_epi8(_mm256_permute4x64_epi64::<0b10_00_10_00>(bytes), self.nibbles[g]);
            let high = _mm256_shuffle_epi8(_mm256_permute4x64_epi64::<0b11_01_11_01>(bytes), self.nibbles[g]);
            // SAFETY: room for 16 integers, twice.
            unsafe {
                _mm256_storeu_si256(out.as_mut_ptr().cast(), _mm256_unpacklo_epi8(low, high));
                _mm256_storeu_si256(out.as_mut_ptr().add(16).cast(), _mm256_unpackhi_epi8(low, high));
            }
        }
        Some(magnitude / LARGEST)
    }

    /// The least and the greatest nibble of the groups 0, 2, 1 and 3, in words.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn ends(&self) -> __m256i {
        let [a, b, c, d] = self.nibbles;
        let (ab, cd) = (_mm256_permute2x128_si256::<0x20>(a, b), _mm256_permute2x128_si256::<0x20>(c, d));
        let (ab_high, cd_high) =
            (_mm256_permute2x128_si256::<0x31>(a, b), _mm256_permute2x128_si256::<0x31>(c, d));
        let (least_ab, least_cd) = (_mm256_min_epu8(ab, ab_high), _mm256_min_epu8(cd, cd_high));
        let (most_ab, most_cd) = (_mm256_max_epu8(ab, ab_high), _mm256_max_epu8(cd, cd_high));
        // Eight bytes a group, then four, two and one.
        let least = _mm256_min_epu8(
            _mm256_unpacklo_epi64(least_ab, least_cd),
            _mm256_unpackhi_epi64(least_ab, least_cd),
        );
        let most =
            _mm256_max_epu8(_mm256_unpacklo_epi64(most_ab, most_cd), _mm256_unpackhi_epi64(most_ab, most_cd));
        let least = _mm256_min_epu8(least, _mm256_srli_epi64::<32>(least));
        let most = _mm256_max_epu8(most, _mm256_srli_epi64::<32>(most));
        let least = _mm256_min_epu8(least, _mm256_srli_epi64::<16>(least));
        let most = _mm256_max_epu8(most, _mm256_srli_epi64::<16>(most));
        let least = _mm256_min_epu8(least, _mm256_srli_epi64::<8>(least));
        let most = _mm256_max_epu8(most, _mm256_srli_epi64::<8>(most));
        let byte = _mm256_set1_epi64x(255);
        _mm256_or_si256(_mm256_and_si256(least, byte), _mm256_slli_epi64::<32>(_mm256_and_si256(most, byte)))
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn q4_k<'a>(bytes: &[u8], spans: impl Iterator<Item = (&'a mut [i16; SPAN], &'a mut f32)>) -> usize {
    let blocks: &[BlockQ4K] = quant::cast(bytes).expect(WHOLE);
    // Each half of a block is a span.
    for (i, (out, scale)) in spans.enumerate().take(2 * blocks.len()) {
        let (block, half) = (&blocks[i / 2], i % 2);
        let qs = block.qs.as_chunks::<32>().0;
        let ([a, b], [c, d]) = (nibbles_of(&qs[2 * half]), nibbles_of(&qs[2 * half + 1]));
        let factors = scales_and_minimums(block, half);
        *scale = match (Groups { factors, nibbles: [a, b, c, d] }).write::<BlockQ4K>(out) {
            Some(scale) => scale,
            None => {
                let n = size_of::<BlockQ4K>();
                through_floats::<256>(Format::Q4_K, &bytes[i / 2 * n..][..n], half, out)
            }
        };
    }
    blocks.len() * 256
}

/// The scales of the four groups of a half of a block, and what is added, which is negative.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn scales_and_minimums(block: &BlockQ4K, half: usize) -> __m256 {
    let word = |at: usize| u32::from_le_bytes(block.scales.as_chunks::<4>().0[at]);
    let (a, b, c) = (word(0), word(1), word(2));
    // Four numbers a word: the first four scales and minimums are whole, the others' top two bits are those words' spare.
    let (low6, low4, top2) = (0x3f3f_3f3f, 0x0f0f_0f0f, 0x3030_3030);
    let (scales, minimums) = match half {
        0 => (a & low6, b & low6),
        _ => (c & low4 | (a >> 2) & top2, (c >> 4) & low4 | (b >> 2) & top2),
    };
    let floats = |bytes: u32| _mm_cvtepi32_ps(_mm_cvtepu8_epi32(_mm_cvtsi32_si128(bytes.cast_signed())));
    let scales = _mm_mul_ps(floats(scales), _mm_set1_ps(block.d.to_f32()));
    let minimums = _mm_mul_ps(floats(minimums), _mm_set1_ps(block.dmin.to_f32()));
    _mm256_set_m128(_mm_xor_ps(minimums, _mm_set1_ps(-0.0)), scales)
}

/// A block of 32 weights: 16 bytes, of which the low nibbles come first.
pub(super) trait Small: Block<32> + Nibbles {
    /// The scale, and what is added, as float16.
    fn factors(&self) -> [Half; 2];
    fn qs(&self) -> &[u8; 16];
}

impl Small for BlockQ4_0 {
    /// -0 leaves every number as it is, zeros of either sign too.
    fn factors(&self) -> [Half; 2] {
        [self.d, Half([0, 0x80])]
    }

    fn qs(&self) -> &[u8; 16] {
        &self.qs
    }
}

impl Small for BlockQ4_1 {
    fn factors(&self) -> [Half; 2] {
        [self.d, self.m]
    }

    fn qs(&self) -> &[u8; 16] {
        &self.qs
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn small<'a, B: Small>(
    bytes: &[u8],
    spans: impl Iterator<Item = (&'a mut [i16; SPAN], &'a mut f32)>,
) -> usize {
    let blocks: &[B] = quant::cast(bytes).expect(WHOLE);
    let blocks = blocks.as_chunks::<4>().0;
    for ((blocks, bytes), (out, scale)) in
        blocks.iter().zip(bytes.chunks_exact(4 * size_of::<B>())).zip(spans)
    {
        let [a, b, c, d] = blocks.each_ref().map(|block| {
            let [Half([a, b]), Half([c, d])] = block.factors();
            i32::from_le_bytes([a, b, c, d])
        });
        let factors = _mm256_cvtph_ps(_mm_setr_epi32(a, b, c, d));
        let factors = _mm256_permutevar8x32_ps(factors, _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7));
        let mut nibbles = [_mm256_setzero_si256(); 4];
        // A loop, as closures would not have this function's instruction set.
        for (g, block) in blocks.iter().enumerate() {
            // SAFETY: 16 bytes.
            let q = unsafe { _mm_loadu_si128(block.qs().as_ptr().cast()) };
            let twice = _mm256_permute4x64_epi64::<0b01_01_00_00>(_mm256_castsi128_si256(q));
            let shifted = _mm256_srlv_epi64(twice, _mm256_setr_epi64x(0, 4, 0, 4));
            nibbles[g] = _mm256_and_si256(shifted, _mm256_set1_epi8(15));
        }
        *scale = match (Groups { factors, nibbles }).write::<B>(out) {
            Some(scale) => scale,
            None => through_floats::<SPAN>(B::FORMAT, bytes, 0, out),
        };
    }
    blocks.len() * SPAN
}

/// The low nibbles of 32 bytes, and the high ones, in the order of [`Groups`].
#[inline]
#[target_feature(enable = "avx2")]
fn nibbles_of(bytes: &[u8; 32]) -> [__m256i; 2] {
    // SAFETY: 32 bytes.
    let q = unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) };
    let q = _mm256_permute4x64_epi64::<0b11_01_10_00>(q);
    let low = _mm256_set1_epi8(15);
    [_mm256_and_si256(q, low), _mm256_and_si256(_mm256_srli_epi16::<4>(q), low)]
}

/// Span `n` of the `N` weights of `bytes`.
#[cold]
#[target_feature(enable = "avx2,fma,f16c")]
fn through_floats<const N: usize>(format: Format, bytes: &[u8], n: usize, out: &mut [i16; SPAN]) -> f32 {
    let mut floats = [0.0; N];
    avx2::dequantize(format, bytes, &mut floats);
    integer::quantize_span(&floats.as_chunks::<SPAN>().0[n], out)
}
