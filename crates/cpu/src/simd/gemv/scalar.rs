//! The block formats' kernel in portable Rust: for processors without AVX2, and as the plainest form of the arithmetic.
//!
//! Integers are summed exactly over 16 weights, which share a scale in every format, then scaled and added in f32 in order.

use super::Columns;
use super::blocks::{Blocks, Scales};
use super::dispatch::Job;
use crate::simd::quantize::{TILE, Tile, lane_of};

/// Codes as signed weights, with their scales.
struct Unpacked {
    weights: [i8; TILE],
    scales: Scales,
}

/// Computes the product of the job.
pub(super) fn gemv<B: Blocks>(job: &Job<'_>, out: &mut Columns<'_>) {
    let mut sums = vec![0.0f32; job.x.n_rows()];
    for (col, row) in job.rows().enumerate() {
        sums.fill(0.0);
        for (i, tile) in row.chunks(B::BYTES).enumerate() {
            let unpacked = if tile.len() == B::BYTES {
                unpack::<B>(tile)
            } else {
                // Zero blocks of every format add zero, as the activations past the end are zero too.
                let mut whole = [0; 512];
                whole[..tile.len()].copy_from_slice(tile);
                unpack::<B>(&whole[..B::BYTES])
            };
            for (x_row, sum) in sums.iter_mut().enumerate() {
                *sum += dot::<B>(&unpacked, &job.x.row(x_row)[i]);
            }
        }
        for (x_row, &sum) in sums.iter().enumerate() {
            out.set(x_row, col, sum);
        }
    }
}

fn unpack<B: Blocks>(tile: &[u8]) -> Unpacked {
    let mut codes = [0; TILE];
    B::codes(tile, &mut codes);
    let weights = match B::TABLE {
        Some(table) => codes.map(|code| table[usize::from(code & 15)]),
        None => codes.map(|code| code.wrapping_sub(B::OFFSET) as i8),
    };
    Unpacked { weights, scales: B::scales(tile) }
}

fn dot<B: Blocks>(w: &Unpacked, x: &Tile) -> f32 {
    let mut sum = 0.0;
    for (g, weights) in w.weights.as_chunks::<16>().0.iter().enumerate() {
        let lane = lane_of(g);
        let mut products = 0i32;
        for (v, weights) in weights.as_chunks::<4>().0.iter().enumerate() {
            for (&w, &q) in weights.iter().zip(&x.qs[64 * v + 4 * lane..][..4]) {
                products += i32::from(w) * i32::from(q);
            }
        }
        sum += w.scales.d[g] * x.d[lane] * products as f32;
        if B::MINIMUMS {
            sum += w.scales.m[g] * x.s[lane];
        }
    }
    sum
}
