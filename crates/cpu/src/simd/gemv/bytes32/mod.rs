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

use std::marker::PhantomData;

use super::dispatch::Job;
use super::many::{self, Kept, Kernel, Part, many, next};
use super::{Columns, ask_ahead};
use crate::simd::lanes::Lanes;
use crate::simd::quantize::{TILE, Tile, tiles};
use unpack::Factors;
pub(super) use unpack::Unpack;
use vector::Bytes;

/// # Safety
/// The processor has the vectors' instruction set.
#[inline(always)]
unsafe fn rows<V: Bytes, B: Unpack>(job: &Job<'_>, out: &mut Columns<'_>) {
    // SAFETY: the caller's.
    unsafe {
        match job.x.n_rows() {
            1 => few::<V, B, 1>(job, out),
            2 => few::<V, B, 2>(job, out),
            3 => few::<V, B, 3>(job, out),
            4 => few::<V, B, 4>(job, out),
            _ => many::<Tiles<V, B>, Format<B>>(job, out),
        }
    }
}

/// The dot products with `N` activation rows, each half of a tile multiplied as it is unpacked.
///
/// # Safety
/// As [`rows`].
#[inline(always)]
unsafe fn few<V: Bytes, B: Unpack, const N: usize>(job: &Job<'_>, out: &mut Columns<'_>) {
    let x: [&[Tile]; N] = job.x.rows_from(0);
    for (col, row) in job.rows().enumerate() {
        // SAFETY: the caller's.
        let mut sums = unsafe { [V::Floats::splat(0.0); N] };
        for (i, tile) in row.chunks(B::BYTES).enumerate() {
            ask_ahead(tile.as_ptr(), tile.len());
            // SAFETY: the caller's; the slices are whole blocks.
            unsafe {
                match tile.len() == B::BYTES {
                    true => add::<V, B, N>((&tile[..B::BYTES], 8), &tiles(&x, i), &mut sums),
                    false => add::<V, B, N>((tile, 8 * tile.len() / B::BYTES), &tiles(&x, i), &mut sums),
                }
            }
        }
        // SAFETY: the caller's.
        out.set_rows(0, col, unsafe { totals::<V, N>(sums) });
    }
}

/// # Safety
/// As [`rows`].
#[inline(always)]
unsafe fn totals<V: Bytes, const N: usize>(sums: [V::Floats; N]) -> [f32; N] {
    let mut out = [0.0; N];
    for (out, sum) in out.iter_mut().zip(sums) {
        // SAFETY: the caller's.
        *out = unsafe { sum.total() };
    }
    out
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
    // SAFETY: the caller's; the tile is whole blocks.
    unsafe {
        let held = B::hold(tile);
        let factors = B::factors::<V>(tile);
        for half in 0..n_block.div_ceil(4) {
            let w = half_of::<V, B>(tile, &held, (half, n_block));
            for (x, sum) in x.iter().zip(&mut *sums) {
                add_half::<V, B>(&w, &factors, (std::ptr::from_ref(*x), half), sum);
            }
        }
    }
}

/// Half a tile of `n_block` blocks: the weights of four, transposed.
///
/// # Safety
/// As [`rows`]; the tile has `n_block` blocks.
#[inline(always)]
unsafe fn half_of<V: Bytes, B: Unpack>(
    tile: &[u8],
    held: &B::Held,
    (half, n_block): (usize, usize),
) -> [V; 4] {
    let first = 4 * half;
    // SAFETY: the caller's.
    unsafe {
        V::transposed([
            block::<V, B>(tile, held, (first, n_block)),
            block::<V, B>(tile, held, (first + 1, n_block)),
            block::<V, B>(tile, held, (first + 2, n_block)),
            block::<V, B>(tile, held, (first + 3, n_block)),
        ])
    }
}

/// Adds the products of half a tile to one sum.
///
/// # Safety
/// As [`rows`]; there is a tile at `x`.
#[inline(always)]
unsafe fn add_half<V: Bytes, B: Unpack>(
    w: &[V; 4],
    [scales, minimums]: &Factors<V>,
    (x, half): (*const Tile, usize),
    sum: &mut V::Floats,
) {
    // SAFETY: the caller's; a half's eight lanes of four bytes are within the tile of activations.
    unsafe {
        let x = &*x;
        let products = V::products::<B>(w, x.qs.as_ptr().add(32 * half));
        let d = V::Floats::load(x.d.as_ptr().add(8 * half));
        *sum = products.mul_add(scales[half].mul(d), *sum);
        if B::MINIMUMS {
            let s = V::Floats::load(x.s.as_ptr().add(8 * half));
            *sum = minimums[half].mul_add(s, *sum);
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

/// Tiles of a format's weights in vectors of 32 bytes.
pub(super) struct Tiles<V, B>(PhantomData<(V, B)>);

/// Such a tile, unpacked: both halves, or one where the row ends.
#[derive(Clone, Copy)]
pub(super) struct Unpacked<V: Bytes> {
    halves: [[V; 4]; 2],
    factors: Factors<V>,
    n_half: usize,
}

// SAFETY of every block: the caller's processor has the vectors' instruction set.
impl<V: Bytes, B: Unpack> Kernel for Tiles<V, B> {
    type Unpacked = Unpacked<V>;
    type Sum = V::Floats;
    const ROWS: usize = 4;

    #[inline(always)]
    unsafe fn nothing() -> Unpacked<V> {
        // SAFETY: as said above.
        unsafe {
            let none = V::Floats::splat(0.0);
            Unpacked { halves: [[V::splat(0); 4]; 2], factors: [[none; 2]; 2], n_half: 0 }
        }
    }
    #[inline(always)]
    unsafe fn zero() -> V::Floats {
        // SAFETY: as said above.
        unsafe { V::Floats::splat(0.0) }
    }
    #[inline(always)]
    unsafe fn add<const N: usize>(w: &Unpacked<V>, x: &mut [*const Tile; N], sums: &mut [V::Floats; N]) {
        // SAFETY: as said above, and the caller's tiles.
        unsafe {
            for (&x, sum) in x.iter().zip(&mut *sums) {
                add_half::<V, B>(&w.halves[0], &w.factors, (x, 0), sum);
            }
            if w.n_half > 1 {
                for (&x, sum) in x.iter().zip(&mut *sums) {
                    add_half::<V, B>(&w.halves[1], &w.factors, (x, 1), sum);
                }
            }
        }
        for x in x {
            *x = next(*x);
        }
    }
    #[inline(always)]
    unsafe fn totals<const N: usize>(sums: [V::Floats; N]) -> [f32; N] {
        // SAFETY: as said above.
        unsafe { totals::<V, N>(sums) }
    }
    #[inline(always)]
    unsafe fn dots<const N: usize>(part: &Part<'_, Self>, kept: &mut [Kept<Self>], out: &mut Columns<'_>) {
        // SAFETY: as said above.
        unsafe { many::dots::<Self, N>(part, kept, out) }
    }
}

/// A format, for [`many`].
struct Format<B>(PhantomData<B>);

impl<V: Bytes, B: Unpack> many::Unpack<Tiles<V, B>> for Format<B> {
    const BYTES: usize = B::BYTES;

    #[inline(always)]
    unsafe fn unpack(rows: &[u8], n: usize) -> Unpacked<V> {
        let n_block = n / 32;
        // SAFETY: the caller's; the slices are so many blocks.
        unsafe {
            match n == TILE {
                true => unpack::<V, B>(&rows[..B::BYTES], 8),
                false => unpack::<V, B>(&rows[..n_block * B::BYTES / 8], n_block),
            }
        }
    }
}

/// # Safety
/// As [`rows`]; the tile has `n_block` blocks.
#[inline(always)]
unsafe fn unpack<V: Bytes, B: Unpack>(tile: &[u8], n_block: usize) -> Unpacked<V> {
    // SAFETY: the caller's.
    unsafe {
        let held = B::hold(tile);
        Unpacked {
            halves: [half_of::<V, B>(tile, &held, (0, n_block)), half_of::<V, B>(tile, &held, (1, n_block))],
            factors: B::factors::<V>(tile),
            n_half: n_block.div_ceil(4),
        }
    }
}
