//! The block formats' kernel for AVX2: `maddubs` of unsigned weights with signed activations.
//!
//! Codes are unpacked to memory in a form that the compiler vectorises, then taken 128 at a time: four blocks of 32 are transposed
//! by fours as the activations are, so that a lane stays in one group of 16 weights. Signed weights go in as
//! magnitudes, with their signs moved to the activations; no pair of products then exceeds 16 bits.

use std::arch::x86_64::*;

use super::Columns;
use super::blocks::{Blocks, Scales};
use super::dispatch::Job;
use crate::simd::quantize::{TILE, Tile, tiles};

#[repr(align(64))]
struct Codes([u8; TILE]);

/// Computes the product of the job. Only where AVX2 and FMA were detected.
pub(super) fn gemv<B: Blocks>(job: &Job<'_>, out: &mut Columns<'_>) {
    // SAFETY: the entry of the module checked that the processor has what `Isa::Avx2` stands for.
    unsafe { rows::<B>(job, out) }
}

#[target_feature(enable = "avx2,fma")]
fn rows<B: Blocks>(job: &Job<'_>, out: &mut Columns<'_>) {
    for (col, row) in job.rows().enumerate() {
        let mut x_row = 0;
        while x_row < job.x.n_rows() {
            match job.x.n_rows() - x_row {
                1 => dots::<B, 1>(job, (row, col), x_row, out),
                2 => dots::<B, 2>(job, (row, col), x_row, out),
                3 => dots::<B, 3>(job, (row, col), x_row, out),
                _ => dots::<B, 4>(job, (row, col), x_row, out),
            }
            x_row += 4;
        }
    }
}

/// The dot products of a weight row with `N` activation rows from `first` on.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn dots<B: Blocks, const N: usize>(
    job: &Job<'_>,
    (row, col): (&[u8], usize),
    first: usize,
    out: &mut Columns<'_>,
) {
    let x: [&[Tile]; N] = job.x.rows_from(first);
    let mut sums = [_mm256_setzero_ps(); N];
    for (i, tile) in row.chunks(B::BYTES).enumerate() {
        if tile.len() == B::BYTES {
            add::<B, N>(tile, &tiles(&x, i), &mut sums);
        } else {
            // Zero blocks of every format add zero, as the activations past the end are zero too.
            let mut whole = [0; 512];
            whole[..tile.len()].copy_from_slice(tile);
            add::<B, N>(&whole[..B::BYTES], &tiles(&x, i), &mut sums);
        }
    }
    for (r, sum) in sums.into_iter().enumerate() {
        let quarter = _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps::<1>(sum));
        let pair = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
        out.set(first + r, col, _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair))));
    }
}

/// Adds the products of a tile.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn add<B: Blocks, const N: usize>(tile: &[u8], x: &[&Tile; N], sums: &mut [__m256; N]) {
    let mut codes = Codes([0; TILE]);
    B::codes(tile, &mut codes.0);
    let Scales { d, m } = B::scales(tile);
    let ones = _mm256_set1_epi16(1);
    for half in 0..2 {
        let block = |k| weights::<B>(&codes, 4 * half + k);
        let w = transposed([block(0), block(1), block(2), block(3)]);
        let (scale, minimum) = (in_lanes(&d, half), in_lanes(&m, half));
        for (x, sum) in x.iter().zip(&mut *sums) {
            let mut total = _mm256_setzero_si256();
            for (v, &w) in w.iter().enumerate() {
                // SAFETY: 32 bytes from 64 * v + 32 * half on, v < 4 and half < 2, are inside the tile's 256.
                let qs = unsafe { _mm256_load_si256(x.qs.as_ptr().add(64 * v + 32 * half).cast()) };
                total = _mm256_add_epi32(total, _mm256_madd_epi16(products::<B>(w, qs), ones));
            }
            // SAFETY: eight values from index 8 * half on, half < 2, are inside the arrays of 16.
            let (x_d, x_s) = unsafe {
                (_mm256_load_ps(x.d.as_ptr().add(8 * half)), _mm256_load_ps(x.s.as_ptr().add(8 * half)))
            };
            *sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(total), _mm256_mul_ps(scale, x_d), *sum);
            if B::MINIMUMS {
                *sum = _mm256_fmadd_ps(minimum, x_s, *sum);
            }
        }
    }
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

/// Half of the values of 16 groups, in the order of the lanes.
#[target_feature(enable = "avx2")]
#[inline]
fn in_lanes(values: &[f32; 16], half: usize) -> __m256 {
    let v = &values[8 * half..8 * half + 8];
    _mm256_setr_ps(v[0], v[2], v[4], v[6], v[1], v[3], v[5], v[7])
}

/// The weights of a block as bytes: signed, or unsigned where codes have no offset and no table.
#[target_feature(enable = "avx2")]
#[inline]
fn weights<B: Blocks>(codes: &Codes, block: usize) -> __m256i {
    let codes = &codes.0[32 * block..32 * block + 32];
    // SAFETY: the slice has 32 bytes.
    let codes = unsafe { _mm256_loadu_si256(codes.as_ptr().cast()) };
    match B::TABLE {
        // SAFETY: the table has 16 bytes.
        Some(table) => unsafe {
            _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast())), codes)
        },
        None => _mm256_sub_epi8(codes, _mm256_set1_epi8(B::OFFSET as i8)),
    }
}

/// Sums of two products, in 16 bits: at most 2 * 128 * 127.
#[target_feature(enable = "avx2")]
#[inline]
fn products<B: Blocks>(w: __m256i, x: __m256i) -> __m256i {
    if B::TABLE.is_some() || B::OFFSET > 0 {
        _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w))
    } else {
        _mm256_maddubs_epi16(w, x)
    }
}
