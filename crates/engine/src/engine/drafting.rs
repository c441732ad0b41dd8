//! The draft model between two steps of the model, and what becomes of the engine where it fails.

use std::sync::atomic::Ordering;

use device::{Executor, ExecutorError, MemoryReport};

use super::Core;
use crate::EngineError;
use crate::draft::{Ask, Draft, Failure, Terms};
use crate::sequence::Sequence;
use crate::speculate::{Candidate, Extent, Speculation};
use crate::stall::Call;

impl Core {
    /// The same with a draft model, which counts for nothing where nothing is guessed.
    pub(crate) fn with_draft(mut self, executor: Box<dyn Executor>) -> Core {
        if self.options.speculation.is_some() {
            let (clock, counters) = (self.clock(), self.counters());
            self.draft = Some(Draft::new(executor, self.options.step_target, clock, counters));
            self.counters.has_draft.store(true, Ordering::Relaxed);
        }
        self
    }

    #[cfg(test)]
    pub(crate) fn draft_pool(&self) -> Option<&crate::pages::PagePool> {
        self.draft.as_ref().map(Draft::pool)
    }

    /// What the executors say of their memory now, together.
    pub(crate) fn memory(&self) -> Result<MemoryReport, EngineError> {
        let own = self.clock.call(Call::Memory, || self.executor.memory())?;
        let Some(draft) = &self.draft else { return Ok(own) };
        let MemoryReport { weights, kv_cache, state, activations, resident, .. } = draft.memory()?;
        Ok(MemoryReport {
            device: own.device,
            weights: own.weights.saturating_add(weights),
            kv_cache: own.kv_cache.saturating_add(kv_cache),
            state: own.state.saturating_add(state),
            activations: own.activations.saturating_add(activations),
            resident: own.resident && resident,
        })
    }

    pub(super) fn n_generating(&self) -> usize {
        self.running.values().filter(|sequence| sequence.is_generating()).count()
    }

    /// Has the draft model propose tokens for sequences whose tokens are all known.
    pub(super) fn draft(&mut self) -> Result<(), EngineError> {
        let Some(speculation) = self.options.speculation else { return Ok(()) };
        let (n_generated, room) = (self.n_generating(), self.limits.n_guess);
        let Core { draft: Some(draft), running, rhythm, .. } = self else { return Ok(()) };
        let is_paying = speculation.extent == Extent::Paying;
        let cost = rhythm.cost().filter(|_| is_paying);
        if is_paying && cost.is_none() {
            return Ok(());
        }
        let terms = Terms { cost, n_generated, room };
        let asks: Vec<Ask<'_>> =
            running.iter_mut().filter_map(|(&id, sequence)| sequence.ask(id, (&speculation, room))).collect();
        if asks.is_empty() {
            return Ok(());
        }
        match draft.draft(&asks, &terms) {
            Ok(drafted) => {
                for (id, proposals) in drafted {
                    if let Some(sequence) = running.get_mut(&id) {
                        sequence.propose(proposals);
                    }
                }
                Ok(())
            }
            Err(Failure::Engine(error)) => Err(error),
            Err(Failure::Draft(error)) => self.lose_draft(&error),
        }
    }

    /// Goes on without a draft model that failed: no answer depends on it.
    fn lose_draft(&mut self, error: &ExecutorError) -> Result<(), EngineError> {
        tracing::warn!(%error, "the draft model failed: it is given up, and no more tokens of it are guessed");
        self.counters.has_draft.store(false, Ordering::Relaxed);
        let draft = self.draft.take();
        self.clock.call(Call::Drop, || drop(draft))
    }

    /// Guesses that sequences are likely to have after the tokens that are under way.
    pub(super) fn later_guesses(&mut self, speculation: &Speculation) -> Vec<Candidate> {
        let (n_generated, room) = (self.n_generating(), self.limits.n_guess);
        let Core { draft, running, rhythm, .. } = self;
        let cost = rhythm.cost().filter(|_| speculation.extent == Extent::Paying);
        let terms = Terms { cost, n_generated, room };
        let later = |(&id, sequence): (&u64, &mut Sequence)| {
            let prospect = draft.as_ref().and_then(|draft| draft.prospect(id, &terms));
            sequence.later_guess(speculation, room, prospect)
        };
        running.iter_mut().filter_map(later).collect()
    }
}
