//! How is one sequence computed without the engine? Whole prompt in, the logits of its rows out, in bounded portions.
//!
//! For measurements: rows are `[n_vocab]` float32, in the order of positions. A prompt row's bits do not depend on how the
//! prompt is cut into steps, so the portions are chosen for memory alone.

use std::ops::Range;
use std::sync::Arc;

use anyhow::Context;
use device::batch::PageId;
use device::{Batch, Executor, ExecutorError, Input, Limits, Output, Picked, Role, Span, Want};

use crate::exit::Failure;

/// Logits held at once: 64 MiB.
const MAX_LOGITS: usize = 16 << 20;

/// Rows whose logits are worth asking for in one step.
fn rows_a_step(limits: Limits) -> usize {
    (MAX_LOGITS / limits.n_vocab.max(1)).clamp(1, limits.own_window_rows())
}

/// The pages of a sequence of `n_token` positions that has the device to itself, by its place `slot` among equals.
pub(crate) fn pages(limits: Limits, slot: usize, n_token: usize) -> Arc<[PageId]> {
    let n = n_token.div_ceil(limits.page_size.max(1));
    (slot * n..(slot + 1) * n).map(|page| page as PageId).collect()
}

/// Computes a step and waits for it.
pub(crate) fn step(executor: &mut dyn Executor, spans: Vec<Span>) -> Result<Vec<Picked>, ExecutorError> {
    let ticket = executor.submit(&Batch { spans })?;
    executor.collect(ticket)
}

/// Refuses ids outside the vocabulary and sequences outside the context, in the user's terms.
pub(crate) fn check(ids: &[u32], limits: Limits) -> anyhow::Result<()> {
    if ids.is_empty() {
        return Err(Failure::Request("expected at least one token id, found none".into()).into());
    }
    if let Some(at) = ids.iter().position(|&id| id as usize >= limits.n_vocab) {
        let text = format!("token {at}: expected an id below {}, found {}", limits.n_vocab, ids[at]);
        return Err(Failure::Request(text).into());
    }
    if ids.len() > limits.n_ctx {
        let text = format!("expected at most {} tokens (the context), found {}", limits.n_ctx, ids.len());
        return Err(Failure::Request(text).into());
    }
    Ok(())
}

/// Computes `ids` as a prompt from position 0 and hands the logits of the rows `wanted` to `take`, some rows at a time.
pub(crate) fn prompt_logits(
    executor: &mut dyn Executor,
    ids: &[u32],
    wanted: Range<usize>,
    mut take: impl FnMut(&[f32]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let limits = executor.limits();
    check(ids, limits)?;
    let pages = pages(limits, 0, ids.len());
    let mut start = 0;
    while start < ids.len() {
        let inside = start >= wanted.start;
        let (most, edge) = match inside {
            true => (rows_a_step(limits), wanted.end),
            false => (limits.own_window_rows(), wanted.start),
        };
        let end = ids.len().min(start + most).min(edge);
        if start >= end {
            break;
        }
        let span = Span {
            slot: 0,
            begin: (start == 0).then(|| ids.into()),
            start,
            input: Input::Tokens(ids[start..end].into()),
            pages: pages.clone(),
            window: limits.own_window(0, start..end),
            load: None,
            save: None,
            role: Role::Prompt,
            want: if inside { Want::Logits } else { Want::Nothing },
        };
        for picked in step(executor, vec![span])? {
            match picked.output {
                Output::Logits(rows) => take(&rows)?,
                Output::Token(_) | Output::Tokens(_) | Output::Hidden(_) => {
                    return Err(anyhow::anyhow!("asked for logits, got a token")).context("executor");
                }
            }
        }
        start = end;
    }
    Ok(())
}

/// Computes `prompt` and goes on in the arithmetic of generated rows: each row's logits go to `next`, which says the token that follows, or
/// that it is enough. The context must have room for all of them.
pub(crate) fn generate(
    executor: &mut dyn Executor,
    prompt: &[u32],
    mut next: impl FnMut(&[f32]) -> Option<u32>,
) -> anyhow::Result<()> {
    let limits = executor.limits();
    let mut token = None;
    prompt_logits(executor, prompt, prompt.len().saturating_sub(1)..prompt.len(), |row| {
        token = next(row);
        Ok(())
    })?;
    let pages = pages(limits, 0, limits.n_ctx);
    for at in prompt.len()..limits.n_ctx {
        let Some(id) = token else { return Ok(()) };
        let span = Span {
            slot: 0,
            begin: None,
            start: at,
            input: Input::Tokens([id].into()),
            pages: pages.clone(),
            window: limits.own_window(0, at..at + 1),
            load: None,
            save: None,
            role: Role::Generated,
            want: Want::Logits,
        };
        token = match step(executor, vec![span])?.pop().map(|picked| picked.output) {
            Some(Output::Logits(row)) => next(&row),
            _ => return Err(anyhow::anyhow!("asked for logits, got something else")).context("executor"),
        };
    }
    Ok(())
}
