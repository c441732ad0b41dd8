//! What did an answer cost? Tokens as OpenAI counts them, and times in llama-server's words.
//!
//! A prompt counts once, however many answers it gets; an end token counts as generated. Times are in milliseconds.

use std::time::Duration;

use serde::{Serialize, Serializer};

/// The usage of all choices of a response.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    prompt_tokens: usize,
    cached_tokens: usize,
    completion_tokens: usize,
    reasoning_tokens: usize,
}

impl Usage {
    /// Adds a choice's. `is_first` says that it is the first of its prompt's.
    pub(super) fn add(&mut self, usage: worker::Usage, n_reasoning: usize, is_first: bool) {
        if is_first {
            self.prompt_tokens += usage.n_prompt;
            self.cached_tokens += usage.n_cached;
        }
        self.completion_tokens += usage.n_generated;
        self.reasoning_tokens += n_reasoning;
    }
}

impl Serialize for Usage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Wire {
            prompt_tokens: usize,
            completion_tokens: usize,
            total_tokens: usize,
            prompt_tokens_details: Prompt,
            completion_tokens_details: Completion,
        }
        #[derive(Serialize)]
        struct Prompt {
            cached_tokens: usize,
        }
        #[derive(Serialize)]
        struct Completion {
            reasoning_tokens: usize,
        }
        Wire {
            prompt_tokens: self.prompt_tokens,
            completion_tokens: self.completion_tokens,
            total_tokens: self.prompt_tokens + self.completion_tokens,
            prompt_tokens_details: Prompt { cached_tokens: self.cached_tokens },
            completion_tokens_details: Completion { reasoning_tokens: self.reasoning_tokens },
        }
        .serialize(serializer)
    }
}

/// When does a stream say what its answers cost?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Never,
    /// In a chunk of its own.
    AtEnd,
    /// In every chunk, and in one of its own.
    Throughout,
}

/// What a choice has cost so far. What the cache gave and what is reasoning is known at the end.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct SoFar {
    prompt_tokens: usize,
    completion_tokens: usize,
    total_tokens: usize,
}

impl SoFar {
    pub(super) fn new(n_prompt: usize, n_generated: usize) -> SoFar {
        SoFar {
            prompt_tokens: n_prompt,
            completion_tokens: n_generated,
            total_tokens: n_prompt.saturating_add(n_generated),
        }
    }
}

/// The usage that stands in a message.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Report {
    SoFar(SoFar),
    Whole(Usage),
}

/// What the choices of a stream have cost so far.
#[derive(Clone, Debug)]
pub(super) struct Costs {
    wish: Wish,
    each: Vec<SoFar>,
}

impl Costs {
    pub(super) fn new(wish: Wish, n_choice: usize) -> Costs {
        Costs { wish, each: vec![SoFar::default(); n_choice] }
    }

    /// What a choice costs from now on.
    pub(super) fn set(&mut self, index: usize, cost: SoFar) {
        if let Some(place) = self.each.get_mut(index) {
            *place = cost;
        }
    }

    /// More tokens of a choice.
    pub(super) fn add(&mut self, index: usize, n_token: usize) {
        if let Some(&SoFar { prompt_tokens, completion_tokens, .. }) = self.each.get(index) {
            self.set(index, SoFar::new(prompt_tokens, completion_tokens.saturating_add(n_token)));
        }
    }

    /// The usage in a chunk of this choice: absent, null, or there.
    pub(super) fn in_chunk(&self, index: usize) -> Option<Option<Report>> {
        match self.wish {
            Wish::Never => None,
            Wish::AtEnd => Some(None),
            Wish::Throughout => Some(self.each.get(index).copied().map(Report::SoFar)),
        }
    }
}

/// Where the time of a single choice went.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Timings {
    cache_n: usize,
    prompt_n: usize,
    prompt_ms: f64,
    prompt_per_token_ms: f64,
    prompt_per_second: f64,
    predicted_n: usize,
    predicted_ms: f64,
    predicted_per_token_ms: f64,
    predicted_per_second: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    draft_n: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    draft_n_accepted: Option<usize>,
}

impl Timings {
    /// Of a choice that has ended.
    pub(crate) fn new(usage: worker::Usage, timings: worker::Timings) -> Timings {
        let n_prompt = usage.n_prompt.saturating_sub(usage.n_cached);
        // The first token comes with the prompt, so what is decoded are the others.
        let n_decoded = usage.n_generated.saturating_sub(1);
        let (prompt_ms, predicted_ms) = (millis(timings.prompt), millis(timings.decode));
        Timings {
            cache_n: usage.n_cached,
            prompt_n: n_prompt,
            prompt_ms,
            prompt_per_token_ms: ratio(prompt_ms, n_prompt as f64),
            prompt_per_second: ratio(n_prompt as f64 * 1e3, prompt_ms),
            predicted_n: usage.n_generated,
            predicted_ms,
            predicted_per_token_ms: ratio(predicted_ms, n_decoded as f64),
            predicted_per_second: ratio(n_decoded as f64 * 1e3, predicted_ms),
            draft_n: (timings.n_guessed > 0).then_some(timings.n_guessed),
            draft_n_accepted: (timings.n_guessed > 0).then_some(timings.n_accepted),
        }
    }
}

fn millis(time: Duration) -> f64 {
    // Three digits are what a clock can say.
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// 0 where there is nothing to divide by. Of the milliseconds that are told, so that a reader finds the same.
fn ratio(a: f64, b: f64) -> f64 {
    if b > 0.0 { a / b } else { 0.0 }
}
