//! What is done value by value or row by row between the products: norms, biases, sums, RoPE.
//!
//! Rows are cut into pieces among the threads; a row's result depends on that row alone.

use model::architecture::{Norm, NormKind, Pairing};
use model::rope::RopeTable;
use model::weights::{Linear, NormWeights};

use crate::exact::dot;
use crate::kernels::Place;
use crate::simd::pool::Pool;

/// Values in a parallel piece of an elementwise sum.
const PIECE: usize = 1 << 14;

/// `x += y`.
pub(crate) fn add(pool: &Pool, x: &mut [f32], y: &[f32]) {
    pool.chunks(x, PIECE, &|piece, x| add_piece(x, &y[piece * PIECE..][..x.len()]));
}

fn add_piece(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}

/// `x += factor * y`.
pub(crate) fn add_scaled(pool: &Pool, x: &mut [f32], factor: f32, y: &[f32]) {
    if factor == 1.0 {
        return add(pool, x, y);
    }
    pool.chunks(x, PIECE, &|piece, x| {
        x.iter_mut().zip(&y[piece * PIECE..]).for_each(|(x, y)| *x += factor * y);
    });
}

/// `x *= factor`.
pub(crate) fn scale(pool: &Pool, x: &mut [f32], factor: f32) {
    pool.chunks(x, PIECE, &|_, x| x.iter_mut().for_each(|x| *x *= factor));
}

/// `x = cap * tanh(factor * x / cap)`, or `factor * x` without a cap.
pub(crate) fn scale_and_cap(pool: &Pool, x: &mut [f32], factor: f32, cap: Option<f32>) {
    if factor == 1.0 && cap.is_none() {
        return;
    }
    pool.chunks(x, PIECE, &|_, x| match cap {
        Some(cap) => x.iter_mut().for_each(|x| *x = cap * (factor * *x / cap).tanh()),
        None => x.iter_mut().for_each(|x| *x *= factor),
    });
}

/// Multiplies the products of a linear map's matrix, `[n_row, n_out]`, by its scale, and adds the bias.
pub(crate) fn finish(pool: &Pool, linear: &Linear, out: &mut [f32]) {
    if let Some(factor) = linear.weight.scale {
        scale(pool, out, factor);
    }
    if let Some(bias) = &linear.bias {
        let rows = PIECE.div_ceil(bias.len()) * bias.len();
        pool.chunks(out, rows, &|_, out| {
            out.chunks_exact_mut(bias.len()).for_each(|row| add_piece(row, bias));
        });
    }
}

/// `out = norm(x)` of one row.
pub(crate) fn normalise(norm: Norm, weights: &NormWeights, x: &[f32], out: &mut [f32]) {
    let n = x.len() as f32;
    let mean = match norm.kind {
        NormKind::Rms => 0.0,
        NormKind::Layer => x.iter().sum::<f32>() / n,
    };
    for (out, x) in out.iter_mut().zip(x) {
        *out = x - mean;
    }
    let scale = 1.0 / (dot(out, out) / n + norm.eps).sqrt();
    for (out, w) in out.iter_mut().zip(&weights.weight) {
        *out *= scale * w;
    }
    if let Some(bias) = &weights.bias {
        add_piece(out, bias);
    }
}

/// `x = rms_norm(x)` of consecutive groups of as many values as `weight` has: of heads, or of whole rows.
pub(crate) fn normalise_groups(pool: &Pool, eps: f32, weight: &[f32], rows: &mut [f32]) {
    each_group(pool, eps, weight.len(), rows, |group, scale| {
        group.iter_mut().zip(weight).for_each(|(x, w)| *x *= scale * w);
    });
}

/// The same of groups of `n` values, without a weight.
pub(crate) fn normalise_plain(pool: &Pool, eps: f32, n: usize, rows: &mut [f32]) {
    each_group(pool, eps, n, rows, |group, scale| group.iter_mut().for_each(|x| *x *= scale));
}

/// Calls `apply` with each group of `n` values and what an RMS norm multiplies it by.
fn each_group(pool: &Pool, eps: f32, n: usize, rows: &mut [f32], apply: impl Fn(&mut [f32], f32) + Sync) {
    pool.chunks(rows, PIECE.div_ceil(n) * n, &|_, rows| {
        for group in rows.chunks_exact_mut(n) {
            let scale = 1.0 / (dot(group, group) / n as f32 + eps).sqrt();
            apply(group, scale);
        }
    });
}

/// The angles of a step's rows.
pub(crate) struct Turns {
    /// `[n_row, n_rot / 2]`.
    cos: Vec<f32>,
    sin: Vec<f32>,
    half: usize,
}

impl Turns {
    pub(crate) fn new(rope: &RopeTable, places: &[Place<'_>]) -> Turns {
        let half = rope.inv_freq.len();
        let (mut cos, mut sin) = (vec![0.0; places.len() * half], vec![0.0; places.len() * half]);
        for ((place, cos), sin) in
            places.iter().zip(cos.chunks_exact_mut(half)).zip(sin.chunks_exact_mut(half))
        {
            rope.angles(place.position, cos, sin);
        }
        Turns { cos, sin, half }
    }

    /// Turns every head of every row; `rows` is `[n_row, n_head * head_dim]`.
    pub(crate) fn apply(&self, pool: &Pool, pairing: Pairing, head_dim: usize, rows: &mut [f32]) {
        let (half, n_row) = (self.half, self.cos.len() / self.half);
        let n_cols = rows.len() / n_row;
        pool.chunks(rows, 8 * n_cols, &|piece, rows| {
            for (i, row) in rows.chunks_exact_mut(n_cols).enumerate() {
                let at = (piece * 8 + i) * half;
                let (cos, sin) = (&self.cos[at..at + half], &self.sin[at..at + half]);
                for head in row.chunks_exact_mut(head_dim) {
                    turn(pairing, cos, sin, &mut head[..2 * half]);
                }
            }
        });
    }
}

fn turn(pairing: Pairing, cos: &[f32], sin: &[f32], head: &mut [f32]) {
    let rotate = |a: &mut f32, b: &mut f32, (cos, sin): (&f32, &f32)| {
        (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
    };
    let angles = cos.iter().zip(sin);
    match pairing {
        Pairing::Adjacent => {
            for (pair, angle) in head.chunks_exact_mut(2).zip(angles) {
                let [a, b] = pair else { continue };
                rotate(a, b, angle);
            }
        }
        Pairing::HalfSplit => {
            let (low, high) = head.split_at_mut(cos.len());
            for ((a, b), angle) in low.iter_mut().zip(high).zip(angles) {
                rotate(a, b, angle);
            }
        }
    }
}
