//! How is a block of 256 weights unpacked? For the K formats and IQ4_XS.
//!
//! Their codes stand in runs of bytes whose bit fields belong to different groups of weights, so for each vector one permutation of
//! 32-bit words and one variable shift give every lane its group's. Scales per 16 or 32 weights are put in the order of
//! the lanes, widened, and multiplied by the block's own.

use std::arch::x86_64::*;

use super::{Unpack, Unpacked, lanes, nibbles_of_16, raised};
use crate::simd::gemv::blocks::{IQ4_VALUES, six_bit_pairs, six_bit_scales};
use crate::simd::quantize::GROUPS;

/// The first lane eight times, then the second.
const FIRST_SECOND: [i32; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1];

/// Sixteen bytes, one a group of weights, in the order of the lanes.
///
/// # Safety
/// The processor has `Isa::Avx512Vbmi`.
#[inline(always)]
unsafe fn in_lanes(groups: __m128i) -> __m128i {
    // SAFETY: the caller's processor; the table has 16 bytes.
    unsafe { _mm_shuffle_epi8(groups, _mm_loadu_si128(GROUPS.as_ptr().cast())) }
}

/// Loads little-endian bytes as an integer.
///
/// # Safety
/// Four bytes can be read.
#[inline(always)]
unsafe fn word(at: *const u8) -> u32 {
    // SAFETY: the caller's bytes; the read needs no alignment.
    unsafe { at.cast::<u32>().read_unaligned() }
}

/// One half-precision float in all lanes.
///
/// # Safety
/// The processor has `Isa::Avx512Vbmi`, and two bytes can be read.
#[inline(always)]
unsafe fn half(at: *const u8) -> __m512 {
    // SAFETY: the caller's bytes; the read needs no alignment.
    unsafe {
        let half = i32::from(at.cast::<u16>().read_unaligned());
        _mm512_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(half)))
    }
}

/// Two consecutive half-precision floats, d and dmin: [d; 8] and [-dmin; 8].
///
/// # Safety
/// The processor has `Isa::Avx512Vbmi`, and four bytes can be read.
#[inline(always)]
unsafe fn d_and_minus_dmin(at: *const u8) -> __m512 {
    // SAFETY: the caller's bytes. The upper bit of the word is the sign of dmin.
    unsafe {
        let pair = _mm_cvtph_ps(_mm_cvtsi32_si128((word(at) ^ 0x8000_0000).cast_signed()));
        _mm512_permutexvar_ps(lanes(&FIRST_SECOND), _mm512_castps128_ps512(pair))
    }
}

/// Sixteen bytes as floats.
///
/// # Safety
/// The processor has `Isa::Avx512Vbmi`.
#[inline(always)]
unsafe fn floats(bytes: __m128i) -> __m512 {
    // SAFETY: the caller's processor.
    unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes)) }
}

/// The low bits that are in `mask` with the high bits that are in `high_mask`.
///
/// # Safety
/// The processor has `Isa::Avx512Vbmi`.
#[inline(always)]
unsafe fn join((low, mask): (__m512i, i8), (high, high_mask): (__m512i, i8)) -> __m512i {
    // SAFETY: the caller's processor. The truth table of a | (b & c) is 0xf8.
    unsafe {
        let low = _mm512_and_si512(low, _mm512_set1_epi8(mask));
        _mm512_ternarylogic_epi32::<0xf8>(low, high, _mm512_set1_epi8(high_mask))
    }
}

/// The words of 64 bytes of two-bit fields that each vector's lanes take: 32 bytes for each half of the weights.
///
/// # Safety
/// The processor has `Isa::Avx512Vbmi`.
#[inline(always)]
unsafe fn two_bit_words(qs: __m512i) -> [__m512i; 4] {
    // SAFETY: the caller's processor.
    unsafe {
        [
            _mm512_permutexvar_epi32(lanes(by_group!(|g| g / 8 * 8 + g % 2 * 4)), qs),
            _mm512_permutexvar_epi32(lanes(by_group!(|g| g / 8 * 8 + g % 2 * 4 + 1)), qs),
            _mm512_permutexvar_epi32(lanes(by_group!(|g| g / 8 * 8 + g % 2 * 4 + 2)), qs),
            _mm512_permutexvar_epi32(lanes(by_group!(|g| g / 8 * 8 + g % 2 * 4 + 3)), qs),
        ]
    }
}

/// The words of 32 bytes, of which bit `b` belongs to block `b` of 32 weights, that each vector's lanes take.
///
/// # Safety
/// The processor has `Isa::Avx512Vbmi`, and 32 bytes can be read.
#[inline(always)]
unsafe fn one_bit_words(bits: *const u8) -> [__m512i; 4] {
    // SAFETY: the caller's.
    unsafe {
        let bits = _mm512_castsi256_si512(_mm256_loadu_si256(bits.cast()));
        [
            _mm512_permutexvar_epi32(lanes(by_group!(|g| g % 2 * 4)), bits),
            _mm512_permutexvar_epi32(lanes(by_group!(|g| g % 2 * 4 + 1)), bits),
            _mm512_permutexvar_epi32(lanes(by_group!(|g| g % 2 * 4 + 2)), bits),
            _mm512_permutexvar_epi32(lanes(by_group!(|g| g % 2 * 4 + 3)), bits),
        ]
    }
}

/// `scales:16 qs:64 d:f16 dmin:f16`.
pub(super) struct Q2K;
impl Unpack for Q2K {
    const BYTES: usize = 84;

    #[inline(always)]
    unsafe fn unpack(tile: *const u8) -> Unpacked {
        // SAFETY: the caller's processor; 16 bytes from 0, 64 from 16 and 4 from 80 are inside the tile.
        unsafe {
            let words = two_bit_words(_mm512_loadu_si512(tile.add(16).cast()));
            let shift = lanes(by_group!(|g| g % 8 / 2 * 2));
            let codes = |v: usize| _mm512_and_si512(_mm512_srlv_epi32(words[v], shift), _mm512_set1_epi8(3));
            let scales = in_lanes(_mm_loadu_si128(tile.cast()));
            let low4 = _mm_set1_epi8(15);
            let both = _mm_cvtph_ps(_mm_cvtsi32_si128((word(tile.add(80)) ^ 0x8000_0000).cast_signed()));
            let (d, minus_dmin) = (_mm512_broadcastss_ps(both), _mm512_broadcastss_ps(_mm_movehdup_ps(both)));
            Unpacked {
                q: [codes(0), codes(1), codes(2), codes(3)],
                d: _mm512_mul_ps(d, floats(_mm_and_si128(scales, low4))),
                m: _mm512_mul_ps(minus_dmin, floats(_mm_and_si128(_mm_srli_epi16::<4>(scales), low4))),
            }
        }
    }
}

/// `hmask:32 qs:64 scales:12 d:f16`, 4 above the weight.
pub(super) struct Q3K;
impl Unpack for Q3K {
    const BYTES: usize = 110;

    #[inline(always)]
    unsafe fn unpack(tile: *const u8) -> Unpacked {
        // SAFETY: the caller's processor; 32 bytes from 0, 64 from 32, 12 from 96 and 2 from 108 are inside the tile.
        unsafe {
            let low = two_bit_words(_mm512_loadu_si512(tile.add(32).cast()));
            let high = one_bit_words(tile);
            // The field of a block goes to bits 0 and 1, its third bit to bit 2.
            let (field, bit) = (lanes(by_group!(|g| g % 8 / 2 * 2)), lanes(by_group!(|g| (34 - g / 2) % 32)));
            let codes =
                |v: usize| join((_mm512_srlv_epi32(low[v], field), 3), (_mm512_rolv_epi32(high[v], bit), 4));
            let (low8, high8) = six_bit_scales(word(tile.add(96)), word(tile.add(100)), word(tile.add(104)));
            let scales = in_lanes(_mm_set_epi64x(high8.cast_signed(), low8.cast_signed()));
            let scales = _mm_sub_epi8(scales, _mm_set1_epi8(32));
            let d = _mm512_mul_ps(half(tile.add(108)), _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(scales)));
            Unpacked {
                q: [codes(0), codes(1), codes(2), codes(3)],
                d,
                m: _mm512_mul_ps(d, _mm512_set1_ps(-4.0)),
            }
        }
    }
}

/// The nibbles of 128 bytes: in each 32, low nibbles are a block of 32 weights, high nibbles the next.
///
/// # Safety
/// The processor has `Isa::Avx512Vbmi`, and 128 bytes can be read.
#[inline(always)]
unsafe fn nibbles_of_32(qs: *const u8) -> [__m512i; 4] {
    // SAFETY: the caller's.
    unsafe {
        let (a, b) = (_mm512_loadu_si512(qs.cast()), _mm512_loadu_si512(qs.add(64).cast()));
        let shift = lanes(by_group!(|g| g % 4 / 2 * 4));
        let vector = |table| {
            let qs = _mm512_permutex2var_epi32(a, lanes(table), b);
            _mm512_and_si512(_mm512_srlv_epi32(qs, shift), _mm512_set1_epi8(15))
        };
        [
            vector(by_group!(|g| g / 4 * 8 + g % 2 * 4)),
            vector(by_group!(|g| g / 4 * 8 + g % 2 * 4 + 1)),
            vector(by_group!(|g| g / 4 * 8 + g % 2 * 4 + 2)),
            vector(by_group!(|g| g / 4 * 8 + g % 2 * 4 + 3)),
        ]
    }
}

/// The scales and the minimums of the 16 bytes that Q4_K and Q5_K start with.
///
/// # Safety
/// The processor has `Isa::Avx512Vbmi`, and 16 bytes can be read.
#[inline(always)]
unsafe fn scales_and_minimums(tile: *const u8) -> (__m512, __m512) {
    // SAFETY: the caller's.
    unsafe {
        let (scales, mins) = six_bit_pairs(word(tile.add(4)), word(tile.add(8)), word(tile.add(12)));
        let both = floats(_mm_set_epi64x(mins.cast_signed(), scales.cast_signed()));
        let both = _mm512_mul_ps(d_and_minus_dmin(tile), both);
        (
            _mm512_permutexvar_ps(lanes(by_group!(|g| g / 2)), both),
            _mm512_permutexvar_ps(lanes(by_group!(|g| 8 + g / 2)), both),
        )
    }
}

/// `d:f16 dmin:f16 scales:12 qs:128`.
pub(super) struct Q4K;
impl Unpack for Q4K {
    const BYTES: usize = 144;

    #[inline(always)]
    unsafe fn unpack(tile: *const u8) -> Unpacked {
        // SAFETY: the caller's processor; 16 bytes from 0 and 128 from 16 are inside the tile.
        unsafe {
            let (d, m) = scales_and_minimums(tile);
            Unpacked { q: nibbles_of_32(tile.add(16)), d, m }
        }
    }
}

/// `d:f16 dmin:f16 scales:12 qh:32 qs:128`.
pub(super) struct Q5K;
impl Unpack for Q5K {
    const BYTES: usize = 176;

    #[inline(always)]
    unsafe fn unpack(tile: *const u8) -> Unpacked {
        // SAFETY: the caller's processor; 16 bytes from 0, 32 from 16 and 128 from 48 are inside the tile.
        unsafe {
            let (d, m) = scales_and_minimums(tile);
            let (low, high) = (nibbles_of_32(tile.add(48)), one_bit_words(tile.add(16)));
            // The fifth bit of a block goes to bit 4; the truth table of a | (b & c) is 0xf8.
            let bit = lanes(by_group!(|g| (36 - g / 2) % 32));
            let codes = |v: usize| {
                let high = _mm512_rolv_epi32(high[v], bit);
                _mm512_ternarylogic_epi32::<0xf8>(low[v], high, _mm512_set1_epi8(16))
            };
            Unpacked { q: [codes(0), codes(1), codes(2), codes(3)], d, m }
        }
    }
}

/// `ql:128 qh:64 scales:16 d:f16`, 32 above the weight.
pub(super) struct Q6K;
impl Unpack for Q6K {
    const BYTES: usize = 210;

    #[inline(always)]
    unsafe fn unpack(tile: *const u8) -> Unpacked {
        // SAFETY: the caller's processor; 128 bytes from 0, 64 from 128, 16 from 192 and 2 from 208 are inside the tile.
        unsafe {
            let (a, b) = (_mm512_loadu_si512(tile.cast()), _mm512_loadu_si512(tile.add(64).cast()));
            let high = two_bit_words(_mm512_loadu_si512(tile.add(128).cast()));
            let shift = lanes(by_group!(|g| g % 8 / 4 * 4));
            // The two high bits of a code go to bits 4 and 5.
            let bits = lanes(by_group!(|g| (36 - g % 8 / 2 * 2) % 32));
            let codes = |v: usize, table| {
                let low = _mm512_srlv_epi32(_mm512_permutex2var_epi32(a, lanes(table), b), shift);
                join((low, 15), (_mm512_rolv_epi32(high[v], bits), 0x30))
            };
            let scales = in_lanes(_mm_loadu_si128(tile.add(192).cast()));
            let d = _mm512_mul_ps(half(tile.add(208)), _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(scales)));
            Unpacked {
                q: [
                    codes(0, by_group!(|g| g / 8 * 16 + g % 4 * 4)),
                    codes(1, by_group!(|g| g / 8 * 16 + g % 4 * 4 + 1)),
                    codes(2, by_group!(|g| g / 8 * 16 + g % 4 * 4 + 2)),
                    codes(3, by_group!(|g| g / 8 * 16 + g % 4 * 4 + 3)),
                ],
                d,
                m: _mm512_mul_ps(d, _mm512_set1_ps(-32.0)),
            }
        }
    }
}

/// `d:f16 scales_h:u16 scales_l:4 qs:128`, codes into a table.
pub(super) struct Iq4Xs;
impl Unpack for Iq4Xs {
    const BYTES: usize = 136;

    #[inline(always)]
    unsafe fn unpack(tile: *const u8) -> Unpacked {
        const VALUES: [u8; 16] = raised(IQ4_VALUES, 127);
        // SAFETY: the caller's processor; 8 bytes from 0 and 128 from 8 are inside the tile; the table has 16 bytes.
        unsafe {
            let values = _mm512_broadcast_i32x4(_mm_loadu_si128(VALUES.as_ptr().cast()));
            let (a, b) = (_mm512_loadu_si512(tile.add(8).cast()), _mm512_loadu_si512(tile.add(72).cast()));
            let codes = nibbles_of_16(a, b);
            // A scale's low four bits and high two, 32 above its value.
            let low = _mm512_set1_epi32(word(tile.add(4)).cast_signed());
            let low = _mm512_srlv_epi32(low, lanes(by_group!(|g| g / 2 * 4)));
            let high = _mm512_set1_epi32((word(tile) >> 16).cast_signed());
            let high = _mm512_srlv_epi32(high, lanes(by_group!(|g| g / 2 * 2)));
            let low = _mm512_and_si512(low, _mm512_set1_epi32(15));
            let high = _mm512_slli_epi32::<4>(_mm512_and_si512(high, _mm512_set1_epi32(3)));
            let scales = _mm512_sub_epi32(_mm512_or_si512(low, high), _mm512_set1_epi32(32));
            let d = _mm512_mul_ps(half(tile), _mm512_cvtepi32_ps(scales));
            Unpacked {
                q: [
                    _mm512_shuffle_epi8(values, codes[0]),
                    _mm512_shuffle_epi8(values, codes[1]),
                    _mm512_shuffle_epi8(values, codes[2]),
                    _mm512_shuffle_epi8(values, codes[3]),
                ],
                d,
                m: _mm512_mul_ps(d, _mm512_set1_ps(-127.0)),
            }
        }
    }
}
