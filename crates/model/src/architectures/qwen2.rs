//! Qwen2 and Qwen2.5: RoPE on halves; biases on Q, K and V.

use super::{Family, Keys, Norms};
use crate::architecture::{Architecture, Pairing};
use crate::error::ModelError;

pub(super) const FAMILY: Family = Family { name: "qwen2", read, norms: Norms::BEFORE, biases: &["attn_qkv"] };

fn read(keys: &Keys<'_>) -> Result<Architecture, ModelError> {
    keys.gated_decoder(Pairing::HalfSplit)
}
