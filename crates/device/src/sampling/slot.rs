//! What a slot remembers between steps, as far as sampling goes: the last token, and which tokens stand in prompt and answer.
//!
//! Counts are kept sparse and only for sequences whose parameters use them: beginning a sequence costs nothing, and the prompt is
//! counted when a penalty first asks.

use std::collections::HashMap;
use std::sync::Arc;

/// One sequence's history. Starts empty; [`SlotState::begin`] makes it a new sequence's.
#[derive(Clone, Debug, Default)]
pub struct SlotState {
    prompt: Option<Arc<[u32]>>,
    answer: Vec<u32>,
    /// How often each id of prompt or answer stands in the answer, as far as counted.
    counts: HashMap<u32, u32>,
    prompt_counted: bool,
    answer_counted: usize,
}

impl SlotState {
    /// Forgets everything and starts a sequence with this prompt.
    pub fn begin(&mut self, prompt: Arc<[u32]>) {
        *self = SlotState { prompt: Some(prompt), ..SlotState::default() };
    }

    /// The token last sampled in this sequence.
    #[must_use]
    pub fn last(&self) -> Option<u32> {
        self.answer.last().copied()
    }

    /// Adds a token to the answer. [`super::Sampler::sample`] does this itself.
    pub fn push(&mut self, token: u32) {
        self.answer.push(token);
    }

    /// For each id in prompt or answer, once and in no order: how often it stands in the answer.
    pub(super) fn counts(&mut self) -> impl Iterator<Item = (u32, u32)> {
        if !self.prompt_counted {
            self.prompt_counted = true;
            for &id in self.prompt.iter().flat_map(|p| p.iter()) {
                self.counts.entry(id).or_insert(0);
            }
        }
        for &id in &self.answer[self.answer_counted..] {
            *self.counts.entry(id).or_insert(0) += 1;
        }
        self.answer_counted = self.answer.len();
        self.counts.iter().map(|(&id, &n)| (id, n))
    }
}
