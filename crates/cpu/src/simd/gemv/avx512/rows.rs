//! In which order are weights unpacked and multiplied? For up to three activation rows each tile of 256 as it is unpacked; for more, some tiles
//! of some weight rows are unpacked first, and all activations are multiplied with them.
//!
//! The sum of a weight row with an activation row is in a register of its own, tile by tile, in either way.

use std::arch::asm;
use std::arch::x86_64::*;
use std::ops::Range;

use super::super::dispatch::Job;
use super::super::{AHEAD, Columns, ask, ask_ahead};
use super::{Unpack, Unpacked};
use crate::simd::quantize::{TILE, Tile, group_of};

/// No weights.
// SAFETY: vectors of integers and of floats, which any bits are.
const NOTHING: Unpacked = unsafe { std::mem::zeroed() };

/// Tiles of all activation rows that weight rows read in turn: 24 KiB, which stay in the first-level cache.
const X_TILES: usize = 64;

/// Weight rows that read them.
const W_ROWS: usize = 16;

/// Tiles of weights that are unpacked before they are multiplied: 12 KiB beside those of activations.
const W_TILES: usize = 32;

/// The longest tile, eight blocks of Q8_0, and more.
const MAX_BYTES: usize = 320;

/// The products of all rows.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,f16c,fma")]
pub(super) fn rows<F: Unpack>(job: &Job<'_>, out: &mut Columns<'_>) {
    match job.x.n_rows() {
        1 => few::<F, 1>(job, out),
        2 => few::<F, 2>(job, out),
        3 => few::<F, 3>(job, out),
        _ => many::<F>(job, out),
    }
}

/// The dot products with `N` activation rows, each weight multiplied as it is unpacked.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,f16c,fma")]
fn few<F: Unpack, const N: usize>(job: &Job<'_>, out: &mut Columns<'_>) {
    let (first, stride) = job.x.tiles_from(0..N, 0..job.weights.n_cols.div_ceil(TILE));
    let tail = Tail::of::<F>(job);
    for col in 0..out.n_cols() {
        let row = &job.weights.bytes[col * job.row_bytes..];
        let mut sums = [_mm512_setzero_ps(); N];
        let mut x = rows_at::<N>(first, stride);
        for tile in row[..job.n_tiles() * F::BYTES].chunks_exact(F::BYTES) {
            ask_ahead(tile.as_ptr(), F::BYTES);
            // SAFETY: this function's features; the slice has `BYTES` bytes. `tiles_from` checked that the tiles of activations are there.
            unsafe { add(&F::unpack(tile.as_ptr()), &mut x, &mut sums) };
        }
        if let Some(tail) = tail {
            // SAFETY: as above.
            unsafe { add(&tail.unpack::<F>(row), &mut x, &mut sums) };
        }
        out.set_rows(0, col, totals(sums));
    }
}

/// What a row has after its whole tiles.
#[derive(Clone, Copy)]
struct Tail {
    start: usize,
    n_bytes: usize,
    /// The lanes of its weights.
    lanes: __mmask16,
}

impl Tail {
    fn of<F: Unpack>(job: &Job<'_>) -> Option<Tail> {
        const { assert!(F::BYTES <= MAX_BYTES) };
        let start = job.n_tiles() * F::BYTES;
        let n_groups = job.weights.n_cols % TILE / 16;
        let lanes = (0..16).filter(|&lane| group_of(lane) < n_groups).map(|lane| 1 << lane).sum();
        (n_groups > 0).then_some(Tail { start, n_bytes: job.row_bytes - start, lanes })
    }

    /// Unpacks it, of the first of `rows`; what a tile has besides is zero. The next rows' bytes are read as such, where there are any.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,f16c,fma")]
    #[inline]
    fn unpack<F: Unpack>(self, rows: &[u8]) -> Unpacked {
        let tail = &rows[self.start..];
        let mut copy = [0; MAX_BYTES];
        let tile = if tail.len() < F::BYTES {
            copy[..self.n_bytes].copy_from_slice(&tail[..self.n_bytes]);
            copy.as_ptr()
        } else {
            tail.as_ptr()
        };
        // SAFETY: this function's features; both have `BYTES` bytes.
        let w = unsafe { F::unpack(tile) };
        Unpacked { q: w.q, d: _mm512_maskz_mov_ps(self.lanes, w.d), m: _mm512_maskz_mov_ps(self.lanes, w.m) }
    }
}

/// Sums of a weight row with eight activation rows, kept until its other tiles are multiplied.
type Kept = [__m512; 8];

/// The dot products with several activation rows. Tiles of weights are unpacked once, and read again by all activations.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,f16c,fma")]
fn many<F: Unpack>(job: &Job<'_>, out: &mut Columns<'_>) {
    let (n_x, n_w) = (job.x.n_rows(), out.n_cols());
    let n_tiles = job.weights.n_cols.div_ceil(TILE);
    let n_parts = n_tiles.div_ceil((X_TILES / n_x).clamp(1, W_TILES));
    let width = n_tiles.div_ceil(n_parts);
    let n_kept = if n_parts > 1 { n_x.div_ceil(8) * W_ROWS } else { 0 };
    let mut kept = vec![[_mm512_setzero_ps(); 8]; n_kept];
    let tail = Tail::of::<F>(job);
    let mut unpacked = [NOTHING; W_TILES];
    for first in (0..n_w).step_by(W_ROWS) {
        let end = n_w.min(first + W_ROWS);
        for start in (0..n_tiles).step_by(width) {
            let tiles = start..n_tiles.min(start + width);
            for col in (first..end).step_by(W_TILES / width) {
                let cols = col..end.min(col + W_TILES / width);
                unpack::<F>((job, tail), cols.clone(), tiles.clone(), &mut unpacked);
                let mut x_row = 0;
                while x_row < n_x {
                    let kept = kept.get_mut(x_row / 8 * W_ROWS + (col - first)..).unwrap_or_default();
                    let part = Part { tiles: tiles.clone(), cols: cols.clone(), x_row };
                    x_row += match n_x - x_row {
                        1 => dots::<1>(job, part, &unpacked, kept, out),
                        2..4 => dots::<2>(job, part, &unpacked, kept, out),
                        4..8 => dots::<4>(job, part, &unpacked, kept, out),
                        _ => dots::<8>(job, part, &unpacked, kept, out),
                    };
                }
            }
        }
    }
}

/// Which tiles of which weight rows are multiplied, with the activation rows from `x_row` on.
struct Part {
    tiles: Range<usize>,
    cols: Range<usize>,
    x_row: usize,
}

/// Unpacks these tiles of these weight rows.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,f16c,fma")]
#[inline]
fn unpack<F: Unpack>(
    (job, tail): (&Job<'_>, Option<Tail>),
    rows: Range<usize>,
    tiles: Range<usize>,
    unpacked: &mut [Unpacked; W_TILES],
) {
    let whole = tiles.start * F::BYTES..tiles.end.min(job.n_tiles()) * F::BYTES;
    // What is read soon: the same tiles of rows to come, where those after these are read later.
    let ahead = if tiles.len() < job.n_tiles() { 2 * job.row_bytes } else { AHEAD };
    for (row, unpacked) in rows.zip(unpacked.chunks_exact_mut(tiles.len())) {
        let row = &job.weights.bytes[row * job.row_bytes..];
        for (tile, unpacked) in row[whole.clone()].chunks_exact(F::BYTES).zip(&mut *unpacked) {
            ask(tile.as_ptr().wrapping_add(ahead), F::BYTES);
            // SAFETY: this function's features; the slice has `BYTES` bytes.
            *unpacked = unsafe { F::unpack(tile.as_ptr()) };
        }
        if let Some(tail) = tail
            && tiles.end > job.n_tiles()
            && let Some(last) = unpacked.last_mut()
        {
            *last = tail.unpack::<F>(row);
        }
    }
}

/// The products of unpacked tiles with `N` activation rows. Returns `N`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,f16c,fma")]
fn dots<const N: usize>(
    job: &Job<'_>,
    Part { tiles, cols, x_row }: Part,
    unpacked: &[Unpacked; W_TILES],
    kept: &mut [Kept],
    out: &mut Columns<'_>,
) -> usize {
    let n = tiles.len();
    let (is_first, is_last) = (tiles.start == 0, tiles.end == job.weights.n_cols.div_ceil(TILE));
    let (first, stride) = job.x.tiles_from(x_row..x_row + N, tiles);
    for (row, col) in cols.enumerate() {
        let mut sums = [_mm512_setzero_ps(); N];
        if !is_first {
            sums.copy_from_slice(&kept[row][x_row % 8..][..N]);
        }
        let mut x = rows_at::<N>(first, stride);
        for w in &unpacked[row * n..][..n] {
            // SAFETY: `tiles_from` checked that so many tiles of so many rows are there.
            unsafe { add(w, &mut x, &mut sums) };
        }
        if is_last {
            out.set_rows(x_row, col, totals(sums));
        } else {
            kept[row][x_row % 8..][..N].copy_from_slice(&sums);
        }
    }
    N
}

/// Addresses of `N` rows of tiles.
#[inline(always)]
fn rows_at<const N: usize>(first: *const Tile, stride: usize) -> [*const Tile; N] {
    std::array::from_fn(|row| first.wrapping_add(row * stride))
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
    let mut fours = [_mm512_setzero_ps(); 2];
    for (four, sums) in fours.iter_mut().zip(sums.chunks_exact(4)) {
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
unsafe fn add<const N: usize>(w: &Unpacked, x: &mut [*const Tile; N], sums: &mut [__m512; N]) {
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

/// The tile after this one, at an address that the compiler cannot trace to that of another row: it would keep one index for all rows, and
/// with an index an instruction that reads memory takes two of the places where the processor holds what it has begun.
#[inline(always)]
fn next(mut tile: *const Tile) -> *const Tile {
    // SAFETY: no instruction.
    unsafe { asm!("/* {} */", inout(reg) tile, options(pure, nomem, nostack, preserves_flags)) };
    tile.wrapping_add(1)
}
