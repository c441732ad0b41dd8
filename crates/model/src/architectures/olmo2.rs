//! OLMo 2: norms after attention and feed-forward and none before them; a norm of the whole row of queries and of keys.
//!
//! Source: arXiv 2501.00656.

use super::{Family, Keys, Norms};
use crate::architecture::{Architecture, Pairing, QkNorm};
use crate::error::ModelError;

pub(super) const FAMILY: Family = Family { name: "olmo2", read, norms: Norms::AFTER, biases: &[] };

fn read(keys: &Keys<'_>) -> Result<Architecture, ModelError> {
    let mut architecture = keys.gated_decoder(Pairing::HalfSplit)?;
    // OLMo 3 uses the same name with windows and a rotation that differs by layer: no golden file proves that yet.
    keys.refuse("attention.sliding_window", "no window")?;
    architecture.attention.qk_norm = Some(QkNorm::Row);
    Ok(architecture)
}
