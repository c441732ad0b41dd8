//! The product in 16-bit integers, where vectors of them are twice as fast as float32: `vpmaddwd`, or `vpdpwssd` where there is VNNI; on
//! arm64 `smmla` of their bytes ([`planes`]).
//!
//! Weights and activations are rounded to integers of 12 bits and a sign, [`SPAN`] columns of a row under one scale. 128 products of
//! those are exact in 32 bits, and are then scaled and added in float32, in the order of the columns. Rounding errs by at most half of
//! 1/4095 of a span's largest value: a product's normalised squared error is about 1e-7, against 1e-5 of bfloat16.
//!
//! A lane of a vector is one activation row, and its operations are the same on every instruction set, so the bits are too.
//!
//! Layouts: a panel is `[group][cols + 32]` integers with scales `[group][spans]`; a block of 8 or 16 activation rows (the lanes of a
//! vector) is, for each span, the rows' scales, then `[pairs of columns][rows][2]` integers, or as many bytes as [`planes`] says. Spans end
//! in zeros to a multiple of eight columns.

#[cfg(target_arch = "x86_64")]
mod pairs;
#[cfg(target_arch = "aarch64")]
mod planes;

use super::Job;
use crate::simd::columns::Columns;
use crate::simd::isa::{Isa, Vectors};
#[cfg(target_arch = "x86_64")]
use crate::simd::lanes::{Lanes, prefetch};
#[cfg(target_arch = "x86_64")]
use pairs::{Madd256, Madd512, Pairs, Vnni256, Vnni512};
#[cfg(all(test, target_arch = "aarch64"))]
pub(in crate::simd) use planes::joined;

/// Columns that share a scale.
pub(in crate::simd) const SPAN: usize = 128;

/// The largest magnitude: SPAN * LARGEST * LARGEST < 2^31.
pub(in crate::simd) const LARGEST: f32 = 4095.0;

/// Columns that spans are filled up to with zeros.
pub(in crate::simd) const UNIT: usize = 8;

/// Integers at the end of a panel's row that keep the rows from falling on the same sets of the cache.
const PAD: usize = 32;

/// Words of a block of `lanes` activation rows; those of whole spans come before the others.
pub(super) fn block_words(lanes: usize, n_cols: usize) -> usize {
    lanes * (n_cols.div_ceil(SPAN) + n_cols.next_multiple_of(UNIT) / 2)
}

/// Integers from a row of a panel to the next.
pub(in crate::simd) fn panel_stride(n_cols: usize) -> usize {
    n_cols.next_multiple_of(UNIT) + PAD
}

/// Rounds one row of weights to a row of a panel, and its scales.
pub(in crate::simd) fn quantize_weights(isa: Isa, row: &[f32], (panel, scales): (&mut [i16], &mut [f32])) {
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn avx2(row: &[f32], panel: &mut [i16], scales: &mut [f32]) {
        quantize_row(row, panel, scales);
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    fn avx512(row: &[f32], panel: &mut [i16], scales: &mut [f32]) {
        let (spans, rest) = row.as_chunks::<SPAN>();
        let (quantized, panel_rest) = panel.as_chunks_mut::<SPAN>();
        for ((span, q), scale) in spans.iter().zip(&mut *quantized).zip(&mut *scales) {
            *scale = quantize_whole_span(span, q);
        }
        match quantized.get_mut(spans.len()) {
            // The padding has room for part of a span.
            Some(q) if !rest.is_empty() => quantize_row(rest, q, &mut scales[spans.len()..]),
            _ => quantize_row(rest, panel_rest, &mut scales[spans.len()..]),
        }
    }
    assert_eq!(panel.len(), panel_stride(row.len()));
    assert_eq!(scales.len(), row.len().div_ceil(SPAN));
    match isa.vectors() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a kernel of integers exists only where the machine runs its instruction set.
        Vectors::Bits512 => unsafe { avx512(row, panel, scales) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Vectors::Bits256 => unsafe { avx2(row, panel, scales) },
        _ => quantize_row(row, panel, scales),
    }
    #[cfg(target_arch = "aarch64")]
    planes::split(&mut panel[..row.len().next_multiple_of(UNIT)]);
}

#[inline(always)]
fn quantize_row(row: &[f32], panel: &mut [i16], scales: &mut [f32]) {
    for ((row, panel), scale) in row.chunks(SPAN).zip(panel.chunks_mut(SPAN)).zip(scales) {
        *scale = quantize_span(row, &mut panel[..row.len().next_multiple_of(UNIT)]);
    }
}

/// Integers of a span, zeros past its end, and their scale.
///
/// As in [`crate::simd::quantize`], values below about 1e-35 count as zeros, and a span that holds an infinity or a NaN gets such a scale
/// over zeros, which makes every product with it a NaN.
#[inline(always)]
pub(in crate::simd) fn quantize_span(x: &[f32], q: &mut [i16]) -> f32 {
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

/// As [`quantize_span`], and the same bits: what rounds to the nearest integer by a sum is rounded so by the conversion.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn quantize_whole_span(x: &[f32; SPAN], q: &mut [i16; SPAN]) -> f32 {
    use std::arch::x86_64::*;
    let (x, _) = x.as_chunks::<16>();
    // SAFETY: 16 numbers each.
    let x: [__m512; SPAN / 16] = std::array::from_fn(|i| unsafe { _mm512_loadu_ps(x[i].as_ptr()) });
    let magnitude = |i: usize| _mm512_castps_si512(_mm512_abs_ps(x[i]));
    let max = |i: usize| _mm512_max_epu32(magnitude(i), magnitude(i + 1));
    let max = _mm512_max_epu32(_mm512_max_epu32(max(0), max(2)), _mm512_max_epu32(max(4), max(6)));
    let amax = f32::from_bits(_mm512_reduce_max_epu32(max));
    let inverse = LARGEST / amax;
    if !(amax.is_finite() && inverse.is_finite()) {
        q.fill(0);
        return if amax < 1.0 { 0.0 } else { amax };
    }
    let inverse = _mm512_set1_ps(inverse);
    let integers = |i: usize| _mm512_cvtps_epi32(_mm512_mul_ps(x[i], inverse));
    // Packing leaves the quarters of two vectors by turns.
    let order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    for (i, q) in q.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let packed = _mm512_packs_epi32(integers(2 * i), integers(2 * i + 1));
        // SAFETY: room for 32 integers.
        unsafe { _mm512_storeu_si512(q.as_mut_ptr().cast(), _mm512_permutexvar_epi64(order, packed)) };
    }
    amax / LARGEST
}

/// Writes up to 8 rows, or up to 16 with vectors of 512 bits, as a block.
pub(super) fn prepare_block(isa: Isa, rows: &[&[f32]], words: &mut [u32]) {
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn avx2(rows: &[&[f32]], words: &mut [u32]) {
        prepare::<8>(rows, words, |rows, pairs| {
            for (lane, row) in rows.iter().enumerate() {
                for (pair, words) in row.as_chunks::<2>().0.iter().zip(pairs.as_chunks_mut::<8>().0) {
                    let [low, high] = pair.map(|q| u32::from(q.cast_unsigned()));
                    words[lane] = low | high << 16;
                }
            }
        });
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    fn avx512(rows: &[&[f32]], words: &mut [u32]) {
        prepare::<16>(rows, words, super::layout::interleave);
    }
    let n_cols = rows[0].len();
    let lanes = if isa.vectors() == Vectors::Bits512 { 16 } else { 8 };
    assert!(rows.len() <= lanes && rows.iter().all(|row| row.len() == n_cols));
    assert_eq!(words.len(), block_words(lanes, n_cols));
    match isa.vectors() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as in `quantize_weights`.
        Vectors::Bits512 => unsafe { avx512(rows, words) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as in `quantize_weights`.
        _ => unsafe { avx2(rows, words) },
        #[cfg(target_arch = "aarch64")]
        _ => prepare::<8>(rows, words, planes::interleave),
    }
}

/// `interleave` writes the integers of a span of `L` rows as `[pairs of columns][L rows][2]`, or as its kernel wants them.
#[inline(always)]
fn prepare<const L: usize>(
    rows: &[&[f32]],
    words: &mut [u32],
    interleave: impl Fn(&[[i16; SPAN]; L], &mut [u32]),
) {
    let n_cols = rows[0].len();
    let mut integers = [[0i16; SPAN]; L];
    for (first, words) in (0..n_cols).step_by(SPAN).zip(words.chunks_mut(span_words(L))) {
        let cols = first..(first + SPAN).min(n_cols);
        let (scales, pairs) = words.split_at_mut(L);
        scales.fill(0);
        for ((row, integers), scale) in rows.iter().zip(&mut integers).zip(scales) {
            let integers = &mut integers[..cols.len().next_multiple_of(UNIT)];
            *scale = quantize_span(&row[cols.clone()], integers).to_bits();
        }
        interleave(&integers, pairs);
    }
}

/// Words of a whole span of a block of activations.
const fn span_words(lanes: usize) -> usize {
    lanes + lanes * SPAN / 2
}

/// What the kernel reads and writes, as pointers and strides in numbers.
///
/// Invariant: `panel` reaches `group` rows of `n_cols` integers and `scales` as many of `n_cols / SPAN` (rounded up) numbers; `x` reaches
/// `n_blocks` blocks of the chunk's columns; `sums` is `[n_blocks][group][lanes]`; `group` is a multiple of [`super::PANEL`].
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
    /// Where the job's part of Y begins, and numbers from a row of Y to the next, if it is written after this job; for prefetching alone.
    y: Option<(*const f32, usize)>,
}

/// Adds the product of a panel with its scales and the job's row blocks to `sums`.
pub(super) fn multiply(
    job: &Job<'_>,
    (panel, scales): (&[i16], &[f32]),
    sums: &mut [f32],
    out: &Columns<'_>,
) {
    let (n_cols, kernel) = (job.cols.len(), job.x.kernel());
    let lanes = kernel.lanes();
    let (stride, x_stride) = (panel_stride(n_cols), block_words(lanes, job.x.n_cols()));
    assert!(job.group.is_multiple_of(super::PANEL) && panel.len() == job.group * stride);
    assert_eq!(scales.len(), job.group * n_cols.div_ceil(SPAN));
    assert_eq!(sums.len(), job.blocks.len() * job.group * lanes);
    assert!(job.cols.start.is_multiple_of(SPAN) && job.cols.end <= job.x.n_cols());
    let x = &job.x.words()[job.blocks.start * x_stride..job.blocks.end * x_stride];
    let tiles = Tiles {
        panel: panel.as_ptr(),
        panel_stride: stride,
        scales: scales.as_ptr(),
        x: x[job.cols.start / SPAN * span_words(lanes)..].as_ptr(),
        x_stride,
        sums: sums.as_mut_ptr(),
        n_blocks: job.blocks.len(),
        group: job.group,
        n_cols,
        first: job.first,
        y: job.done.as_ref().map(|cols| (out.address(job.blocks.start * lanes, cols.start), out.stride())),
    };
    // SAFETY: a kernel of integers exists only where the machine runs its instruction set, and the slices were just checked.
    unsafe {
        match kernel.isa() {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => madd512(&tiles),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni | Isa::Avx512Vbmi | Isa::Amx if tiles.n_blocks == 1 => vnni512_few(&tiles),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni | Isa::Avx512Vbmi | Isa::Amx => vnni512(&tiles),
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni => vnni256(&tiles),
            #[cfg(target_arch = "x86_64")]
            _ => madd256(&tiles),
            #[cfg(target_arch = "aarch64")]
            _ => planes::smmla(&tiles),
        }
    }
}

/// Tiles of 4 weight rows x 16 activation rows: 8 of 16 registers are sums.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn madd256(t: &Tiles) {
    // SAFETY: the caller's, and this function's own instruction set.
    unsafe { run::<Madd256, 4, 2>(t) }
}

/// Tiles of 6 weight rows x 16 activation rows: 12 of 16 registers are sums. A processor begins two of these products a cycle, each of which takes
/// five, so eight sums would wait for each other.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn vnni256(t: &Tiles) {
    // SAFETY: as above.
    unsafe { run::<Vnni256, 6, 2>(t) }
}

/// Tiles of 8 weight rows x 48 activation rows: 24 of 32 registers are sums.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
unsafe fn madd512(t: &Tiles) {
    // SAFETY: as above.
    unsafe { run::<Madd512, 8, 3>(t) }
}

/// As [`madd512`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
unsafe fn vnni512(t: &Tiles) {
    // SAFETY: as above.
    unsafe { run::<Vnni512, 8, 3>(t) }
}

/// Of one block: 16 weight rows x 16 activation rows. 8 sums would wait for each other, as with AVX-VNNI.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
unsafe fn vnni512_few(t: &Tiles) {
    // SAFETY: as above.
    unsafe { run::<Vnni512, 16, 1>(t) }
}

/// Tiles of `W` weight rows by `B` blocks, at most 3; the rows that are left in twos.
///
/// # Safety
/// The machine has the instruction set of `V`, and `t` holds what it says.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn run<V: Pairs, const W: usize, const B: usize>(t: &Tiles) {
    const { assert!(super::PANEL.is_multiple_of(2) && W.is_multiple_of(2) && B >= 1 && B <= 3) };
    let whole = t.group / W * W;
    for block in (0..t.n_blocks).step_by(B) {
        // SAFETY: the tiles cover blocks below `n_blocks` and weight rows below `group`.
        unsafe {
            // Loops, as closures would not have the caller's instruction set.
            for row in (0..whole).step_by(W) {
                up_to::<V, W, B>(t, row, block);
            }
            if const { !super::PANEL.is_multiple_of(W) } {
                for row in (whole..t.group).step_by(2) {
                    up_to::<V, 2, B>(t, row, block);
                }
            }
        }
    }
}

/// `W` weight rows from `row` by the blocks from `block`, at most `B`.
///
/// # Safety
/// As [`run`]; `row + W` is at most `group`, `block` below `n_blocks`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn up_to<V: Pairs, const W: usize, const B: usize>(t: &Tiles, row: usize, block: usize) {
    let (line, lanes) = (row.next_multiple_of(16), V::Floats::LEN);
    if let Some((y, stride)) = t.y
        && line < row + W
    {
        for lane in block * lanes..(block + B).min(t.n_blocks) * lanes {
            prefetch(y.wrapping_add(lane * stride + line).cast());
        }
    }
    // SAFETY: the caller's.
    unsafe {
        match t.n_blocks - block {
            _ if const { B == 1 } => tile::<V, W, 1>(t, row, block),
            1 => tile::<V, W, 1>(t, row, block),
            2 => tile::<V, W, 2>(t, row, block),
            _ => tile::<V, W, B>(t, row, block),
        }
    }
}

/// `W` weight rows from `row` by `B` blocks from `block`.
///
/// # Safety
/// As [`run`]; `row + W` is at most `group`, `block + B` at most `n_blocks`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
#[allow(clippy::needless_range_loop)] // Plain indices are unrolled into registers.
unsafe fn tile<V: Pairs, const W: usize, const B: usize>(t: &Tiles, row: usize, block: usize) {
    let lanes = V::Floats::LEN;
    // SAFETY: the caller's, and `t` vouches for the memory up to those.
    unsafe {
        let n_spans = t.n_cols.div_ceil(SPAN);
        let mut totals = [[V::Floats::splat(0.0); W]; B];
        for span in 0..n_spans {
            let n_quads = (t.n_cols - span * SPAN).min(SPAN).div_ceil(4);
            let w = t.panel.add(row * t.panel_stride + span * SPAN);
            let x = t.x.add(block * t.x_stride + span * span_words(lanes));
            let mut sums = [[V::zero(); W]; B];
            for pair in 0..2 * n_quads {
                let mut xs = [V::zero(); B];
                for b in 0..B {
                    xs[b] = V::load(x.add(b * t.x_stride + lanes * (1 + pair)));
                }
                for r in 0..W {
                    let weights = w.add(r * t.panel_stride + 2 * pair).cast::<i32>().read_unaligned();
                    let weights = V::splat(weights);
                    for b in 0..B {
                        sums[b][r] = sums[b][r].add_products(xs[b], weights);
                    }
                }
            }
            for b in 0..B {
                let x_scales = V::Floats::load(x.add(b * t.x_stride).cast());
                for r in 0..W {
                    let scale = V::Floats::splat(*t.scales.add((row + r) * n_spans + span)).mul(x_scales);
                    totals[b][r] = sums[b][r].floats().mul_add(scale, totals[b][r]);
                }
            }
        }
        for b in 0..B {
            for r in 0..W {
                let sum = t.sums.add(((block + b) * t.group + row + r) * lanes);
                let total = totals[b][r];
                let total = if t.first { total } else { V::Floats::load(sum).add(total) };
                total.store(sum);
            }
        }
    }
}
