//! The block formats' kernel for AVX2: `vpmaddubsw` of unsigned weights with signed activations, or `vpdpbusd` where there is AVX-VNNI.
//!
//! Weights are taken 128 at a time: four blocks of 32 ([`unpack`]) are transposed by fours as the activations are, so that a lane stays in
//! one group of 16 weights. Signed weights go in as magnitudes, with their signs moved to the activations; no pair of products then
//! exceeds 16 bits, and in formats of small codes no sum of four pairs does. Sums are exact by either instruction, so the bits are the same.

mod unpack;

use std::arch::asm;
use std::arch::x86_64::*;

use super::Columns;
use super::blocks::Blocks;
use super::dispatch::Job;
use crate::simd::isa::Isa;
use crate::simd::quantize::{Tile, tiles};
pub(super) use unpack::Unpack;

/// Computes the product of the job. Only where `isa` and AVX2, FMA and F16C were detected.
pub(super) fn gemv<B: Unpack>(isa: Isa, job: &Job<'_>, out: &mut Columns<'_>) {
    // SAFETY: the entry of the module checked that the processor has what `isa` stands for, which is `Isa::Avx2` and more.
    unsafe {
        match isa {
            Isa::AvxVnni => rows::<B, true>(job, out),
            _ => rows::<B, false>(job, out),
        }
    }
}

/// # Safety
/// If `VNNI`, the processor has AVX-VNNI.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn rows<B: Unpack, const VNNI: bool>(job: &Job<'_>, out: &mut Columns<'_>) {
    for (col, row) in job.rows().enumerate() {
        let mut x_row = 0;
        while x_row < job.x.n_rows() {
            // SAFETY: the caller's.
            unsafe {
                match job.x.n_rows() - x_row {
                    1 => dots::<B, VNNI, 1>(job, (row, col), x_row, out),
                    2 => dots::<B, VNNI, 2>(job, (row, col), x_row, out),
                    3 => dots::<B, VNNI, 3>(job, (row, col), x_row, out),
                    _ => dots::<B, VNNI, 4>(job, (row, col), x_row, out),
                }
            }
            x_row += 4;
        }
    }
}

/// The dot products of a weight row with `N` activation rows from `first` on.
///
/// # Safety
/// As [`rows`].
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn dots<B: Unpack, const VNNI: bool, const N: usize>(
    job: &Job<'_>,
    (row, col): (&[u8], usize),
    first: usize,
    out: &mut Columns<'_>,
) {
    let x: [&[Tile]; N] = job.x.rows_from(first);
    let mut sums = [_mm256_setzero_ps(); N];
    let whole = row.chunks_exact(B::BYTES);
    let (n_whole, rest) = (whole.len(), whole.remainder());
    for (i, tile) in whole.enumerate() {
        // SAFETY: the caller's.
        unsafe { add::<B, VNNI, N>((&tile[..B::BYTES], 8), &tiles(&x, i), &mut sums) };
    }
    if !rest.is_empty() {
        let n_block = 8 * rest.len() / B::BYTES;
        // SAFETY: the caller's.
        unsafe { add::<B, VNNI, N>((rest, n_block), &tiles(&x, n_whole), &mut sums) };
    }
    for (r, sum) in sums.into_iter().enumerate() {
        let quarter = _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps::<1>(sum));
        let pair = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
        out.set(first + r, col, _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair))));
    }
}

/// Adds the products of a tile of so many blocks of 32.
///
/// # Safety
/// As [`rows`].
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn add<B: Unpack, const VNNI: bool, const N: usize>(
    (tile, n_block): (&[u8], usize),
    x: &[&Tile; N],
    sums: &mut [__m256; N],
) {
    // SAFETY: this function's instruction set; the tile is whole blocks.
    let (held, [scales, minimums]) = unsafe { (B::hold(tile), B::factors(tile)) };
    let ones = _mm256_set1_epi16(1);
    for half in 0..n_block.div_ceil(4) {
        let block = |b: usize| {
            if b >= n_block {
                return _mm256_setzero_si256();
            }
            // SAFETY: as above, and the block is in the tile.
            weights::<B>(unsafe { B::codes_of(tile, &held, b) })
        };
        let w = transposed([block(4 * half), block(4 * half + 1), block(4 * half + 2), block(4 * half + 3)]);
        for (x, sum) in x.iter().zip(&mut *sums) {
            let factors = |v: usize| {
                // SAFETY: 32 bytes from 64 * v + 32 * half on, v < 4 and half < 2, are inside the tile's 256.
                factors::<B>(w[v], unsafe { _mm256_load_si256(x.qs.as_ptr().add(64 * v + 32 * half).cast()) })
            };
            let product = |v: usize| {
                let (w, x) = factors(v);
                _mm256_maddubs_epi16(w, x)
            };
            let total = if VNNI {
                let mut total = _mm256_setzero_si256();
                for v in 0..4 {
                    // SAFETY: the caller's.
                    total = unsafe { add_products(total, factors(v)) };
                }
                total
            } else if const { is_small::<B>() } {
                let (a, b) =
                    (_mm256_add_epi16(product(0), product(1)), _mm256_add_epi16(product(2), product(3)));
                _mm256_madd_epi16(_mm256_add_epi16(a, b), ones)
            } else {
                let pairs = |v| _mm256_madd_epi16(product(v), ones);
                _mm256_add_epi32(_mm256_add_epi32(pairs(0), pairs(1)), _mm256_add_epi32(pairs(2), pairs(3)))
            };
            // SAFETY: eight values from index 8 * half on, half < 2, are inside the arrays of 16.
            let (x_d, x_s) = unsafe {
                (_mm256_load_ps(x.d.as_ptr().add(8 * half)), _mm256_load_ps(x.s.as_ptr().add(8 * half)))
            };
            *sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(total), _mm256_mul_ps(scales[half], x_d), *sum);
            if B::MINIMUMS {
                *sum = _mm256_fmadd_ps(minimums[half], x_s, *sum);
            }
        }
    }
}

/// Whether no weight's magnitude exceeds 32, so that four pairs of products, at most 4 * 2 * 32 * 127 = 32,512, fit 16 bits.
const fn is_small<B: Blocks>() -> bool {
    let Some(table) = B::TABLE else { return B::OFFSET <= 32 };
    let mut i = 0;
    while i < table.len() {
        if table[i].unsigned_abs() > 32 {
            return false;
        }
        i += 1;
    }
    true
}

/// Four blocks of 32 bytes as four vectors, of which each takes four bytes of every group of 16, even groups first.
#[target_feature(enable = "avx2")]
#[inline]
fn transposed([a, b, c, d]: [__m256i; 4]) -> [__m256i; 4] {
    let (ab_low, ab_high) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    let (cd_low, cd_high) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
    [
        _mm256_unpacklo_epi64(ab_low, cd_low),
        _mm256_unpackhi_epi64(ab_low, cd_low),
        _mm256_unpacklo_epi64(ab_high, cd_high),
        _mm256_unpackhi_epi64(ab_high, cd_high),
    ]
}

/// Codes to weights as bytes: signed, or unsigned where codes have no offset and no table.
#[target_feature(enable = "avx2")]
#[inline]
fn weights<B: Blocks>(codes: __m256i) -> __m256i {
    match B::TABLE {
        // SAFETY: the table has 16 bytes.
        Some(table) => unsafe {
            _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast())), codes)
        },
        None if B::OFFSET == 0 => codes,
        None => _mm256_sub_epi8(codes, _mm256_set1_epi8(B::OFFSET as i8)),
    }
}

/// Unsigned and signed factors with the products of `w` and `x`. Two of them are at most 2 * 128 * 127, which fits 16 bits.
#[target_feature(enable = "avx2")]
#[inline]
fn factors<B: Blocks>(w: __m256i, x: __m256i) -> (__m256i, __m256i) {
    if B::TABLE.is_some() || B::OFFSET > 0 { (_mm256_abs_epi8(w), _mm256_sign_epi8(x, w)) } else { (w, x) }
}

/// `sum` and four products of an unsigned and a signed byte, in each lane.
///
/// Written as an instruction of its own so that the functions around it need not be compiled for AVX-VNNI.
///
/// # Safety
/// The processor has AVX-VNNI.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn add_products(mut sum: __m256i, (unsigned, signed): (__m256i, __m256i)) -> __m256i {
    // SAFETY: the caller vouches for the instruction; it reads and writes registers only.
    unsafe {
        asm!(
            "{{vex}} vpdpbusd {sum}, {unsigned}, {signed}",
            sum = inout(ymm_reg) sum,
            unsigned = in(ymm_reg) unsigned,
            signed = in(ymm_reg) signed,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sum
}
