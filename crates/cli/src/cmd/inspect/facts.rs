//! What is worth saying about a file: the fields of `inspect --json`.
//!
//! Keys are those of the GGUF specification; a key that is absent or of another type leaves its field out, because a file that
//! cannot run can still be described. What can run is decided by [`model::Model::load`] alone.

use std::collections::BTreeMap;

use gguf::{Gguf, Metadata};
use model::architecture::{Heads, Mixer, Position};
use model::{Model, SamplingAdvice};
use serde::Serialize;
use worker::Defaults;

use super::metadata::Entries;
use crate::device::{Shape, default_ctx};
use crate::memory::Needed;

/// A file, described.
#[derive(Serialize)]
pub(crate) struct Facts<'a> {
    pub(crate) files: Vec<String>,
    pub(crate) file_bytes: u64,
    pub(crate) gguf_version: u32,
    pub(crate) alignment: usize,
    pub(crate) name: Option<String>,
    pub(crate) architecture: Option<String>,
    pub(crate) supported: bool,
    pub(crate) unsupported_reason: Option<String>,
    pub(crate) parameters: u64,
    pub(crate) tensor_count: usize,
    pub(crate) weights_bytes: u64,
    pub(crate) formats: Vec<FormatShare>,
    pub(crate) sizes: Sizes,
    pub(crate) tokenizer: TokenizerFacts,
    pub(crate) chat_template: bool,
    /// How tokens are chosen where nobody says, if the file advises on it.
    pub(crate) sampling: Option<Defaults>,
    pub(crate) memory: Option<Needed>,
    pub(crate) notices: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) metadata: Option<Entries<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tensors: Option<Vec<TensorFacts>>,
}

/// What one weight format takes.
#[derive(Serialize)]
pub(crate) struct FormatShare {
    pub(crate) format: &'static str,
    pub(crate) tensors: usize,
    pub(crate) parameters: u64,
    pub(crate) bytes: u64,
}

/// The transformer's sizes.
#[derive(Serialize)]
pub(crate) struct Sizes {
    pub(crate) n_ctx_train: Option<usize>,
    pub(crate) n_layer: Option<usize>,
    pub(crate) n_embd: Option<usize>,
    pub(crate) n_ff: Option<usize>,
    pub(crate) n_head: Option<usize>,
    pub(crate) n_kv_head: Option<usize>,
    pub(crate) head_dim: Option<usize>,
    pub(crate) n_expert: Option<usize>,
    pub(crate) n_expert_used: Option<usize>,
    pub(crate) window: Option<usize>,
    pub(crate) n_window_layer: Option<usize>,
    pub(crate) rope_base: Option<f32>,
    pub(crate) rope_scaling: Option<String>,
}

/// The vocabulary.
#[derive(Serialize)]
pub(crate) struct TokenizerFacts {
    pub(crate) kind: Option<String>,
    pub(crate) pre: Option<String>,
    pub(crate) n_vocab: Option<usize>,
    pub(crate) bos: Option<u32>,
    pub(crate) eos: Option<u32>,
    pub(crate) add_bos: Option<bool>,
}

/// One tensor.
#[derive(Serialize)]
pub(crate) struct TensorFacts {
    pub(crate) name: String,
    pub(crate) format: &'static str,
    /// Innermost dimension first.
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: usize,
    pub(crate) file: usize,
    pub(crate) offset: u64,
}

impl Facts<'_> {
    /// Describes a file; memory at `n_ctx` tokens, or at the context that a run takes.
    pub(crate) fn of(
        gguf: &Gguf,
        n_ctx: Option<usize>,
        with_metadata: bool,
        with_tensors: bool,
    ) -> Facts<'_> {
        let keys = gguf.metadata();
        let model = Model::load(gguf);
        let mut formats: BTreeMap<u32, FormatShare> = BTreeMap::new();
        for tensor in gguf.tensors() {
            let format = tensor.format.name();
            let empty = FormatShare { format, tensors: 0, parameters: 0, bytes: 0 };
            let share = formats.entry(tensor.format.id()).or_insert(empty);
            share.tensors += 1;
            share.parameters += tensor.n_values() as u64;
            share.bytes += tensor.n_bytes as u64;
        }
        let mut formats: Vec<FormatShare> = formats.into_values().collect();
        formats.sort_by_key(|share| std::cmp::Reverse(share.bytes));
        let memory = model.as_ref().ok().map(|model| {
            let n_ctx = n_ctx.unwrap_or_else(|| default_ctx(&model.architecture));
            Needed::of(model, Shape { n_ctx: Some(n_ctx), ..Shape::one_sequence() })
        });
        let advice = SamplingAdvice::read(keys);
        let has_advice = advice != SamplingAdvice::default();
        let (defaults, not_followed) = Defaults::advised(&advice);
        let tensors = gguf.tensors().iter().map(|tensor| TensorFacts {
            name: tensor.name.clone(),
            format: tensor.format.name(),
            shape: tensor.shape.clone(),
            bytes: tensor.n_bytes,
            file: tensor.file,
            offset: tensor.offset,
        });
        Facts {
            files: gguf.paths().iter().map(|path| path.display().to_string()).collect(),
            file_bytes: gguf.file_len(),
            gguf_version: gguf.version(),
            alignment: gguf.alignment(),
            name: text(keys, "general.name"),
            architecture: text(keys, "general.architecture"),
            supported: model.is_ok(),
            unsupported_reason: model.as_ref().err().map(ToString::to_string),
            parameters: formats.iter().map(|share| share.parameters).sum(),
            tensor_count: gguf.tensors().len(),
            weights_bytes: formats.iter().map(|share| share.bytes).sum(),
            formats,
            sizes: Sizes::of(keys, model.as_ref().ok()),
            tokenizer: TokenizerFacts::of(keys),
            chat_template: keys.get("tokenizer.chat_template").is_some(),
            sampling: has_advice.then_some(defaults),
            memory,
            notices: [notices(gguf, model.as_ref().ok()), not_followed].concat(),
            metadata: with_metadata.then_some(Entries(keys)),
            tensors: with_tensors.then(|| tensors.collect()),
        }
    }
}

impl Sizes {
    /// As the architecture says, where the model can be read; else as the keys say.
    fn of(keys: &Metadata, model: Option<&Model>) -> Sizes {
        let prefix = text(keys, "general.architecture").unwrap_or_default();
        let size = |key: &str| keys.usize_of(&format!("{prefix}.{key}")).ok().flatten();
        let mut sizes = Sizes {
            n_ctx_train: size("context_length"),
            n_layer: size("block_count"),
            n_embd: size("embedding_length"),
            n_ff: size("feed_forward_length"),
            n_head: size("attention.head_count"),
            n_kv_head: size("attention.head_count_kv"),
            head_dim: size("attention.key_length"),
            n_expert: size("expert_count").filter(|&n| n > 0),
            n_expert_used: size("expert_used_count").filter(|&n| n > 0),
            window: size("attention.sliding_window").filter(|&n| n > 0),
            n_window_layer: None,
            rope_base: keys.f32_of(&format!("{prefix}.rope.freq_base")).ok().flatten(),
            rope_scaling: text(keys, &format!("{prefix}.rope.scaling.type")),
        };
        let Some(a) = model.map(|model| &model.architecture) else { return sizes };
        sizes.n_layer = Some(a.n_layer);
        sizes.n_ff = Some(a.widest_ff());
        let heads: Vec<Heads> = a.mixers.iter().filter_map(Mixer::heads).collect();
        let most = |of: fn(&Heads) -> usize| heads.iter().map(of).max();
        sizes.n_head = most(|heads| heads.n_head);
        sizes.n_kv_head = most(|heads| heads.n_kv_head);
        sizes.head_dim = most(|heads| heads.head_dim);
        if let Some(mixture) = a.mixture() {
            (sizes.n_expert, sizes.n_expert_used) = (Some(mixture.n_expert), Some(mixture.n_used));
        }
        sizes.window = heads.iter().filter_map(|heads| heads.window).max();
        sizes.n_window_layer = sizes.window.map(|_| heads.iter().filter(|h| h.window.is_some()).count());
        (sizes.rope_base, sizes.rope_scaling) = match &a.position {
            Position::Learned => (None, None),
            Position::Rope(ropes) => (Some(ropes.kinds[0].base), scaling(&ropes.kinds[0].scaling)),
        };
        sizes
    }
}

fn scaling(scaling: &model::architecture::RopeScaling) -> Option<String> {
    use model::architecture::RopeScaling;
    Some(match scaling {
        RopeScaling::None => return None,
        RopeScaling::Linear { factor } => format!("linear, factor {factor}"),
        RopeScaling::Llama3 { .. } => "llama3".to_owned(),
        RopeScaling::LongRope { original_context, .. } => format!("longrope from {original_context} tokens"),
        RopeScaling::Yarn { factor, original_context, .. } => {
            format!("yarn, factor {factor} from {original_context} tokens")
        }
    })
}

impl TokenizerFacts {
    fn of(keys: &Metadata) -> TokenizerFacts {
        let id = |key: &str| keys.u32_of(&format!("tokenizer.ggml.{key}")).ok().flatten();
        TokenizerFacts {
            kind: text(keys, "tokenizer.ggml.model"),
            pre: text(keys, "tokenizer.ggml.pre"),
            n_vocab: keys.array_of("tokenizer.ggml.tokens").ok().flatten().map(gguf::Array::len),
            bos: id("bos_token_id"),
            eos: id("eos_token_id"),
            add_bos: keys.bool_of("tokenizer.ggml.add_bos_token").ok().flatten(),
        }
    }
}

/// What a user should know before trusting the file.
fn notices(gguf: &Gguf, model: Option<&Model>) -> Vec<String> {
    let keys = gguf.metadata();
    let mut notices = Vec::new();
    if gguf.version() < 3 {
        notices.push(format!("an old file: GGUF version {}, 3 is current", gguf.version()));
    }
    let tokenizer = TokenizerFacts::of(keys);
    match (tokenizer.kind.as_deref(), &tokenizer.pre) {
        (None, _) => notices.push("no tokenizer: text cannot be read or written, only token ids".to_owned()),
        (Some("gpt2"), None) => {
            notices.push("no tokenizer.ggml.pre: how text is split before merging is not stated".to_owned());
        }
        _ => {}
    }
    if keys.get("tokenizer.chat_template").is_none() {
        notices.push("no chat template: `run` needs --raw".to_owned());
    }
    if let Some(a) = model.map(|model| &model.architecture).filter(|a| a.n_nextn > 0) {
        let last = a.n_layer + a.n_nextn - 1;
        notices.push(format!("blocks {} to {last} predict further tokens and are not used", a.n_layer));
    }
    notices
}

/// Text in which nothing can steer a terminal.
fn text(keys: &Metadata, key: &str) -> Option<String> {
    let text = keys.str_of(key).ok().flatten()?;
    Some(text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect())
}
