//! The product in plain Rust, written so that the compiler uses whatever vectors the target always has.
//!
//! Tiles of 4 weight rows x 8 activation rows; layouts as in [`super::Scratch`] and [`super::prepared`].

use super::Job;
use crate::simd::dequant::PAD;

const LANES: usize = 8;
const TILE: usize = 4;

/// Adds the product of `panel` [group][cols + 16] and the job's row blocks to `sums` [blocks][group][8].
pub(super) fn multiply(job: &Job<'_>, panel: &[f32], sums: &mut [f32]) {
    let n = job.cols.len();
    let block_words = LANES * job.x.n_cols();
    let blocks = job.x.words()[job.blocks.start * block_words..].chunks_exact(block_words);
    for (block, sums) in blocks.zip(sums.chunks_exact_mut(job.group * LANES)) {
        let x = &block[job.cols.start * LANES..job.cols.end * LANES];
        let rows = panel.chunks_exact(TILE * (n + PAD));
        for (rows, sums) in rows.zip(sums.chunks_exact_mut(TILE * LANES)) {
            let rows: [&[f32]; TILE] = std::array::from_fn(|i| &rows[i * (n + PAD)..][..n]);
            let product = tile(rows, x);
            for (sums, product) in sums.chunks_exact_mut(LANES).zip(product) {
                for (sum, product) in sums.iter_mut().zip(product) {
                    *sum = if job.first { product } else { *sum + product };
                }
            }
        }
    }
}

fn tile(rows: [&[f32]; TILE], x: &[u32]) -> [[f32; LANES]; TILE] {
    let mut acc = [[0.0f32; LANES]; TILE];
    let [a, b, c, d] = rows;
    for ((((a, b), c), d), x) in a.iter().zip(b).zip(c).zip(d).zip(x.chunks_exact(LANES)) {
        for (acc, w) in acc.iter_mut().zip([a, b, c, d]) {
            for (acc, x) in acc.iter_mut().zip(x) {
                *acc += w * f32::from_bits(*x);
            }
        }
    }
    acc
}
