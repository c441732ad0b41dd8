//! An executor that answers every request with the same tokens, over and over.

use std::collections::{HashMap, VecDeque};
use std::thread;
use std::time::Duration;

use device::batch::SlotId;
use device::{
    Batch, Executor, ExecutorError, Limits, MemoryReport, Output, Picked, Sampled, Span, Ticket, Want,
};

/// Gives its answer's tokens in turn, again from the first after the last, to every sequence.
pub struct Scripted {
    answer: Vec<u32>,
    limits: Limits,
    latency: Duration,
    fails_at: Option<u64>,
    n_sampled: HashMap<SlotId, usize>,
    steps: VecDeque<Vec<Picked>>,
    n_step: u64,
}

impl Scripted {
    /// With room for 4 sequences of 1,000 tokens out of 320.
    #[must_use]
    pub fn new(answer: Vec<u32>) -> Scripted {
        let limits = Limits {
            page_size: 16,
            n_page: 256,
            window: None,
            n_slot: 4,
            n_row: 64,
            n_ctx: 1000,
            n_vocab: 320,
            n_embd: 8,
            n_snapshot: None,
            n_guess: 0,
            n_in_flight: 2,
        };
        let latency = Duration::ZERO;
        Scripted {
            answer,
            limits,
            latency,
            fails_at: None,
            n_sampled: HashMap::new(),
            steps: VecDeque::new(),
            n_step: 0,
        }
    }

    /// Sequences may be so many tokens long.
    #[must_use]
    pub fn n_ctx(mut self, n_ctx: usize) -> Scripted {
        self.limits.n_ctx = n_ctx;
        self.limits.n_page = self.limits.n_slot * n_ctx.div_ceil(self.limits.page_size);
        self
    }

    /// What each step takes.
    #[must_use]
    pub fn latency(self, latency: Duration) -> Scripted {
        Scripted { latency, ..self }
    }

    /// The device fails at this step and at all after it; the first is 1.
    #[must_use]
    pub fn fails_at(self, step: u64) -> Scripted {
        Scripted { fails_at: Some(step), ..self }
    }

    fn span(&mut self, span: &Span) -> Option<Picked> {
        if span.begin.is_some() {
            self.n_sampled.insert(span.slot, 0);
        }
        let params = match &span.want {
            Want::Nothing => return None,
            Want::Logits => {
                // Every token is as likely as any other.
                let logits = vec![0.0; span.input.len() * self.limits().n_vocab];
                return Some(Picked { slot: span.slot, output: Output::Logits(logits) });
            }
            Want::Hidden(rows) => {
                // A row says which of its span it is, and that all have a length.
                let row = |i: usize| [3.0, 4.0, i as f32].into_iter().chain(std::iter::repeat(0.0)).take(8);
                let hidden = rows.of(span.input.len()).flat_map(row).collect();
                return Some(Picked { slot: span.slot, output: Output::Hidden(hidden) });
            }
            Want::Sample(choice) => &choice.params,
            Want::Check(_) => unreachable!("its limits allow no guesses"),
        };
        let n = self.n_sampled.entry(span.slot).or_default();
        let token = self.answer[*n % self.answer.len()];
        *n += 1;
        let alternatives = (0..params.n_alternatives).map(|i| (token + i, -1.0 - i as f32)).collect();
        let sampled = Sampled { token, logprob: -1.0, alternatives };
        Some(Picked { slot: span.slot, output: Output::Token(sampled) })
    }
}

impl Executor for Scripted {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn submit(&mut self, batch: &Batch) -> Result<Ticket, ExecutorError> {
        self.n_step += 1;
        if self.fails_at.is_some_and(|step| step <= self.n_step) {
            return Err(ExecutorError::Device("0xdeadbeef is lost".to_owned()));
        }
        thread::sleep(self.latency);
        let picked = batch.spans.iter().filter_map(|span| self.span(span)).collect();
        self.steps.push_back(picked);
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
            state: 0,
            activations: 0,
            resident: true,
        }
    }
}
