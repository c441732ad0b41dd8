//! Where do a mixer's tensors go?

use model::weights::{AttentionWeights, DeltaRuleWeights, Linear, MixerWeights, ShortConvWeights};

use super::latent::LatentPlace;
use super::placer::{ALIGN, FloatMap, Order, Placer, Tiles};
use super::unsupported::Unsupported;
use crate::memory::layout::is_shared;

/// A mixer's tensors but for its output.
#[derive(Clone, Debug)]
pub(crate) enum MixerPlace {
    Attention(AttentionPlace),
    Latent(Box<LatentPlace>),
    ShortConv(ShortConvPlace),
    DeltaRule(DeltaRulePlace),
}

/// An attention's tensors.
#[derive(Clone, Debug)]
pub(crate) struct AttentionPlace {
    pub(crate) qkv: QkvTiles,
    /// Of the output, `[n_q, n_embd]`.
    pub(crate) gate: Option<Tiles>,
    pub(crate) q_norm: Option<u64>,
    pub(crate) k_norm: Option<u64>,
    pub(crate) sinks: Option<u64>,
}

/// Queries, keys and values: runs of one layout, each with its first row among all of them.
#[derive(Clone, Debug)]
pub(crate) struct QkvTiles {
    pub(crate) runs: Vec<(usize, Tiles)>,
    /// `[n_q + 2 n_kv]` in the file's order, for the prompt's products.
    pub(crate) natural_bias: Option<u64>,
}

/// A short convolution's tensors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ShortConvPlace {
    pub(crate) input: Tiles,
    pub(crate) taps: u64,
}

/// A delta rule's tensors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeltaRulePlace {
    pub(crate) qkv: Tiles,
    pub(crate) gate: Tiles,
    pub(crate) alpha: FloatMap,
    pub(crate) beta: FloatMap,
    pub(crate) taps: u64,
    pub(crate) a: u64,
    pub(crate) dt: u64,
    pub(crate) norm: u64,
}

impl MixerPlace {
    /// The matrices that read the layer's normalised rows.
    pub(crate) fn readers(&self) -> Vec<&Tiles> {
        match self {
            MixerPlace::Attention(place) => {
                place.qkv.runs.iter().map(|(_, tiles)| tiles).chain(&place.gate).collect()
            }
            MixerPlace::Latent(place) => place.readers(),
            MixerPlace::ShortConv(place) => vec![&place.input],
            MixerPlace::DeltaRule(place) => vec![&place.qkv, &place.gate],
        }
    }

    /// Whether small maps read them as floats.
    pub(crate) fn reads_floats(&self) -> bool {
        matches!(self, MixerPlace::DeltaRule(_))
    }

    /// Every matrix in tiles.
    pub(super) fn tiles(&mut self) -> Vec<&mut Tiles> {
        match self {
            MixerPlace::Attention(place) => {
                place.qkv.runs.iter_mut().map(|(_, tiles)| tiles).chain(&mut place.gate).collect()
            }
            MixerPlace::Latent(place) => place.tiles(),
            MixerPlace::ShortConv(place) => vec![&mut place.input],
            MixerPlace::DeltaRule(place) => vec![&mut place.qkv, &mut place.gate],
        }
    }

    /// Every offset of a vector but those of the tiles' biases.
    pub(super) fn vectors(&mut self) -> Vec<&mut u64> {
        match self {
            MixerPlace::Attention(AttentionPlace { qkv, q_norm, k_norm, sinks, .. }) => {
                let all = q_norm.iter_mut().chain(k_norm).chain(sinks);
                all.chain(&mut qkv.natural_bias).collect()
            }
            MixerPlace::Latent(place) => place.vectors(),
            MixerPlace::ShortConv(place) => vec![&mut place.taps],
            MixerPlace::DeltaRule(DeltaRulePlace { alpha, beta, taps, a, dt, norm, .. }) => {
                let maps = [alpha, beta].into_iter();
                let all = maps.flat_map(|map| [&mut map.weight].into_iter().chain(&mut map.bias));
                all.chain([taps, a, dt, norm]).collect()
            }
        }
    }
}

impl<'m> Placer<'m> {
    /// The mixer and its output; attention's heads are of `head_dim` values.
    pub(super) fn mixer(
        &mut self,
        mixer: &'m MixerWeights,
        head_dim: usize,
    ) -> Result<(MixerPlace, Tiles), Unsupported> {
        let (place, output) = match mixer {
            MixerWeights::Attention(attention) => {
                let (qkv, gate) = self.qkv(attention, head_dim);
                let place = AttentionPlace {
                    qkv,
                    gate,
                    q_norm: self.maybe_vector(attention.q_norm.as_deref()),
                    k_norm: self.maybe_vector(attention.k_norm.as_deref()),
                    sinks: self.maybe_vector(attention.sinks.as_deref()),
                };
                (MixerPlace::Attention(place), &attention.output)
            }
            MixerWeights::Latent(weights) => {
                (MixerPlace::Latent(Box::new(self.latent(weights))), &weights.output)
            }
            MixerWeights::ShortConv(ShortConvWeights { input, taps, output }) => {
                let input = self.linear(input, Order::Plain);
                let taps = self.vector(taps.iter().copied());
                (MixerPlace::ShortConv(ShortConvPlace { input, taps }), output)
            }
            MixerWeights::DeltaRule(weights) => {
                (MixerPlace::DeltaRule(self.delta_rule(weights)?), &weights.output)
            }
        };
        Ok((place, self.linear(output, Order::Plain)))
    }

    fn delta_rule(&mut self, weights: &'m DeltaRuleWeights) -> Result<DeltaRulePlace, Unsupported> {
        let DeltaRuleWeights { qkv, gate, alpha, beta, taps, a, dt, norm, .. } = weights;
        let [taps, a, dt, norm] = [taps, a, dt, norm].map(|values| self.vector(values.iter().copied()));
        Ok(DeltaRulePlace {
            qkv: self.linear(qkv, Order::Plain),
            gate: self.linear(gate, Order::Plain),
            alpha: self.float_map(alpha)?,
            beta: self.float_map(beta)?,
            taps,
            a,
            dt,
            norm,
        })
    }

    fn qkv(&mut self, attention: &'m AttentionWeights, head_dim: usize) -> (QkvTiles, Option<Tiles>) {
        self.n_bytes = self.n_bytes.next_multiple_of(ALIGN);
        let order = if self.heads_apart { Order::Plain } else { Order::Heads };
        let own = attention.k.iter().map(|k| (k, order)).chain(attention.v.iter().map(|v| (v, Order::Plain)));
        let linears: Vec<_> = [(&attention.q, order)].into_iter().chain(own).collect();
        let n_q = attention.output.weight.n_cols;
        let is_gated = attention.q.weight.n_rows > n_q;
        let mut runs: Vec<(usize, Tiles)> = Vec::new();
        let mut first_row = 0;
        for (i, &(linear, order)) in linears.iter().enumerate() {
            let tiles = match i {
                0 if is_gated => self.room(&linear.weight, n_q),
                _ => self.placed(&linear.weight, order),
            };
            match runs.last_mut() {
                Some((_, run)) if is_shared(run.format, tiles.format) => {
                    run.n_tile += tiles.n_tile;
                    run.n_row += tiles.n_row;
                }
                _ => runs.push((first_row, tiles)),
            }
            first_row += tiles.n_row;
        }
        let gate = is_gated.then(|| {
            self.n_bytes = self.n_bytes.next_multiple_of(ALIGN);
            let gate = self.room(&attention.q.weight, n_q);
            self.cut_heads((&attention.q, head_dim), [runs[0].1.at, gate.at]);
            gate
        });
        let natural_bias = self.qkv_bias(&linears, &mut runs);
        (QkvTiles { runs, natural_bias }, gate)
    }

    /// Cuts queries from gates, which take turns by head, and puts each where they belong.
    fn cut_heads(&mut self, (linear, n): (&'m Linear, usize), at: [u64; 2]) {
        let matrix = &linear.weight;
        for first in (0..matrix.n_rows).step_by(n) {
            let (head, side) = (first / n / 2, first / n % 2);
            self.cut_rows(matrix, first..first + n, (at[side], head * n), Order::Plain);
        }
    }

    /// The biases in the order of the tiles, which the runs learn of, and in the file's.
    fn qkv_bias(&mut self, linears: &[(&Linear, Order)], runs: &mut [(usize, Tiles)]) -> Option<u64> {
        let heads = self.heads;
        if linears.iter().all(|(linear, _)| linear.bias.is_none()) {
            return None;
        }
        let bias_of = |linear: &Linear, row: usize| linear.bias.as_ref().map_or(0.0, |b| b[row]);
        let ordered = linears.iter().flat_map(|&(linear, order)| {
            (0..linear.weight.n_rows)
                .map(move |row| bias_of(linear, if order == Order::Heads { heads.source(row) } else { row }))
        });
        let ordered = self.vector(ordered);
        for (first_row, run) in runs {
            run.bias = Some(ordered + 4 * *first_row as u64);
        }
        let natural = linears
            .iter()
            .flat_map(|&(linear, _)| (0..linear.weight.n_rows).map(move |row| bias_of(linear, row)));
        Some(self.vector(natural))
    }
}
