//! How fast is this executor? Times prefill and decode on random tokens, without engine or tokenizer.
//!
//! Prefill: one sequence's `n` prompt tokens from an empty cache to the first sampled token. Decode: `n` steps of one generated
//! token in each of `batch` sequences, after a prompt of `depth` tokens (at least one) that is not timed. Each step takes the tokens that
//! the one before it chose, as generation does. Sampling is greedy.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use device::batch::PageId;
use device::{Batch, Choice, Executor, Input, Limits, Role, SamplingParams, Span, StageTime, Want};
use serde::Serialize;

use super::random::Random;
use crate::single;

/// One thing to time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Test {
    /// A prompt.
    Prefill {
        /// Tokens.
        n_prompt: usize,
    },
    /// Generated tokens.
    Decode {
        /// Tokens a sequence.
        n_gen: usize,
        /// Sequences at once.
        batch: usize,
        /// Tokens that stand before them in each sequence; none means one.
        depth: usize,
    },
}

impl Test {
    /// Tokens computed in the timed part.
    fn n_token(self) -> usize {
        match self {
            Test::Prefill { n_prompt } => n_prompt,
            Test::Decode { n_gen, batch, .. } => n_gen * batch,
        }
    }

    /// Tokens that a sequence has in the end.
    pub(crate) fn n_ctx(self) -> usize {
        match self {
            Test::Prefill { n_prompt } => n_prompt,
            Test::Decode { n_gen, depth, .. } => depth.max(1).saturating_add(n_gen),
        }
    }

    /// Pages of the KV cache of all its sequences.
    pub(crate) fn n_page(self, page_size: usize) -> usize {
        let n_sequence = match self {
            Test::Prefill { .. } => 1,
            Test::Decode { batch, .. } => batch,
        };
        self.n_ctx().div_ceil(page_size).saturating_mul(n_sequence)
    }

    /// Runs it once more, at most [`TIMED_STEPS`] of its steps of generation: milliseconds a stage of a whole prompt, or of a step of generation.
    pub(crate) fn stages(self, executor: &mut dyn Executor) -> anyhow::Result<Vec<StageLine>> {
        let mut times = Vec::new();
        let n = match self {
            Test::Prefill { n_prompt } => {
                prefill(Steps { executor, times: Some(&mut times) }, n_prompt)?;
                1
            }
            Test::Decode { n_gen, batch, depth } => {
                let n = n_gen.min(TIMED_STEPS);
                let (limits, depth) = (executor.limits(), depth.max(1));
                let pages = begin(executor, depth + n, batch, depth)?;
                for start in depth..depth + n {
                    add(&mut times, executor.time_stages(&generation(limits, start, &pages, &greedy()))?);
                }
                n
            }
        };
        let all: Duration = times.iter().map(|stage| stage.time).sum();
        let line = |stage: StageTime| StageLine {
            name: stage.name,
            milliseconds: stage.time.as_secs_f64() * 1e3 / n as f64,
            share: stage.time.as_secs_f64() / all.as_secs_f64().max(1e-9),
        };
        Ok(times.into_iter().map(line).collect())
    }

    /// Runs it once: tokens per second.
    pub(crate) fn run(self, executor: &mut dyn Executor) -> anyhow::Result<f64> {
        let seconds = match self {
            Test::Prefill { n_prompt } => prefill(Steps { executor, times: None }, n_prompt)?,
            Test::Decode { n_gen, batch, depth } => decode(executor, n_gen, batch, depth.max(1))?,
        };
        Ok(self.n_token() as f64 / seconds.max(1e-9))
    }
}

/// Steps of generation whose stages are timed.
const TIMED_STEPS: usize = 16;

/// What a stage takes of a prompt, or of a step of generation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct StageLine {
    /// As [`StageTime::name`].
    pub(crate) name: &'static str,
    /// Over all layers.
    pub(crate) milliseconds: f64,
    /// Of the sum of all stages.
    pub(crate) share: f64,
}

fn add(all: &mut Vec<StageTime>, times: Vec<StageTime>) {
    times.into_iter().for_each(|stage| StageTime::add(all, stage.name, stage.time));
}

/// What computes the steps of a prompt, and where the times of their stages go, if they are wanted.
struct Steps<'a> {
    executor: &'a mut dyn Executor,
    times: Option<&'a mut Vec<StageTime>>,
}

impl Steps<'_> {
    fn step(&mut self, span: Span) -> anyhow::Result<()> {
        let spans = vec![span];
        match &mut self.times {
            Some(times) => add(times, self.executor.time_stages(&Batch { spans })?),
            None => drop(single::step(self.executor, spans)?),
        }
        Ok(())
    }
}

/// Random ids.
fn ids(random: &mut Random, n_vocab: usize, n: usize) -> Vec<u32> {
    // Vocabularies are far below 2^32.
    (0..n).map(|_| random.below(n_vocab) as u32).collect()
}

fn greedy() -> Want {
    let params = Arc::new(SamplingParams { temperature: 0.0, ..SamplingParams::default() });
    Want::Sample(Choice { params, mask: None })
}

fn prefill(mut steps: Steps<'_>, n_prompt: usize) -> anyhow::Result<f64> {
    // Alone it may have all pages of windows, as a server gives them: with a slot's share of them, its steps would be short.
    let limits = Limits { n_slot: 1, ..steps.executor.limits() };
    let ids = ids(&mut Random(1), limits.n_vocab, n_prompt);
    let pages = single::pages(limits, 0, n_prompt);
    let began = Instant::now();
    prompt(&mut steps, limits, 0, &ids, &pages)?;
    Ok(began.elapsed().as_secs_f64())
}

/// Computes a sequence's prompt, with the pages of windows that these limits give it, and samples the token after it.
fn prompt(
    steps: &mut Steps<'_>,
    limits: Limits,
    slot: u32,
    ids: &[u32],
    pages: &Arc<[PageId]>,
) -> anyhow::Result<()> {
    let mut start = 0;
    for tokens in ids.chunks(limits.own_window_rows()) {
        let last = start + tokens.len() == ids.len();
        let span = Span {
            slot,
            begin: (start == 0).then(|| ids.into()),
            start,
            input: Input::Tokens(tokens.into()),
            pages: pages.clone(),
            window: limits.own_window(slot as usize, start..start + tokens.len()),
            load: None,
            save: None,
            role: Role::Prompt,
            want: if last { greedy() } else { Want::Nothing },
        };
        steps.step(span)?;
        start += tokens.len();
    }
    Ok(())
}

/// Computes the prompts of sequences that will have `n_token` tokens: their pages.
fn begin(
    executor: &mut dyn Executor,
    n_token: usize,
    batch: usize,
    depth: usize,
) -> anyhow::Result<Vec<Arc<[PageId]>>> {
    let limits = executor.limits();
    let mut random = Random(2);
    let pages: Vec<_> = (0..batch).map(|slot| single::pages(limits, slot, n_token)).collect();
    for (slot, pages) in (0..).zip(&pages) {
        let ids = ids(&mut random, limits.n_vocab, depth);
        prompt(&mut Steps { executor, times: None }, limits, slot, &ids, pages)?;
    }
    Ok(pages)
}

/// A step of one generated token at position `start` of each sequence.
fn generation(limits: Limits, start: usize, pages: &[Arc<[PageId]>], want: &Want) -> Batch {
    let spans = (0..).zip(pages).map(|(slot, pages)| Span {
        slot,
        begin: None,
        start,
        input: Input::Last,
        pages: pages.clone(),
        window: limits.own_window(slot as usize, start..start + 1),
        load: None,
        save: None,
        role: Role::Generated,
        want: want.clone(),
    });
    Batch { spans: spans.collect() }
}

fn decode(executor: &mut dyn Executor, n_gen: usize, batch: usize, depth: usize) -> anyhow::Result<f64> {
    let (limits, want) = (executor.limits(), greedy());
    let pages = begin(executor, depth + n_gen, batch, depth)?;
    let mut waiting = VecDeque::new();
    let began = Instant::now();
    for start in depth..depth + n_gen {
        waiting.push_back(executor.submit(&generation(limits, start, &pages, &want))?);
        if waiting.len() >= limits.n_in_flight.max(1)
            && let Some(ticket) = waiting.pop_front()
        {
            executor.collect(ticket)?;
        }
    }
    for ticket in waiting {
        executor.collect(ticket)?;
    }
    Ok(began.elapsed().as_secs_f64())
}
