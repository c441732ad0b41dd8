//! In which order are weights and several activation rows multiplied? Some tiles of some weight rows are unpacked into the first-level cache,
//! and all activations read them there; of the activations as many tiles are taken at once as stay in that cache, too.
//!
//! The sum of a weight row with an activation row is in a register of its own, and goes tile by tile in either order.

use std::arch::asm;
use std::ops::Range;

use super::dispatch::Job;
use super::{AHEAD, Columns, ask};
use crate::simd::quantize::{TILE, Tile};

/// Tiles of all activation rows that weight rows read in turn: 24 KiB.
const X_TILES: usize = 64;

/// Weight rows that read them.
const W_ROWS: usize = 16;

/// Tiles of weights that are unpacked before they are multiplied: about 12 KiB.
const W_TILES: usize = 32;

/// Activation rows whose sums are in registers at once, at most.
const MAX_ROWS: usize = 8;

/// What an instruction set makes of tiles of 256 weights.
pub(super) trait Kernel: Sized {
    /// A tile's weights with their scales.
    type Unpacked: Copy;
    /// The running sum of a weight row with an activation row.
    type Sum: Copy;
    /// Activation rows whose sums are in registers at once: 4 or 8.
    const ROWS: usize;

    /// No weights.
    ///
    /// # Safety
    /// Here and below: the processor has the instruction set.
    unsafe fn nothing() -> Self::Unpacked;
    /// A sum of nothing.
    unsafe fn zero() -> Self::Sum;
    /// Adds the products of a tile of weights with that of each activation row, which is there, and goes on to the rows' next tiles.
    unsafe fn add<const N: usize>(
        weights: &Self::Unpacked,
        x: &mut [*const Tile; N],
        sums: &mut [Self::Sum; N],
    );
    /// The dot products.
    unsafe fn totals<const N: usize>(sums: [Self::Sum; N]) -> [f32; N];
    /// [`dots`], compiled for the instruction set.
    unsafe fn dots<const N: usize>(part: &Part<'_, Self>, kept: &mut [Kept<Self>], out: &mut Columns<'_>);
}

/// A format that a kernel can unpack.
pub(super) trait Unpack<K: Kernel> {
    /// Bytes of a tile.
    const BYTES: usize;

    /// Unpacks the tile at the start of `rows`, of which only `n` weights are there if these are fewer than 256.
    ///
    /// # Safety
    /// The processor has the instruction set. `rows` has as many bytes as `n` weights take; what follows them is weights as well.
    unsafe fn unpack(rows: &[u8], n: usize) -> K::Unpacked;
}

/// Sums of a weight row with some activation rows, kept until its other tiles are multiplied.
pub(super) type Kept<K> = [<K as Kernel>::Sum; MAX_ROWS];

/// Tiles `tiles` of weight rows `cols`, unpacked, for the activation rows from `x_row` on.
pub(super) struct Part<'a, K: Kernel> {
    job: &'a Job<'a>,
    tiles: Range<usize>,
    cols: Range<usize>,
    x_row: usize,
    unpacked: &'a [K::Unpacked; W_TILES],
}

/// Computes the products of the job.
///
/// # Safety
/// The processor has the kernel's instruction set.
#[inline(always)]
pub(super) unsafe fn many<K: Kernel, F: Unpack<K>>(job: &Job<'_>, out: &mut Columns<'_>) {
    let (n_x, n_w) = (job.x.n_rows(), out.n_cols());
    let n_tiles = job.weights.n_cols.div_ceil(TILE);
    let width = n_tiles.div_ceil(n_tiles.div_ceil((X_TILES / n_x).clamp(1, W_TILES)));
    let n_kept = if width < n_tiles { n_x.div_ceil(K::ROWS) * W_ROWS } else { 0 };
    // SAFETY: the caller's.
    let (mut kept, mut unpacked) = unsafe { (vec![[K::zero(); MAX_ROWS]; n_kept], [K::nothing(); W_TILES]) };
    for first in (0..n_w).step_by(W_ROWS) {
        let end = n_w.min(first + W_ROWS);
        for start in (0..n_tiles).step_by(width) {
            let tiles = start..n_tiles.min(start + width);
            for col in (first..end).step_by(W_TILES / width) {
                let cols = col..end.min(col + W_TILES / width);
                // SAFETY: the caller's.
                unsafe { unpack::<K, F>(job, cols.clone(), tiles.clone(), &mut unpacked) };
                let mut part = Part::<K> { job, tiles: tiles.clone(), cols, x_row: 0, unpacked: &unpacked };
                while part.x_row < n_x {
                    let kept =
                        kept.get_mut(part.x_row / K::ROWS * W_ROWS + (col - first)..).unwrap_or_default();
                    let n = match n_x - part.x_row {
                        1 => 1,
                        2..4 => 2,
                        4..8 => 4,
                        _ => K::ROWS,
                    };
                    // SAFETY: the caller's.
                    unsafe {
                        match n {
                            1 => K::dots::<1>(&part, kept, out),
                            2 => K::dots::<2>(&part, kept, out),
                            4 => K::dots::<4>(&part, kept, out),
                            _ => K::dots::<MAX_ROWS>(&part, kept, out),
                        }
                    }
                    part.x_row += n;
                }
            }
        }
    }
}

/// Unpacks these tiles of these weight rows.
///
/// # Safety
/// As [`many`].
#[inline(always)]
unsafe fn unpack<K: Kernel, F: Unpack<K>>(
    job: &Job<'_>,
    rows: Range<usize>,
    tiles: Range<usize>,
    unpacked: &mut [K::Unpacked; W_TILES],
) {
    // What is read soon: the same tiles of rows to come, where those after these are read later.
    let ahead = if tiles.len() < job.n_tiles() { 2 * job.row_bytes } else { AHEAD };
    let (start, n_cols) = (tiles.start * F::BYTES, job.weights.n_cols - tiles.start * TILE);
    for (row, unpacked) in rows.zip(unpacked.chunks_exact_mut(tiles.len())) {
        let (mut rest, mut n) = (&job.weights.bytes[row * job.row_bytes + start..], n_cols);
        for unpacked in unpacked {
            ask(rest.as_ptr().wrapping_add(ahead), F::BYTES);
            // SAFETY: the caller's; `n` weights of the row are left.
            *unpacked = unsafe { F::unpack(rest, n.min(TILE)) };
            (rest, n) = (rest.get(F::BYTES..).unwrap_or_default(), n.saturating_sub(TILE));
        }
    }
}

/// The products of unpacked tiles with `N` activation rows.
///
/// # Safety
/// As [`many`].
#[inline(always)]
pub(super) unsafe fn dots<K: Kernel, const N: usize>(
    Part { job, tiles, cols, x_row, unpacked }: &Part<'_, K>,
    kept: &mut [Kept<K>],
    out: &mut Columns<'_>,
) {
    let (n, of_kept) = (tiles.len(), x_row % K::ROWS);
    let (is_first, is_last) = (tiles.start == 0, tiles.end == job.weights.n_cols.div_ceil(TILE));
    let (first, stride) = job.x.tiles_from(*x_row..x_row + N, tiles.clone());
    for (row, col) in cols.clone().enumerate() {
        // SAFETY: the caller's.
        let mut sums = unsafe { [K::zero(); N] };
        if !is_first {
            sums.copy_from_slice(&kept[row][of_kept..][..N]);
        }
        let mut x = rows_at::<N>(first, stride);
        for weights in &unpacked[row * n..][..n] {
            // SAFETY: the caller's; `tiles_from` checked that so many tiles of so many rows are there.
            unsafe { K::add(weights, &mut x, &mut sums) };
        }
        if is_last {
            // SAFETY: the caller's.
            out.set_rows(*x_row, col, unsafe { K::totals(sums) });
        } else {
            kept[row][of_kept..][..N].copy_from_slice(&sums);
        }
    }
}

/// Addresses of `N` rows of tiles.
#[inline(always)]
pub(super) fn rows_at<const N: usize>(first: *const Tile, stride: usize) -> [*const Tile; N] {
    let mut rows = [first; N];
    for (row, at) in rows.iter_mut().enumerate() {
        *at = first.wrapping_add(row * stride);
    }
    rows
}

/// The tile after this one, at an address that the compiler cannot trace to that of another row: it would keep one index for all rows, and
/// with an index an instruction of x86 that reads memory takes two of the places where the processor holds what it has begun.
#[inline(always)]
#[allow(clippy::pointers_in_nomem_asm_block)] // There is nothing that could use memory.
pub(super) fn next(mut tile: *const Tile) -> *const Tile {
    // SAFETY: no instruction.
    unsafe { asm!("/* {} */", inout(reg) tile, options(pure, nomem, nostack, preserves_flags)) };
    tile.wrapping_add(1)
}
