//! The recurrences: [`model::stage`] for a convolution and for the gated delta rule, in float32.
//!
//! A sequence's rows are computed one after the other, and every sum has one order, so nothing depends on where a prompt is cut. Channels and
//! heads are shared out among threads.

use std::ops::Range;

use model::architecture::{Conv, DeltaRule};
use model::weights::DeltaRuleWeights;

use crate::exact::dot;
use crate::simd::columns::Columns;
use crate::simd::delta::{self, Token};
use crate::simd::isa::Isa;
use crate::simd::pool::Pool;

/// Consecutive rows of one sequence, in the order of their positions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// Where the sequence lives.
    pub(crate) slot: usize,
    /// Of the step's rows.
    pub(crate) rows: Range<usize>,
}

/// Channels in a parallel piece of a convolution.
const PIECE: usize = 256;

/// Tokens that a part of a head's matrix meets while it is near.
const TOKENS: usize = 16;

/// Some channels of a run's outputs.
struct Channels<'a> {
    first: usize,
    rows: Range<usize>,
    inputs: &'a [f32],
    out: Columns<'a>,
}

/// `out = conv(x)`, both `[n_row, n_channel]`, over the states of the runs' sequences, which then hold the latest inputs.
pub(crate) fn convolve(
    pool: &Pool,
    (conv, taps): (Conv, &[f32]),
    (runs, states): (&[Run], &mut [&mut [f32]]),
    (x, out): (&[f32], &mut [f32]),
) {
    let (n, n_tap) = (conv.n_channel, conv.n_tap);
    let mut pieces = Vec::new();
    let mut rest = out;
    for (run, state) in runs.iter().zip(states.iter()) {
        let (own, others) = rest.split_at_mut(run.rows.len() * n);
        rest = others;
        for (i, out) in Columns::new(own, n).split_cols(PIECE).enumerate() {
            pieces.push(Channels {
                first: i * PIECE,
                rows: run.rows.clone(),
                inputs: &state[..conv.n_state()],
                out,
            });
        }
    }
    pool.chunks(&mut pieces, 1, &|_, piece| {
        let Channels { first, rows, inputs, out } = &mut piece[0];
        let n_col = out.n_cols();
        for t in 0..rows.len() {
            // Input `t + i` of those that were there and then the rows.
            let input = |i: usize| match (t + i).checked_sub(n_tap - 1) {
                Some(row) => &x[(rows.start + row) * n + *first..][..n_col],
                None => &inputs[(t + i) * n + *first..][..n_col],
            };
            let out = out.row(t, 0..n_col);
            out.fill(0.0);
            for i in 0..n_tap {
                for (c, (out, x)) in out.iter_mut().zip(input(i)).enumerate() {
                    *out += taps[(*first + c) * n_tap + i] * x;
                }
            }
        }
    });
    for (run, state) in runs.iter().zip(states) {
        let kept = &mut state[..conv.n_state()];
        let rows = &x[run.rows.start * n..run.rows.end * n];
        let n_new = rows.len().min(kept.len());
        kept.copy_within(n_new.., 0);
        let n_old = kept.len() - n_new;
        kept[n_old..].copy_from_slice(&rows[rows.len() - n_new..]);
    }
}

/// What the delta rule reads of a step's rows.
pub(crate) struct DeltaRows<'a> {
    /// `[n_row, 2 n_k + n_v]`: queries, keys and values after the convolution and its activation.
    pub(crate) qkv: &'a [f32],
    /// `[n_row, n_v_head]`.
    pub(crate) alpha: &'a [f32],
    /// `[n_row, n_v_head]`.
    pub(crate) beta: &'a [f32],
}

/// A value head of a run.
struct Head<'a> {
    head: usize,
    rows: Range<usize>,
    /// `[head_dim of keys, head_dim of values]`.
    matrix: &'a mut [f32],
    out: Columns<'a>,
}

/// The gated delta rule of all rows: `out` is `[n_row, n_v]`, normalised by head. `eps` is that of all norms of the model.
pub(crate) fn delta_rule(
    (isa, pool): (Isa, &Pool),
    (rule, weights, eps): (DeltaRule, &DeltaRuleWeights, f32),
    (runs, states): (&[Run], &mut [&mut [f32]]),
    (x, out): (&DeltaRows<'_>, &mut [f32]),
) {
    let DeltaRule { n_k_head, n_v_head, head_dim, .. } = rule;
    let (n_k, n_row_value) = (rule.n_k(), rule.conv().n_channel);
    let mut pieces = Vec::new();
    let mut rest = out;
    for (run, state) in runs.iter().zip(states) {
        let (own, others) = rest.split_at_mut(run.rows.len() * rule.n_v());
        rest = others;
        let matrices = state[rule.conv().n_state()..].chunks_exact_mut(head_dim * head_dim);
        let columns = Columns::new(own, rule.n_v()).split_cols(head_dim);
        for (head, (matrix, out)) in matrices.zip(columns).enumerate() {
            pieces.push(Head { head, rows: run.rows.clone(), matrix, out });
        }
    }
    pool.chunks(&mut pieces, 1, &|_, piece| {
        let Head { head, rows, matrix, out } = &mut piece[0];
        let at = *head % n_k_head * head_dim;
        let mut units = vec![0.0; 2 * TOKENS * head_dim];
        for first in (0..rows.len()).step_by(TOKENS) {
            let some = first..rows.len().min(first + TOKENS);
            let tokens: Vec<Token<'_>> = some
                .clone()
                .zip(units.chunks_exact_mut(2 * head_dim))
                .map(|(t, units)| {
                    let row = rows.start + t;
                    let qkv = &x.qkv[row * n_row_value..][..n_row_value];
                    let (q, k) = units.split_at_mut(head_dim);
                    unit(&qkv[at..][..head_dim], eps, 1.0 / (head_dim as f32).sqrt(), q);
                    unit(&qkv[n_k + at..][..head_dim], eps, 1.0, k);
                    let of_head = row * n_v_head + *head;
                    let forget = (weights.a[*head] * softplus(x.alpha[of_head] + weights.dt[*head])).exp();
                    let v = &qkv[2 * n_k + *head * head_dim..][..head_dim];
                    Token { q, k, v, forget, write: sigmoid(x.beta[of_head]) }
                })
                .collect();
            delta::delta_rule(isa, matrix, &tokens, (&mut *out, first));
            for t in some {
                let out = out.row(t, 0..head_dim);
                let scale = 1.0 / (dot(out, out) / head_dim as f32 + eps).sqrt();
                out.iter_mut().zip(&weights.norm).for_each(|(o, w)| *o *= scale * w);
            }
        }
    });
}

/// `out = scale * x / sqrt(sum(x^2) + eps)`.
fn unit(x: &[f32], eps: f32, scale: f32, out: &mut [f32]) {
    let scale = scale / (dot(x, x) + eps).sqrt();
    out.iter_mut().zip(x).for_each(|(out, x)| *out = scale * x);
}

pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

fn softplus(x: f32) -> f32 {
    // Beyond this, one plus an exponential is the exponential.
    if x > 20.0 { x } else { x.exp().ln_1p() }
}
