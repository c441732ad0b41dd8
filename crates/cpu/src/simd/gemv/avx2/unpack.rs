//! How do the weights of 32 columns reach a vector of AVX2? Straight from the file's bytes in the formats that models are mostly
//! stored in; of the others through [`Blocks::codes`], whose portable loops the compiler vectorises.
//!
//! Layouts and values as in [`super::super::blocks`]. A tile may end early, after any number of blocks of 32 (a row is no whole number of
//! tiles); blocks past its end are not asked for, and their scales are zeros.

use std::arch::x86_64::*;

use quant::Scaled;

use super::super::blocks::{
    Blocks, Iq4Nl, Iq4Xs, Mxfp4, Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0, six_bit_pairs,
};
use super::super::integers::Integers;
use crate::simd::quantize::TILE;

/// Scales, then minimums, of each half of a tile: lane `l` of a half is of the group that lane has in
/// [`crate::simd::quantize::Tile`].
pub(in super::super) type Factors = [[__m256; 2]; 2];

/// A block format's tiles in vectors.
pub(in super::super) trait Unpack: Blocks {
    /// What is unpacked before the blocks are.
    type Held;

    /// Unpacks what all blocks need.
    ///
    /// # Safety
    /// Here and below: the processor has AVX2, FMA and F16C; `tile` is whole blocks of the format, of at most 256 weights.
    unsafe fn hold(tile: &[u8]) -> Self::Held;

    /// The codes of block `b` of 32 weights, which is in the tile, in their order.
    unsafe fn codes_of(tile: &[u8], held: &Self::Held, b: usize) -> __m256i;

    /// Scales and minimums.
    unsafe fn factors(tile: &[u8]) -> Factors;
}

/// 32 bytes at `at`.
#[inline(always)]
unsafe fn load32(tile: &[u8], at: usize) -> __m256i {
    debug_assert!(at + 32 <= tile.len());
    // SAFETY: the caller asks for bytes of the tile.
    unsafe { _mm256_loadu_si256(tile.as_ptr().add(at).cast()) }
}

/// 16 bytes as 32 codes: their low nibbles, then their high ones.
#[inline(always)]
unsafe fn nibbles(tile: &[u8], at: usize) -> __m256i {
    debug_assert!(at + 16 <= tile.len());
    // SAFETY: the caller asks for bytes of the tile, and has AVX2.
    unsafe {
        let bytes = _mm256_broadcastsi128_si256(_mm_loadu_si128(tile.as_ptr().add(at).cast()));
        let shifted = _mm256_srlv_epi32(bytes, _mm256_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4));
        _mm256_and_si256(shifted, _mm256_set1_epi8(15))
    }
}

/// Low or high nibbles of 32 bytes.
#[inline(always)]
unsafe fn half_nibbles(bytes: __m256i, high: bool) -> __m256i {
    // SAFETY: the caller has AVX2.
    unsafe {
        let bytes = if high { _mm256_srli_epi16::<4>(bytes) } else { bytes };
        _mm256_and_si256(bytes, _mm256_set1_epi8(15))
    }
}

/// 16 where bit `i` of `bits` is set, for code `i`; else 0.
#[inline(always)]
unsafe fn fifth_bits(bits: u32) -> __m256i {
    // SAFETY: the caller has AVX2.
    unsafe {
        let of = _mm256_setr_epi64x(0, 0x0101_0101_0101_0101, 0x0202_0202_0202_0202, 0x0303_0303_0303_0303);
        let bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(bits.cast_signed()), of);
        let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64.cast_signed());
        let set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit);
        _mm256_and_si256(set, _mm256_set1_epi8(16))
    }
}

#[inline(always)]
fn word(tile: &[u8], at: usize) -> u32 {
    tile.get(at..at + 4).map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

#[inline(always)]
fn half_word(tile: &[u8], at: usize) -> i16 {
    tile.get(at..at + 2).map_or(0, |b| i16::from_le_bytes([b[0], b[1]]))
}

/// A value for each of eight blocks as the lanes of two halves.
#[inline(always)]
unsafe fn by_block(values: __m256) -> [__m256; 2] {
    // SAFETY: the caller has AVX2.
    unsafe {
        [_mm256_permute2f128_ps::<0x00>(values, values), _mm256_permute2f128_ps::<0x11>(values, values)]
    }
}

/// The scales of blocks of `N` bytes that begin with a scale in half precision.
#[inline(always)]
unsafe fn scale_first<const N: usize>(tile: &[u8]) -> Factors {
    let d = |b| half_word(tile, b * N);
    // SAFETY: the caller has AVX2 and F16C.
    unsafe {
        let d = _mm256_cvtph_ps(_mm_setr_epi16(d(0), d(1), d(2), d(3), d(4), d(5), d(6), d(7)));
        [by_block(d), [_mm256_setzero_ps(); 2]]
    }
}

/// The scales and minimums of blocks of `N` bytes that begin with both in half precision.
#[inline(always)]
unsafe fn scale_and_minimum_first<const N: usize>(tile: &[u8]) -> Factors {
    let both = |b| word(tile, b * N).cast_signed();
    // SAFETY: the caller has AVX2 and F16C.
    unsafe {
        let apart = _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
        let low = _mm_shuffle_epi8(_mm_setr_epi32(both(0), both(1), both(2), both(3)), apart);
        let high = _mm_shuffle_epi8(_mm_setr_epi32(both(4), both(5), both(6), both(7)), apart);
        let d = _mm256_cvtph_ps(_mm_unpacklo_epi64(low, high));
        let m = _mm256_cvtph_ps(_mm_unpackhi_epi64(low, high));
        [by_block(d), by_block(m)]
    }
}

/// The scales and minimums of Q4_K and Q5_K.
#[inline(always)]
unsafe fn six_bit_factors(tile: &[u8]) -> Factors {
    let (scales, minimums) = six_bit_pairs(word(tile, 4), word(tile, 8), word(tile, 12));
    // SAFETY: the caller has AVX2 and F16C.
    unsafe {
        let of = |bytes: u64, factor: __m128| {
            let values = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(bytes.cast_signed()));
            by_block(_mm256_mul_ps(_mm256_cvtepi32_ps(values), _mm256_broadcastss_ps(factor)))
        };
        let both = _mm_cvtph_ps(_mm_cvtsi32_si128(word(tile, 0).cast_signed()));
        let least = _mm_xor_ps(_mm_movehdup_ps(both), _mm_set1_ps(-0.0));
        [of(scales, both), of(minimums, least)]
    }
}

/// Values per group of 16 as the lanes of two halves.
#[inline(always)]
unsafe fn by_group(values: &[f32; 16]) -> [__m256; 2] {
    let half = |h: usize| {
        let v = &values[8 * h..8 * h + 8];
        // SAFETY: the caller has AVX2.
        unsafe { _mm256_setr_ps(v[0], v[2], v[4], v[6], v[1], v[3], v[5], v[7]) }
    };
    [half(0), half(1)]
}

/// Implements [`Unpack`] for formats of which nothing is held.
macro_rules! direct {
    ($name:ident, |$tile:ident, $b:ident| $codes:expr, $factors:expr) => {
        // SAFETY of every block: the caller's promises, which are the helpers' own; block `b` is in the tile.
        impl Unpack for $name {
            type Held = ();

            #[inline(always)]
            unsafe fn hold(_: &[u8]) {}

            #[inline(always)]
            unsafe fn codes_of($tile: &[u8], (): &(), $b: usize) -> __m256i {
                // SAFETY: as said above.
                unsafe { $codes }
            }

            #[inline(always)]
            unsafe fn factors(tile: &[u8]) -> Factors {
                // SAFETY: as said above.
                unsafe { $factors(tile) }
            }
        }
    };
}

direct!(Q4_0, |tile, b| nibbles(tile, 18 * b + 2), scale_first::<18>);
direct!(Q4_1, |tile, b| nibbles(tile, 20 * b + 4), scale_and_minimum_first::<20>);
direct!(
    Q5_0,
    |tile, b| _mm256_or_si256(nibbles(tile, 22 * b + 6), fifth_bits(word(tile, 22 * b + 2))),
    scale_first::<22>
);
direct!(
    Q5_1,
    |tile, b| _mm256_or_si256(nibbles(tile, 24 * b + 8), fifth_bits(word(tile, 24 * b + 4))),
    scale_and_minimum_first::<24>
);
direct!(
    Q8_0,
    |tile, b| _mm256_xor_si256(load32(tile, 34 * b + 2), _mm256_set1_epi8(-128)),
    scale_first::<34>
);
direct!(Iq4Nl, |tile, b| nibbles(tile, 18 * b + 2), scale_first::<18>);
direct!(Q4K, |tile, b| half_nibbles(load32(tile, 16 + b / 2 * 32), b % 2 == 1), six_bit_factors);
direct!(
    Q5K,
    |tile, b| {
        let bit = _mm256_set1_epi8((1u8 << b).cast_signed());
        let set = _mm256_cmpeq_epi8(_mm256_and_si256(load32(tile, 16), bit), bit);
        let fifth = _mm256_and_si256(set, _mm256_set1_epi8(16));
        _mm256_or_si256(half_nibbles(load32(tile, 48 + b / 2 * 32), b % 2 == 1), fifth)
    },
    six_bit_factors
);
direct!(
    Q6K,
    |tile, b| {
        let (half, j) = (b / 4, b % 4);
        let low = half_nibbles(load32(tile, 64 * half + 32 * (j % 2)), j > 1);
        let pairs = load32(tile, 128 + 32 * half);
        // Bits 2j and 2j + 1 to bits 4 and 5.
        let moved = match j {
            0 => _mm256_slli_epi16::<4>(pairs),
            1 => _mm256_slli_epi16::<2>(pairs),
            2 => pairs,
            _ => _mm256_srli_epi16::<2>(pairs),
        };
        _mm256_or_si256(low, _mm256_and_si256(moved, _mm256_set1_epi8(0x30)))
    },
    |tile: &[u8]| {
        let d = _mm256_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(half_word(tile, 208)))));
        let lanes = _mm_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15);
        let scales = _mm_shuffle_epi8(_mm_loadu_si128(tile[192..208].as_ptr().cast()), lanes);
        let of = |bytes| _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)), d);
        [[of(scales), of(_mm_unpackhi_epi64(scales, scales))], [_mm256_setzero_ps(); 2]]
    }
);

/// All codes of a tile.
#[repr(align(64))]
pub(in super::super) struct Codes([u8; TILE]);

/// A tile that may end early, with zeros past its end: zero blocks of every format add zero.
#[inline(always)]
fn with_whole<B: Blocks, R>(tile: &[u8], f: impl FnOnce(&[u8]) -> R) -> R {
    if tile.len() == B::BYTES {
        return f(tile);
    }
    let mut whole = [0; 512];
    whole[..tile.len()].copy_from_slice(tile);
    f(&whole[..B::BYTES])
}

/// Implements [`Unpack`] by way of [`Blocks`]' arrays.
macro_rules! through_arrays {
    ($(($($generics:tt)*) $name:ty),*) => {$(
        // SAFETY of every block: the caller has AVX2, and block `b` is one of eight.
        impl<$($generics)*> Unpack for $name {
            type Held = Codes;

            #[inline(always)]
            unsafe fn hold(tile: &[u8]) -> Codes {
                let mut codes = Codes([0; TILE]);
                with_whole::<Self, _>(tile, |tile| Self::codes(tile, &mut codes.0));
                codes
            }

            #[inline(always)]
            unsafe fn codes_of(_: &[u8], codes: &Codes, b: usize) -> __m256i {
                // SAFETY: as said above.
                unsafe { load32(&codes.0, 32 * b) }
            }

            #[inline(always)]
            unsafe fn factors(tile: &[u8]) -> Factors {
                let scales = with_whole::<Self, _>(tile, Self::scales);
                // SAFETY: as said above.
                unsafe { [by_group(&scales.d), by_group(&scales.m)] }
            }
        }
    )*};
}

through_arrays!(() Mxfp4, () Q2K, () Q3K, () Iq4Xs, (B: Scaled<N>, const N: usize) Integers<B, N>);
