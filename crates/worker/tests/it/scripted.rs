//! An executor that answers every request with the same tokens.

use std::collections::{HashMap, VecDeque};

use device::batch::SlotId;
use device::{
    Batch, Executor, ExecutorError, Limits, MemoryReport, Output, Picked, Sampled, Span, Ticket, Want,
};

pub(crate) struct Scripted {
    pub(crate) n_ctx: usize,
    pub(crate) n_vocab: usize,
    /// Over and over.
    pub(crate) answer: Vec<u32>,
    /// The step that fails, and all after it.
    pub(crate) fails_at: u64,
    n_sampled: HashMap<SlotId, usize>,
    steps: VecDeque<Vec<Picked>>,
    n_step: u64,
}

impl Scripted {
    pub(crate) fn new(answer: Vec<u32>) -> Scripted {
        Scripted {
            n_ctx: 1000,
            n_vocab: 320,
            answer,
            fails_at: u64::MAX,
            n_sampled: HashMap::new(),
            steps: VecDeque::new(),
            n_step: 0,
        }
    }

    fn span(&mut self, span: &Span) -> Option<Picked> {
        if span.begin.is_some() {
            self.n_sampled.insert(span.slot, 0);
        }
        if matches!(span.want, Want::Nothing) {
            return None;
        }
        let n = self.n_sampled.entry(span.slot).or_default();
        let token = self.answer[*n % self.answer.len()];
        *n += 1;
        let sampled = Sampled { token, logprob: -1.0, alternatives: Vec::new() };
        Some(Picked { slot: span.slot, output: Output::Token(sampled) })
    }
}

impl Executor for Scripted {
    fn limits(&self) -> Limits {
        Limits {
            page_size: 16,
            n_page: 4 * self.n_ctx.div_ceil(16),
            n_slot: 4,
            n_row: 64,
            n_ctx: self.n_ctx,
            n_vocab: self.n_vocab,
            n_in_flight: 2,
        }
    }

    fn submit(&mut self, batch: &Batch) -> Result<Ticket, ExecutorError> {
        let picked = batch.spans.iter().filter_map(|span| self.span(span)).collect();
        self.steps.push_back(picked);
        self.n_step += 1;
        if self.n_step >= self.fails_at {
            return Err(ExecutorError::Device("by script".to_owned()));
        }
        Ok(Ticket(self.n_step))
    }

    fn collect(&mut self, ticket: Ticket) -> Result<Vec<Picked>, ExecutorError> {
        self.steps.pop_front().ok_or(ExecutorError::Ticket(ticket.0))
    }

    fn memory(&self) -> MemoryReport {
        MemoryReport {
            device: "scripted".to_owned(),
            weights: 0,
            kv_cache: 0,
            activations: 0,
            resident: true,
        }
    }
}
