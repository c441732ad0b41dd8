//! The product in 16-bit integers, where vectors of them are twice as fast as float32: AVX2's `vpmaddwd`.
//!
//! Weights and activations are rounded to integers of 12 bits and a sign, [`SPAN`] columns of a row under one scale. 128 products of
//! those are exact in 32 bits, and are then scaled and added in float32, in the order of the columns. Rounding errs by at most half of
//! 1/4095 of a span's largest value: a product's normalised squared error is about 1e-7, against 1e-5 of bfloat16.
//!
//! Layouts: a panel is `[group][cols + 32]` integers with scales `[group][spans]`; a block of 8 activation rows is, for each span, 8
//! scales, then `[pairs of columns][8 rows][2]` integers. Spans end in zeros to a multiple of four columns.

use super::Job;
use std::arch::x86_64::*;

/// Columns that share a scale.
pub(in crate::simd) const SPAN: usize = 128;

/// The largest magnitude: SPAN * LARGEST * LARGEST < 2^31.
const LARGEST: f32 = 4095.0;

/// Activation rows of a block.
const LANES: usize = 8;

/// Words of a whole span of a block of activations.
const SPAN_WORDS: usize = LANES + LANES * SPAN / 2;

/// Integers at the end of a panel's row that keep the rows from falling on the same sets of the cache.
const PAD: usize = 32;

/// Words of a block of activation rows.
pub(super) fn block_words(n_cols: usize) -> usize {
    LANES * (n_cols.div_ceil(SPAN) + n_cols.next_multiple_of(4) / 2)
}

/// Integers from a row of a panel to the next.
pub(in crate::simd) fn panel_stride(n_cols: usize) -> usize {
    n_cols.next_multiple_of(4) + PAD
}

/// Rounds one row of weights to a row of a panel, and its scales.
pub(in crate::simd) fn quantize_weights(row: &[f32], (panel, scales): (&mut [i16], &mut [f32])) {
    assert_eq!(panel.len(), panel_stride(row.len()));
    assert_eq!(scales.len(), row.len().div_ceil(SPAN));
    // SAFETY: a kernel of integers exists only where AVX2 does.
    unsafe { quantize_row(row, panel, scales) }
}

#[target_feature(enable = "avx2")]
fn quantize_row(row: &[f32], panel: &mut [i16], scales: &mut [f32]) {
    for ((row, panel), scale) in row.chunks(SPAN).zip(panel.chunks_mut(SPAN)).zip(scales) {
        let (row4, panel) = (row.len().next_multiple_of(4), panel);
        *scale = quantize_span(row, &mut panel[..row4]);
    }
}

/// Integers of a span, zeros past its end, and their scale.
///
/// As in [`crate::simd::quantize`], values below about 1e-35 count as zeros, and a span that holds an infinity or a NaN gets such a scale
/// over zeros, which makes every product with it a NaN.
#[inline(always)]
fn quantize_span(x: &[f32], q: &mut [i16]) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    let amax = f32::from_bits(x.iter().fold(0, |m, v| m.max(v.to_bits() & 0x7fff_ffff)));
    let inverse = LARGEST / amax;
    let (head, tail) = q.split_at_mut(x.len());
    tail.fill(0);
    if !(amax.is_finite() && inverse.is_finite()) {
        head.fill(0);
        return if amax < 1.0 { 0.0 } else { amax };
    }
    for (q, &v) in head.iter_mut().zip(x) {
        *q = (v * inverse + ROUND).to_bits() as i16;
    }
    amax / LARGEST
}

/// Writes up to 8 rows as a block.
pub(super) fn prepare_block(rows: &[&[f32]], words: &mut [u32]) {
    let n_cols = rows[0].len();
    assert!(rows.len() <= LANES && rows.iter().all(|row| row.len() == n_cols));
    assert_eq!(words.len(), block_words(n_cols));
    // SAFETY: a kernel of integers exists only where AVX2 does.
    unsafe { prepare(rows, words) }
}

#[target_feature(enable = "avx2")]
fn prepare(rows: &[&[f32]], words: &mut [u32]) {
    let n_cols = rows[0].len();
    for (first, words) in (0..n_cols).step_by(SPAN).zip(words.chunks_mut(SPAN_WORDS)) {
        let cols = first..(first + SPAN).min(n_cols);
        let (scales, pairs) = words.split_at_mut(LANES);
        if rows.len() < LANES {
            scales.fill(0);
            pairs.fill(0);
        }
        let mut integers = [0i16; SPAN];
        for (lane, row) in rows.iter().enumerate() {
            let integers = &mut integers[..cols.len().next_multiple_of(4)];
            scales[lane] = quantize_span(&row[cols.clone()], integers).to_bits();
            for (pair, words) in integers.as_chunks::<2>().0.iter().zip(pairs.as_chunks_mut::<LANES>().0) {
                let [low, high] = pair.map(|q| u32::from(q.cast_unsigned()));
                words[lane] = low | high << 16;
            }
        }
    }
}

/// What the kernel reads and writes, as pointers and strides in numbers.
///
/// Invariant: `panel` reaches `group` rows of `n_cols` integers and `scales` as many of `n_cols / SPAN` (rounded up) numbers; `x` reaches
/// `n_blocks` blocks of the chunk's columns; `sums` is `[n_blocks][group][8]`; `group` is a multiple of [`super::PANEL`].
struct Tiles {
    panel: *const i16,
    panel_stride: usize,
    scales: *const f32,
    x: *const u32,
    x_stride: usize,
    sums: *mut f32,
    n_blocks: usize,
    group: usize,
    n_cols: usize,
    first: bool,
}

/// Adds the product of a panel with its scales and the job's row blocks to `sums`.
pub(super) fn multiply(job: &Job<'_>, (panel, scales): (&[i16], &[f32]), sums: &mut [f32]) {
    let n_cols = job.cols.len();
    let (stride, x_stride) = (panel_stride(n_cols), block_words(job.x.n_cols()));
    assert!(job.group.is_multiple_of(super::PANEL) && panel.len() == job.group * stride);
    assert_eq!(scales.len(), job.group * n_cols.div_ceil(SPAN));
    assert_eq!(sums.len(), job.blocks.len() * job.group * LANES);
    assert!(job.cols.start.is_multiple_of(SPAN) && job.cols.end <= job.x.n_cols());
    let x = &job.x.words()[job.blocks.start * x_stride..job.blocks.end * x_stride];
    let tiles = Tiles {
        panel: panel.as_ptr(),
        panel_stride: stride,
        scales: scales.as_ptr(),
        x: x[job.cols.start / SPAN * SPAN_WORDS..].as_ptr(),
        x_stride,
        sums: sums.as_mut_ptr(),
        n_blocks: job.blocks.len(),
        group: job.group,
        n_cols,
        first: job.first,
    };
    // SAFETY: a kernel of integers exists only where AVX2 and FMA do, and the slices were just checked.
    unsafe { run(&tiles) }
}

/// Tiles of 4 weight rows x 16 activation rows: 8 registers of sums.
#[target_feature(enable = "avx2,fma")]
unsafe fn run(t: &Tiles) {
    const { assert!(super::PANEL.is_multiple_of(4)) };
    for block in (0..t.n_blocks).step_by(2) {
        for row in (0..t.group).step_by(4) {
            // SAFETY: the tiles cover blocks below `n_blocks` and weight rows below `group`.
            unsafe {
                match t.n_blocks - block {
                    1 => tile::<4, 1>(t, row, block),
                    _ => tile::<4, 2>(t, row, block),
                }
            }
        }
    }
}

/// `W` weight rows from `row` by `B` blocks from `block`.
///
/// # Safety
/// As [`run`]; `row + W` is at most `group`, `block + B` at most `n_blocks`.
#[target_feature(enable = "avx2,fma")]
#[inline]
#[allow(clippy::needless_range_loop)] // Plain indices are unrolled into registers.
unsafe fn tile<const W: usize, const B: usize>(t: &Tiles, row: usize, block: usize) {
    // SAFETY: the caller's, and `t` vouches for the memory up to those.
    unsafe {
        let n_spans = t.n_cols.div_ceil(SPAN);
        let mut totals = [[_mm256_setzero_ps(); W]; B];
        for span in 0..n_spans {
            let n_quads = (t.n_cols - span * SPAN).min(SPAN).div_ceil(4);
            let w = t.panel.add(row * t.panel_stride + span * SPAN);
            let x = t.x.add(block * t.x_stride + span * SPAN_WORDS);
            let mut sums = [[_mm256_setzero_si256(); W]; B];
            for pair in 0..2 * n_quads {
                let mut xs = [_mm256_setzero_si256(); B];
                for b in 0..B {
                    xs[b] = _mm256_loadu_si256(x.add(b * t.x_stride + LANES * (1 + pair)).cast());
                }
                for r in 0..W {
                    let weights = w.add(r * t.panel_stride + 2 * pair).cast::<i32>().read_unaligned();
                    let weights = _mm256_set1_epi32(weights);
                    for b in 0..B {
                        sums[b][r] = _mm256_add_epi32(sums[b][r], _mm256_madd_epi16(xs[b], weights));
                    }
                }
            }
            for b in 0..B {
                let x_scales = _mm256_loadu_ps(x.add(b * t.x_stride).cast());
                for r in 0..W {
                    let scale = _mm256_set1_ps(*t.scales.add((row + r) * n_spans + span));
                    let scale = _mm256_mul_ps(scale, x_scales);
                    totals[b][r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums[b][r]), scale, totals[b][r]);
                }
            }
        }
        for b in 0..B {
            for r in 0..W {
                let sum = t.sums.add(((block + b) * t.group + row + r) * LANES);
                let total = totals[b][r];
                _mm256_storeu_ps(
                    sum,
                    if t.first { total } else { _mm256_add_ps(_mm256_loadu_ps(sum), total) },
                );
            }
        }
    }
}
