//! How fast is this executor? Times prefill and decode on random tokens, without engine or tokenizer.
//!
//! Prefill: one sequence's `n` prompt tokens from an empty cache to the first sampled token. Decode: `n` steps of one generated
//! token in each of `batch` sequences, after a prompt of one token that is not timed. Sampling is greedy.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use model::{Batch, Executor, Input, Role, SamplingParams, Span, Want};
use serde::Serialize;

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
    },
}

impl Test {
    /// Tokens computed in the timed part.
    fn n_token(self) -> usize {
        match self {
            Test::Prefill { n_prompt } => n_prompt,
            Test::Decode { n_gen, batch } => n_gen * batch,
        }
    }

    /// Runs it once: tokens per second.
    pub(crate) fn run(self, executor: &mut dyn Executor) -> anyhow::Result<f64> {
        let seconds = match self {
            Test::Prefill { n_prompt } => prefill(executor, n_prompt)?,
            Test::Decode { n_gen, batch } => decode(executor, n_gen, batch)?,
        };
        Ok(self.n_token() as f64 / seconds.max(1e-9))
    }
}

/// SplitMix64 (Steele et al. 2014): the same ids in every run.
struct Ids {
    state: u64,
    n_vocab: usize,
}

impl Iterator for Ids {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        u32::try_from(z % self.n_vocab.max(1) as u64).ok()
    }
}

fn greedy() -> Want {
    let params = Arc::new(SamplingParams { temperature: 0.0, ..SamplingParams::default() });
    Want::Sample { params, mask: None }
}

fn prefill(executor: &mut dyn Executor, n_prompt: usize) -> anyhow::Result<f64> {
    let limits = executor.limits();
    let ids: Vec<u32> = Ids { state: 1, n_vocab: limits.n_vocab }.take(n_prompt).collect();
    let pages = single::pages(limits, 0, n_prompt);
    let want = greedy();
    let began = Instant::now();
    let mut start = 0;
    for tokens in ids.chunks(limits.n_row.max(1)) {
        let last = start + tokens.len() == n_prompt;
        let span = Span {
            slot: 0,
            begin: (start == 0).then(|| ids.as_slice().into()),
            start,
            input: Input::Tokens(tokens.into()),
            pages: pages.clone(),
            role: Role::Prompt,
            want: if last { want.clone() } else { Want::Nothing },
        };
        single::step(executor, vec![span])?;
        start += tokens.len();
    }
    Ok(began.elapsed().as_secs_f64())
}

fn decode(executor: &mut dyn Executor, n_gen: usize, batch: usize) -> anyhow::Result<f64> {
    let limits = executor.limits();
    let mut ids = Ids { state: 2, n_vocab: limits.n_vocab };
    let pages: Vec<_> = (0..batch).map(|slot| single::pages(limits, slot, 1 + n_gen)).collect();
    let want = greedy();
    let mut step = |start: usize| -> Vec<Span> {
        let spans = pages.iter().zip(0..).zip(&mut ids).map(|((pages, slot), id)| Span {
            slot,
            begin: (start == 0).then(|| [id].into()),
            start,
            input: Input::Tokens([id].into()),
            pages: pages.clone(),
            role: if start == 0 { Role::Prompt } else { Role::Generated },
            want: want.clone(),
        });
        spans.collect()
    };
    single::step(executor, step(0))?;
    let mut waiting = VecDeque::new();
    let began = Instant::now();
    for start in 1..=n_gen {
        waiting.push_back(executor.submit(&Batch { spans: step(start) })?);
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
