//! How is a block of 256 weights unpacked? For the K formats and IQ4_XS.
//!
//! Their codes stand in runs of 32 bytes whose bit fields belong to different blocks of 32, so one lane permutation and one variable
//! shift give two blocks interleaved as the activations are. Scales per 16 or 32 weights are widened, multiplied by the
//! block's own, and spread over the lanes by permutation.

use std::arch::x86_64::*;

use super::{EIGHT_TWICE, UPPER_EIGHT_TWICE, Unpack, Unpacked, lanes, raised};
use crate::simd::gemv::blocks::{IQ4_VALUES, six_bit_pairs, six_bit_scales};

/// Each 32-bit lane of the first 32 bytes of a vector twice, side by side, in the order of the activations' groups.
const TWICE_LOW: [i32; 16] = [0, 0, 1, 1, 4, 4, 5, 5, 2, 2, 3, 3, 6, 6, 7, 7];
/// The same of the last 32 bytes.
const TWICE_HIGH: [i32; 16] = [8, 8, 9, 9, 12, 12, 13, 13, 10, 10, 11, 11, 14, 14, 15, 15];
/// The first 32 bytes and the last, side by side.
const BOTH: [i32; 16] = [0, 8, 1, 9, 4, 12, 5, 13, 2, 10, 3, 11, 6, 14, 7, 15];
/// Four blocks of 16 bytes of nibbles: the first and second side by side, low nibbles where a lane's group is below 4.
const NIBBLES_LOW: [i32; 16] = [0, 4, 1, 5, 0, 4, 1, 5, 2, 6, 3, 7, 2, 6, 3, 7];
/// The same of the third and fourth.
const NIBBLES_HIGH: [i32; 16] = [8, 12, 9, 13, 8, 12, 9, 13, 10, 14, 11, 15, 10, 14, 11, 15];
/// Shifts of high nibbles for [`NIBBLES_LOW`].
const NIBBLE_SHIFTS: [i32; 16] = [0, 0, 0, 0, 4, 4, 4, 4, 0, 0, 0, 0, 4, 4, 4, 4];
/// The first lane eight times, then the second.
const FIRST_SECOND: [i32; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1];

/// Different values for the two blocks of a vector.
const fn alternate(even: i32, odd: i32) -> [i32; 16] {
    let mut table = [even; 16];
    let mut lane = 1;
    while lane < 16 {
        table[lane] = odd;
        lane += 2;
    }
    table
}

/// Which of 16 scales, each of 16 weights, the lanes of vector `v` take.
const fn sixteenths(v: i32) -> [i32; 16] {
    let (a, b, c, d) = (4 * v, 4 * v + 1, 4 * v + 2, 4 * v + 3);
    [a, c, a, c, b, d, b, d, a, c, a, c, b, d, b, d]
}

/// The scales of each vector's lanes, from 16 scales of 16 weights.
///
/// # Safety
/// The processor has `Isa::Avx512`.
#[inline(always)]
unsafe fn scales_of_16(d: __m512) -> [__m512; 4] {
    // SAFETY: the caller's processor.
    unsafe {
        [
            _mm512_permutexvar_ps(lanes(&const { sixteenths(0) }), d),
            _mm512_permutexvar_ps(lanes(&const { sixteenths(1) }), d),
            _mm512_permutexvar_ps(lanes(&const { sixteenths(2) }), d),
            _mm512_permutexvar_ps(lanes(&const { sixteenths(3) }), d),
        ]
    }
}

/// The scales of each vector's lanes, from 8 scales of 32 weights in the lower lanes.
///
/// # Safety
/// The processor has `Isa::Avx512`.
#[inline(always)]
unsafe fn scales_of_32(d: __m512) -> [__m512; 4] {
    // SAFETY: the caller's processor. Two scales fill 64 bits.
    unsafe {
        let d = _mm512_castps_pd(d);
        [
            _mm512_castpd_ps(_mm512_permutexvar_pd(_mm512_set1_epi64(0), d)),
            _mm512_castpd_ps(_mm512_permutexvar_pd(_mm512_set1_epi64(1), d)),
            _mm512_castpd_ps(_mm512_permutexvar_pd(_mm512_set1_epi64(2), d)),
            _mm512_castpd_ps(_mm512_permutexvar_pd(_mm512_set1_epi64(3), d)),
        ]
    }
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
/// The processor has `Isa::Avx512`, and two bytes can be read.
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
/// The processor has `Isa::Avx512`, and four bytes can be read.
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
/// The processor has `Isa::Avx512`.
#[inline(always)]
unsafe fn floats(bytes: __m128i) -> __m512 {
    // SAFETY: the caller's processor.
    unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes)) }
}

/// The low bits that are in `mask` with the high bits that are in `high_mask`.
///
/// # Safety
/// The processor has `Isa::Avx512`.
#[inline(always)]
unsafe fn join((low, mask): (__m512i, i8), (high, high_mask): (__m512i, i8)) -> __m512i {
    // SAFETY: the caller's processor. The truth table of a | (b & c) is 0xf8.
    unsafe {
        let low = _mm512_and_si512(low, _mm512_set1_epi8(mask));
        _mm512_ternarylogic_epi32::<0xf8>(low, high, _mm512_set1_epi8(high_mask))
    }
}

/// `scales:16 qs:64 d:f16 dmin:f16`.
pub(super) struct Q2K;
impl Unpack for Q2K {
    const BYTES: usize = 84;

    #[inline(always)]
    unsafe fn unpack<const TAIL: bool>(tile: *const u8, _: usize) -> Unpacked {
        // SAFETY: the caller's processor; 16 bytes from 0, 64 from 16 and 4 from 80 are inside the tile.
        unsafe {
            let scales = _mm_loadu_si128(tile.cast());
            let qs = _mm512_loadu_si512(tile.add(16).cast());
            let (a, b) = (
                _mm512_permutexvar_epi32(lanes(&TWICE_LOW), qs),
                _mm512_permutexvar_epi32(lanes(&TWICE_HIGH), qs),
            );
            let (first, second) = (lanes(&const { alternate(0, 2) }), lanes(&const { alternate(4, 6) }));
            let field = |qs, shift| _mm512_and_si512(_mm512_srlv_epi32(qs, shift), _mm512_set1_epi8(3));
            let low4 = _mm_set1_epi8(15);
            let both = _mm_cvtph_ps(_mm_cvtsi32_si128((word(tile.add(80)) ^ 0x8000_0000).cast_signed()));
            let (d, minus_dmin) = (_mm512_broadcastss_ps(both), _mm512_broadcastss_ps(_mm_movehdup_ps(both)));
            let d = _mm512_mul_ps(d, floats(_mm_and_si128(scales, low4)));
            let m = floats(_mm_and_si128(_mm_srli_epi16::<4>(scales), low4));
            Unpacked {
                q: [field(a, first), field(a, second), field(b, first), field(b, second)],
                d: scales_of_16(d),
                m: _mm512_mul_ps(minus_dmin, m),
            }
        }
    }
}

/// `hmask:32 qs:64 scales:12 d:f16`, 4 above the weight.
pub(super) struct Q3K;
impl Unpack for Q3K {
    const BYTES: usize = 110;

    #[inline(always)]
    unsafe fn unpack<const TAIL: bool>(tile: *const u8, _: usize) -> Unpacked {
        // SAFETY: the caller's processor; 32 bytes from 0, 64 from 32, 12 from 96 and 2 from 108 are inside the tile.
        unsafe {
            let high = _mm512_castsi256_si512(_mm256_loadu_si256(tile.cast()));
            let high = _mm512_permutexvar_epi32(lanes(&TWICE_LOW), high);
            let qs = _mm512_loadu_si512(tile.add(32).cast());
            let (a, b) = (
                _mm512_permutexvar_epi32(lanes(&TWICE_LOW), qs),
                _mm512_permutexvar_epi32(lanes(&TWICE_HIGH), qs),
            );
            // The field of a block goes to bits 0 and 1, its third bit to bit 2.
            let (first, second) = (lanes(&const { alternate(0, 2) }), lanes(&const { alternate(4, 6) }));
            let code =
                |qs, field, bit| join((_mm512_srlv_epi32(qs, field), 3), (_mm512_rolv_epi32(high, bit), 4));
            let (low8, high8) = six_bit_scales(word(tile.add(96)), word(tile.add(100)), word(tile.add(104)));
            let scales = _mm_set_epi64x(high8.cast_signed(), low8.cast_signed());
            let scales = _mm_sub_epi8(scales, _mm_set1_epi8(32));
            let scales = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(scales));
            let d = _mm512_mul_ps(half(tile.add(108)), scales);
            Unpacked {
                q: [
                    code(a, first, lanes(&const { alternate(2, 1) })),
                    code(a, second, lanes(&const { alternate(0, 31) })),
                    code(b, first, lanes(&const { alternate(30, 29) })),
                    code(b, second, lanes(&const { alternate(28, 27) })),
                ],
                d: scales_of_16(d),
                m: _mm512_mul_ps(d, _mm512_set1_ps(-4.0)),
            }
        }
    }
}

/// The nibbles of two blocks a vector, low nibbles in even lanes, from 128 bytes.
///
/// # Safety
/// The processor has `Isa::Avx512`, and 128 bytes can be read.
#[inline(always)]
unsafe fn nibbles_by_block(qs: *const u8) -> [__m512i; 4] {
    // SAFETY: the caller's.
    unsafe {
        let (a, b) = (_mm512_loadu_si512(qs.cast()), _mm512_loadu_si512(qs.add(64).cast()));
        let shift = lanes(&const { alternate(0, 4) });
        let nibbles = |qs, table| {
            let qs = _mm512_permutexvar_epi32(lanes(table), qs);
            _mm512_and_si512(_mm512_srlv_epi32(qs, shift), _mm512_set1_epi8(15))
        };
        [nibbles(a, &TWICE_LOW), nibbles(a, &TWICE_HIGH), nibbles(b, &TWICE_LOW), nibbles(b, &TWICE_HIGH)]
    }
}

/// The scales of a vector's lanes, and the minimums, of the 16 bytes that Q4_K and Q5_K start with.
///
/// # Safety
/// The processor has `Isa::Avx512`, and 16 bytes can be read.
#[inline(always)]
unsafe fn scales_and_minimums(tile: *const u8) -> ([__m512; 4], __m512) {
    // SAFETY: the caller's.
    unsafe {
        let (scales, mins) = six_bit_pairs(word(tile.add(4)), word(tile.add(8)), word(tile.add(12)));
        let both = floats(_mm_set_epi64x(mins.cast_signed(), scales.cast_signed()));
        let both = _mm512_mul_ps(d_and_minus_dmin(tile), both);
        (scales_of_32(both), _mm512_permutexvar_ps(lanes(&UPPER_EIGHT_TWICE), both))
    }
}

/// `d:f16 dmin:f16 scales:12 qs:128`.
pub(super) struct Q4K;
impl Unpack for Q4K {
    const BYTES: usize = 144;

    #[inline(always)]
    unsafe fn unpack<const TAIL: bool>(tile: *const u8, _: usize) -> Unpacked {
        // SAFETY: the caller's processor; 16 bytes from 0 and 128 from 16 are inside the tile.
        unsafe {
            let (d, m) = scales_and_minimums(tile);
            Unpacked { q: nibbles_by_block(tile.add(16)), d, m }
        }
    }
}

/// `d:f16 dmin:f16 scales:12 qh:32 qs:128`.
pub(super) struct Q5K;
impl Unpack for Q5K {
    const BYTES: usize = 176;

    #[inline(always)]
    unsafe fn unpack<const TAIL: bool>(tile: *const u8, _: usize) -> Unpacked {
        // SAFETY: the caller's processor; 16 bytes from 0, 32 from 16 and 128 from 48 are inside the tile.
        unsafe {
            let (d, m) = scales_and_minimums(tile);
            let high = _mm512_castsi256_si512(_mm256_loadu_si256(tile.add(16).cast()));
            let high = _mm512_permutexvar_epi32(lanes(&TWICE_LOW), high);
            // Bit `b` of a byte belongs to block `b`; it goes to bit 4.
            let code = |low, bit| {
                let high = _mm512_rolv_epi32(high, bit);
                _mm512_ternarylogic_epi32::<0xf8>(low, high, _mm512_set1_epi8(16))
            };
            let low = nibbles_by_block(tile.add(48));
            let q = [
                code(low[0], lanes(&const { alternate(4, 3) })),
                code(low[1], lanes(&const { alternate(2, 1) })),
                code(low[2], lanes(&const { alternate(0, 31) })),
                code(low[3], lanes(&const { alternate(30, 29) })),
            ];
            Unpacked { q, d, m }
        }
    }
}

/// `ql:128 qh:64 scales:16 d:f16`, 32 above the weight.
pub(super) struct Q6K;
impl Unpack for Q6K {
    const BYTES: usize = 210;

    #[inline(always)]
    unsafe fn unpack<const TAIL: bool>(tile: *const u8, _: usize) -> Unpacked {
        // SAFETY: the caller's processor; 128 bytes from 0, 64 from 128, 16 from 192 and 2 from 208 are inside the tile.
        unsafe {
            let both = lanes(&BOTH);
            let a = _mm512_permutexvar_epi32(both, _mm512_loadu_si512(tile.cast()));
            let b = _mm512_permutexvar_epi32(both, _mm512_loadu_si512(tile.add(64).cast()));
            let high = _mm512_loadu_si512(tile.add(128).cast());
            let (a_high, b_high) = (
                _mm512_permutexvar_epi32(lanes(&TWICE_LOW), high),
                _mm512_permutexvar_epi32(lanes(&TWICE_HIGH), high),
            );
            // The two high bits of a code go to bits 4 and 5.
            let (first, second) = (lanes(&const { alternate(4, 2) }), lanes(&const { alternate(0, 30) }));
            let code = |nibble, high, bits| join((nibble, 15), (_mm512_rolv_epi32(high, bits), 0x30));
            let scales = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(tile.add(192).cast())));
            let d = _mm512_mul_ps(half(tile.add(208)), scales);
            Unpacked {
                q: [
                    code(a, a_high, first),
                    code(_mm512_srli_epi32::<4>(a), a_high, second),
                    code(b, b_high, first),
                    code(_mm512_srli_epi32::<4>(b), b_high, second),
                ],
                d: scales_of_16(d),
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
    unsafe fn unpack<const TAIL: bool>(tile: *const u8, _: usize) -> Unpacked {
        const VALUES: [u8; 16] = raised(IQ4_VALUES, 127);
        const LOW: [i32; 16] = [0, 4, 8, 12, 16, 20, 24, 28, 0, 0, 0, 0, 0, 0, 0, 0];
        const HIGH: [i32; 16] = [0, 2, 4, 6, 8, 10, 12, 14, 0, 0, 0, 0, 0, 0, 0, 0];
        // SAFETY: the caller's processor; 8 bytes from 0 and 128 from 8 are inside the tile; the table has 16 bytes.
        unsafe {
            let values = _mm512_broadcast_i32x4(_mm_loadu_si128(VALUES.as_ptr().cast()));
            let (a, b) = (_mm512_loadu_si512(tile.add(8).cast()), _mm512_loadu_si512(tile.add(72).cast()));
            let shift = lanes(&NIBBLE_SHIFTS);
            let looked_up = |qs, table| {
                let qs = _mm512_srlv_epi32(_mm512_permutexvar_epi32(lanes(table), qs), shift);
                _mm512_shuffle_epi8(values, _mm512_and_si512(qs, _mm512_set1_epi8(15)))
            };
            // A scale's low four bits and high two, 32 above its value.
            let low = _mm512_srlv_epi32(_mm512_set1_epi32(word(tile.add(4)).cast_signed()), lanes(&LOW));
            let high = _mm512_srlv_epi32(_mm512_set1_epi32((word(tile) >> 16).cast_signed()), lanes(&HIGH));
            let low = _mm512_and_si512(low, _mm512_set1_epi32(15));
            let high = _mm512_slli_epi32::<4>(_mm512_and_si512(high, _mm512_set1_epi32(3)));
            let scales = _mm512_sub_epi32(_mm512_or_si512(low, high), _mm512_set1_epi32(32));
            let d = _mm512_mul_ps(half(tile), _mm512_cvtepi32_ps(scales));
            Unpacked {
                q: [
                    looked_up(a, &NIBBLES_LOW),
                    looked_up(a, &NIBBLES_HIGH),
                    looked_up(b, &NIBBLES_LOW),
                    looked_up(b, &NIBBLES_HIGH),
                ],
                d: scales_of_32(d),
                m: _mm512_mul_ps(_mm512_permutexvar_ps(lanes(&EIGHT_TWICE), d), _mm512_set1_ps(-127.0)),
            }
        }
    }
}
