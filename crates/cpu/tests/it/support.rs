//! Models on the CPU, and batches for them.

use std::path::Path;
use std::sync::Arc;

use cpu::{CpuExecutor, Options};
use model::Model;
pub(crate) use testkit::steps::{greedy, last, prompt, run, token};

/// A model's executor with room for `n_slot` sequences of `n_ctx` tokens.
pub(crate) fn executor(path: &Path, exact: bool, n_ctx: usize, n_slot: usize) -> CpuExecutor {
    executor_with(path, &Options { threads: 2, exact, n_ctx, n_slot, ..Options::default() })
}

/// A model's executor with these options.
pub(crate) fn executor_with(path: &Path, options: &Options) -> CpuExecutor {
    let gguf = gguf::Gguf::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let model = Model::load(&gguf).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    CpuExecutor::new(Arc::new(model), options).expect("an executor")
}

/// The logits `[n_tokens, n_vocab]` of a text, with a context of just its length.
pub(crate) fn logits(path: &Path, exact: bool, tokens: &[u32]) -> Vec<f32> {
    testkit::steps::logits(&mut executor(path, exact, tokens.len(), 1), tokens)
}
