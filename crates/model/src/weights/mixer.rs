//! The tensors of a layer's mixer. Shapes are those of [`crate::architecture::Mixer`]'s variants.

use super::{Linear, NormWeights};

/// The tensors of a layer's mixer.
#[derive(Clone, Debug)]
pub enum MixerWeights {
    /// Of [`Mixer::Attention`](crate::architecture::Mixer::Attention).
    Attention(AttentionWeights),
    /// Of [`Mixer::Latent`](crate::architecture::Mixer::Latent).
    Latent(LatentWeights),
    /// Of [`Mixer::ShortConv`](crate::architecture::Mixer::ShortConv).
    ShortConv(ShortConvWeights),
    /// Of [`Mixer::DeltaRule`](crate::architecture::Mixer::DeltaRule).
    DeltaRule(DeltaRuleWeights),
}

/// An attention's tensors.
#[derive(Clone, Debug)]
pub struct AttentionWeights {
    /// `[n_head * head_dim, n_embd]`; where attention is gated `[n_head * 2 * head_dim, n_embd]`, in each head the query's rows and then the
    /// gate's.
    pub q: Linear,
    /// `[n_kv_head * head_dim, n_embd]`; `None` where the layer reads an earlier one's keys and values.
    pub k: Option<Linear>,
    /// `[n_kv_head * head_dim, n_embd]`; `None` there as well, and where the keys are the values.
    pub v: Option<Linear>,
    /// `[n_head]`: one more logit a head, where the architecture has sinks.
    pub sinks: Option<Vec<f32>>,
    /// Of queries: `[head_dim]`, or `[n_head * head_dim]` for a norm of whole rows.
    pub q_norm: Option<Vec<f32>>,
    /// Of the layer's own keys: `[head_dim]`, or `[n_kv_head * head_dim]`.
    pub k_norm: Option<Vec<f32>>,
    /// `[n_embd, n_head * head_dim]`.
    pub output: Linear,
}

/// A latent attention's tensors.
#[derive(Clone, Debug)]
pub struct LatentWeights {
    /// What queries are made of, where that is not the layer's own row.
    pub q_row: Option<QueryRow>,
    /// `[n_head * (n_plain + n_rot), q_rank or n_embd]`.
    pub q: Linear,
    /// `[kv_rank + n_rot, n_embd]`.
    pub kv: Linear,
    /// `[kv_rank]`.
    pub kv_norm: NormWeights,
    /// From a head's query to what is kept.
    pub k: KeyMaps,
    /// By head: `[n_value, kv_rank]`.
    pub v: Vec<Linear>,
    /// `[n_embd, n_head * n_value]`.
    pub output: Linear,
}

/// The row that queries of latent attention are made of.
#[derive(Clone, Debug)]
pub struct QueryRow {
    /// `[q_rank, n_embd]`.
    pub map: Linear,
    /// `[q_rank]`.
    pub norm: NormWeights,
}

/// By head, in one of two forms.
#[derive(Clone, Debug)]
pub enum KeyMaps {
    /// `[kv_rank, n_plain]`.
    OfQueries(Vec<Linear>),
    /// `[n_plain, kv_rank]`: the map that makes keys, which queries go through the other way.
    OfKeys(Vec<Linear>),
}

/// A short convolution's tensors.
#[derive(Clone, Debug)]
pub struct ShortConvWeights {
    /// `[3 * n_embd, n_embd]`: the gate of the inputs, the gate of the outputs, the inputs.
    pub input: Linear,
    /// `[n_embd, n_tap]`.
    pub taps: Vec<f32>,
    /// `[n_embd, n_embd]`.
    pub output: Linear,
}

/// A gated delta rule's tensors.
#[derive(Clone, Debug)]
pub struct DeltaRuleWeights {
    /// `[2 * n_k + n_v, n_embd]`: queries, keys, values.
    pub qkv: Linear,
    /// `[n_v, n_embd]`.
    pub gate: Linear,
    /// `[n_v_head, n_embd]`: how much the state forgets.
    pub alpha: Linear,
    /// `[n_v_head, n_embd]`: how much of a value is written.
    pub beta: Linear,
    /// `[2 * n_k + n_v, n_tap]`.
    pub taps: Vec<f32>,
    /// `[n_v_head]`: the rate of forgetting, negative.
    pub a: Vec<f32>,
    /// `[n_v_head]`: added to `alpha`.
    pub dt: Vec<f32>,
    /// `[head_dim]`: a norm of each head of the output.
    pub norm: Vec<f32>,
    /// `[n_embd, n_v]`.
    pub output: Linear,
}

impl MixerWeights {
    /// Every linear map and every vector.
    #[must_use]
    pub fn parts(&self) -> (Vec<&Linear>, Vec<&[f32]>) {
        match self {
            MixerWeights::Attention(AttentionWeights { q, k, v, sinks, q_norm, k_norm, output }) => {
                let linears = [q].into_iter().chain(k).chain(v).chain([output]).collect();
                (linears, [sinks, q_norm, k_norm].into_iter().flatten().map(Vec::as_slice).collect())
            }
            MixerWeights::Latent(LatentWeights { q_row, q, kv, kv_norm, k, v, output }) => {
                let (KeyMaps::OfQueries(k) | KeyMaps::OfKeys(k)) = k;
                let linears = q_row.iter().map(|row| &row.map).chain([q, kv, output]).chain(k).chain(v);
                let norms = q_row.iter().map(|row| &row.norm).chain([kv_norm]);
                (linears.collect(), norms.map(|norm| norm.weight.as_slice()).collect())
            }
            MixerWeights::ShortConv(ShortConvWeights { input, taps, output }) => {
                (vec![input, output], vec![taps])
            }
            MixerWeights::DeltaRule(rule) => {
                let DeltaRuleWeights { qkv, gate, alpha, beta, taps, a, dt, norm, output } = rule;
                (vec![qkv, gate, alpha, beta, output], vec![taps, a, dt, norm])
            }
        }
    }
}
