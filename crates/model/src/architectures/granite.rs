//! Granite 3 and 4, dense and as a mixture of experts: Llama's shape with scales of its own (muP, arXiv 2203.03466).
//!
//! The rows of Q and K in these files are permuted so that RoPE turns adjacent pairs.

use super::{Family, Keys, Norms};
use crate::architecture::{Architecture, Pairing, Router};
use crate::error::ModelError;

pub(super) const FAMILY: Family = Family { name: "granite", read, norms: Norms::BEFORE, biases: &[] };
pub(super) const MOE: Family =
    Family { name: "granitemoe", read: mixture, norms: Norms::BEFORE, biases: &[] };

fn read(keys: &Keys<'_>) -> Result<Architecture, ModelError> {
    let mut architecture = keys.gated_decoder(Pairing::Adjacent)?;
    // Granite 4's hybrids have no positions: no golden file proves these yet.
    keys.refuse_false("rope.scaling.finetuned")?;
    let attention = &mut architecture.attention;
    attention.scale = keys.factor("attention.scale", Some(attention.scale))?;
    architecture.scales.embedding = keys.factor("embedding_scale", Some(1.0))?;
    architecture.scales.residual = keys.factor("residual_scale", Some(1.0))?;
    // Logits are divided by it.
    architecture.scales.logits = 1.0 / keys.factor("logit_scale", None)?;
    Ok(architecture)
}

fn mixture(keys: &Keys<'_>) -> Result<Architecture, ModelError> {
    let mut architecture = read(keys)?;
    keys.add_experts(&mut architecture, Router::SOFTMAX_OF_CHOSEN, false)?;
    Ok(architecture)
}
