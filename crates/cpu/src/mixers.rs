//! A layer's mixer: from the rows before it to what it adds to the residual stream.

use model::architecture::{Activation, Conv, DeltaRule, Heads, Mixer};
use model::stage::Stage;
use model::weights::{AttentionWeights, DeltaRuleWeights, MixerWeights, ShortConvWeights};

use crate::elementwise::{Turns, normalise_plain};
use crate::forward::{Buffer, Forward, Observer, StepRows};
use crate::kernels::{Queries, Rows};
use crate::recurrence::{DeltaRows, convolve, delta_rule, sigmoid};
use crate::simd::pool::Pool;

/// Rows that a mixer leaves between its parts.
#[derive(Default)]
pub(crate) struct MixerBuffers {
    /// Queries with their gates, or what a convolution reads.
    pub(crate) input: Buffer,
    /// Queries, or what a convolution gives.
    pub(crate) q: Buffer,
    pub(crate) k: Buffer,
    pub(crate) v: Buffer,
    pub(crate) gate: Buffer,
    /// What the output's linear map reads.
    pub(crate) mixed: Buffer,
}

/// What a layer's mixer reads.
#[derive(Clone, Copy)]
pub(crate) struct Before<'a> {
    /// The layer.
    pub(crate) n: usize,
    /// `[n_row, n_embd]`.
    pub(crate) x: Rows<'a>,
    pub(crate) step: &'a StepRows<'a>,
}

impl Forward<'_> {
    /// What a layer's mixer gives: `out` is `[n_row, n_embd]`.
    pub(crate) fn mix(
        &mut self,
        before: Before<'_>,
        (buffers, out): (&mut MixerBuffers, &mut [f32]),
        (turns, observe): (&[Turns], Observer<'_>),
    ) {
        let model = self.model;
        match (&model.weights.layers[before.n].mixer, model.architecture.mixers[before.n]) {
            (MixerWeights::Attention(weights), Mixer::Attention(heads)) => {
                self.attention(before, (weights, heads), (buffers, out), (turns, observe));
            }
            (MixerWeights::Latent(weights), Mixer::Latent(latent)) => {
                self.latent(before, (weights, latent), (buffers, out), (turns, observe));
            }
            (MixerWeights::ShortConv(weights), Mixer::ShortConv(conv)) => {
                self.short_conv(before, (weights, conv), (buffers, out), observe);
            }
            (MixerWeights::DeltaRule(weights), Mixer::DeltaRule(rule)) => {
                self.delta_rule(before, (weights, rule), (buffers, out), observe);
            }
            _ => unreachable!("a model's weights are of its architecture's kinds"),
        }
    }

    fn attention(
        &mut self,
        Before { n, x, step }: Before<'_>,
        (weights, heads): (&AttentionWeights, Heads),
        (buffers, out): (&mut MixerBuffers, &mut [f32]),
        (turns, observe): (&[Turns], Observer<'_>),
    ) {
        let arch = &self.model.architecture;
        let (attention, n_row) = (&arch.attention, x.n_row());
        let MixerBuffers { input, q, k, v, gate, mixed } = buffers;
        let (q, a) = (q.get(n_row * heads.n_q()), mixed.get(n_row * heads.n_q()));
        let (k, v) = (k.get(n_row * heads.n_kv()), v.get(n_row * heads.n_kv()));
        let gate = attention.gated.then(|| gate.get(q.len()));
        let q_rows = if gate.is_some() { input.get(2 * q.len()) } else { &mut *q };
        match (&weights.k, &weights.v) {
            (Some(of_k), Some(of_v)) => {
                self.linears(x, [&weights.q, of_k, of_v], [q_rows, &mut *k, &mut *v]);
            }
            (Some(of_k), None) => {
                self.linears(x, [&weights.q, of_k], [q_rows, &mut *k]);
                v.copy_from_slice(k);
            }
            _ => self.linears(x, [&weights.q], [q_rows]),
        }
        let gate = gate.map(|gate| {
            part(input.get(2 * q.len()), heads.head_dim, (&mut *q, &mut *gate));
            gate
        });
        self.norm_heads(weights, [&mut *q, &mut *k]);
        self.place((n, heads), (step.places, turns), [&mut *q, &mut *k]);
        let cache = arch.cache_of(n);
        if heads.keeps() {
            if attention.v_norm {
                normalise_plain(self.pool, arch.norm.eps, heads.head_dim, v);
            }
            self.kernels.write_kv(self.pool, cache, step.places, [k, v]);
        }
        observe(Stage::Qkv, n, q);

        let queries = Queries {
            q: Rows { data: q, n_cols: heads.n_q(), n_prompt: step.n_prompt },
            places: step.places,
            cache,
            heads,
            sinks: weights.sinks.as_deref(),
        };
        self.kernels.attend(self.pool, attention, &queries, a);
        if let Some(gate) = gate {
            open(self.pool, gate, a);
        }
        observe(Stage::Attend, n, a);
        self.linears(Rows { data: a, ..queries.q }, [&weights.output], [out]);
    }

    fn short_conv(
        &mut self,
        Before { n, x, step }: Before<'_>,
        (weights, conv): (&ShortConvWeights, Conv),
        (buffers, out): (&mut MixerBuffers, &mut [f32]),
        observe: Observer<'_>,
    ) {
        let (n_embd, n_row) = (conv.n_channel, x.n_row());
        let input = buffers.input.get(3 * n_embd * n_row);
        self.linears(x, [&weights.input], [&mut *input]);
        let gated = buffers.q.get(n_embd * n_row);
        let rows = input.chunks_exact(3 * n_embd);
        for (row, out) in rows.clone().zip(gated.chunks_exact_mut(n_embd)) {
            multiply(out, &row[..n_embd], &row[2 * n_embd..]);
        }
        observe(Stage::Qkv, n, gated);
        let convolved = buffers.v.get(gated.len());
        let mut states = self.states.of(n, step.runs.iter().map(|run| run.slot));
        convolve(self.pool, (conv, &weights.taps), (step.runs, &mut states), (gated, convolved));
        let mixed = buffers.mixed.get(gated.len());
        let convolved = convolved.chunks_exact(n_embd);
        for ((row, y), out) in rows.zip(convolved).zip(mixed.chunks_exact_mut(n_embd)) {
            multiply(out, &row[n_embd..2 * n_embd], y);
        }
        observe(Stage::Attend, n, mixed);
        self.linears(Rows { data: mixed, ..x }, [&weights.output], [out]);
    }

    fn delta_rule(
        &mut self,
        Before { n, x, step }: Before<'_>,
        (weights, rule): (&DeltaRuleWeights, DeltaRule),
        (buffers, out): (&mut MixerBuffers, &mut [f32]),
        observe: Observer<'_>,
    ) {
        let (n_row, conv) = (x.n_row(), rule.conv());
        let MixerBuffers { input, q, k, v, gate, mixed } = buffers;
        let input = input.get(n_row * conv.n_channel);
        let gate = gate.get(n_row * rule.n_v());
        let (alpha, beta) = (k.get(n_row * rule.n_v_head), v.get(n_row * rule.n_v_head));
        let linears = [&weights.qkv, &weights.gate, &weights.alpha, &weights.beta];
        self.linears(x, linears, [&mut *input, &mut *gate, &mut *alpha, &mut *beta]);
        let qkv = q.get(input.len());
        let mut states = self.states.of(n, step.runs.iter().map(|run| run.slot));
        convolve(self.pool, (conv, &weights.taps), (step.runs, &mut states), (input, qkv));
        self.kernels.activate(self.pool, Activation::Silu, qkv, None);
        observe(Stage::Qkv, n, qkv);

        let heads = mixed.get(gate.len());
        let eps = self.model.architecture.norm.eps;
        let rows = DeltaRows { qkv, alpha, beta };
        let on = (self.kernels.isa(), self.pool);
        delta_rule(on, (rule, weights, eps), (step.runs, &mut states), (&rows, heads));
        self.kernels.activate(self.pool, Activation::Silu, gate, Some(heads));
        observe(Stage::Attend, n, gate);
        self.linears(Rows { data: gate, n_cols: rule.n_v(), ..x }, [&weights.output], [out]);
    }
}

fn multiply(out: &mut [f32], a: &[f32], b: &[f32]) {
    out.iter_mut().zip(a).zip(b).for_each(|((out, a), b)| *out = a * b);
}

/// Queries and gates, which take turns by head.
fn part(both: &[f32], head_dim: usize, (q, gate): (&mut [f32], &mut [f32])) {
    let heads = q.chunks_exact_mut(head_dim).zip(gate.chunks_exact_mut(head_dim));
    for (both, (q, gate)) in both.chunks_exact(2 * head_dim).zip(heads) {
        q.copy_from_slice(&both[..head_dim]);
        gate.copy_from_slice(&both[head_dim..]);
    }
}

/// `a *= sigmoid(gate)`.
fn open(pool: &Pool, gate: &[f32], a: &mut [f32]) {
    const PIECE: usize = 4096;
    pool.chunks(a, PIECE, &|piece, a| {
        a.iter_mut().zip(&gate[piece * PIECE..]).for_each(|(a, gate)| *a *= sigmoid(*gate));
    });
}
