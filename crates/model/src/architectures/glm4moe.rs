//! GLM-4.5 to 4.7 and Air: a sigmoid router whose choice is balanced by a bias, shared experts, dense layers in front.
//!
//! Half of a head is rotated. Only the large models have a norm of queries and keys, which their tensors tell. Source: arXiv 2508.06471.

use super::{Family, Keys, Norms};
use crate::architecture::{Architecture, Gating, Pairing, QkNorm, Router};
use crate::error::ModelError;

pub(super) const FAMILY: Family = Family {
    name: "glm4moe",
    read,
    norms: Norms { ffn: Some("post_attention_norm"), ..Norms::BEFORE },
    biases: &["attn_qkv"],
};

fn read(keys: &Keys<'_>) -> Result<Architecture, ModelError> {
    let mut architecture = keys.gated_decoder(Pairing::HalfSplit)?;
    if keys.has_tensor("blk.0.attn_q_norm.weight") {
        architecture.attention.qk_norm = Some(QkNorm::Head);
    }
    let router = Router { gating: Gating::Sigmoid, has_choice_bias: true, ..Router::SOFTMAX_OF_CHOSEN };
    keys.add_experts(&mut architecture, router, false)?;
    Ok(architecture)
}
