//! The products of all rows: for up to three activation rows each tile of weights is multiplied as it is unpacked.

use std::arch::x86_64::*;

use super::super::dispatch::Job;
use super::super::many::{Kept, Kernel, Part, dots, many, next, rows_at};
use super::super::{Columns, ask_ahead, many};
use super::{Unpack, Unpacked, lanes};
use crate::simd::quantize::{TILE, Tile};

/// No weights.
// SAFETY: vectors of integers and of floats, which any bits are.
const NOTHING: Unpacked = unsafe { std::mem::zeroed() };

/// The longest tile, eight blocks of Q8_0, and more.
const MAX_BYTES: usize = 320;

/// The products of all rows.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,f16c,fma")]
pub(super) fn rows<F: Unpack>(job: &Job<'_>, out: &mut Columns<'_>) {
    // SAFETY: this function's features.
    unsafe {
        match job.x.n_rows() {
            1 => few::<F, 1>(job, out),
            2 => few::<F, 2>(job, out),
            3 => few::<F, 3>(job, out),
            _ => many::<Avx512, F>(job, out),
        }
    }
}

/// The dot products with `N` activation rows.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,f16c,fma")]
fn few<F: Unpack, const N: usize>(job: &Job<'_>, out: &mut Columns<'_>) {
    let n_left = job.weights.n_cols % TILE;
    let (first, stride) = job.x.tiles_from(0..N, 0..job.weights.n_cols.div_ceil(TILE));
    for col in 0..out.n_cols() {
        let row = &job.weights.bytes[col * job.row_bytes..];
        let (whole, rest) = row.split_at(job.n_tiles() * F::BYTES);
        let mut sums = [_mm512_setzero_ps(); N];
        let mut x = rows_at::<N>(first, stride);
        for tile in whole.chunks_exact(F::BYTES) {
            ask_ahead(tile.as_ptr(), F::BYTES);
            // SAFETY: this function's features; the slice has `BYTES` bytes. `tiles_from` checked that the tiles of activations are there.
            unsafe { add_products(&F::unpack(tile.as_ptr()), &mut x, &mut sums) };
        }
        if n_left > 0 {
            // SAFETY: as above.
            unsafe { add_products(&tail::<F>(rest, n_left), &mut x, &mut sums) };
        }
        out.set_rows(0, col, totals(sums));
    }
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

/// Tiles in vectors of 512 bits, of any format.
pub(super) struct Avx512;

// SAFETY of every block: the caller's processor has `Isa::Avx512Vbmi`.
impl Kernel for Avx512 {
    type Unpacked = Unpacked;
    type Sum = __m512;
    const ROWS: usize = 8;

    #[inline(always)]
    unsafe fn nothing() -> Unpacked {
        NOTHING
    }
    #[inline(always)]
    unsafe fn zero() -> __m512 {
        // SAFETY: as said above.
        unsafe { _mm512_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn add<const N: usize>(w: &Unpacked, x: &mut [*const Tile; N], sums: &mut [__m512; N]) {
        // SAFETY: as said above.
        unsafe { add_products(w, x, sums) }
    }
    #[inline(always)]
    unsafe fn totals<const N: usize>(sums: [__m512; N]) -> [f32; N] {
        // SAFETY: as said above.
        unsafe { totals(sums) }
    }
    unsafe fn dots<const N: usize>(part: &Part<'_, Self>, kept: &mut [Kept<Self>], out: &mut Columns<'_>) {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,f16c,fma")]
        fn compiled<const N: usize>(
            part: &Part<'_, Avx512>,
            kept: &mut [Kept<Avx512>],
            out: &mut Columns<'_>,
        ) {
            // SAFETY: this function's features.
            unsafe { dots::<Avx512, N>(part, kept, out) }
        }
        // SAFETY: as said above.
        unsafe { compiled::<N>(part, kept, out) }
    }
}

impl<F: Unpack> many::Unpack<Avx512> for F {
    const BYTES: usize = <F as Unpack>::BYTES;

    #[inline(always)]
    unsafe fn unpack(rows: &[u8], n: usize) -> Unpacked {
        // SAFETY: the caller's processor, and bytes.
        unsafe { if n == TILE { <F as Unpack>::unpack(rows.as_ptr()) } else { tail::<F>(rows, n) } }
    }
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
