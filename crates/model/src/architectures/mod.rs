//! From a file's metadata to an [`Architecture`]: one short file per model family.
//!
//! A family maps GGUF keys to data and nothing more. To add one, write such a file and name it in [`FAMILIES`].

mod deepseek2;
mod gemma;
mod gemma4;
mod glm4moe;
mod gpt2;
mod gpt_oss;
mod granite;
mod keys;
mod lfm2;
mod llama;
mod mistral3;
mod olmo2;
mod phi3;
mod qwen2;
mod qwen3;
mod qwen35;
mod smollm3;

use gguf::Gguf;

use crate::architecture::Architecture;
use crate::error::ModelError;
pub use keys::{Keys, Sizes};

/// A model family that can be read.
pub struct Family {
    /// The value of `general.architecture`.
    pub name: &'static str,
    /// Reads the sizes and choices.
    pub read: fn(&Keys<'_>) -> Result<Architecture, ModelError>,
    /// The norms of a layer.
    pub norms: Norms,
    /// The linear maps (without `blk.N.` and `.bias`) that always have a bias; `attn_qkv` means Q, K and V in one tensor or three.
    /// Others may have one, in all layers or in none.
    pub biases: &'static [&'static str],
}

/// The tensors (without `blk.N.` and `.weight`) of the four norms that a layer may have, and of the one before the output.
pub struct Norms {
    /// Before attention.
    pub attn: Option<&'static str>,
    /// Of what attention adds.
    pub attn_post: Option<&'static str>,
    /// Before the feed-forward.
    pub ffn: Option<&'static str>,
    /// Of what the feed-forward adds.
    pub ffn_post: Option<&'static str>,
    /// Before the output.
    pub output: &'static str,
}

impl Norms {
    /// Before attention and before the feed-forward, as most families have them.
    const BEFORE: Norms = Norms {
        attn: Some("attn_norm"),
        attn_post: None,
        ffn: Some("ffn_norm"),
        ffn_post: None,
        output: "output_norm",
    };
    /// After each of the two.
    const AFTER: Norms = Norms {
        attn: None,
        attn_post: Some("post_attention_norm"),
        ffn: None,
        ffn_post: Some("post_ffw_norm"),
        output: "output_norm",
    };
    /// Before and after each of the two.
    const AROUND: Norms = Norms { attn: Norms::BEFORE.attn, ffn: Norms::BEFORE.ffn, ..Norms::AFTER };
}

/// All that are known.
pub const FAMILIES: [&Family; 20] = [
    &llama::FAMILY,
    &qwen2::FAMILY,
    &qwen3::FAMILY,
    &qwen3::MOE,
    &qwen35::FAMILY,
    &qwen35::MOE,
    &lfm2::FAMILY,
    &phi3::FAMILY,
    &gemma::GEMMA2,
    &gemma::GEMMA3,
    &gemma4::FAMILY,
    &mistral3::FAMILY,
    &smollm3::FAMILY,
    &granite::FAMILY,
    &granite::MOE,
    &olmo2::FAMILY,
    &gpt2::FAMILY,
    &gpt_oss::FAMILY,
    &glm4moe::FAMILY,
    &deepseek2::FAMILY,
];

/// What a GGUF file may hold beside a model, by `general.type` or, where an older file does not have it, by `general.architecture`.
const NO_MODELS: [(&str, &str, &str); 5] = [
    (
        "general.type",
        "adapter",
        "a LoRA adapter: merge it into its model first, with llama.cpp's llama-export-lora",
    ),
    ("general.type", "mmproj", PROJECTOR),
    ("general.architecture", "clip", PROJECTOR),
    ("general.type", "imatrix", "an importance matrix, which is an input of llama.cpp's llama-quantize"),
    ("general.architecture", "controlvector", "a control vector, which is not supported"),
];
const PROJECTOR: &str =
    "the projector of a vision or audio model (mmproj): name the model's own file, which is used for text";

/// Finds the family that a file names and reads its architecture.
///
/// # Errors
/// [`ModelError::NotAModel`], [`ModelError::UnknownArchitecture`], or what the family's keys lack or contradict.
pub fn read(gguf: &Gguf) -> Result<(&'static Family, Architecture), ModelError> {
    for (key, value, found) in NO_MODELS {
        if gguf.metadata().str_of(key)? == Some(value) {
            return Err(ModelError::NotAModel { found });
        }
    }
    let found = gguf.metadata().str_of("general.architecture")?.unwrap_or("");
    let family = FAMILIES.into_iter().find(|f| f.name == found).ok_or_else(|| {
        let known: Vec<_> = FAMILIES.iter().map(|f| f.name).collect();
        ModelError::UnknownArchitecture { found: found.to_owned(), known: known.join(", ") }
    })?;
    Ok((family, (family.read)(&Keys::new(gguf, family))?))
}
