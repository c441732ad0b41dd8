//! Qwen3.5 and 3.6, dense and as mixtures with a gated shared expert: a gated delta rule in most layers, gated attention with normalised queries and keys in the others.
//!
//! The norms' weights in these files already hold `1 + w`, all but those of the delta rule. Sources: arXiv 2412.06464 (gated delta rule),
//! arXiv 2505.06708 (gated attention).

use super::{Family, Keys, Norms};
use crate::architecture::{Architecture, Mixer, Pairing, Position, QkNorm, Router};
use crate::error::ModelError;

pub(super) const FAMILY: Family = Family {
    name: "qwen35",
    read,
    norms: Norms { ffn: Some("post_attention_norm"), ..Norms::BEFORE },
    biases: &[],
};

pub(super) const MOE: Family = Family { name: "qwen35moe", read: mixture, ..FAMILY };

fn read(keys: &Keys<'_>) -> Result<Architecture, ModelError> {
    let mut architecture = keys.gated_decoder(Pairing::HalfSplit)?;
    if let Position::Rope(ropes) = &architecture.position {
        keys.check_sections(ropes.kinds[0].n_rot)?;
    }
    let rule = keys.delta_rule()?;
    let recurrent = keys.recurrent_layers()?;
    for (mixer, is_recurrent) in architecture.mixers.iter_mut().zip(recurrent) {
        if is_recurrent {
            *mixer = Mixer::DeltaRule(rule);
        }
    }
    architecture.attention.qk_norm = Some(QkNorm::Head);
    architecture.attention.gated = true;
    Ok(architecture)
}

fn mixture(keys: &Keys<'_>) -> Result<Architecture, ModelError> {
    let mut architecture = read(keys)?;
    keys.add_experts(&mut architecture, Router::SOFTMAX_OF_CHOSEN, true)?;
    Ok(architecture)
}
