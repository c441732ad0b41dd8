//! Phi-3, Phi-3.5 and Phi-4-mini: a window in the 4k models, LongRoPE in the 128k ones; fused tensors are cut at load.

use super::{Family, Keys, Norms};
use crate::architecture::{Architecture, Pairing};
use crate::error::ModelError;

pub(super) const FAMILY: Family = Family { name: "phi3", read, norms: Norms::BEFORE, biases: &[] };

fn read(keys: &Keys<'_>) -> Result<Architecture, ModelError> {
    let mut architecture = keys.gated_decoder(Pairing::HalfSplit)?;
    keys.window_everywhere(&mut architecture)?;
    Ok(architecture)
}
