//! Changes of layout by AVX-512: into the blocks of 16 rows that the products read, and from blocks of sums to rows of Y.
//!
//! The AMX product and the one in integers share them. Layouts as in [`super::Scratch`] and [`super::prepared`].

use super::Columns;
use crate::simd::vector::pack_bf16;
use std::arch::x86_64::*;
use std::ops::Range;

const LANES: usize = 16;

/// Writes up to 16 rows as [n_cols][16] `f32`.
pub(super) fn prepare_block(rows: &[&[f32]], words: &mut [u32]) {
    let n_cols = rows[0].len();
    assert!(rows.len() <= LANES && rows.iter().all(|row| row.len() == n_cols));
    assert_eq!(words.len(), n_cols * LANES);
    // SAFETY: only a kernel of at least AVX-512 uses blocks of 16; the lengths were just checked.
    unsafe { prepare_block_unchecked(rows, words) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn prepare_block_unchecked(rows: &[&[f32]], words: &mut [u32]) {
    let n_cols = rows[0].len();
    for col in (0..n_cols).step_by(16) {
        let n = 16.min(n_cols - col);
        let mask = mask(n);
        let mut lines = [_mm512_setzero_ps(); 16];
        for (line, row) in lines.iter_mut().zip(rows) {
            // SAFETY: the mask lets through columns below `n_cols` only.
            *line = unsafe { _mm512_maskz_loadu_ps(mask, row.as_ptr().add(col)) };
        }
        let lines = transpose(lines);
        for (i, &line) in lines.iter().enumerate().take(n) {
            // SAFETY: column `col + i` is below `n_cols`, and `words` has 16 for each.
            unsafe { _mm512_storeu_ps(words.as_mut_ptr().add((col + i) * LANES).cast(), line) };
        }
    }
}

/// Writes up to 16 rows as tiles of [16 pairs of columns][16 rows][2] bfloat16.
pub(super) fn prepare_pairs(rows: &[&[f32]], words: &mut [u32]) {
    let n_cols = rows[0].len();
    assert!(rows.len() <= LANES && rows.iter().all(|row| row.len() == n_cols));
    assert_eq!(words.len(), n_cols.next_multiple_of(32) / 2 * LANES);
    // SAFETY: only the AMX kernel uses pairs, and it exists only with AVX-512 and its bfloat16 conversions; the lengths
    // were just checked.
    unsafe { prepare_pairs_unchecked(rows, words) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn prepare_pairs_unchecked(rows: &[&[f32]], words: &mut [u32]) {
    let n_cols = rows[0].len();
    for (col, tile) in (0..n_cols).step_by(32).zip(words.chunks_exact_mut(256)) {
        let n = n_cols - col;
        let (low, high) = (mask(n.min(16)), mask(n.saturating_sub(16).min(16)));
        let mut lines = [_mm512_setzero_ps(); 16];
        for (line, row) in lines.iter_mut().zip(rows) {
            // SAFETY: the masks let through columns below `n_cols` only; the second pointer is not read when its mask is
            // empty, and `wrapping_add` may point anywhere.
            let (low, high) = unsafe {
                let first = row.as_ptr().wrapping_add(col);
                (_mm512_maskz_loadu_ps(low, first), _mm512_maskz_loadu_ps(high, first.wrapping_add(16)))
            };
            // SAFETY: the AMX kernel exists only with bfloat16 conversions.
            *line = _mm512_castsi512_ps(unsafe { pack_bf16(low, high) });
        }
        let lines = transpose(lines);
        for (i, &line) in lines.iter().enumerate() {
            // SAFETY: the tile has 256 words.
            unsafe { _mm512_storeu_ps(tile.as_mut_ptr().add(i * LANES).cast(), line) };
        }
    }
}

/// Writes 16 rows of `N` integers as `[pairs of columns][16 rows][2]`, as many pairs as `words` has room for.
pub(super) fn interleave<const N: usize>(rows: &[[i16; N]; LANES], words: &mut [u32]) {
    const { assert!(N.is_multiple_of(32)) };
    assert!(words.len().is_multiple_of(LANES) && words.len() <= N / 2 * LANES);
    // SAFETY: only a kernel of at least AVX-512 uses blocks of 16; the lengths were just checked.
    unsafe { interleave_unchecked(rows, words) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn interleave_unchecked<const N: usize>(rows: &[[i16; N]; LANES], words: &mut [u32]) {
    for (group, words) in words.chunks_mut(16 * LANES).enumerate() {
        let mut lines = [_mm512_setzero_ps(); LANES];
        for (line, row) in lines.iter_mut().zip(rows) {
            // SAFETY: the row's `N` integers are whole groups of 32, and there are no more groups of words than of those.
            *line = unsafe { _mm512_loadu_ps(row.as_ptr().add(32 * group).cast()) };
        }
        for (words, line) in words.chunks_exact_mut(LANES).zip(transpose(lines)) {
            // SAFETY: a chunk of 16 words.
            unsafe { _mm512_storeu_ps(words.as_mut_ptr().cast(), line) };
        }
    }
}

/// Writes the sums [weight rows][16] of a block to rows `first_row..` and columns `cols` of Y.
pub(super) fn store_block(sums: &[f32], first_row: usize, cols: Range<usize>, out: &mut Columns<'_>) {
    assert!(sums.len() >= cols.len() * LANES);
    // SAFETY: only a kernel of at least AVX-512 uses blocks of 16; the length was just checked.
    unsafe { store_block_unchecked(sums, first_row, cols, out) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn store_block_unchecked(sums: &[f32], first_row: usize, cols: Range<usize>, out: &mut Columns<'_>) {
    let n_rows = LANES.min(out.n_rows() - first_row);
    for (col, sums) in cols.clone().step_by(16).zip(sums.chunks(16 * LANES)) {
        let n = 16.min(cols.end - col);
        let mut lines = [_mm512_setzero_ps(); 16];
        for (line, sums) in lines.iter_mut().zip(sums.chunks_exact(LANES)) {
            // SAFETY: a chunk of 16 numbers.
            *line = unsafe { _mm512_loadu_ps(sums.as_ptr()) };
        }
        let lines = transpose(lines);
        for (i, &line) in lines.iter().enumerate().take(n_rows) {
            let row = out.row(first_row + i, col..col + n);
            // SAFETY: the mask lets through the `n` numbers of `row` only.
            unsafe { _mm512_mask_storeu_ps(row.as_mut_ptr(), mask(n), line) };
        }
    }
}

/// The lowest `n <= 16` lanes.
fn mask(n: usize) -> __mmask16 {
    ((1u32 << n) - 1) as __mmask16
}

/// Lane `j` of line `i` becomes lane `i` of line `j`.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(mut a: [__m512; 16]) -> [__m512; 16] {
    // Pairs of lines, then fours, within the 128-bit quarters ...
    for q in 0..8 {
        let (x, y) = (a[2 * q], a[2 * q + 1]);
        a[2 * q] = _mm512_unpacklo_ps(x, y);
        a[2 * q + 1] = _mm512_unpackhi_ps(x, y);
    }
    let mut b = a;
    for q in 0..4 {
        for h in 0..2 {
            let x = _mm512_castps_pd(a[4 * q + h]);
            let y = _mm512_castps_pd(a[4 * q + 2 + h]);
            b[4 * q + 2 * h] = _mm512_castpd_ps(_mm512_unpacklo_pd(x, y));
            b[4 * q + 2 * h + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(x, y));
        }
    }
    // ... so that b[4q + i] holds, in its quarter c, lane 4c + i of lines 4q to 4q + 3. Then the quarters themselves.
    let mut out = b;
    for i in 0..4 {
        let (q0, q1, q2, q3) = (b[i], b[4 + i], b[8 + i], b[12 + i]);
        let low01 = _mm512_shuffle_f32x4::<0x44>(q0, q1);
        let high01 = _mm512_shuffle_f32x4::<0xee>(q0, q1);
        let low23 = _mm512_shuffle_f32x4::<0x44>(q2, q3);
        let high23 = _mm512_shuffle_f32x4::<0xee>(q2, q3);
        out[i] = _mm512_shuffle_f32x4::<0x88>(low01, low23);
        out[4 + i] = _mm512_shuffle_f32x4::<0xdd>(low01, low23);
        out[8 + i] = _mm512_shuffle_f32x4::<0x88>(high01, high23);
        out[12 + i] = _mm512_shuffle_f32x4::<0xdd>(high01, high23);
    }
    out
}
