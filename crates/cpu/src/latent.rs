//! Latent attention: queries are brought to the rows that the cache keeps, and what attention gives of these rows to values, so that no head's
//! keys or values are made ([`model::stage::Stage::Qkv`], [`model::stage::Stage::Attend`]).
//!
//! One arithmetic for prompts and generated rows. By head, rows are `[n_head, n_row, _]`, so that a head's are one input of its map.

use std::ops::Range;

use model::architecture::Latent;
use model::stage::Stage;
use model::weights::{KeyMaps, LatentWeights, Linear, NormWeights, QueryRow};

use crate::elementwise::{Turns, finish, normalise};
use crate::forward::{Forward, Observer, read_row};
use crate::kernels::{Product, Queries, Rows};
use crate::mixers::{Before, MixerBuffers};
use crate::simd::pool::Pool;

/// Rows of heads, `[n_row, n_head * width]`, and which of a head's values are meant.
struct Part {
    width: usize,
    range: Range<usize>,
}

impl Forward<'_> {
    /// What a layer's latent attention gives: `out` is `[n_row, n_embd]`.
    pub(crate) fn latent(
        &mut self,
        Before { n, x, step }: Before<'_>,
        (weights, latent): (&LatentWeights, Latent),
        (buffers, out): (&mut MixerBuffers, &mut [f32]),
        (turns, observe): (&[Turns], Observer<'_>),
    ) {
        let (heads, n_row, n_head) = (latent.heads(), x.n_row(), latent.n_head);
        let Latent { kv_rank, n_rot, n_plain, n_value, .. } = latent;
        let MixerBuffers { input, q, k, v, gate, mixed } = buffers;
        let (q, k) = (q.get(n_row * heads.n_q()), k.get(n_row * heads.head_dim));
        let projected = input.get(n_row * n_head * latent.head_dim());
        let kept = v.get(k.len());
        self.project(x, weights, [&mut *projected, &mut *kept]);
        for (k, kept) in k.chunks_exact_mut(heads.head_dim).zip(kept.chunks_exact(heads.head_dim)) {
            k[..n_rot].copy_from_slice(&kept[kv_rank..]);
            self.norm_row(&weights.kv_norm, &kept[..kv_rank], &mut k[n_rot..]);
        }

        let whole = latent.head_dim();
        let plain = gate.get(n_head * n_row * n_plain);
        by_head(self.pool, (projected, n_head), &Part { width: whole, range: 0..n_plain }, plain);
        let absorbed = mixed.get(n_head * n_row * kv_rank);
        match &weights.k {
            KeyMaps::OfQueries(maps) => self.map_heads(maps, (plain, x.n_prompt), absorbed),
            KeyMaps::OfKeys(maps) => map_back(self.pool, maps, (plain, n_row), absorbed),
        }
        let rotated = n_plain..whole;
        for (r, row) in q.chunks_exact_mut(heads.n_q()).enumerate() {
            for (h, head) in row.chunks_exact_mut(heads.head_dim).enumerate() {
                let from = &projected[(r * n_head + h) * whole..][rotated.clone()];
                head[..n_rot].copy_from_slice(from);
                head[n_rot..].copy_from_slice(&absorbed[(h * n_row + r) * kv_rank..][..kv_rank]);
            }
        }
        self.place((n, heads), (step.places, turns), [&mut *q, &mut *k]);
        let cache = self.model.architecture.cache_of(n);
        self.kernels.write_kv(self.pool, cache, step.places, [k, k]);
        observe(Stage::Qkv, n, q);

        let rows = Rows { data: q, n_cols: heads.n_q(), n_prompt: step.n_prompt };
        let queries = Queries { q: rows, places: step.places, cache, heads, sinks: None };
        let sums = mixed.get(q.len());
        self.kernels.attend(self.pool, &self.model.architecture.attention, &queries, sums);
        let values = gate.get(n_head * n_row * kv_rank);
        let part = Part { width: heads.head_dim, range: n_rot..heads.head_dim };
        by_head(self.pool, (sums, n_head), &part, values);
        let given = input.get(n_head * n_row * n_value);
        self.map_heads(&weights.v, (values, x.n_prompt), given);
        let a = mixed.get(given.len());
        for (r, row) in a.chunks_exact_mut(n_head * n_value).enumerate() {
            for (h, head) in row.chunks_exact_mut(n_value).enumerate() {
                head.copy_from_slice(&given[(h * n_row + r) * n_value..][..n_value]);
            }
        }
        observe(Stage::Attend, n, a);
        self.linears(Rows { data: a, n_cols: n_head * n_value, ..x }, [&weights.output], [out]);
    }

    /// Queries of all heads, and what is kept before its norm and rotation.
    fn project(&mut self, x: Rows<'_>, weights: &LatentWeights, [q, kept]: [&mut [f32]; 2]) {
        let Some(QueryRow { map, norm }) = &weights.q_row else {
            return self.linears(x, [&weights.q, &weights.kv], [q, kept]);
        };
        let n_cols = map.weight.n_rows;
        let mut rows = vec![0.0; x.n_row() * n_cols];
        self.linears(x, [map, &weights.kv], [&mut rows, kept]);
        let mut normed = vec![0.0; rows.len()];
        for (row, out) in rows.chunks_exact(n_cols).zip(normed.chunks_exact_mut(n_cols)) {
            self.norm_row(norm, row, out);
        }
        self.linears(Rows { data: &normed, n_cols, ..x }, [&weights.q], [q]);
    }

    fn norm_row(&self, weights: &NormWeights, x: &[f32], out: &mut [f32]) {
        normalise(self.model.architecture.norm, weights, x, out);
    }

    /// Each head's rows through its own map.
    fn map_heads(&mut self, maps: &[Linear], (x, n_prompt): (&[f32], usize), out: &mut [f32]) {
        let per_head = [x.len(), out.len()].map(|n| n / maps.len());
        let inputs: Vec<Rows<'_>> = x
            .chunks_exact(per_head[0])
            .zip(maps)
            .map(|(data, map)| Rows { data, n_cols: map.weight.n_cols, n_prompt })
            .collect();
        let outs = maps.iter().zip(out.chunks_exact_mut(per_head[1])).enumerate();
        let mut products: Vec<Product<'_>> =
            outs.map(|(input, (map, out))| Product { input, matrix: &map.weight, out }).collect();
        self.kernels.products(self.pool, &inputs, &mut products);
        for (map, out) in maps.iter().zip(out.chunks_exact_mut(per_head[1])) {
            finish(self.pool, map, out);
        }
    }
}

/// Some values of every head, by head.
fn by_head(pool: &Pool, (rows, n_head): (&[f32], usize), part: &Part, out: &mut [f32]) {
    let len = part.range.len();
    let per_head = out.len() / n_head;
    pool.chunks(out, per_head, &|head, out| {
        for (r, out) in out.chunks_exact_mut(len).enumerate() {
            out.copy_from_slice(&rows[(r * n_head + head) * part.width..][part.range.clone()]);
        }
    });
}

/// Each head's rows through its map's transpose: `out[r] = sum_i x[r][i] * map[i]`, the map's rows in order.
fn map_back(pool: &Pool, maps: &[Linear], (x, n_row): (&[f32], usize), out: &mut [f32]) {
    let per_head = out.len() / maps.len();
    pool.chunks(out, per_head, &|head, out| {
        let map = &maps[head].weight;
        let x = &x[head * n_row * map.n_rows..];
        let mut weights = vec![0.0; map.n_cols];
        out.fill(0.0);
        for i in 0..map.n_rows {
            read_row(map, i, &mut weights);
            for (r, out) in out.chunks_exact_mut(map.n_cols).enumerate() {
                let factor = x[r * map.n_rows + i];
                out.iter_mut().zip(&weights).for_each(|(out, w)| *out += factor * w);
            }
        }
        if let Some(scale) = map.scale {
            out.iter_mut().for_each(|out| *out *= scale);
        }
    });
}
