//! The product in float32 with vectors: tiles of a few weight rows x three blocks of activation rows, their sums in registers.
//!
//! Layouts as in [`super::Scratch`] and [`super::prepared`]. A sum runs over a chunk's columns in order, and chunks are
//! added in order, whatever the tile.

use super::{F32Tiles, Job, f32_tiles};
use crate::simd::isa::{Isa, Vectors};
use crate::simd::lanes::Lanes;
#[cfg(target_arch = "aarch64")]
use crate::simd::lanes::Neon;
#[cfg(target_arch = "x86_64")]
use crate::simd::lanes::{Avx2, Avx512};

/// Adds the product of `panel` [group][cols + 16] and the job's row blocks to `sums` [blocks][group][lanes].
pub(super) fn multiply(isa: Isa, job: &Job<'_>, panel: &[f32], sums: &mut [f32]) {
    // SAFETY: a kernel exists only for an instruction set that this machine runs, and `f32_tiles` has checked that the
    // panel, the activations and the sums hold what the strides reach.
    unsafe {
        match isa.vectors() {
            #[cfg(target_arch = "x86_64")]
            Vectors::Bits512 => run_avx512(&f32_tiles(job, Avx512::LEN, panel, sums)),
            #[cfg(target_arch = "x86_64")]
            Vectors::Bits256 => run_avx2(&f32_tiles(job, Avx2::LEN, panel, sums)),
            // Tiles of 4 weight rows x 24 activation rows: 24 of 32 registers are sums.
            #[cfg(target_arch = "aarch64")]
            Vectors::Neon => run::<Neon, 4>(&f32_tiles(job, Neon::LEN, panel, sums)),
            _ => super::portable::multiply(job, panel, sums),
        }
    }
}

/// Tiles of 8 weight rows x 48 activation rows: 24 of 32 registers.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx2,fma,f16c")]
unsafe fn run_avx512(t: &F32Tiles) {
    // SAFETY: the caller's, and this function's own instruction set.
    unsafe { run::<Avx512, 8>(t) }
}

/// Tiles of 4 weight rows x 24 activation rows: 12 of 16 registers.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn run_avx2(t: &F32Tiles) {
    // SAFETY: the caller's, and this function's own instruction set.
    unsafe { run::<Avx2, 4>(t) }
}

/// # Safety
/// The machine has the instruction set of `L`, and `t` holds what it says.
#[inline(always)]
unsafe fn run<L: Lanes, const W: usize>(t: &F32Tiles) {
    const { assert!(super::PANEL.is_multiple_of(W)) };
    let mut block = 0;
    while block < t.n_blocks {
        let mut row = 0;
        while row < t.group {
            // SAFETY: the tiles cover blocks below `n_blocks` and weight rows below `group`, which is a multiple of `W`.
            unsafe {
                match t.n_blocks - block {
                    1 => tile::<L, W, 1>(t, row, block),
                    2 => tile::<L, W, 2>(t, row, block),
                    _ => tile::<L, W, 3>(t, row, block),
                }
            }
            row += W;
        }
        block += 3;
    }
}

/// `W` weight rows from `row` by `B` blocks from `block`.
///
/// # Safety
/// As [`run`]; `row + W` is at most `group`, `block + B` at most `n_blocks`.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // Plain indices are unrolled into registers.
unsafe fn tile<L: Lanes, const W: usize, const B: usize>(t: &F32Tiles, row: usize, block: usize) {
    // SAFETY: the caller's, and `t` vouches for the memory up to those.
    unsafe {
        let w = t.panel.add(row * t.panel_stride);
        let x = t.x.add(block * t.x_stride);
        let mut acc = [[L::splat(0.0); W]; B];
        for k in 0..t.n_cols {
            let mut xs = [L::splat(0.0); B];
            for b in 0..B {
                xs[b] = L::load(x.add(b * t.x_stride + k * L::LEN));
            }
            for r in 0..W {
                let weight = L::splat(*w.add(r * t.panel_stride + k));
                for b in 0..B {
                    acc[b][r] = xs[b].mul_add(weight, acc[b][r]);
                }
            }
        }
        for b in 0..B {
            for r in 0..W {
                let sum = t.sums.add(((block + b) * t.group + row + r) * L::LEN);
                let acc = if t.first { acc[b][r] } else { L::load(sum).add(acc[b][r]) };
                acc.store(sum);
            }
        }
    }
}
