//! Models on the GPU.

use std::path::Path;

use cuda::{CudaExecutor, Options};
use model::Model;
use model::weights::{Ffn, Linear, Matrix};
use quant::{Format, Half};

/// A model's executor with room for `n_slot` sequences of `n_ctx` tokens.
pub(crate) fn executor(path: &Path, n_ctx: usize, n_slot: usize) -> CudaExecutor {
    executor_with(path, &Options { n_ctx, n_slot, n_row: 512, ..Options::default() })
}

/// A model's file, read.
pub(crate) fn loaded(path: &Path) -> Model {
    let gguf = gguf::Gguf::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    Model::load(&gguf).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A model's executor with these options.
pub(crate) fn executor_with(path: &Path, options: &Options) -> CudaExecutor {
    let model = loaded(path);
    CudaExecutor::new(&model, options, &mut |_, _| {}).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// With so many rows, or columns, the same ones over and over.
fn widened(linear: &mut Linear, n_ff: usize, are_rows: bool) {
    let old = &linear.weight;
    let row = |i: usize| old.row_range(i % old.n_rows..i % old.n_rows + 1);
    let [n_rows, n_cols] = if are_rows { [n_ff, old.n_cols] } else { [old.n_rows, n_ff] };
    let row_bytes = old.format.bytes_for(n_cols).expect("whole blocks");
    let bytes: Vec<u8> = (0..n_rows).flat_map(|i| row(i).iter().cycle().take(row_bytes).copied()).collect();
    let weight = Matrix::new(&old.name, old.format, [n_rows, n_cols], bytes.into());
    *linear = Linear { weight: weight.expect("as many bytes"), bias: None };
}

/// A golden model whose feed-forward is so wide.
pub(crate) fn with_wide_layers(path: &Path, n_ff: usize) -> Model {
    let mut model = loaded(path);
    for (feed_forward, layer) in model.architecture.feed_forward.iter_mut().zip(&mut model.weights.layers) {
        let Ffn::Gated(gated) = &mut layer.ffn else { panic!("a gated feed-forward") };
        widened(&mut gated.gate, n_ff, true);
        widened(&mut gated.up, n_ff, true);
        widened(&mut gated.down, n_ff, false);
        feed_forward.n_ff = n_ff;
    }
    model
}

/// A matrix of random floats, so that rows of about unit values give such.
pub(crate) fn random(name: &str, format: Format, [n_rows, n_cols]: [usize; 2]) -> Matrix {
    let mut state = name.bytes().fold(1u64, |state, byte| state.wrapping_mul(31) + u64::from(byte));
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let largest = (3.0 / n_cols as f32).sqrt();
    let values = (0..n_rows * n_cols).map(|_| largest * next());
    let bytes: Vec<u8> = match format {
        Format::F32 => values.flat_map(f32::to_le_bytes).collect(),
        Format::F16 => values.flat_map(|value| Half::from_f32(value).0).collect(),
        _ => panic!("{format}: expected F32 or F16"),
    };
    Matrix::new(name, format, [n_rows, n_cols], bytes.into()).expect("as many bytes")
}
