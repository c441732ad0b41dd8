//! SmolLM3: Llama's shape; every fourth layer has no positions (NoPE, arXiv 2501.18795), which the file does not say.
//!
//! The rows of Q and K in these files are permuted so that RoPE turns adjacent pairs.

use super::{Family, Keys, Norms};
use crate::architecture::{Architecture, Pairing, Position};
use crate::error::ModelError;

pub(super) const FAMILY: Family = Family { name: "smollm3", read, norms: Norms::BEFORE, biases: &[] };

fn read(keys: &Keys<'_>) -> Result<Architecture, ModelError> {
    let mut architecture = keys.gated_decoder(Pairing::Adjacent)?;
    if let Position::Rope(ropes) = &mut architecture.position {
        ropes.layers.iter_mut().skip(3).step_by(4).for_each(|layer| *layer = None);
    }
    Ok(architecture)
}
