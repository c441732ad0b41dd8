//! Ministral 3, and Mistral Small 3.1 and 3.2, text: Llama's shape; in Ministral YaRN, and queries that grow with their position.
//!
//! The rows of Q and K in these files are permuted so that RoPE turns adjacent pairs.

use super::{Family, Keys, Norms};
use crate::architecture::{Architecture, Pairing};
use crate::error::ModelError;

pub(super) const FAMILY: Family = Family { name: "mistral3", read, norms: Norms::BEFORE, biases: &[] };

fn read(keys: &Keys<'_>) -> Result<Architecture, ModelError> {
    let mut architecture = keys.gated_decoder(Pairing::Adjacent)?;
    architecture.attention.temperature = keys.temperature()?;
    keys.window_everywhere(&mut architecture)?;
    Ok(architecture)
}
