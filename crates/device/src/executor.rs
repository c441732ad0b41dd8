//! The contract between the engine and a device.
//!
//! A device implements [`Executor`] and passes the conformance suite: agreement with the `cpu` crate's exact executor within
//! a stated bound, and bit-equal results for a sequence however its steps are batched with others.

use std::time::{Duration, Instant};

use thiserror::Error;

use crate::batch::{Batch, Picked};
use crate::pages::Window;

/// A model resident on one device, able to run steps. One thread owns it.
///
/// Steps are computed in the order of their submission, each as if the ones before it were complete, however many are in flight. So a
/// caller may give a slot or a page to another sequence while a step that still uses it for the old one is under way, and may ask for
/// [`Input::Last`](crate::Input::Last) before the step that samples it was collected.
pub trait Executor: Send {
    /// Sizes that hold for this executor's life.
    fn limits(&self) -> Limits;

    /// Starts a step; does not wait for a device that works on its own.
    ///
    /// # Errors
    /// [`ExecutorError::Batch`] for a batch outside the limits, in which case nothing was computed;
    /// [`ExecutorError::Device`] when the device failed and the executor is of no more use.
    fn submit(&mut self, batch: &Batch) -> Result<Ticket, ExecutorError>;

    /// Waits for a step and takes what its spans gave, in the order of the spans that wanted something.
    ///
    /// # Errors
    /// [`ExecutorError::Ticket`] for a ticket never given or already collected; [`ExecutorError::Device`] as above.
    fn collect(&mut self, ticket: Ticket) -> Result<Vec<Picked>, ExecutorError>;

    /// What is in the device's memory, by purpose.
    fn memory(&self) -> MemoryReport;

    /// Computes a step and says how long each of its stages took, over all layers, in the order in which they first end; what it gave is dropped.
    /// An executor that cannot tell them apart calls the whole `step`.
    ///
    /// On a device that works on its own this is the time between marks in its stream. What stages overlap otherwise they do not here, so
    /// that the sum is more than a step takes.
    ///
    /// # Errors
    /// As [`submit`](Executor::submit) and [`collect`](Executor::collect).
    fn time_stages(&mut self, batch: &Batch) -> Result<Vec<StageTime>, ExecutorError> {
        let start = Instant::now();
        let ticket = self.submit(batch)?;
        self.collect(ticket)?;
        Ok(vec![StageTime { name: "step", time: start.elapsed() }])
    }
}

/// How long a stage of a step took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageTime {
    /// As `model::stage` calls it, or `sample`.
    pub name: &'static str,
    /// Over all layers.
    pub time: Duration,
}

impl StageTime {
    /// Adds a stage's time to those of its name.
    pub fn add(all: &mut Vec<StageTime>, name: &'static str, time: Duration) {
        match all.iter_mut().find(|stage| stage.name == name) {
            Some(stage) => stage.time += time,
            None => all.push(StageTime { name, time }),
        }
    }
}

/// Names a submitted step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

/// An executor's fixed sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Tokens in a KV page.
    pub page_size: usize,
    /// KV pages in all.
    pub n_page: usize,
    /// The pages of layers that keep the latest positions alone, where these have their own.
    pub window: Option<Window>,
    /// Sequences that can live on the device at once.
    pub n_slot: usize,
    /// Rows in a step.
    pub n_row: usize,
    /// Tokens in a sequence, prompt and answer together.
    pub n_ctx: usize,
    /// Size of the vocabulary: ids are below it.
    pub n_vocab: usize,
    /// Values in a hidden row ([`crate::Want::Hidden`]); 0 where the device gives none.
    pub n_embd: usize,
    /// Where sequences have a state beside their pages (recurrent layers): copies of it that can be kept ([`crate::Span::save`]). `None`
    /// where pages are all that a sequence has.
    pub n_snapshot: Option<usize>,
    /// Guesses ([`crate::Input::Guess`]) that a step may have in all; 0 where the device takes none, as where a wrong one would have changed a state for good.
    pub n_guess: usize,
    /// How many steps may be submitted before the first is collected; 1 where running ahead gains nothing.
    pub n_in_flight: usize,
}

/// What is in the device's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryReport {
    /// `cpu` or `cuda:0`.
    pub device: String,
    /// Bytes of weights.
    pub weights: u64,
    /// Bytes of the KV cache.
    pub kv_cache: u64,
    /// Bytes of what sequences keep beside it, and of its snapshots.
    pub state: u64,
    /// Bytes of everything else a step needs.
    pub activations: u64,
    /// Whether all of it is in the device's own memory.
    pub resident: bool,
}

impl MemoryReport {
    /// All of it together; saturating.
    #[must_use]
    pub fn total(&self) -> u64 {
        [self.kv_cache, self.state, self.activations]
            .iter()
            .fold(self.weights, |sum, &n| sum.saturating_add(n))
    }
}

/// Why a step failed.
#[derive(Debug, Error)]
pub enum ExecutorError {
    /// The batch is outside the executor's limits or contradicts itself. Nothing was computed.
    #[error("invalid batch: span {span}: expected {expected}, found {found}")]
    Batch {
        /// Index of the span.
        span: usize,
        /// What the limits ask for.
        expected: String,
        /// What the span has.
        found: String,
    },
    /// No such step.
    #[error("no step with ticket {0} is waiting to be collected")]
    Ticket(u64),
    /// It does not fit.
    #[error("insufficient memory on {device}: {needed} bytes needed, {free} bytes free")]
    InsufficientMemory {
        /// `cpu` or `cuda:0`.
        device: String,
        /// Bytes.
        needed: u64,
        /// Bytes.
        free: u64,
    },
    /// The device failed; the executor is of no more use.
    #[error("device error: {0}")]
    Device(String),
    /// The weights are not those that were loaded any more, so what was computed is of no use.
    #[error("MODEL_LOST: {0}")]
    ModelLost(String),
}
