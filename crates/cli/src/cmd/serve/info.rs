//! What do clients get to know of the model? Names, sizes and kinds; no paths.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use gguf::Gguf;
use hub::ModelRef;
use server::ModelInfo;
use tokenizer::Tokenizer;

use crate::device::Loaded;
use crate::version;

/// Describes a loaded model. The first of `names` is its name, the others answer too.
pub(crate) fn of(loaded: &Loaded, tokenizer: &Tokenizer, names: &[String], model: &ModelRef) -> ModelInfo {
    let gguf = &loaded.gguf;
    let stem = gguf.paths().first().and_then(|path| path.file_stem());
    let stem = stem.map_or_else(|| "model".to_owned(), |stem| stem.to_string_lossy().into_owned());
    let reference = match model {
        ModelRef::Path(_) => stem.clone(),
        hub => hub.to_string(),
    };
    let (id, aliases) = match names {
        [] => (stem.clone(), Vec::new()),
        [first, others @ ..] => (first.clone(), others.to_vec()),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let commit = version::COMMIT.map(|commit| format!("+{commit}")).unwrap_or_default();
    ModelInfo {
        id,
        aliases,
        reference,
        draft_model: loaded.draft_name.clone(),
        created: now.as_secs(),
        n_params: gguf.tensors().iter().map(|tensor| tensor.n_values() as u64).sum(),
        n_bytes: gguf.file_len(),
        n_ctx_train: loaded.model.architecture.n_ctx_train,
        quant_kind: gguf.file_type().unwrap_or_else(|| commonest_format(gguf)).to_owned(),
        tokenizer_kind: tokenizer.kind().to_string(),
        device: loaded.gpu.map_or_else(|| "cpu".to_owned(), |n| format!("cuda:{n}")),
        kernels: loaded.kernels.clone(),
        sm: loaded.sm,
        cuda_version: loaded.cuda_version.clone(),
        program: format!("{}{commit}", env!("CARGO_PKG_VERSION")),
    }
}

/// The format that takes most of the file.
fn commonest_format(gguf: &Gguf) -> &'static str {
    let mut bytes: BTreeMap<&'static str, usize> = BTreeMap::new();
    for tensor in gguf.tensors() {
        *bytes.entry(tensor.format.name()).or_default() += tensor.n_bytes;
    }
    bytes.into_iter().max_by_key(|&(_, bytes)| bytes).map_or("none", |(name, _)| name)
}
