//! The block formats' kernel for vectors of 32 bytes: AVX2 and NEON, whose bits are the same.
//!
//! Weights are taken 128 at a time: four blocks of 32 ([`unpack`]) are transposed by fours as the activations are, so that a lane stays in
//! one group of 16 weights. Sums of products are exact, by whichever instruction ([`vector`]); scaled, they are added in one order.

#[cfg(target_arch = "x86_64")]
pub(super) mod avx2;
#[cfg(target_arch = "aarch64")]
pub(super) mod neon;
mod unpack;
mod vector;

use super::dispatch::Job;
use super::{Columns, ask_ahead};
use crate::simd::lanes::Lanes;
use crate::simd::quantize::{Tile, tiles};
pub(super) use unpack::Unpack;
use vector::Bytes;

/// # Safety
/// The processor has the vectors' instruction set.
#[inline(always)]
unsafe fn rows<V: Bytes, B: Unpack>(job: &Job<'_>, out: &mut Columns<'_>) {
    for (col, row) in job.rows().enumerate() {
        let mut x_row = 0;
        while x_row < job.x.n_rows() {
            // SAFETY: the caller's.
            unsafe {
                match job.x.n_rows() - x_row {
                    1 => dots::<V, B, 1>(job, (row, col), x_row, out),
                    2 => dots::<V, B, 2>(job, (row, col), x_row, out),
                    3 => dots::<V, B, 3>(job, (row, col), x_row, out),
                    _ => dots::<V, B, 4>(job, (row, col), x_row, out),
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
#[inline(always)]
unsafe fn dots<V: Bytes, B: Unpack, const N: usize>(
    job: &Job<'_>,
    (row, col): (&[u8], usize),
    first: usize,
    out: &mut Columns<'_>,
) {
    let x: [&[Tile]; N] = job.x.rows_from(first);
    // SAFETY: the caller's.
    let mut sums = unsafe { [V::Floats::splat(0.0); N] };
    let whole = row.chunks_exact(B::BYTES);
    let (n_whole, rest) = (whole.len(), whole.remainder());
    for (i, tile) in whole.enumerate() {
        ask_ahead(tile.as_ptr(), B::BYTES);
        // SAFETY: the caller's.
        unsafe { add::<V, B, N>((&tile[..B::BYTES], 8), &tiles(&x, i), &mut sums) };
    }
    if !rest.is_empty() {
        let n_block = 8 * rest.len() / B::BYTES;
        // SAFETY: the caller's.
        unsafe { add::<V, B, N>((rest, n_block), &tiles(&x, n_whole), &mut sums) };
    }
    for (r, sum) in sums.into_iter().enumerate() {
        // SAFETY: the caller's.
        out.set(first + r, col, unsafe { sum.total() });
    }
}

/// Adds the products of a tile of so many blocks of 32.
///
/// # Safety
/// As [`rows`].
#[inline(always)]
unsafe fn add<V: Bytes, B: Unpack, const N: usize>(
    (tile, n_block): (&[u8], usize),
    x: &[&Tile; N],
    sums: &mut [V::Floats; N],
) {
    // SAFETY: the caller's; the tile is whole blocks, and a half's eight lanes of four bytes are within the tile of activations.
    unsafe {
        let held = B::hold(tile);
        let [scales, minimums] = B::factors::<V>(tile);
        for half in 0..n_block.div_ceil(4) {
            let first = 4 * half;
            let w = V::transposed([
                block::<V, B>(tile, &held, (first, n_block)),
                block::<V, B>(tile, &held, (first + 1, n_block)),
                block::<V, B>(tile, &held, (first + 2, n_block)),
                block::<V, B>(tile, &held, (first + 3, n_block)),
            ]);
            for (x, sum) in x.iter().zip(&mut *sums) {
                let products = V::products::<B>(&w, x.qs.as_ptr().add(32 * half));
                let d = V::Floats::load(x.d.as_ptr().add(8 * half));
                *sum = products.mul_add(scales[half].mul(d), *sum);
                if B::MINIMUMS {
                    let s = V::Floats::load(x.s.as_ptr().add(8 * half));
                    *sum = minimums[half].mul_add(s, *sum);
                }
            }
        }
    }
}

/// The weights of block `b` of `n_block`, zeros after those, as signed bytes (in formats without offset and table none is negative).
///
/// # Safety
/// As [`rows`]; the tile has `n_block` blocks.
#[inline(always)]
unsafe fn block<V: Bytes, B: Unpack>(tile: &[u8], held: &B::Held, (b, n_block): (usize, usize)) -> V {
    // SAFETY: the caller's, and the block is in the tile.
    unsafe {
        if b >= n_block {
            return V::splat(0);
        }
        let codes = B::codes_of::<V>(tile, held, b);
        match B::TABLE {
            Some(table) => codes.looked_up(table),
            None if B::OFFSET == 0 => codes,
            None => codes.sub(V::splat(B::OFFSET)),
        }
    }
}
