//! One step, stage by stage: [`model::stage`] as code, over any set of kernels.
//!
//! Rows are ordered prompts first, then generated rows, so that each kind is one contiguous block. `x` is the residual stream.

use model::architecture::Position;
use model::rope::RopeTable;
use model::stage::Stage;
use model::weights::{Ffn, Layer, Linear, NormWeights};
use model::{Matrix, Model};

use crate::elementwise::{Turns, add, add_bias, normalise};
use crate::experts;
use crate::kernels::{Kernels, Place, Product, Queries, Rows};
use crate::simd::pool::Pool;

/// Called with what each stage leaves behind, `[n_row, _]`; `layer` is 0 outside the layers.
pub type Observer<'a> = &'a mut dyn FnMut(Stage, usize, &[f32]);

/// What a step computes with.
pub(crate) struct Forward<'a> {
    pub(crate) model: &'a Model,
    pub(crate) pool: &'a Pool,
    pub(crate) kernels: &'a mut dyn Kernels,
    pub(crate) rope: Option<&'a RopeTable>,
}

/// Rows of a step's intermediate results, kept from step to step: fresh memory for each would cost more than some of the stages.
#[derive(Default)]
pub(crate) struct Buffers {
    /// The residual stream, `[n_row, n_embd]`.
    pub(crate) x: Buffer,
    normed: Buffer,
    q: Buffer,
    k: Buffer,
    v: Buffer,
    a: Buffer,
    out: Buffer,
    hidden: Buffer,
    up: Buffer,
}

/// Memory for as many values as were ever asked for.
#[derive(Default)]
pub(crate) struct Buffer(Vec<f32>);

impl Buffer {
    /// `n` values, which hold whatever was left there.
    pub(crate) fn get(&mut self, n: usize) -> &mut [f32] {
        if self.0.len() < n {
            self.0.resize(n, 0.0);
        }
        &mut self.0[..n]
    }
}

/// The rows of a step.
pub(crate) struct StepRows<'a> {
    /// `[n_row]`.
    pub(crate) tokens: &'a [u32],
    /// `[n_row]`.
    pub(crate) places: &'a [Place<'a>],
    /// How many, from the first, belong to prompts.
    pub(crate) n_prompt: usize,
}

impl Forward<'_> {
    /// All layers: leaves the residual stream after the last in the buffers.
    pub(crate) fn layers(&mut self, buffers: &mut Buffers, step: &StepRows<'_>, observe: Observer<'_>) {
        let model = self.model;
        let (arch, n_row) = (&model.architecture, step.tokens.len());
        let Buffers { x, normed, q, k, v, a, out, hidden, up } = buffers;
        let (x, normed) = (x.get(n_row * arch.n_embd), normed.get(n_row * arch.n_embd));
        let (q, a) = (q.get(n_row * arch.attention.n_q()), a.get(n_row * arch.attention.n_q()));
        let (k, v) = (k.get(n_row * arch.attention.n_kv()), v.get(n_row * arch.attention.n_kv()));
        let out = out.get(x.len());
        let turns = self.rope.map(|rope| Turns::new(rope, step.places));
        self.embed(step, x);
        observe(Stage::Embed, 0, x);
        for (n, layer) in model.weights.layers.iter().enumerate() {
            self.norm(&layer.attn_norm, x, normed);
            let qkv = [&layer.attn_q, &layer.attn_k, &layer.attn_v];
            let rows = Rows { data: normed, n_cols: arch.n_embd, n_prompt: step.n_prompt };
            self.linears(rows, qkv, [&mut *q, &mut *k, &mut *v]);
            if let (Some(turns), Position::Rope(rope)) = (&turns, &arch.position) {
                turns.apply(self.pool, rope.pairing, arch.attention.head_dim, q);
                turns.apply(self.pool, rope.pairing, arch.attention.head_dim, k);
            }
            self.kernels.write_kv(self.pool, n, step.places, [k, v]);
            observe(Stage::Qkv, n, q);

            let queries = Queries {
                q: Rows { data: q, n_cols: arch.attention.n_q(), n_prompt: step.n_prompt },
                places: step.places,
                layer: n,
                sinks: layer.attn_sinks.as_deref(),
            };
            self.kernels.attend(self.pool, &arch.attention, &queries, a);
            observe(Stage::Attend, n, a);

            self.linears(Rows { data: a, ..queries.q }, [&layer.attn_output], [&mut *out]);
            add(self.pool, x, out);
            observe(Stage::AttnOut, n, x);

            self.norm(&layer.ffn_norm, x, normed);
            let rows = Rows { data: normed, n_cols: arch.n_embd, n_prompt: step.n_prompt };
            self.feed_forward(layer, (rows, out), [hidden, up], &mut |h| observe(Stage::FfnIn, n, h));
            add(self.pool, x, out);
            observe(Stage::FfnOut, n, x);
        }
    }

    /// Logits `[n_row, n_vocab]` of rows of the residual stream.
    pub(crate) fn head(&mut self, x: &[f32], n_prompt: usize) -> Vec<f32> {
        let model = self.model;
        let mut normed = vec![0.0; x.len()];
        self.norm(&model.weights.output_norm, x, &mut normed);
        let rows = Rows { data: &normed, n_cols: model.architecture.n_embd, n_prompt };
        let mut logits = vec![0.0; rows.n_row() * model.architecture.n_vocab];
        self.linears(rows, [&model.weights.output], [&mut logits]);
        logits
    }

    fn embed(&self, step: &StepRows<'_>, x: &mut [f32]) {
        let weights = &self.model.weights;
        let n_embd = self.model.architecture.n_embd;
        let read = |table: &Matrix, at: usize, out: &mut [f32]| {
            if table.format.dequantize(table.row_range(at..at + 1), out).is_err() {
                unreachable!("a matrix row is a whole number of blocks");
            }
        };
        let mut learned = vec![0.0; n_embd];
        for ((x, &token), place) in x.chunks_exact_mut(n_embd).zip(step.tokens).zip(step.places) {
            read(&weights.token_embd, token as usize, x);
            if let Some(table) = &weights.position_embd {
                read(table, place.position, &mut learned);
                x.iter_mut().zip(&learned).for_each(|(x, p)| *x += p);
            }
        }
    }

    fn norm(&self, weights: &NormWeights, x: &[f32], out: &mut [f32]) {
        let (norm, n_embd) = (self.model.architecture.norm, self.model.architecture.n_embd);
        let per_piece = 8 * n_embd;
        self.pool.chunks(out, per_piece, &|piece, out| {
            let x = &x[piece * per_piece..][..out.len()];
            for (out, x) in out.chunks_exact_mut(n_embd).zip(x.chunks_exact(n_embd)) {
                normalise(norm, weights, x, out);
            }
        });
    }

    fn feed_forward(
        &mut self,
        layer: &Layer,
        (normed, out): (Rows<'_>, &mut [f32]),
        [hidden, up_rows]: [&mut Buffer; 2],
        observe: &mut dyn FnMut(&[f32]),
    ) {
        let feed_forward = self.model.architecture.feed_forward;
        let (activation, n_ff) = (feed_forward.activation, feed_forward.n_ff);
        let h = hidden.get(normed.n_row() * n_ff);
        let down = match &layer.ffn {
            Ffn::Gated { gate, up, down } => {
                let u = up_rows.get(h.len());
                self.linears(normed, [gate, up], [&mut *h, &mut *u]);
                self.kernels.activate(self.pool, activation, h, Some(u));
                down
            }
            Ffn::Plain { up, down } => {
                self.linears(normed, [up], [&mut *h]);
                self.kernels.activate(self.pool, activation, h, None);
                down
            }
            Ffn::Experts(experts) => return experts::feed_forward(self, experts, normed, out, observe),
        };
        observe(h);
        self.linears(Rows { data: h, n_cols: n_ff, n_prompt: normed.n_prompt }, [down], [out]);
    }

    /// Linear maps of the same rows.
    pub(crate) fn linears<const N: usize>(
        &mut self,
        x: Rows<'_>,
        linears: [&Linear; N],
        outs: [&mut [f32]; N],
    ) {
        let mut outs = outs;
        let mut products: Vec<Product<'_>> = linears
            .iter()
            .zip(&mut outs)
            .map(|(linear, out)| Product { input: 0, matrix: &linear.weight, out })
            .collect();
        self.kernels.products(self.pool, &[x], &mut products);
        for (linear, out) in linears.iter().zip(outs) {
            add_bias(self.pool, linear, out);
        }
    }
}
