//! gpt-oss 20b and 120b: a mixture of experts, attention sinks, a window on every other layer, YaRN.
//!
//! Source: OpenAI's gpt-oss model card and reference implementation.

use super::{Family, Keys, Norms};
use crate::architecture::{Activation, Architecture, Pairing, Position, RopeScaling, Router};
use crate::error::ModelError;

pub(super) const FAMILY: Family = Family {
    name: "gpt-oss",
    read,
    norms: Norms { ffn: Some("post_attention_norm"), ..Norms::BEFORE },
    biases: &["attn_qkv", "attn_output", "ffn_gate_inp", "ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"],
};

fn read(keys: &Keys<'_>) -> Result<Architecture, ModelError> {
    let mut architecture = keys.gated_decoder(Pairing::HalfSplit)?;
    keys.windows(&mut architecture, Some(2), None)?;
    architecture.attention.sinks = true;
    if let Position::Rope(ropes) = &mut architecture.position
        && let RopeScaling::Yarn { rounded, .. } = &mut ropes.kinds[0].scaling
    {
        *rounded = false;
    }
    keys.add_experts(&mut architecture, Router::SOFTMAX_OF_CHOSEN, false)?;
    for layer in &mut architecture.feed_forward {
        layer.activation = Activation::ClampedSwiglu { alpha: 1.702, limit: 7.0 };
    }
    Ok(architecture)
}
