//! How long may a sequence be? The default, and what a model was trained for.

use model::architecture::{Architecture, Position, RopeScaling};

/// The context of a run where none is given, in tokens, if the model was made for as many.
const DEFAULT_CTX: usize = 4096;

/// The context of a run where none is given, in tokens.
pub(crate) fn default_ctx(architecture: &Architecture) -> usize {
    architecture.n_ctx_train.min(DEFAULT_CTX)
}

/// What is to be said of a context that is longer than what the model was trained for.
pub(crate) fn beyond_training(architecture: &Architecture, n_ctx: usize) -> Option<String> {
    let covered = covered(architecture);
    (n_ctx > covered).then(|| {
        format!(
            "the context of {n_ctx} tokens is longer than the {covered} that the model was trained for: answers get worse \
             beyond them"
        )
    })
}

/// Tokens that training and the scaling of RoPE cover together. LongRoPE and Llama 3 state the scaled length in the file.
fn covered(architecture: &Architecture) -> usize {
    let trained = architecture.n_ctx_train;
    let times = |n: usize, factor: f32| (n as f64 * f64::from(factor)) as usize;
    let Position::Rope(ropes) = &architecture.position else { return trained };
    match &ropes.kinds[0].scaling {
        RopeScaling::Linear { factor } => trained.max(times(trained, *factor)),
        RopeScaling::Yarn { factor, original_context, .. } => trained.max(times(*original_context, *factor)),
        RopeScaling::None | RopeScaling::Llama3 { .. } | RopeScaling::LongRope { .. } => trained,
    }
}
