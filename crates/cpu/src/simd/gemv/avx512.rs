//! The block formats' kernel for AVX-512 with VNNI and VBMI: 64 weights of two blocks a step, one `vpdpbusd` each.
//!
//! A format unpacks 256 weights to unsigned bytes in the activations' interleaved order, with a vector of scales for each 64
//! and of minimums for all: a format of signed weights adds an offset to make them unsigned, and its minimum is the negative
//! offset times the scale. Sums of a weight row with an activation row are in registers of their own, so their order
//! never depends on the rows beside them.

mod blocks256;
mod blocks32;

use std::arch::x86_64::*;

use quant::Format;

use super::Columns;
use super::dispatch::Job;
use crate::simd::quantize::{Tile, tiles};

/// 256 weights in registers.
#[derive(Clone, Copy)]
struct Unpacked {
    /// Unsigned weights, 64 a vector.
    q: [__m512i; 4],
    /// Scales of the 32-bit lanes of `q`.
    d: [__m512; 4],
    /// Minimums of 16 weights each, in natural order.
    m: __m512,
}

/// A block format, seen as tiles of 256 weights.
trait Unpack {
    /// Bytes of a tile.
    const BYTES: usize;

    /// Unpacks a tile; if `TAIL`, one of which only `n_bytes` are there, the others being taken as zero.
    ///
    /// # Safety
    /// The processor has `Isa::Avx512`. `BYTES` bytes can be read at `tile`, or `n_bytes` if `TAIL`.
    unsafe fn unpack<const TAIL: bool>(tile: *const u8, n_bytes: usize) -> Unpacked;
}

/// How far ahead of the arithmetic weights are asked for, in bytes.
const PREFETCH: usize = 2048;

/// Computes the product of the job. Only where `Isa::Avx512` was detected.
pub(super) fn gemv(job: &Job<'_>, out: &mut Columns<'_>) {
    use {blocks32 as b32, blocks256 as b256};
    let kernel = match job.weights.format {
        Format::F32 | Format::F16 | Format::BF16 => panic!("{} takes f32 activations", job.weights.format),
        Format::Q4_0 => rows::<b32::Q4_0>,
        Format::Q4_1 => rows::<b32::Q4_1>,
        Format::Q5_0 => rows::<b32::Q5_0>,
        Format::Q5_1 => rows::<b32::Q5_1>,
        Format::Q8_0 => rows::<b32::Q8_0>,
        Format::IQ4_NL => rows::<b32::Iq4Nl>,
        Format::MXFP4 => rows::<b32::Mxfp4>,
        Format::Q2_K => rows::<b256::Q2K>,
        Format::Q3_K => rows::<b256::Q3K>,
        Format::Q4_K => rows::<b256::Q4K>,
        Format::Q5_K => rows::<b256::Q5K>,
        Format::Q6_K => rows::<b256::Q6K>,
        Format::IQ4_XS => rows::<b256::Iq4Xs>,
    };
    // SAFETY: the entry of the module checked that the processor has what `Isa::Avx512` stands for.
    unsafe { kernel(job, out) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,f16c,fma")]
fn rows<F: Unpack>(job: &Job<'_>, out: &mut Columns<'_>) {
    for (col, row) in job.rows().enumerate() {
        let mut x_row = 0;
        while x_row < job.x.n_rows() {
            match job.x.n_rows() - x_row {
                1 => dots::<F, 1>(job, (row, col), x_row, out),
                2 => dots::<F, 2>(job, (row, col), x_row, out),
                3 => dots::<F, 3>(job, (row, col), x_row, out),
                _ => dots::<F, 4>(job, (row, col), x_row, out),
            }
            x_row += 4;
        }
    }
}

/// The dot products of a weight row with `N` activation rows from `first` on.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,f16c,fma")]
#[inline]
fn dots<F: Unpack, const N: usize>(
    job: &Job<'_>,
    (row, col): (&[u8], usize),
    first: usize,
    out: &mut Columns<'_>,
) {
    let (whole, tail) = row.split_at(job.n_tiles() * F::BYTES);
    let x: [&[Tile]; N] = job.x.rows_from(first);
    let mut sums = [Sums::default(); N];
    for (i, tile) in whole.chunks_exact(F::BYTES).enumerate() {
        for line in 0..F::BYTES.div_ceil(64) {
            // A prefetch of any address is allowed.
            _mm_prefetch::<_MM_HINT_T0>(tile.as_ptr().wrapping_add(PREFETCH + 64 * line).cast());
        }
        // SAFETY: this function's features; the slice has `BYTES` bytes.
        let w = unsafe { F::unpack::<false>(tile.as_ptr(), 0) };
        add::<N>(&w, 4, &tiles(&x, i), &mut sums);
    }
    if !tail.is_empty() {
        // SAFETY: this function's features; the slice has the bytes named.
        let w = unsafe { F::unpack::<true>(tail.as_ptr(), tail.len()) };
        add::<N>(&w, job.n_tail_vectors(), &tiles(&x, job.n_tiles()), &mut sums);
    }
    for (r, sums) in sums.into_iter().enumerate() {
        out.set(first + r, col, sums.total());
    }
}

/// The sums of one weight row with one activation row.
#[derive(Clone, Copy)]
struct Sums {
    even: __m512,
    odd: __m512,
    minimums: __m512,
}

impl Default for Sums {
    #[inline(always)]
    fn default() -> Sums {
        // SAFETY: all bits zero is a vector of zeros.
        unsafe { std::mem::zeroed() }
    }
}

impl Sums {
    #[target_feature(enable = "avx512f,avx512dq")]
    #[inline]
    fn total(self) -> f32 {
        let all = _mm512_add_ps(_mm512_add_ps(self.even, self.odd), self.minimums);
        let half = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps::<1>(all));
        let quarter = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps::<1>(half));
        let pair = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
        _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)))
    }
}

/// Adds the products of the first `n` vectors of a tile.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,f16c,fma")]
#[inline]
fn add<const N: usize>(w: &Unpacked, n: usize, x: &[&Tile; N], sums: &mut [Sums; N]) {
    for v in 0..4 {
        if v >= n {
            break;
        }
        for (x, sums) in x.iter().zip(&mut *sums) {
            // SAFETY: 64 integers and two scales from index 64 * v and 2 * v on, v < 4, are inside the tile's arrays, which
            // stand at multiples of 64 bytes.
            let (qs, d) = unsafe {
                (
                    _mm512_load_si512(x.qs.as_ptr().add(64 * v).cast()),
                    _mm512_castpd_ps(_mm512_set1_pd(*x.d.as_ptr().add(2 * v).cast::<f64>())),
                )
            };
            let products = _mm512_cvtepi32_ps(_mm512_dpbusd_epi32(_mm512_setzero_si512(), w.q[v], qs));
            let scale = _mm512_mul_ps(w.d[v], d);
            let sum = if v % 2 == 0 { &mut sums.even } else { &mut sums.odd };
            *sum = _mm512_fmadd_ps(products, scale, *sum);
        }
    }
    for (x, sums) in x.iter().zip(sums) {
        // SAFETY: the tile has 16 sums, at a multiple of 64 bytes.
        let s = unsafe { _mm512_load_ps(x.s.as_ptr()) };
        sums.minimums = _mm512_fmadd_ps(w.m, s, sums.minimums);
    }
}

/// The lower eight lanes, twice each: what belongs to 32 weights, for 16 weights each.
const EIGHT_TWICE: [i32; 16] = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7];
/// The upper eight lanes, twice each.
const UPPER_EIGHT_TWICE: [i32; 16] = [8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15];

/// Signed values with `offset` added.
const fn raised(values: [i8; 16], offset: u8) -> [u8; 16] {
    let mut table = [0; 16];
    let mut i = 0;
    while i < 16 {
        table[i] = (values[i] as u8).wrapping_add(offset);
        i += 1;
    }
    table
}

/// Loads a table of 64 byte indices.
///
/// # Safety
/// The processor has AVX-512 F.
#[inline(always)]
unsafe fn bytes(table: &[u8; 64]) -> __m512i {
    // SAFETY: the table has 64 bytes; the caller's processor.
    unsafe { _mm512_loadu_si512(table.as_ptr().cast()) }
}

/// Loads a table of 16 lane indices.
///
/// # Safety
/// The processor has AVX-512 F.
#[inline(always)]
unsafe fn lanes(table: &[i32; 16]) -> __m512i {
    // SAFETY: the table has 64 bytes; the caller's processor.
    unsafe { _mm512_loadu_si512(table.as_ptr().cast()) }
}
