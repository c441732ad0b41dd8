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
        transpose(&mut lines);
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
        transpose(&mut lines);
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
        transpose(&mut lines);
        for (words, line) in words.chunks_exact_mut(LANES).zip(lines) {
            // SAFETY: a chunk of 16 words.
            unsafe { _mm512_storeu_ps(words.as_mut_ptr().cast(), line) };
        }
    }
}

/// Writes the sums [weight rows][16] of a block to rows `first_row..` and columns `cols` of Y.
pub(super) fn store_block(sums: &[f32], first_row: usize, cols: Range<usize>, out: &mut Columns<'_>) {
    assert!(sums.len() >= cols.len().next_multiple_of(LANES) * LANES);
    // SAFETY: only a kernel of at least AVX-512 uses blocks of 16; the length was just checked.
    unsafe { store_block_unchecked(sums, first_row, cols, out) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn store_block_unchecked(sums: &[f32], first_row: usize, cols: Range<usize>, out: &mut Columns<'_>) {
    let n_rows = LANES.min(out.n_rows() - first_row);
    for (col, sums) in cols.clone().step_by(16).zip(sums.as_chunks::<{ 16 * LANES }>().0) {
        let n = 16.min(cols.end - col);
        let mut lines = [_mm512_setzero_ps(); 16];
        for (i, line) in lines.iter_mut().enumerate() {
            // SAFETY: 16 of the chunk's numbers.
            *line = unsafe { _mm512_loadu_ps(sums.as_ptr().add(i * LANES)) };
        }
        transpose(&mut lines);
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

/// Lane `j` of line `i` becomes lane `i` of line `j`. Every index is a constant, so that the compiler keeps lines in registers.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(lines: &mut [__m512; 16]) {
    // Within the 128-bit quarters: quarter `c` of `of_lines[q][i]` holds lane 4c + i of lines 4q to 4q + 3.
    let of_lines = [
        transpose_quarters(lines[0], lines[1], lines[2], lines[3]),
        transpose_quarters(lines[4], lines[5], lines[6], lines[7]),
        transpose_quarters(lines[8], lines[9], lines[10], lines[11]),
        transpose_quarters(lines[12], lines[13], lines[14], lines[15]),
    ];
    // Then the quarters themselves.
    let [a, b, c, d] = of_lines;
    let [l0, l4, l8, l12] = exchange_quarters(a[0], b[0], c[0], d[0]);
    let [l1, l5, l9, l13] = exchange_quarters(a[1], b[1], c[1], d[1]);
    let [l2, l6, l10, l14] = exchange_quarters(a[2], b[2], c[2], d[2]);
    let [l3, l7, l11, l15] = exchange_quarters(a[3], b[3], c[3], d[3]);
    *lines = [l0, l1, l2, l3, l4, l5, l6, l7, l8, l9, l10, l11, l12, l13, l14, l15];
}

/// Lane `j` of line `i` becomes lane `i` of line `j`, in each quarter.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose_quarters(a: __m512, b: __m512, c: __m512, d: __m512) -> [__m512; 4] {
    let pd = |x| _mm512_castps_pd(x);
    let (ab, cd) = (pd(_mm512_unpacklo_ps(a, b)), pd(_mm512_unpacklo_ps(c, d)));
    let (ab_high, cd_high) = (pd(_mm512_unpackhi_ps(a, b)), pd(_mm512_unpackhi_ps(c, d)));
    [
        _mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd)),
        _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd)),
        _mm512_castpd_ps(_mm512_unpacklo_pd(ab_high, cd_high)),
        _mm512_castpd_ps(_mm512_unpackhi_pd(ab_high, cd_high)),
    ]
}

/// Quarter `j` of line `i` becomes quarter `i` of line `j`.
#[inline]
#[target_feature(enable = "avx512f")]
fn exchange_quarters(a: __m512, b: __m512, c: __m512, d: __m512) -> [__m512; 4] {
    let (low_ab, high_ab) = (_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0xee>(a, b));
    let (low_cd, high_cd) = (_mm512_shuffle_f32x4::<0x44>(c, d), _mm512_shuffle_f32x4::<0xee>(c, d));
    [
        _mm512_shuffle_f32x4::<0x88>(low_ab, low_cd),
        _mm512_shuffle_f32x4::<0xdd>(low_ab, low_cd),
        _mm512_shuffle_f32x4::<0x88>(high_ab, high_cd),
        _mm512_shuffle_f32x4::<0xdd>(high_ab, high_cd),
    ]
}
