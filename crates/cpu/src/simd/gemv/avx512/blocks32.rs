//! How are eight blocks of 32 weights unpacked? For the formats whose block is one scale, perhaps a minimum, and the codes.
//!
//! Two blocks (at most 48 bytes; Q8_0's 68 take two loads) are read at once and one byte permutation puts every code's byte in
//! its lane; the lanes of low and of high nibbles then differ by a shift. The scales of the eight blocks are collected by byte
//! permutations too and converted together.

use std::arch::x86_64::*;

use super::{EIGHT_TWICE, UPPER_EIGHT_TWICE, Unpack, Unpacked, bytes, lanes, raised};
use crate::simd::gemv::blocks::{E2M1_VALUES, IQ4_VALUES};
use crate::simd::quantize::LANE_GROUP;

/// Group of four weights, 0 to 7, that lane `lane` holds of its block, which is `lane % 2`.
const fn group(lane: usize) -> usize {
    LANE_GROUP[lane / 2]
}

/// For each byte of a vector, where its nibble is in two blocks of `block_bytes` with 16 bytes of nibbles from `qs` on.
const fn nibble_bytes(block_bytes: usize, qs: usize) -> [u8; 64] {
    let mut table = [0; 64];
    let mut i = 0;
    while i < 64 {
        let lane = i / 4;
        table[i] = (lane % 2 * block_bytes + qs + 4 * (group(lane) % 4) + i % 4) as u8;
        i += 1;
    }
    table
}

/// For each byte of a vector, where its fifth bit's byte is in two blocks with 32 such bits from `qh` on.
const fn fifth_bit_bytes(block_bytes: usize, qh: usize) -> [u8; 64] {
    let mut table = [0; 64];
    let mut i = 0;
    while i < 64 {
        let lane = i / 4;
        table[i] = (lane % 2 * block_bytes + qh + group(lane) / 2) as u8;
        i += 1;
    }
    table
}

/// For each byte of a vector, its fifth bit inside the byte that [`fifth_bit_bytes`] names.
const FIFTH_BIT: [u8; 64] = {
    let mut table = [0; 64];
    let mut i = 0;
    while i < 64 {
        table[i] = 1 << (group(i / 4) % 2 * 4 + i % 4);
        i += 1;
    }
    table
};

/// Where the halves of [d of blocks 0..8, m of blocks 0..8] are in two blocks that start with d and m: for even and odd blocks.
const fn half_bytes(block_bytes: usize) -> [u8; 64] {
    let mut table = [0; 64];
    let mut i = 0;
    while i < 32 {
        let half = i / 2;
        table[i] = (half % 2 * block_bytes + half / 8 * 2 + i % 2) as u8;
        i += 1;
    }
    table
}

/// Bits to shift a lane by: `low` where it holds low nibbles, `high` where high ones.
const fn shifts(low: i32, high: i32) -> [i32; 16] {
    let mut table = [0; 16];
    let mut lane = 0;
    while lane < 16 {
        table[lane] = if group(lane) < 4 { low } else { high };
        lane += 1;
    }
    table
}

/// Loads two blocks of `2 * BLOCK` bytes in all; if `tail`, at most `n_bytes`.
///
/// # Safety
/// The processor has `Isa::Avx512`, and that many bytes can be read.
#[inline(always)]
unsafe fn load_pair<const TAIL: bool>(at: *const u8, pair_bytes: usize, n_bytes: usize) -> __m512i {
    // SAFETY: masked-off bytes are not read; the others are the caller's.
    unsafe {
        if TAIL {
            let n = if n_bytes < pair_bytes { n_bytes } else { pair_bytes };
            _mm512_maskz_loadu_epi8((1u64 << n) - 1, at.cast())
        } else if pair_bytes.is_multiple_of(4) {
            _mm512_maskz_loadu_epi32(((1u32 << (pair_bytes / 4)) - 1) as u16, at.cast())
        } else {
            _mm512_maskz_loadu_epi8((1u64 << pair_bytes) - 1, at.cast())
        }
    }
}

/// The nibbles of two blocks, in the low four bits of bytes.
///
/// # Safety
/// The processor has `Isa::Avx512`.
#[inline(always)]
unsafe fn low_nibbles(pair: __m512i, table: &[u8; 64]) -> __m512i {
    // SAFETY: the caller's processor.
    unsafe {
        let qs = _mm512_permutexvar_epi8(bytes(table), pair);
        _mm512_and_si512(_mm512_srlv_epi32(qs, lanes(&const { shifts(0, 4) })), _mm512_set1_epi8(15))
    }
}

/// The values of two blocks of nibbles in a table of bytes.
///
/// # Safety
/// The processor has `Isa::Avx512`.
#[inline(always)]
unsafe fn looked_up(pair: __m512i, table: &[u8; 64], values: &[u8; 16]) -> __m512i {
    // SAFETY: the caller's processor; the table has 16 bytes.
    unsafe {
        let values = _mm512_broadcast_i32x4(_mm_loadu_si128(values.as_ptr().cast()));
        _mm512_shuffle_epi8(values, low_nibbles(pair, table))
    }
}

/// Adds the fifth bits of two blocks.
///
/// # Safety
/// The processor has `Isa::Avx512`.
#[inline(always)]
unsafe fn with_fifth_bits(low: __m512i, pair: __m512i, table: &[u8; 64]) -> __m512i {
    // SAFETY: the caller's processor.
    unsafe {
        let fifth = _mm512_test_epi8_mask(_mm512_permutexvar_epi8(bytes(table), pair), bytes(&FIFTH_BIT));
        _mm512_mask_add_epi8(low, fifth, low, _mm512_set1_epi8(16))
    }
}

/// A format of blocks of 32.
trait Blocks32 {
    /// Bytes of a block.
    const BLOCK: usize;
    /// What an unpacked code stands above its weight; `None` where a minimum follows the scale.
    const OFFSET: Option<u8>;

    /// Loads what `weights` and the scales need of two blocks.
    ///
    /// # Safety
    /// The processor has `Isa::Avx512`, and two blocks can be read, or `n_bytes` if `TAIL`.
    #[inline(always)]
    unsafe fn load<const TAIL: bool>(at: *const u8, n_bytes: usize) -> [__m512i; 2] {
        // SAFETY: the caller's.
        let pair = unsafe { load_pair::<TAIL>(at, 2 * Self::BLOCK, n_bytes) };
        [pair, pair]
    }

    /// The weights of two blocks, from the first vector that `load` gives.
    ///
    /// # Safety
    /// The processor has `Isa::Avx512`.
    unsafe fn weights(pair: __m512i) -> __m512i;

    /// Eight scales, then eight minimums if the format has them, from the second vectors.
    ///
    /// # Safety
    /// The processor has `Isa::Avx512`.
    #[inline(always)]
    unsafe fn scales(pairs: [__m512i; 4]) -> __m512 {
        // SAFETY: the caller's processor.
        unsafe {
            let table = bytes(&const { half_bytes(Self::BLOCK) });
            let both = if Self::OFFSET.is_none() { 0x000f_000f } else { 0xf };
            let mut halves = _mm512_maskz_permutexvar_epi8(both, table, pairs[0]);
            halves = _mm512_mask_permutexvar_epi8(halves, both << 4, table, pairs[1]);
            halves = _mm512_mask_permutexvar_epi8(halves, both << 8, table, pairs[2]);
            halves = _mm512_mask_permutexvar_epi8(halves, both << 12, table, pairs[3]);
            _mm512_cvtph_ps(_mm512_castsi512_si256(halves))
        }
    }
}

impl<T: Blocks32> Unpack for T {
    const BYTES: usize = 8 * T::BLOCK;

    #[inline(always)]
    unsafe fn unpack<const TAIL: bool>(tile: *const u8, n_bytes: usize) -> Unpacked {
        // SAFETY: the caller's processor. The pairs of blocks divide the tile; in a tail, each has what is left of `n_bytes`,
        // and none is read where nothing is left.
        unsafe {
            let load = |v: usize| {
                let at = 2 * T::BLOCK * v;
                T::load::<TAIL>(tile.wrapping_add(at), n_bytes.saturating_sub(at))
            };
            let pairs = [load(0), load(1), load(2), load(3)];
            let scales = T::scales([pairs[0][1], pairs[1][1], pairs[2][1], pairs[3][1]]);
            let scale = |v: i64| {
                // Two scales fill 64 bits: every such pair of lanes gets those of vector `v`.
                _mm512_castpd_ps(_mm512_permutexvar_pd(_mm512_set1_epi64(v), _mm512_castps_pd(scales)))
            };
            Unpacked {
                q: [
                    T::weights(pairs[0][0]),
                    T::weights(pairs[1][0]),
                    T::weights(pairs[2][0]),
                    T::weights(pairs[3][0]),
                ],
                d: [scale(0), scale(1), scale(2), scale(3)],
                m: match T::OFFSET {
                    Some(offset) => {
                        let d = _mm512_permutexvar_ps(lanes(&EIGHT_TWICE), scales);
                        _mm512_mul_ps(d, _mm512_set1_ps(-f32::from(offset)))
                    }
                    None => _mm512_permutexvar_ps(lanes(&UPPER_EIGHT_TWICE), scales),
                },
            }
        }
    }
}

/// `d:f16 qs:16`, 8 above the weight.
pub(super) struct Q4_0;
impl Blocks32 for Q4_0 {
    const BLOCK: usize = 18;
    const OFFSET: Option<u8> = Some(8);

    #[inline(always)]
    unsafe fn weights(pair: __m512i) -> __m512i {
        // SAFETY: the caller's processor.
        unsafe { low_nibbles(pair, &const { nibble_bytes(Self::BLOCK, 2) }) }
    }
}

/// `d:f16 m:f16 qs:16`.
pub(super) struct Q4_1;
impl Blocks32 for Q4_1 {
    const BLOCK: usize = 20;
    const OFFSET: Option<u8> = None;

    #[inline(always)]
    unsafe fn weights(pair: __m512i) -> __m512i {
        // SAFETY: the caller's processor.
        unsafe { low_nibbles(pair, &const { nibble_bytes(Self::BLOCK, 4) }) }
    }
}

/// `d:f16 qh:4 qs:16`, 16 above the weight.
pub(super) struct Q5_0;
impl Blocks32 for Q5_0 {
    const BLOCK: usize = 22;
    const OFFSET: Option<u8> = Some(16);

    #[inline(always)]
    unsafe fn weights(pair: __m512i) -> __m512i {
        // SAFETY: the caller's processor.
        unsafe {
            let low = low_nibbles(pair, &const { nibble_bytes(Self::BLOCK, 6) });
            with_fifth_bits(low, pair, &const { fifth_bit_bytes(Self::BLOCK, 2) })
        }
    }
}

/// `d:f16 m:f16 qh:4 qs:16`.
pub(super) struct Q5_1;
impl Blocks32 for Q5_1 {
    const BLOCK: usize = 24;
    const OFFSET: Option<u8> = None;

    #[inline(always)]
    unsafe fn weights(pair: __m512i) -> __m512i {
        // SAFETY: the caller's processor.
        unsafe {
            let low = low_nibbles(pair, &const { nibble_bytes(Self::BLOCK, 8) });
            with_fifth_bits(low, pair, &const { fifth_bit_bytes(Self::BLOCK, 4) })
        }
    }
}

/// `d:f16 qs:32`, signed.
pub(super) struct Q8_0;
impl Blocks32 for Q8_0 {
    const BLOCK: usize = 34;
    const OFFSET: Option<u8> = Some(128);

    #[inline(always)]
    unsafe fn load<const TAIL: bool>(at: *const u8, n_bytes: usize) -> [__m512i; 2] {
        // SAFETY: the caller's processor. Two blocks are 68 bytes, of which the integers are 2..34 and 36..68, and the first
        // 64 hold both scales. In a tail, masked-off bytes are not read.
        unsafe {
            let (first, second, both) = if TAIL {
                let mask = |n: usize| if n_bytes >= n { u32::MAX } else { 0 };
                let all = if n_bytes >= 68 { u64::MAX } else { (1 << n_bytes) - 1 };
                (
                    _mm256_maskz_loadu_epi8(mask(34), at.wrapping_add(2).cast()),
                    _mm256_maskz_loadu_epi8(mask(68), at.wrapping_add(36).cast()),
                    _mm512_maskz_loadu_epi8(all, at.cast()),
                )
            } else {
                (
                    _mm256_loadu_si256(at.add(2).cast()),
                    _mm256_loadu_si256(at.add(36).cast()),
                    _mm512_loadu_si512(at.cast()),
                )
            };
            [_mm512_inserti64x4::<1>(_mm512_castsi256_si512(first), second), both]
        }
    }

    #[inline(always)]
    unsafe fn weights(pair: __m512i) -> __m512i {
        const LANES: [i32; 16] = [0, 8, 1, 9, 4, 12, 5, 13, 2, 10, 3, 11, 6, 14, 7, 15];
        // SAFETY: the caller's processor.
        unsafe { _mm512_xor_si512(_mm512_permutexvar_epi32(lanes(&LANES), pair), _mm512_set1_epi8(-128)) }
    }
}

/// `d:f16 qs:16`, codes into a table.
pub(super) struct Iq4Nl;
impl Blocks32 for Iq4Nl {
    const BLOCK: usize = 18;
    const OFFSET: Option<u8> = Some(127);

    #[inline(always)]
    unsafe fn weights(pair: __m512i) -> __m512i {
        // SAFETY: the caller's processor.
        unsafe {
            looked_up(pair, &const { nibble_bytes(Self::BLOCK, 2) }, &const { raised(IQ4_VALUES, 127) })
        }
    }
}

/// `e:E8M0 qs:16`, codes into a table of twice their values.
pub(super) struct Mxfp4;
impl Blocks32 for Mxfp4 {
    const BLOCK: usize = 17;
    const OFFSET: Option<u8> = Some(12);

    #[inline(always)]
    unsafe fn weights(pair: __m512i) -> __m512i {
        // SAFETY: the caller's processor.
        unsafe {
            looked_up(pair, &const { nibble_bytes(Self::BLOCK, 1) }, &const { raised(E2M1_VALUES, 12) })
        }
    }

    #[inline(always)]
    unsafe fn scales(pairs: [__m512i; 4]) -> __m512 {
        // The exponent byte of block 0 or 1, at the bottom of even or odd lanes.
        const TABLE: [u8; 64] = {
            let mut table = [0; 64];
            let mut lane = 0;
            while lane < 8 {
                table[4 * lane] = (lane % 2 * Mxfp4::BLOCK) as u8;
                lane += 1;
            }
            table
        };
        // SAFETY: the caller's processor.
        unsafe {
            let table = bytes(&TABLE);
            let mut e = _mm512_maskz_permutexvar_epi8(0x11, table, pairs[0]);
            e = _mm512_mask_permutexvar_epi8(e, 0x1100, table, pairs[1]);
            e = _mm512_mask_permutexvar_epi8(e, 0x11_0000, table, pairs[2]);
            e = _mm512_mask_permutexvar_epi8(e, 0x1100_0000, table, pairs[3]);
            // 2^(e - 128); the two smallest are subnormal.
            let normal = _mm512_slli_epi32::<23>(_mm512_sub_epi32(e, _mm512_set1_epi32(1)));
            let subnormal = _mm512_cmplt_epu32_mask(e, _mm512_set1_epi32(2));
            let tiny = _mm512_sllv_epi32(_mm512_set1_epi32(0x0020_0000), e);
            _mm512_castsi512_ps(_mm512_mask_mov_epi32(normal, subnormal, tiny))
        }
    }
}
