//! LFM2: short convolutions in most layers, attention with normalised queries and keys in the others.
//!
//! A layer has attention where it has key heads. Source: arXiv 2511.23404.

use super::{Family, Keys, Norms, Sizes};
use crate::architecture::{Architecture, Conv, Mixer, Pairing, QkNorm};
use crate::error::ModelError;

pub(super) const FAMILY: Family = Family {
    name: "lfm2",
    read,
    // The name that the converter gives to the norm before the output.
    norms: Norms { output: "token_embd_norm", ..Norms::BEFORE },
    biases: &[],
};

fn read(keys: &Keys<'_>) -> Result<Architecture, ModelError> {
    let Sizes { n_layer, n_embd, .. } = keys.sizes()?;
    let (heads, n_kv_head) = keys.kv_heads()?;
    let mut architecture = keys.decoder(Pairing::HalfSplit, &vec![n_kv_head; n_layer])?;
    let conv = Conv { n_tap: keys.n_tap("shortconv.l_cache")?, n_channel: n_embd };
    for (mixer, n) in architecture.mixers.iter_mut().zip(heads) {
        if n == 0 {
            *mixer = Mixer::ShortConv(conv);
        }
    }
    architecture.attention.qk_norm = Some(QkNorm::Head);
    Ok(architecture)
}
