//! One step, stage by stage: [`model::stage`] as code, over any set of kernels.
//!
//! Rows are ordered prompts first, then generated rows, so that each kind is one contiguous block. `x` is the residual stream.

use model::architecture::{Activation, Heads, Position, Temperature};
use model::rope::RopeTable;
use model::stage::Stage;
use model::weights::{AttentionWeights, Ffn, Gated, Linear, NormWeights};
use model::{Matrix, Model};

use crate::elementwise::{Turns, add_scaled, finish, normalise, normalise_groups, scale, scale_and_cap};
use crate::experts;
use crate::kernels::{Kernels, Place, Product, Rows};
use crate::mixers::{Before, MixerBuffers};
use crate::per_layer::PerLayerBuffers;
use crate::recurrence::Run;
use crate::simd::pool::Pool;
use crate::state::States;

/// Called with what each stage leaves behind, `[n_row, _]`; `layer` is 0 outside the layers.
pub type Observer<'a> = &'a mut dyn FnMut(Stage, usize, &[f32]);

/// What a step computes with.
pub(crate) struct Forward<'a> {
    pub(crate) model: &'a Model,
    pub(crate) pool: &'a Pool,
    pub(crate) kernels: &'a mut dyn Kernels,
    /// One for each kind of rotation that the model has.
    pub(crate) ropes: &'a [RopeTable],
    pub(crate) states: &'a mut States,
}

/// Rows of a step's intermediate results, kept from step to step: fresh memory for each would cost more than some of the stages.
#[derive(Default)]
pub(crate) struct Buffers {
    /// The residual stream, `[n_row, n_embd]`.
    pub(crate) x: Buffer,
    normed: Buffer,
    mixer: MixerBuffers,
    out: Buffer,
    hidden: Buffer,
    up: Buffer,
    per_layer: PerLayerBuffers,
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
    /// The same rows by sequence, in order.
    pub(crate) runs: &'a [Run],
    /// How many, from the first, belong to prompts.
    pub(crate) n_prompt: usize,
}

impl Forward<'_> {
    /// All layers: leaves the residual stream after the last in the buffers.
    pub(crate) fn layers(&mut self, buffers: &mut Buffers, step: &StepRows<'_>, observe: Observer<'_>) {
        let model = self.model;
        let (arch, n_row) = (&model.architecture, step.tokens.len());
        let Buffers { x, normed, mixer, out, hidden, up, per_layer } = buffers;
        let (x, normed) = (x.get(n_row * arch.n_embd), normed.get(n_row * arch.n_embd));
        let out = out.get(x.len());
        let turns: Vec<Turns> = self.ropes.iter().map(|rope| Turns::new(rope, step.places)).collect();
        self.embed(step, x);
        if let Some(weights) = &model.weights.per_layer {
            self.per_layer_inputs(weights, (step, x), per_layer);
        }
        observe(Stage::Embed, 0, x);
        for (n, layer) in model.weights.layers.iter().enumerate() {
            let rows = self.normed(layer.attn_norm.as_ref(), (x, &mut *normed), step.n_prompt);
            self.mix(Before { n, x: rows, step }, (&mut *mixer, &mut *out), (&turns, &mut *observe));
            self.add(layer.attn_post_norm.as_ref(), (x, &mut *out), normed);
            observe(Stage::AttnOut, n, x);

            let rows = self.normed(layer.ffn_norm.as_ref(), (x, &mut *normed), step.n_prompt);
            self.feed_forward(n, (rows, &*x, out), [hidden, up], &mut |h| observe(Stage::FfnIn, n, h));
            self.add(layer.ffn_post_norm.as_ref(), (x, &mut *out), normed);
            if let Some(weights) = &layer.per_layer {
                let rows = Rows { data: x, n_cols: arch.n_embd, n_prompt: step.n_prompt };
                self.per_layer((n, weights), (rows, &mut *out), per_layer);
                self.add(Some(&weights.norm), (x, &mut *out), normed);
            }
            if let Some(factor) = layer.scale {
                scale(self.pool, x, factor);
            }
            observe(Stage::FfnOut, n, x);
        }
    }

    /// Rows of the residual stream after the norm before the output, `[n_row, n_embd]`.
    pub(crate) fn hidden(&self, x: &[f32]) -> Vec<f32> {
        let mut normed = vec![0.0; x.len()];
        self.norm(&self.model.weights.output_norm, x, &mut normed);
        normed
    }

    /// Logits `[n_row, n_vocab]` of rows of the residual stream.
    pub(crate) fn head(&mut self, x: &[f32], n_prompt: usize) -> Vec<f32> {
        let model = self.model;
        let normed = self.hidden(x);
        let rows = Rows { data: &normed, n_cols: model.architecture.n_embd, n_prompt };
        let mut logits = vec![0.0; rows.n_row() * model.architecture.n_vocab];
        self.linears(rows, [&model.weights.output], [&mut logits]);
        scale_and_cap(self.pool, &mut logits, model.architecture.scales.logits, model.architecture.logit_cap);
        logits
    }

    /// What stands before attention or feed-forward: the norm of `x`, left in `normed`, or `x` itself.
    fn normed<'r>(
        &self,
        norm: Option<&NormWeights>,
        (x, normed): (&'r [f32], &'r mut [f32]),
        n_prompt: usize,
    ) -> Rows<'r> {
        let n_cols = self.model.architecture.n_embd;
        let Some(weights) = norm else { return Rows { data: x, n_cols, n_prompt } };
        self.norm(weights, x, normed);
        Rows { data: normed, n_cols, n_prompt }
    }

    /// Adds what attention or feed-forward gave, normalised where a norm stands after it.
    fn add(&self, norm: Option<&NormWeights>, (x, out): (&mut [f32], &mut [f32]), normed: &mut [f32]) {
        let residual = self.model.architecture.scales.residual;
        match norm {
            Some(weights) => {
                self.norm(weights, out, normed);
                add_scaled(self.pool, x, residual, normed);
            }
            None => add_scaled(self.pool, x, residual, out),
        }
    }

    /// Normalises a layer's queries, and its keys where it has its own.
    pub(crate) fn norm_heads(&self, weights: &AttentionWeights, [q, k]: [&mut [f32]; 2]) {
        for (norm, rows) in [(&weights.q_norm, q), (&weights.k_norm, k)] {
            if let Some(norm) = norm {
                normalise_groups(self.pool, self.model.architecture.norm.eps, norm, rows);
            }
        }
    }

    /// Turns and scales a layer's queries, and its keys where it has its own.
    pub(crate) fn place(
        &self,
        (n, heads): (usize, Heads),
        (places, turns): (&[Place<'_>], &[Turns]),
        [q, k]: [&mut [f32]; 2],
    ) {
        let arch = &self.model.architecture;
        if let Position::Rope(ropes) = &arch.position
            && let Some(kind) = ropes.layers[n]
        {
            let pairing = ropes.kinds[kind].pairing;
            turns[kind].apply(self.pool, pairing, heads.head_dim, q);
            if heads.keeps() {
                turns[kind].apply(self.pool, pairing, heads.head_dim, k);
            }
        }
        if let Some(temperature) = arch.attention.temperature {
            heat(temperature, places, q);
        }
    }

    fn embed(&self, step: &StepRows<'_>, x: &mut [f32]) {
        let weights = &self.model.weights;
        let n_embd = self.model.architecture.n_embd;
        let scale = self.model.architecture.scales.embedding;
        let mut learned = vec![0.0; n_embd];
        for ((x, &token), place) in x.chunks_exact_mut(n_embd).zip(step.tokens).zip(step.places) {
            read_row(&weights.token_embd, token as usize, x);
            if scale != 1.0 {
                x.iter_mut().for_each(|x| *x *= scale);
            }
            if let Some(table) = &weights.position_embd {
                read_row(table, place.position, &mut learned);
                x.iter_mut().zip(&learned).for_each(|(x, p)| *x += p);
            }
        }
    }

    pub(crate) fn norm(&self, weights: &NormWeights, x: &[f32], out: &mut [f32]) {
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
        n: usize,
        (normed, x, out): (Rows<'_>, &[f32], &mut [f32]),
        buffers: [&mut Buffer; 2],
        observe: &mut dyn FnMut(&[f32]),
    ) {
        let model = self.model;
        let feed_forward = &model.architecture.feed_forward[n];
        let (h, down) = match (&model.weights.layers[n].ffn, feed_forward.mixture()) {
            (Ffn::Gated(ffn), _) => (self.gated(ffn, feed_forward.activation, normed, buffers), &ffn.down),
            (Ffn::Plain { up, down }, _) => {
                let [hidden, _] = buffers;
                let h = hidden.get(normed.n_row() * up.weight.n_rows);
                self.linears(normed, [up], [&mut *h]);
                self.kernels.activate(self.pool, feed_forward.activation, h, None);
                (&*h, down)
            }
            (Ffn::Experts(weights), Some(mixture)) => {
                let layer = (feed_forward, mixture, weights);
                return experts::feed_forward(self, layer, (normed, x, out), buffers, observe);
            }
            (Ffn::Experts(_), None) => unreachable!("weights are loaded as the architecture says"),
        };
        observe(h);
        self.linears(Rows { data: h, n_cols: down.weight.n_cols, n_prompt: normed.n_prompt }, [down], [out]);
    }

    /// The hidden rows of a gated feed-forward.
    pub(crate) fn gated<'b>(
        &mut self,
        ffn: &Gated,
        activation: Activation,
        normed: Rows<'_>,
        [hidden, raised]: [&'b mut Buffer; 2],
    ) -> &'b [f32] {
        let n = normed.n_row() * ffn.gate.weight.n_rows;
        let (h, u) = (hidden.get(n), raised.get(n));
        self.linears(normed, [&ffn.gate, &ffn.up], [&mut *h, &mut *u]);
        self.kernels.activate(self.pool, activation, h, Some(u));
        h
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
            finish(self.pool, linear, out);
        }
    }
}

/// A row of a table of embeddings.
pub(crate) fn read_row(table: &Matrix, at: usize, out: &mut [f32]) {
    if table.format.dequantize(table.row_range(at..at + 1), out).is_err() {
        unreachable!("a matrix row is a whole number of blocks");
    }
}

/// Multiplies each row of queries by the temperature at its position.
fn heat(temperature: Temperature, places: &[Place<'_>], q: &mut [f32]) {
    let n_q = q.len() / places.len().max(1);
    for (row, place) in q.chunks_exact_mut(n_q.max(1)).zip(places) {
        let factor = temperature.at(place.position);
        row.iter_mut().for_each(|q| *q *= factor);
    }
}
