//! Batches for any executor, and what they gave.

use std::sync::Arc;

use device::batch::{Choice, Input, Output, Role, Span, Want};
use device::{Batch, Executor, HiddenRows, SamplingParams};

/// The pages of a slot, where each slot has its own consecutive ones.
#[must_use]
pub fn pages(executor: &dyn Executor, slot: usize) -> Arc<[u32]> {
    let limits = executor.limits();
    let n = limits.n_ctx.div_ceil(limits.page_size);
    (slot * n..(slot + 1) * n).map(|page| page as u32).collect()
}

/// A span of prompt tokens in a slot.
///
/// # Panics
/// If a slot's part of the windows' pages is too small for them.
#[must_use]
pub fn prompt(executor: &dyn Executor, slot: usize, start: usize, tokens: &[u32], want: Want) -> Span {
    let limits = executor.limits();
    let window = limits.own_window(slot, start..start + tokens.len().max(1));
    assert!(limits.window.is_none_or(|own| window.ids.len() <= own.n_page / limits.n_slot), "too long");
    Span {
        slot: slot as u32,
        begin: (start == 0).then(|| tokens.into()),
        start,
        input: Input::Tokens(tokens.into()),
        pages: pages(executor, slot),
        window,
        load: None,
        save: None,
        role: Role::Prompt,
        want,
    }
}

/// A span of the slot's own last token.
#[must_use]
pub fn last(executor: &dyn Executor, slot: usize, start: usize, want: Want) -> Span {
    let span = prompt(executor, slot, start, &[], want);
    Span { begin: None, input: Input::Last, role: Role::Generated, ..span }
}

/// Greedy sampling.
#[must_use]
pub fn greedy() -> Want {
    let params = SamplingParams { temperature: 0.0, ..Default::default() };
    Want::Sample(Choice { params: Arc::new(params), mask: None })
}

/// Runs one step.
///
/// # Panics
/// If the executor refuses it.
pub fn run(executor: &mut dyn Executor, spans: Vec<Span>) -> Vec<Output> {
    let ticket = executor.submit(&Batch { spans }).expect("a step");
    executor.collect(ticket).expect("its results").into_iter().map(|picked| picked.output).collect()
}

/// The logits `[n_tokens, n_vocab]` of a prompt, in slot 0.
///
/// # Panics
/// If the executor gives none.
pub fn logits(executor: &mut dyn Executor, tokens: &[u32]) -> Vec<f32> {
    let span = prompt(executor, 0, 0, tokens, Want::Logits);
    match run(executor, vec![span]).pop() {
        Some(Output::Logits(logits)) => logits,
        other => panic!("expected logits, found {other:?}"),
    }
}

/// The logits of a text whose tokens after the first are computed one by one, as if generated.
///
/// # Panics
/// As [`logits`].
pub fn generated(executor: &mut dyn Executor, tokens: &[u32]) -> Vec<f32> {
    let mut all = logits(executor, &tokens[..1]);
    for (i, &id) in tokens.iter().enumerate().skip(1) {
        let mut span = last(executor, 0, i, Want::Logits);
        span.input = Input::Tokens([id].into());
        match run(executor, vec![span]).pop() {
            Some(Output::Logits(logits)) => all.extend(logits),
            other => panic!("expected logits, found {other:?}"),
        }
    }
    all
}

/// The token of a sampled output.
///
/// # Panics
/// If it is none.
#[must_use]
pub fn token(output: &Output) -> u32 {
    match output {
        Output::Token(sampled) => sampled.token,
        other => panic!("expected a token, found {other:?}"),
    }
}

/// Hidden rows `[_, n_embd]` of a prompt in slot 0, computed in chunks of `size`: those that are named of each chunk.
///
/// # Panics
/// If the executor gives none.
pub fn hidden(executor: &mut dyn Executor, tokens: &[u32], (rows, size): (HiddenRows, usize)) -> Vec<f32> {
    let mut all = Vec::new();
    for (i, chunk) in tokens.chunks(size).enumerate() {
        let span = prompt(executor, 0, i * size, chunk, Want::Hidden(rows));
        match run(executor, vec![span]).pop() {
            Some(Output::Hidden(hidden)) => all.extend(hidden),
            other => panic!("expected hidden rows, found {other:?}"),
        }
    }
    all
}
