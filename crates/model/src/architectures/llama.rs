//! Llama 2 and 3, and the many models in their shape: SmolLM2, Mistral, TinyLlama, Mixtral (experts).
//!
//! The rows of Q and K in these files are permuted so that RoPE turns adjacent pairs.

use super::{Family, Keys, Norms};
use crate::architecture::{Architecture, Pairing, Router};
use crate::error::ModelError;

pub(super) const FAMILY: Family = Family { name: "llama", read, norms: Norms::BEFORE, biases: &[] };

fn read(keys: &Keys<'_>) -> Result<Architecture, ModelError> {
    let mut architecture = keys.gated_decoder(Pairing::Adjacent)?;
    keys.window_everywhere(&mut architecture)?;
    keys.add_experts(&mut architecture, Router::SOFTMAX_OF_CHOSEN, false)?;
    Ok(architecture)
}
