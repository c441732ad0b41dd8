//! Models on the GPU.

use std::path::Path;

use cuda::{CudaExecutor, Options};
use model::Model;

/// A model's executor with room for `n_slot` sequences of `n_ctx` tokens.
pub(crate) fn executor(path: &Path, n_ctx: usize, n_slot: usize) -> CudaExecutor {
    executor_with(path, &Options { n_ctx, n_slot, n_row: 512, ..Options::default() })
}

/// A model's executor with these options.
pub(crate) fn executor_with(path: &Path, options: &Options) -> CudaExecutor {
    let gguf = gguf::Gguf::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let model = Model::load(&gguf).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    CudaExecutor::new(&model, options, &mut |_, _| {}).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
