//! Gemma 2 and 3, text: norms around attention and feed-forward, a scaled embedding, GELU, windows on most layers.
//!
//! The norms' weights in these files already hold `1 + w`. Sources: arXiv 2408.00118 (Gemma 2), arXiv 2503.19786 (Gemma 3).

use super::{Family, Keys, Norms};
use crate::architecture::{Activation, Architecture, Pairing, QkNorm, Rope, RopeScaling};
use crate::error::ModelError;

pub(super) const GEMMA2: Family = Family { name: "gemma2", read: gemma2, norms: Norms::AROUND, biases: &[] };
pub(super) const GEMMA3: Family = Family { name: "gemma3", read: gemma3, norms: Norms::AROUND, biases: &[] };

/// Every other layer sees a window, the first among them; scores and logits are capped.
fn gemma2(keys: &Keys<'_>) -> Result<Architecture, ModelError> {
    let mut architecture = read(keys, 46)?;
    keys.windows(&mut architecture, Some(2), None)?;
    architecture.attention.score_cap = keys.cap("attn_logit_softcapping")?;
    Ok(architecture)
}

/// Five layers of six see a window and have a rotation of their own; queries and keys are normalised.
fn gemma3(keys: &Keys<'_>) -> Result<Architecture, ModelError> {
    let mut architecture = read(keys, 62)?;
    architecture.attention.qk_norm = Some(QkNorm::Head);
    let base = keys.rope_base("rope.freq_base_swa", 10_000.0)?;
    let local =
        architecture.first_rope().map(|rope| Rope { base, scaling: RopeScaling::None, ..rope.clone() });
    keys.windows(&mut architecture, Some(6), local)?;
    Ok(architecture)
}

/// What both share. The largest model of each (told by its number of layers) scales scores by the residual stream's share of a head
/// and not by the head's size, which its file does not say.
fn read(keys: &Keys<'_>, largest: usize) -> Result<Architecture, ModelError> {
    let mut architecture = keys.gated_decoder(Pairing::HalfSplit)?;
    architecture.scales.embedding = (architecture.n_embd as f32).sqrt();
    architecture.logit_cap = keys.cap("final_logit_softcapping")?;
    architecture.feed_forward.iter_mut().for_each(|layer| layer.activation = Activation::GeluTanh);
    if architecture.n_layer == largest {
        let n_head = architecture.heads(0).map_or(1, |heads| heads.n_head);
        architecture.attention.scale = (n_head as f32 / architecture.n_embd as f32).sqrt();
    }
    Ok(architecture)
}
