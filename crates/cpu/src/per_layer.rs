//! What layers add of the token itself: an embedding for each layer, mixed with the model's own ([`model::stage::Stage::Embed`]).

use model::weights::{PerLayer, PerLayerInputs};

use crate::elementwise::{normalise_groups, scale};
use crate::forward::{Buffer, Forward, StepRows, read_row};
use crate::kernels::Rows;

/// Rows that are kept from step to step.
#[derive(Default)]
pub(crate) struct PerLayerBuffers {
    /// `[n_row, n_layer * n_per_layer]`.
    rows: Buffer,
    /// `[n_layer, n_row, n_per_layer]`.
    inputs: Buffer,
    /// `[n_row, n_per_layer]`.
    hidden: Buffer,
}

impl Forward<'_> {
    /// The inputs of all layers, from the embeddings `x`.
    pub(crate) fn per_layer_inputs(
        &mut self,
        weights: &PerLayerInputs,
        (step, x): (&StepRows<'_>, &[f32]),
        PerLayerBuffers { rows, inputs, .. }: &mut PerLayerBuffers,
    ) {
        let (n_embd, n, n_all) =
            (self.model.architecture.n_embd, weights.norm.len(), weights.token_embd.n_cols);
        let rows = rows.get(step.tokens.len() * n_all);
        let inputs = inputs.get(rows.len());
        self.linears(
            Rows { data: x, n_cols: n_embd, n_prompt: step.n_prompt },
            [&weights.model],
            [&mut *rows],
        );
        scale(self.pool, rows, 1.0 / (n_embd as f32).sqrt());
        normalise_groups(self.pool, self.model.architecture.norm.eps, &weights.norm, rows);
        let of_token = (n as f32).sqrt();
        let n_row = step.tokens.len();
        let mut embedded = vec![0.0; n_all];
        for (r, (&token, row)) in step.tokens.iter().zip(rows.chunks_exact(n_all)).enumerate() {
            read_row(&weights.token_embd, token as usize, &mut embedded);
            for (layer, (t, m)) in embedded.chunks_exact(n).zip(row.chunks_exact(n)).enumerate() {
                let to = &mut inputs[(layer * n_row + r) * n..][..n];
                for ((to, t), m) in to.iter_mut().zip(t).zip(m) {
                    *to = (t * of_token + m) * std::f32::consts::FRAC_1_SQRT_2;
                }
            }
        }
    }

    /// What layer `layer` adds of its input: `out` is `[n_row, n_embd]`, before its norm.
    pub(crate) fn per_layer(
        &mut self,
        (layer, weights): (usize, &PerLayer),
        (x, out): (Rows<'_>, &mut [f32]),
        PerLayerBuffers { inputs, hidden, .. }: &mut PerLayerBuffers,
    ) {
        let n = weights.gate.weight.n_rows;
        let n_value = x.n_row() * n;
        let hidden = hidden.get(n_value);
        self.linears(x, [&weights.gate], [&mut *hidden]);
        let activation = self.model.architecture.feed_forward[layer].activation;
        let input = &inputs.get((layer + 1) * n_value)[layer * n_value..];
        self.kernels.activate(self.pool, activation, hidden, Some(input));
        self.linears(Rows { data: hidden, n_cols: n, ..x }, [&weights.output], [out]);
    }
}
