//! The products of all rows.

use std::arch::asm;
use std::arch::x86_64::*;

use super::super::dispatch::Job;
use super::super::{AHEAD, Columns, ask};
use super::{Unpack, Unpacked, lanes};
use crate::simd::quantize::{TILE, Tile};

/// The longest tile, eight blocks of Q8_0, and more.
const MAX_BYTES: usize = 320;

/// Activation rows that are multiplied with each weight as it is unpacked. More are taken in turn, and weights are unpacked again: to unpack
/// some for all of them, and multiply after that, leaves memory without requests in between, and is no faster.
const FUSED: usize = 8;

/// Tiles of those rows that weight rows read in turn: 36 KiB, which stay in the first-level cache.
const X_TILES: usize = 96;

/// Weight rows that do.
const W_ROWS: usize = 16;

/// The products of all rows.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,f16c,fma")]
pub(super) fn rows<F: Unpack>(job: &Job<'_>, out: &mut Columns<'_>) {
    let mut x_row = 0;
    while x_row < job.x.n_rows() {
        x_row += match job.x.n_rows() - x_row {
            1 => fused::<F, 1>(job, x_row, out),
            2 => fused::<F, 2>(job, x_row, out),
            3 => fused::<F, 3>(job, x_row, out),
            4..6 => fused::<F, 4>(job, x_row, out),
            6..8 => fused::<F, 6>(job, x_row, out),
            _ => fused::<F, FUSED>(job, x_row, out),
        };
    }
}

/// The dot products with `N` activation rows from `x_row` on. Returns `N`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,f16c,fma")]
fn fused<F: Unpack, const N: usize>(job: &Job<'_>, x_row: usize, out: &mut Columns<'_>) -> usize {
    let (n_whole, n_left) = (job.n_tiles(), job.weights.n_cols % TILE);
    let n_tiles = job.weights.n_cols.div_ceil(TILE);
    let width = n_tiles.div_ceil((N * n_tiles).div_ceil(X_TILES));
    // What is read soon: where a row is not read as a whole, the same tiles of rows to come.
    let ahead = if width < n_tiles { 2 * job.row_bytes } else { AHEAD };
    let mut kept = [[_mm512_setzero_ps(); N]; W_ROWS];
    for first in (0..out.n_cols()).step_by(W_ROWS) {
        let n = W_ROWS.min(out.n_cols() - first);
        for start in (0..n_tiles).step_by(width) {
            let end = n_tiles.min(start + width);
            let (tiles, stride) = job.x.tiles_from(x_row..x_row + N, start..end);
            for (col, kept) in (first..first + n).zip(&mut kept) {
                let rows = &job.weights.bytes[col * job.row_bytes..];
                let mut sums = if start == 0 { [_mm512_setzero_ps(); N] } else { *kept };
                let mut x = rows_at::<N>(tiles, stride);
                for tile in rows[start * F::BYTES..end.min(n_whole) * F::BYTES].chunks_exact(F::BYTES) {
                    ask(tile.as_ptr().wrapping_add(ahead), F::BYTES);
                    // SAFETY: this function's features; the slice has `BYTES` bytes, and `tiles_from` checked that `x` has tiles.
                    unsafe { add_products(&F::unpack(tile.as_ptr()), &mut x, &mut sums) };
                }
                if end > n_whole {
                    let w = tail::<F>(&rows[n_whole * F::BYTES..], n_left);
                    // SAFETY: as above.
                    unsafe { add_products(&w, &mut x, &mut sums) };
                }
                if end == n_tiles {
                    out.set_rows(x_row, col, totals(sums));
                } else {
                    *kept = sums;
                }
            }
        }
    }
    N
}

/// Unpacks the `n` weights that `rows` begins with; those after them are zero. Bytes that follow are read as weights, and masked.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,f16c,fma")]
#[inline]
fn tail<F: Unpack>(rows: &[u8], n: usize) -> Unpacked {
    const { assert!(F::BYTES <= MAX_BYTES) };
    let mut copy = [0; MAX_BYTES];
    let tile = if rows.len() < F::BYTES {
        copy[..rows.len()].copy_from_slice(rows);
        copy.as_ptr()
    } else {
        rows.as_ptr()
    };
    // SAFETY: this function's features; both have `BYTES` bytes.
    let w = unsafe { F::unpack(tile) };
    // SAFETY: this function's features.
    let groups = unsafe { lanes(by_group!(|g| g)) };
    let lanes = _mm512_cmplt_epi32_mask(groups, _mm512_set1_epi32((n / 16) as i32));
    Unpacked { q: w.q, d: _mm512_maskz_mov_ps(lanes, w.d), m: _mm512_maskz_mov_ps(lanes, w.m) }
}

/// The sum of the lanes.
#[target_feature(enable = "avx512f,avx512dq")]
#[inline]
fn total(sum: __m512) -> f32 {
    let half = _mm256_add_ps(_mm512_castps512_ps256(sum), _mm512_extractf32x8_ps::<1>(sum));
    let quarter = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps::<1>(half));
    let pair = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
    _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)))
}

/// [`total`] of each: eight take little more than one does.
#[target_feature(enable = "avx512f,avx512dq")]
#[inline]
fn totals<const N: usize>(sums: [__m512; N]) -> [f32; N] {
    let mut out = [0.0; N];
    if N < 4 {
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = total(sum);
        }
        return out;
    }
    // Halves of two vectors side by side, quarters of four, and so on: in each lane the additions of `total`.
    let mut eight = [_mm512_setzero_ps(); FUSED];
    eight[..N].copy_from_slice(&sums);
    let mut fours = [_mm512_setzero_ps(); 2];
    for (four, sums) in fours.iter_mut().zip(eight.chunks_exact(4)) {
        let (a, b) = (halves(sums[0], sums[1]), halves(sums[2], sums[3]));
        let even = _mm512_shuffle_f32x4::<0x88>(a, b);
        *four = _mm512_add_ps(even, _mm512_shuffle_f32x4::<0xdd>(a, b));
    }
    let (a, b) = (_mm512_castps_pd(fours[0]), _mm512_castps_pd(fours[1]));
    let even = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
    let pairs = _mm512_add_ps(even, _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
    let all = _mm512_add_ps(pairs, _mm512_movehdup_ps(pairs));
    let mut lanes = [0.0f32; 16];
    // SAFETY: 16 lanes are 64 bytes.
    unsafe { _mm512_storeu_ps(lanes.as_mut_ptr(), all) };
    for (r, out) in out.iter_mut().enumerate() {
        *out = lanes[4 * (r % 4) + 2 * (r / 4)];
    }
    out
}

/// The upper half added to the lower, of both.
#[target_feature(enable = "avx512f")]
#[inline]
fn halves(a: __m512, b: __m512) -> __m512 {
    _mm512_add_ps(_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0xee>(a, b))
}

/// Adds the products of a tile of weights with that of each activation row, and goes on to the rows' next tiles.
///
/// # Safety
/// The rows have such a tile.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,f16c,fma")]
#[inline]
unsafe fn add_products<const N: usize>(w: &Unpacked, x: &mut [*const Tile; N], sums: &mut [__m512; N]) {
    for (at, sum) in x.iter_mut().zip(sums) {
        // SAFETY: the caller's. The tile's arrays are four vectors of integers, one of sums and one of scales, at multiples of 64 bytes.
        let (qs, s, d) = unsafe {
            let x = &**at;
            let qs = x.qs.as_ptr().cast::<__m512i>();
            (
                [*qs, *qs.add(1), *qs.add(2), *qs.add(3)],
                _mm512_load_ps(x.s.as_ptr()),
                _mm512_load_ps(x.d.as_ptr()),
            )
        };
        *at = next(*at);
        let mut products = _mm512_setzero_si512();
        for (&w, qs) in w.q.iter().zip(qs) {
            products = _mm512_dpbusd_epi32(products, w, qs);
        }
        *sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products), _mm512_mul_ps(w.d, d), *sum);
        *sum = _mm512_fmadd_ps(w.m, s, *sum);
    }
}

/// Addresses of `N` rows of tiles.
#[inline(always)]
fn rows_at<const N: usize>(first: *const Tile, stride: usize) -> [*const Tile; N] {
    let mut rows = [first; N];
    for (row, at) in rows.iter_mut().enumerate() {
        *at = first.wrapping_add(row * stride);
    }
    rows
}

/// The tile after this one, at an address that the compiler cannot trace to that of another row: it would keep one index for all rows, and
/// with an index an instruction that reads memory takes two of the places where the processor holds what it has begun.
#[inline(always)]
#[allow(clippy::pointers_in_nomem_asm_block)] // There is nothing that could use memory.
fn next(mut tile: *const Tile) -> *const Tile {
    // SAFETY: no instruction.
    unsafe { asm!("/* {} */", inout(reg) tile, options(pure, nomem, nostack, preserves_flags)) };
    tile.wrapping_add(1)
}
