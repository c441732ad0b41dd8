//! OLMo 2 and 3: norms after attention and feed-forward and none before them; a norm of the whole row of queries and of keys.
//!
//! OLMo 3 has a window on three layers of four, and stretches the rotation of the others alone. Sources: arXiv 2501.00656 (OLMo 2), arXiv
//! 2512.13961 (OLMo 3).

use super::{Family, Keys, Norms};
use crate::architecture::{Architecture, Pairing, QkNorm, Rope, RopeScaling};
use crate::error::ModelError;

pub(super) const FAMILY: Family = Family { name: "olmo2", read, norms: Norms::AFTER, biases: &[] };

fn read(keys: &Keys<'_>) -> Result<Architecture, ModelError> {
    let mut architecture = keys.gated_decoder(Pairing::HalfSplit)?;
    architecture.attention.qk_norm = Some(QkNorm::Row);
    if keys.window()?.is_some() {
        let local = architecture.first_rope().map(|rope| Rope { scaling: RopeScaling::None, ..rope.clone() });
        keys.windows(&mut architecture, Some(4), local)?;
    }
    Ok(architecture)
}
