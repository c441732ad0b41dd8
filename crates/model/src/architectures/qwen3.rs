//! Qwen3, dense and as a mixture of experts: RoPE on halves; a norm of each head of queries and keys.
//!
//! Source: the Qwen3 technical report, arXiv 2505.09388. A mixture's chosen probabilities are always divided by their sum, which is the
//! softmax over the chosen logits.

use super::{Family, Keys, Norms};
use crate::architecture::{Architecture, Pairing, QkNorm, Router};
use crate::error::ModelError;

pub(super) const FAMILY: Family = Family { name: "qwen3", read, norms: Norms::BEFORE, biases: &[] };
pub(super) const MOE: Family = Family { name: "qwen3moe", read: mixture, norms: Norms::BEFORE, biases: &[] };

fn read(keys: &Keys<'_>) -> Result<Architecture, ModelError> {
    let mut architecture = keys.gated_decoder(Pairing::HalfSplit)?;
    architecture.attention.qk_norm = Some(QkNorm::Head);
    Ok(architecture)
}

fn mixture(keys: &Keys<'_>) -> Result<Architecture, ModelError> {
    let mut architecture = read(keys)?;
    keys.add_experts(&mut architecture, Router::SOFTMAX_OF_CHOSEN, false)?;
    Ok(architecture)
}
