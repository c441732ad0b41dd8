//! Gemma 2 and 3, text: norms around attention and feed-forward, a scaled embedding, GELU, windows on most layers.
//!
//! The norms' weights in these files already hold `1 + w`. Sources: arXiv 2408.00118 (Gemma 2), arXiv 2503.19786 (Gemma 3).

use super::{Family, Keys, Norms};
use crate::architecture::{Activation, Architecture, Pairing, Position, QkNorm, Rope, RopeScaling, Ropes};
use crate::error::ModelError;

pub(super) const GEMMA2: Family = Family { name: "gemma2", read: gemma2, norms: Norms::AROUND, biases: &[] };
pub(super) const GEMMA3: Family = Family { name: "gemma3", read: gemma3, norms: Norms::AROUND, biases: &[] };

/// Every other layer sees a window, the first among them; scores and logits are capped.
fn gemma2(keys: &Keys<'_>) -> Result<Architecture, ModelError> {
    let mut architecture = read(keys, 46)?;
    let local = keys.window_layers(2)?;
    windows(keys, &mut architecture, &local)?;
    architecture.attention.score_cap = keys.cap("attn_logit_softcapping")?;
    Ok(architecture)
}

/// Five layers of six see a window and have a rotation of their own; queries and keys are normalised.
fn gemma3(keys: &Keys<'_>) -> Result<Architecture, ModelError> {
    let mut architecture = read(keys, 62)?;
    let local = keys.window_layers(6)?;
    windows(keys, &mut architecture, &local)?;
    architecture.attention.qk_norm = Some(QkNorm::Head);
    if let Position::Rope(Ropes { kinds, layers }) = &mut architecture.position {
        let base = keys.rope_base("rope.freq_base_swa", 10_000.0)?;
        kinds.push(Rope { base, scaling: RopeScaling::None, ..kinds[0].clone() });
        for (layer, is_local) in layers.iter_mut().zip(local) {
            *layer = Some(usize::from(is_local));
        }
    }
    Ok(architecture)
}

/// What both share. The largest model of each (told by its number of layers) scales scores by the residual stream's share of a head
/// and not by the head's size, which its file does not say.
fn read(keys: &Keys<'_>, largest: usize) -> Result<Architecture, ModelError> {
    let mut architecture = keys.gated_decoder(Pairing::HalfSplit)?;
    architecture.scales.embedding = (architecture.n_embd as f32).sqrt();
    architecture.logit_cap = keys.cap("final_logit_softcapping")?;
    architecture.feed_forward.activation = Activation::GeluTanh;
    if architecture.n_layer == largest {
        let attention = &mut architecture.attention;
        attention.scale = (attention.n_head as f32 / architecture.n_embd as f32).sqrt();
    }
    Ok(architecture)
}

fn windows(keys: &Keys<'_>, architecture: &mut Architecture, local: &[bool]) -> Result<(), ModelError> {
    let window = keys.window()?;
    for (layer, &is_local) in architecture.attention.window.iter_mut().zip(local) {
        *layer = window.filter(|_| is_local);
    }
    Ok(())
}
