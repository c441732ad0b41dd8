//! The product with AVX2 and FMA: tiles of 4 weight rows x 24 activation rows (12 sums in registers).
//!
//! Layouts as in [`super::Scratch`] and [`super::prepared`]. A sum runs over a chunk's columns in order, and chunks are
//! added in order, whatever the tile.

use super::Job;
use std::arch::x86_64::{
    _mm256_add_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm256_storeu_ps,
};

const LANES: usize = 8;

/// Adds the product of `panel` [group][cols + 16] and the job's row blocks to `sums` [blocks][group][8].
pub(super) fn multiply(job: &Job<'_>, panel: &[f32], sums: &mut [f32]) {
    let tiles = super::f32_tiles(job, LANES, panel, sums);
    // SAFETY: a kernel exists only for an instruction set that this machine runs, and `f32_tiles` has checked that the
    // panel, the activations and the sums hold what the strides reach.
    unsafe { run(&tiles) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn run(t: &super::F32Tiles) {
    let mut block = 0;
    while block < t.n_blocks {
        let mut row = 0;
        while row < t.group {
            // SAFETY: the tiles cover blocks below `n_blocks` and weight rows below `group`, which is a multiple of 4.
            unsafe {
                match t.n_blocks - block {
                    1 => tile::<4, 1>(t, row, block),
                    2 => tile::<4, 2>(t, row, block),
                    _ => tile::<4, 3>(t, row, block),
                }
            }
            row += 4;
        }
        block += 3;
    }
}

/// `W` weight rows from `row` by `B` blocks from `block`.
#[inline]
#[target_feature(enable = "avx2,fma")]
#[allow(clippy::needless_range_loop)] // Plain indices are unrolled into registers.
unsafe fn tile<const W: usize, const B: usize>(t: &super::F32Tiles, row: usize, block: usize) {
    // SAFETY: `row + W <= group` and `block + B <= n_blocks`, and `t` vouches for the memory up to those.
    unsafe {
        let w = t.panel.add(row * t.panel_stride);
        let x = t.x.add(block * t.x_stride);
        let mut acc = [[_mm256_setzero_ps(); W]; B];
        for k in 0..t.n_cols {
            let mut xs = [_mm256_setzero_ps(); B];
            for (b, lanes) in xs.iter_mut().enumerate() {
                *lanes = _mm256_loadu_ps(x.add(b * t.x_stride + k * LANES));
            }
            for r in 0..W {
                let weight = _mm256_set1_ps(*w.add(r * t.panel_stride + k));
                for b in 0..B {
                    acc[b][r] = _mm256_fmadd_ps(xs[b], weight, acc[b][r]);
                }
            }
        }
        for (b, acc) in acc.iter().enumerate() {
            for (r, &acc) in acc.iter().enumerate() {
                let sum = t.sums.add(((block + b) * t.group + row + r) * LANES);
                let acc = if t.first { acc } else { _mm256_add_ps(_mm256_loadu_ps(sum), acc) };
                _mm256_storeu_ps(sum, acc);
            }
        }
    }
}
