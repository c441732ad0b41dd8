//! How are eight blocks of 32 weights unpacked? For the formats whose block is one scale, perhaps a minimum, and the codes.
//!
//! The blocks' codes, 16 bytes each, are put side by side in two vectors; a permutation of both gives every lane the four bytes
//! it needs, and the lanes of low and of high nibbles then differ by a shift. The scales of the eight blocks are
//! collected by byte permutations and converted together.

use std::arch::x86_64::*;

use super::{Unpack, Unpacked, bytes, lanes, nibbles_of_16, raised};
use crate::simd::gemv::blocks::{E2M1_VALUES, IQ4_VALUES};
use crate::simd::quantize::group_of;

/// What is read of a tile: the starts of pairs of blocks, and the codes.
#[derive(Clone, Copy)]
struct Loaded {
    /// The first 32 bytes of blocks 0 and 1, 2 and 3, 4 and 5, 6 and 7; 64 bytes where a block is longer.
    heads: [__m512i; 4],
    /// The bytes of codes: of blocks 0 to 3 and 4 to 7 where a block has 16, of two blocks a vector where it has 32.
    codes: [__m512i; 4],
}

/// For the halves d of blocks 0 to 7, m of blocks 0 to 7: where an even or odd block's are, in two blocks that start so.
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

/// The 32-bit word at `at` of each lane's block, in the two blocks that it is one of.
const fn word_bytes(block_bytes: usize, at: usize) -> [u8; 64] {
    let mut table = [0; 64];
    let mut i = 0;
    while i < 64 {
        table[i] = (group_of(i / 4) / 2 % 2 * block_bytes + at + i % 4) as u8;
        i += 1;
    }
    table
}

/// The bytes of the lanes that belong to blocks `2 * pair` and `2 * pair + 1`.
const fn lanes_of_pair(pair: usize) -> u64 {
    let mut mask = 0;
    let mut lane = 0;
    while lane < 16 {
        if group_of(lane) / 4 == pair {
            mask |= 0xf << (4 * lane);
        }
        lane += 1;
    }
    mask
}

/// The byte of a lane's 32 fifth bits that holds those of vector `v`, as shuffles inside 16 bytes count.
const fn fifth_bit_bytes(v: usize) -> [u8; 64] {
    let mut table = [0; 64];
    let mut i = 0;
    while i < 64 {
        table[i] = (i / 4 % 4 * 4 + group_of(i / 4) % 2 * 2 + v / 2) as u8;
        i += 1;
    }
    table
}

/// The bit of that byte, for each byte of vector `v`.
const fn fifth_bits(v: usize) -> [u8; 64] {
    let mut table = [0; 64];
    let mut i = 0;
    while i < 64 {
        table[i] = 1 << (v % 2 * 4 + i % 4);
        i += 1;
    }
    table
}

/// The nibbles with their fifth bits, which are a word at `AT` of each block.
///
/// # Safety
/// The processor has `Isa::Avx512Vbmi`.
#[inline(always)]
unsafe fn with_fifth_bits<T: Blocks32, const AT: usize>(loaded: &Loaded) -> [__m512i; 4] {
    // SAFETY: the caller's processor.
    unsafe {
        let low = nibbles_of_16(loaded.codes[0], loaded.codes[1]);
        let table = bytes(&const { word_bytes(T::BLOCK, AT) });
        let mut bits = _mm512_permutexvar_epi8(table, loaded.heads[0]);
        bits = _mm512_mask_permutexvar_epi8(bits, const { lanes_of_pair(1) }, table, loaded.heads[1]);
        bits = _mm512_mask_permutexvar_epi8(bits, const { lanes_of_pair(2) }, table, loaded.heads[2]);
        bits = _mm512_mask_permutexvar_epi8(bits, const { lanes_of_pair(3) }, table, loaded.heads[3]);
        let first = _mm512_shuffle_epi8(bits, bytes(&const { fifth_bit_bytes(0) }));
        let second = _mm512_shuffle_epi8(bits, bytes(&const { fifth_bit_bytes(2) }));
        let (even, odd) = (bytes(&const { fifth_bits(0) }), bytes(&const { fifth_bits(1) }));
        let with = |low, bits, bit| {
            _mm512_mask_add_epi8(low, _mm512_test_epi8_mask(bits, bit), low, _mm512_set1_epi8(16))
        };
        [
            with(low[0], first, even),
            with(low[1], first, odd),
            with(low[2], second, even),
            with(low[3], second, odd),
        ]
    }
}

/// The values of nibbles in a table of bytes.
///
/// # Safety
/// The processor has `Isa::Avx512Vbmi`.
#[inline(always)]
unsafe fn looked_up(loaded: &Loaded, values: &[u8; 16]) -> [__m512i; 4] {
    // SAFETY: the caller's processor; the table has 16 bytes.
    unsafe {
        let values = _mm512_broadcast_i32x4(_mm_loadu_si128(values.as_ptr().cast()));
        let codes = nibbles_of_16(loaded.codes[0], loaded.codes[1]);
        [
            _mm512_shuffle_epi8(values, codes[0]),
            _mm512_shuffle_epi8(values, codes[1]),
            _mm512_shuffle_epi8(values, codes[2]),
            _mm512_shuffle_epi8(values, codes[3]),
        ]
    }
}

/// A format of blocks of 32.
trait Blocks32 {
    /// Bytes of a block.
    const BLOCK: usize;
    /// Bytes before the codes.
    const CODES: usize;
    /// What an unpacked code stands above its weight; `None` where a minimum follows the scale.
    const OFFSET: Option<u8>;

    /// The weights.
    ///
    /// # Safety
    /// The processor has `Isa::Avx512Vbmi`.
    unsafe fn weights(loaded: &Loaded) -> [__m512i; 4];

    /// Eight scales, then eight minimums if the format has them.
    ///
    /// # Safety
    /// The processor has `Isa::Avx512Vbmi`.
    #[inline(always)]
    unsafe fn scales(heads: [__m512i; 4]) -> __m512 {
        // SAFETY: the caller's processor.
        unsafe {
            let table = bytes(&const { half_bytes(Self::BLOCK) });
            let both = if Self::OFFSET.is_none() { 0x000f_000f } else { 0xf };
            let mut halves = _mm512_maskz_permutexvar_epi8(both, table, heads[0]);
            halves = _mm512_mask_permutexvar_epi8(halves, both << 4, table, heads[1]);
            halves = _mm512_mask_permutexvar_epi8(halves, both << 8, table, heads[2]);
            halves = _mm512_mask_permutexvar_epi8(halves, both << 12, table, heads[3]);
            _mm512_cvtph_ps(_mm512_castsi512_si256(halves))
        }
    }
}

/// Loads a tile.
///
/// # Safety
/// The processor has `Isa::Avx512Vbmi`, and the bytes can be read.
#[inline(always)]
unsafe fn load_tile<T: Blocks32>(tile: *const u8) -> Loaded {
    // SAFETY: the caller's processor. 32 bytes from the start of block 6 on, of at least 17 bytes a block, and 64 where a block
    // has 34, are inside the tile, and so are the 16 or 32 bytes of codes of each block.
    unsafe {
        let head = |pair: usize| {
            let at = tile.add(2 * pair * T::BLOCK);
            if T::BLOCK > 32 {
                _mm512_loadu_si512(at.cast())
            } else {
                _mm512_castsi256_si512(_mm256_loadu_si256(at.cast()))
            }
        };
        let sixteen = |block: usize| _mm_loadu_si128(tile.add(block * T::BLOCK + T::CODES).cast());
        let thirty_two = |block: usize| _mm256_loadu_si256(tile.add(block * T::BLOCK + T::CODES).cast());
        let two_of_16 = |block: usize| {
            _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(sixteen(block)), sixteen(block + 1))
        };
        let join = |low, high| _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high);
        let codes = if T::BLOCK > 32 {
            let two = |block| join(thirty_two(block), thirty_two(block + 1));
            [two(0), two(2), two(4), two(6)]
        } else {
            let four = |block| join(two_of_16(block), two_of_16(block + 2));
            [four(0), four(4), _mm512_setzero_si512(), _mm512_setzero_si512()]
        };
        Loaded { heads: [head(0), head(1), head(2), head(3)], codes }
    }
}

impl<T: Blocks32> Unpack for T {
    const BYTES: usize = 8 * T::BLOCK;

    #[inline(always)]
    unsafe fn unpack(tile: *const u8) -> Unpacked {
        // SAFETY: the caller's.
        unsafe {
            let loaded = load_tile::<T>(tile);
            let scales = T::scales(loaded.heads);
            let d = _mm512_permutexvar_ps(lanes(by_group!(|g| g / 2)), scales);
            let m = match T::OFFSET {
                Some(offset) => _mm512_mul_ps(d, _mm512_set1_ps(-f32::from(offset))),
                None => _mm512_permutexvar_ps(lanes(by_group!(|g| 8 + g / 2)), scales),
            };
            Unpacked { q: T::weights(&loaded), d, m }
        }
    }
}

/// `d:f16 qs:16`, 8 above the weight.
pub(super) struct Q4_0;
impl Blocks32 for Q4_0 {
    const BLOCK: usize = 18;
    const CODES: usize = 2;
    const OFFSET: Option<u8> = Some(8);

    #[inline(always)]
    unsafe fn weights(loaded: &Loaded) -> [__m512i; 4] {
        // SAFETY: the caller's processor.
        unsafe { nibbles_of_16(loaded.codes[0], loaded.codes[1]) }
    }
}

/// `d:f16 m:f16 qs:16`.
pub(super) struct Q4_1;
impl Blocks32 for Q4_1 {
    const BLOCK: usize = 20;
    const CODES: usize = 4;
    const OFFSET: Option<u8> = None;

    #[inline(always)]
    unsafe fn weights(loaded: &Loaded) -> [__m512i; 4] {
        // SAFETY: the caller's processor.
        unsafe { nibbles_of_16(loaded.codes[0], loaded.codes[1]) }
    }
}

/// `d:f16 qh:4 qs:16`, 16 above the weight.
pub(super) struct Q5_0;
impl Blocks32 for Q5_0 {
    const BLOCK: usize = 22;
    const CODES: usize = 6;
    const OFFSET: Option<u8> = Some(16);

    #[inline(always)]
    unsafe fn weights(loaded: &Loaded) -> [__m512i; 4] {
        // SAFETY: the caller's processor.
        unsafe { with_fifth_bits::<Q5_0, 2>(loaded) }
    }
}

/// `d:f16 m:f16 qh:4 qs:16`.
pub(super) struct Q5_1;
impl Blocks32 for Q5_1 {
    const BLOCK: usize = 24;
    const CODES: usize = 8;
    const OFFSET: Option<u8> = None;

    #[inline(always)]
    unsafe fn weights(loaded: &Loaded) -> [__m512i; 4] {
        // SAFETY: the caller's processor.
        unsafe { with_fifth_bits::<Q5_1, 4>(loaded) }
    }
}

/// `d:f16 qs:32`, signed.
pub(super) struct Q8_0;
impl Blocks32 for Q8_0 {
    const BLOCK: usize = 34;
    const CODES: usize = 2;
    const OFFSET: Option<u8> = Some(128);

    #[inline(always)]
    unsafe fn weights(loaded: &Loaded) -> [__m512i; 4] {
        // SAFETY: the caller's processor.
        unsafe {
            let [a, b, c, d] = loaded.codes;
            let vector = |table| {
                let low = _mm512_permutex2var_epi32(a, lanes(table), b);
                let high = _mm512_permutex2var_epi32(c, lanes(table), d);
                _mm512_xor_si512(_mm512_mask_blend_epi32(0xff00, low, high), _mm512_set1_epi8(-128))
            };
            [
                vector(by_group!(|g| g % 8 * 4)),
                vector(by_group!(|g| g % 8 * 4 + 1)),
                vector(by_group!(|g| g % 8 * 4 + 2)),
                vector(by_group!(|g| g % 8 * 4 + 3)),
            ]
        }
    }
}

/// `d:f16 qs:16`, codes into a table.
pub(super) struct Iq4Nl;
impl Blocks32 for Iq4Nl {
    const BLOCK: usize = 18;
    const CODES: usize = 2;
    const OFFSET: Option<u8> = Some(127);

    #[inline(always)]
    unsafe fn weights(loaded: &Loaded) -> [__m512i; 4] {
        // SAFETY: the caller's processor.
        unsafe { looked_up(loaded, &const { raised(IQ4_VALUES, 127) }) }
    }
}

/// `e:E8M0 qs:16`, codes into a table of twice their values.
pub(super) struct Mxfp4;
impl Blocks32 for Mxfp4 {
    const BLOCK: usize = 17;
    const CODES: usize = 1;
    const OFFSET: Option<u8> = Some(12);

    #[inline(always)]
    unsafe fn weights(loaded: &Loaded) -> [__m512i; 4] {
        // SAFETY: the caller's processor.
        unsafe { looked_up(loaded, &const { raised(E2M1_VALUES, 12) }) }
    }

    #[inline(always)]
    unsafe fn scales(heads: [__m512i; 4]) -> __m512 {
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
            let mut e = _mm512_maskz_permutexvar_epi8(0x11, table, heads[0]);
            e = _mm512_mask_permutexvar_epi8(e, 0x1100, table, heads[1]);
            e = _mm512_mask_permutexvar_epi8(e, 0x11_0000, table, heads[2]);
            e = _mm512_mask_permutexvar_epi8(e, 0x1100_0000, table, heads[3]);
            // 2^(e - 128); the two smallest are subnormal.
            let normal = _mm512_slli_epi32::<23>(_mm512_sub_epi32(e, _mm512_set1_epi32(1)));
            let subnormal = _mm512_cmplt_epu32_mask(e, _mm512_set1_epi32(2));
            let tiny = _mm512_sllv_epi32(_mm512_set1_epi32(0x0020_0000), e);
            _mm512_castsi512_ps(_mm512_mask_mov_epi32(normal, subnormal, tiny))
        }
    }
}
