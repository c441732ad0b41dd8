//! From a file's metadata to an [`Architecture`]: one short file per model family.
//!
//! A family maps GGUF keys to data and nothing more. To add one, write such a file and name it in [`FAMILIES`].

mod gpt2;
mod gpt_oss;
mod keys;
mod llama;
mod phi3;
mod qwen2;

use gguf::Gguf;

use crate::architecture::Architecture;
use crate::error::ModelError;
pub use keys::Keys;

/// A model family that can be read.
pub struct Family {
    /// The value of `general.architecture`.
    pub name: &'static str,
    /// Reads the sizes and choices.
    pub read: fn(&Keys<'_>) -> Result<Architecture, ModelError>,
    /// The tensor (without `blk.N.` and `.weight`) that normalises before the feed-forward.
    pub ffn_norm: &'static str,
    /// The linear maps (without `blk.N.` and `.bias`) that always have a bias; `attn_qkv` means Q, K and V in one tensor or three.
    /// Others may have one, in all layers or in none.
    pub biases: &'static [&'static str],
}

/// All that are known.
pub const FAMILIES: [&Family; 5] =
    [&llama::FAMILY, &qwen2::FAMILY, &phi3::FAMILY, &gpt2::FAMILY, &gpt_oss::FAMILY];

/// Finds the family that a file names and reads its architecture.
///
/// # Errors
/// [`ModelError::UnknownArchitecture`], or what the family's keys lack or contradict.
pub fn read(gguf: &Gguf) -> Result<(&'static Family, Architecture), ModelError> {
    let found = gguf.metadata().str_of("general.architecture")?.unwrap_or("");
    let family = FAMILIES.into_iter().find(|f| f.name == found).ok_or_else(|| {
        let known: Vec<_> = FAMILIES.iter().map(|f| f.name).collect();
        ModelError::UnknownArchitecture { found: found.to_owned(), known: known.join(", ") }
    })?;
    let keys = Keys::new(gguf, family.name);
    Ok((family, (family.read)(&keys)?))
}
