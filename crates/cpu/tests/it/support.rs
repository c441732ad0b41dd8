//! Models on the CPU, and batches for them.

use std::path::Path;
use std::sync::Arc;

use cpu::{CpuExecutor, Options};
use model::batch::{Input, Output, Role, Span, Want};
use model::{Batch, Executor, Model, SamplingParams};

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

/// The pages of a slot, where each slot has its own consecutive ones.
pub(crate) fn pages(executor: &CpuExecutor, slot: usize) -> Arc<[u32]> {
    let limits = executor.limits();
    let n = limits.n_ctx.div_ceil(limits.page_size);
    (slot * n..(slot + 1) * n).map(|page| page as u32).collect()
}

/// A span of prompt tokens in a slot.
pub(crate) fn prompt(executor: &CpuExecutor, slot: usize, start: usize, tokens: &[u32], want: Want) -> Span {
    Span {
        slot: slot as u32,
        begin: (start == 0).then(|| tokens.into()),
        start,
        input: Input::Tokens(tokens.into()),
        pages: pages(executor, slot),
        role: Role::Prompt,
        want,
    }
}

/// A span of the slot's own last token.
pub(crate) fn last(executor: &CpuExecutor, slot: usize, start: usize, want: Want) -> Span {
    let span = prompt(executor, slot, start, &[], want);
    Span { begin: None, input: Input::Last, role: Role::Generated, ..span }
}

/// Greedy sampling.
pub(crate) fn greedy() -> Want {
    Want::Sample { params: Arc::new(SamplingParams { temperature: 0.0, ..Default::default() }), mask: None }
}

/// Runs one step.
pub(crate) fn run(executor: &mut CpuExecutor, spans: Vec<Span>) -> Vec<Output> {
    let ticket = executor.submit(&Batch { spans }).expect("a step");
    executor.collect(ticket).expect("its results").into_iter().map(|picked| picked.output).collect()
}

/// The logits `[n_tokens, n_vocab]` of a text, with a context of just its length.
pub(crate) fn logits(path: &Path, exact: bool, tokens: &[u32]) -> Vec<f32> {
    let mut executor = executor(path, exact, tokens.len(), 1);
    let span = prompt(&executor, 0, 0, tokens, Want::Logits);
    match run(&mut executor, vec![span]).pop() {
        Some(Output::Logits(logits)) => logits,
        other => panic!("expected logits, found {other:?}"),
    }
}

/// The token of a sampled output.
pub(crate) fn token(output: &Output) -> u32 {
    match output {
        Output::Token(sampled) => sampled.token,
        other => panic!("expected a token, found {other:?}"),
    }
}
