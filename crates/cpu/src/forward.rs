//! One step, stage by stage: [`model::stage`] as code, over any set of kernels.
//!
//! Rows are ordered prompts first, then generated rows, so that each kind is one contiguous block. `x` is the residual stream.

use model::Model;
use model::architecture::{Norm, NormKind, Pairing, Position};
use model::rope::RopeTable;
use model::stage::Stage;
use model::weights::{Ffn, Layer, Linear, NormWeights};

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
    /// All layers: the residual stream `[n_row, n_embd]` after the last.
    pub(crate) fn layers(&mut self, step: &StepRows<'_>, observe: Observer<'_>) -> Vec<f32> {
        let model = self.model;
        let (arch, n_row) = (&model.architecture, step.tokens.len());
        let turns = self.rope.map(|rope| Turns::new(rope, step.places));
        let mut x = self.embed(step);
        observe(Stage::Embed, 0, &x);
        let mut q = vec![0.0; n_row * arch.attention.n_q()];
        let mut k = vec![0.0; n_row * arch.attention.n_kv()];
        let mut v = vec![0.0; k.len()];
        let mut a = vec![0.0; q.len()];
        for (n, layer) in model.weights.layers.iter().enumerate() {
            let normed = self.norm(&layer.attn_norm, &x);
            self.qkv(layer, self.rows(&normed, step.n_prompt), [&mut q, &mut k, &mut v]);
            if let (Some(turns), Position::Rope(rope)) = (&turns, &arch.position) {
                turns.apply(self.pool, rope.pairing, arch.attention.head_dim, &mut q);
                turns.apply(self.pool, rope.pairing, arch.attention.head_dim, &mut k);
            }
            self.kernels.write_kv(n, step.places, &k, &v);
            observe(Stage::Qkv, n, &q);

            let queries = Queries {
                q: Rows { data: &q, n_cols: arch.attention.n_q(), n_prompt: step.n_prompt },
                places: step.places,
                layer: n,
                sinks: layer.attn_sinks.as_deref(),
            };
            self.kernels.attend(self.pool, &arch.attention, &queries, &mut a);
            observe(Stage::Attend, n, &a);

            let out = self.linear(&layer.attn_output, Rows { data: &a, ..queries.q });
            add(&mut x, &out);
            observe(Stage::AttnOut, n, &x);

            let normed = self.norm(&layer.ffn_norm, &x);
            let out = self.feed_forward(n, layer, self.rows(&normed, step.n_prompt), observe);
            add(&mut x, &out);
            observe(Stage::FfnOut, n, &x);
        }
        x
    }

    /// Logits `[n_row, n_vocab]` of rows of the residual stream.
    pub(crate) fn head(&mut self, x: &[f32], n_prompt: usize) -> Vec<f32> {
        let model = self.model;
        let normed = self.norm(&model.weights.output_norm, x);
        let rows = self.rows(&normed, n_prompt);
        self.linear(&model.weights.output, rows)
    }

    fn rows<'r>(&self, data: &'r [f32], n_prompt: usize) -> Rows<'r> {
        Rows { data, n_cols: self.model.architecture.n_embd, n_prompt }
    }

    fn embed(&self, step: &StepRows<'_>) -> Vec<f32> {
        let weights = &self.model.weights;
        let n_embd = self.model.architecture.n_embd;
        let mut x = vec![0.0; step.tokens.len() * n_embd];
        let mut row = vec![0.0; n_embd];
        for ((x, &token), place) in x.chunks_exact_mut(n_embd).zip(step.tokens).zip(step.places) {
            let tables = [
                (Some(&weights.token_embd), token as usize),
                (weights.position_embd.as_ref(), place.position),
            ];
            for (table, at) in tables {
                let Some(table) = table else { continue };
                if table.format.dequantize(table.row_range(at..at + 1), &mut row).is_ok() {
                    add(x, &row);
                }
            }
        }
        x
    }

    fn norm(&self, weights: &NormWeights, x: &[f32]) -> Vec<f32> {
        let (norm, n_embd) = (self.model.architecture.norm, self.model.architecture.n_embd);
        let mut out = x.to_vec();
        let per_piece = 8 * n_embd;
        self.pool.chunks(&mut out, per_piece, &|_, rows| {
            rows.chunks_exact_mut(n_embd).for_each(|row| normalise(norm, weights, row));
        });
        out
    }

    fn qkv(&mut self, layer: &Layer, normed: Rows<'_>, [q, k, v]: [&mut [f32]; 3]) {
        let linears = [&layer.attn_q, &layer.attn_k, &layer.attn_v];
        self.linears(normed, linears, [q, k, v]);
    }

    fn feed_forward(&mut self, n: usize, layer: &Layer, normed: Rows<'_>, observe: Observer<'_>) -> Vec<f32> {
        let (activation, n_ff) =
            (self.model.architecture.feed_forward.activation, self.model.architecture.feed_forward.n_ff);
        let (hidden, down) = match &layer.ffn {
            Ffn::Gated { gate, up, down } => {
                let mut h = vec![0.0; normed.n_row() * n_ff];
                let mut u = vec![0.0; h.len()];
                self.linears(normed, [gate, up], [&mut h, &mut u]);
                self.kernels.activate(self.pool, activation, &mut h, Some(&u));
                (h, down)
            }
            Ffn::Plain { up, down } => {
                let mut h = self.linear(up, normed);
                self.kernels.activate(self.pool, activation, &mut h, None);
                (h, down)
            }
            Ffn::Experts { .. } => return experts::feed_forward(self, n, layer, normed, observe),
        };
        observe(Stage::FfnIn, n, &hidden);
        self.linear(down, Rows { data: &hidden, n_cols: n_ff, n_prompt: normed.n_prompt })
    }

    pub(crate) fn linear(&mut self, linear: &Linear, x: Rows<'_>) -> Vec<f32> {
        let mut out = vec![0.0; x.n_row() * linear.weight.n_rows];
        self.linears(x, [linear], [&mut out]);
        out
    }

    fn linears<const N: usize>(&mut self, x: Rows<'_>, linears: [&Linear; N], outs: [&mut [f32]; N]) {
        let mut outs = outs;
        let mut products: Vec<Product<'_>> = linears
            .iter()
            .zip(&mut outs)
            .map(|(linear, out)| Product { input: 0, matrix: &linear.weight, out })
            .collect();
        self.kernels.products(self.pool, &[x], &mut products);
        for (linear, out) in linears.iter().zip(outs) {
            add_bias(linear, out);
        }
    }
}

/// Adds a linear map's bias to its outputs `[n_row, n_out]`.
pub(crate) fn add_bias(linear: &Linear, out: &mut [f32]) {
    if let Some(bias) = &linear.bias {
        out.chunks_exact_mut(bias.len()).for_each(|row| add(row, bias));
    }
}

fn add(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}

fn normalise(norm: Norm, weights: &NormWeights, row: &mut [f32]) {
    let n = row.len() as f32;
    if norm.kind == NormKind::Layer {
        let mean = row.iter().sum::<f32>() / n;
        row.iter_mut().for_each(|x| *x -= mean);
    }
    let scale = 1.0 / (crate::exact::dot(row, row) / n + norm.eps).sqrt();
    for (x, w) in row.iter_mut().zip(&weights.weight) {
        *x *= scale * w;
    }
    if let Some(bias) = &weights.bias {
        add(row, bias);
    }
}

/// The angles of a step's rows.
struct Turns {
    /// `[n_row, n_rot / 2]`.
    cos: Vec<f32>,
    sin: Vec<f32>,
    half: usize,
}

impl Turns {
    fn new(rope: &RopeTable, places: &[Place<'_>]) -> Turns {
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
    fn apply(&self, pool: &Pool, pairing: Pairing, head_dim: usize, rows: &mut [f32]) {
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
