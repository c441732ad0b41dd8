//! The exact kernels: float32 throughout, each written as its definition in [`model::stage`] reads.
//!
//! Weights are dequantised row by row and used as they come; the KV cache is float32, holding what its type rounds to; sums run in one fixed order. Speed matters only so far
//! that whole models can be checked with it.

use model::KvType;
use model::architecture::{Activation, Attention, Heads};
use model::kv::{KV_BLOCK, kv_block};
use quant::Block as _;

use crate::kernels::{Kernels, KvLayer, KvShape, Place, Product, Queries, Rows};
use crate::simd::isa::Isa;
use crate::simd::pool::Pool;

/// Weight rows in a parallel piece.
const PIECE: usize = 16;

/// The exact kernels and their KV cache.
pub struct Exact {
    shape: KvShape,
    kv_type: KvType,
    /// As [`KvShape`] says.
    k: Vec<f32>,
    /// The same, where there are any.
    v: Vec<f32>,
}

impl Exact {
    /// With an empty cache of this shape.
    #[must_use]
    pub fn new(shape: KvShape, kv_type: KvType) -> Exact {
        let [k, v] = shape.planes().map(|n| vec![0.0; n]);
        Exact { shape, kv_type, k, v }
    }
}

impl Kernels for Exact {
    fn products(&mut self, pool: &Pool, inputs: &[Rows<'_>], products: &mut [Product<'_>]) {
        for product in products {
            let (x, w) = (inputs[product.input], product.matrix);
            let n_row = x.n_row();
            // Weight row by weight row, so that each is dequantised once: [n_out, n_row].
            let mut transposed = vec![0.0; w.n_rows * n_row];
            pool.chunks(&mut transposed, PIECE * n_row, &|piece, out| {
                let mut weights = vec![0.0; w.n_cols];
                for (i, out) in out.chunks_exact_mut(n_row).enumerate() {
                    let row = piece * PIECE + i;
                    let bytes = w.row_range(row..row + 1);
                    if w.format.dequantize(bytes, &mut weights).is_err() {
                        unreachable!("a matrix row is a whole number of blocks");
                    }
                    for (out, x) in out.iter_mut().zip(x.data.chunks_exact(x.n_cols)) {
                        *out = dot(&weights, x);
                    }
                }
            });
            for (r, out) in product.out.chunks_exact_mut(w.n_rows).enumerate() {
                for (i, out) in out.iter_mut().enumerate() {
                    *out = transposed[i * n_row + r];
                }
            }
        }
    }

    fn write_kv(&mut self, _: &Pool, layer: usize, places: &[Place<'_>], [k, v]: [&[f32]; 2]) {
        let KvLayer { n_kv_head: n, head_dim, .. } = self.shape.layers[layer];
        for (r, &place) in places.iter().enumerate() {
            for head in 0..n {
                let (from, to) = ((r * n + head) * head_dim, self.shape.row_at(layer, place, head));
                let planes = [(&mut self.k, k), (&mut self.v, v)];
                for (cache, rows) in planes.into_iter().take(1 + usize::from(self.shape.has_values)) {
                    let kept = &mut cache[to..to + head_dim];
                    kept.copy_from_slice(&rows[from..from + head_dim]);
                    if self.kv_type == KvType::Q8_0 {
                        round(kept);
                    }
                }
            }
        }
    }

    fn attend(&mut self, pool: &Pool, attention: &Attention, queries: &Queries<'_>, out: &mut [f32]) {
        let Attention { scale, score_cap, .. } = *attention;
        let Heads { n_head, n_kv_head, head_dim, window, .. } = queries.heads;
        let capped = |score: f32| score_cap.map_or(score, |cap| cap * (score / cap).tanh());
        let (k, shape) = (&self.k, &self.shape);
        let v = if shape.has_values { &self.v } else { k };
        pool.chunks(out, head_dim, &|index, out| {
            let (r, head) = (index / n_head, index % n_head);
            let place = queries.places[r];
            let q = &queries.q.data[index * head_dim..][..head_dim];
            let kv_head = head / (n_head / n_kv_head);
            let first = window.map_or(0, |w| (place.position + 1).saturating_sub(w));
            let at = |position| shape.row_at(queries.cache, Place { position, ..place }, kv_head);
            let mut scores: Vec<f32> =
                (first..=place.position).map(|j| capped(scale * dot(q, &k[at(j)..][..head_dim]))).collect();
            let sink = queries.sinks.map(|sinks| sinks[head]);
            let max = scores.iter().copied().chain(sink).fold(f32::NEG_INFINITY, f32::max);
            let mut sum = sink.map_or(0.0, |s| (s - max).exp());
            for s in &mut scores {
                *s = (*s - max).exp();
                sum += *s;
            }
            out.fill(0.0);
            for (j, s) in scores.iter().enumerate() {
                for (out, v) in out.iter_mut().zip(&v[at(first + j)..][..head_dim]) {
                    *out += s / sum * v;
                }
            }
        });
    }

    fn activate(&self, pool: &Pool, activation: Activation, gate: &mut [f32], up: Option<&[f32]>) {
        const LEN: usize = 4096;
        pool.chunks(gate, LEN, &|piece, gate| match up {
            Some(up) => {
                for (g, &u) in gate.iter_mut().zip(&up[piece * LEN..]) {
                    *g = gated(activation, *g, u);
                }
            }
            None => gate.iter_mut().for_each(|g| *g = nonlinear(activation, *g)),
        });
    }

    fn kv_bytes(&self) -> u64 {
        4 * self.shape.n_kept()
    }

    fn isa(&self) -> Isa {
        Isa::Scalar
    }

    fn name(&self) -> String {
        "exact float32".to_owned()
    }
}

/// To what [`KvType::Q8_0`] keeps of a head.
fn round(head: &mut [f32]) {
    for block in head.as_chunks_mut::<KV_BLOCK>().0 {
        kv_block(block).dequantize(block);
    }
}

/// The dot product, summed in 16 interleaved parts and then over the parts: a fixed order that compilers vectorise.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    const PARTS: usize = 16;
    let mut sums = [0.0f32; PARTS];
    let (a, b) = (a.chunks_exact(PARTS), b.chunks_exact(PARTS));
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a.zip(b) {
        for i in 0..PARTS {
            sums[i] += a[i] * b[i];
        }
    }
    sums.iter().sum::<f32>() + rest
}

/// One value of the gated feed-forward's hidden row.
fn gated(activation: Activation, gate: f32, up: f32) -> f32 {
    match activation {
        Activation::Silu | Activation::GeluTanh => nonlinear(activation, gate) * up,
        Activation::ClampedSwiglu { limit, .. } => {
            nonlinear(activation, gate) * (up.clamp(-limit, limit) + 1.0)
        }
    }
}

/// The nonlinearity alone.
fn nonlinear(activation: Activation, x: f32) -> f32 {
    let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
    match activation {
        Activation::Silu => x * sigmoid(x),
        Activation::GeluTanh => {
            let inner = (2.0 / std::f32::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
            0.5 * x * (1.0 + inner.tanh())
        }
        Activation::ClampedSwiglu { alpha, limit } => {
            let x = x.min(limit);
            x * sigmoid(alpha * x)
        }
    }
}
