//! One step after another: schedule, submit, collect, commit.
//!
//! Up to `Limits::n_in_flight` steps are submitted before the first is collected, so the device need not wait for the host. A
//! sequence may then end while its next row is already under way: that row's result is dropped, and its slot and pages may go
//! to another sequence at once, because the device computes steps in the order in which they were submitted.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use model::batch::SlotId;
use model::{Batch, Executor, Limits, Output, Picked, Ticket, Want};

use crate::EngineError;
use crate::load::Counters;
use crate::pages::PagePool;
use crate::queue::Queue;
use crate::scheduler::{self, Demand, Grant};
use crate::sequence::{Sequence, Waiting};
use crate::stream::Event;

/// How the engine runs.
#[derive(Clone, Copy, Debug)]
pub struct EngineOptions {
    /// How many requests may wait beyond those that have a slot.
    pub n_waiting: usize,
}

impl Default for EngineOptions {
    /// 64 may wait.
    fn default() -> Self {
        EngineOptions { n_waiting: 64 }
    }
}

/// The engine without its thread.
pub(crate) struct Core {
    executor: Box<dyn Executor>,
    limits: Limits,
    pool: PagePool,
    free_slots: Vec<SlotId>,
    waiting: Queue,
    /// By number in the order of admission.
    running: BTreeMap<u64, Sequence>,
    in_flight: VecDeque<Step>,
    n_admitted: u64,
    n_step: u64,
    counters: Arc<Counters>,
}

/// A submitted step.
struct Step {
    ticket: Ticket,
    /// The sequences that wait for a token, in the order of the spans.
    wants: Vec<(u64, SlotId)>,
}

impl Core {
    pub(crate) fn new(executor: Box<dyn Executor>) -> Core {
        let limits = executor.limits();
        Core {
            pool: PagePool::new(limits.n_page),
            // The lowest slots are taken first.
            free_slots: (0..limits.n_slot).rev().filter_map(|slot| SlotId::try_from(slot).ok()).collect(),
            limits,
            executor,
            waiting: Queue::default(),
            running: BTreeMap::new(),
            in_flight: VecDeque::new(),
            n_admitted: 0,
            n_step: 0,
            counters: Arc::default(),
        }
    }

    pub(crate) fn executor(&self) -> &dyn Executor {
        &*self.executor
    }

    pub(crate) fn pool(&self) -> PagePool {
        self.pool.clone()
    }

    pub(crate) fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    pub(crate) fn enqueue(&mut self, waiting: Waiting) {
        self.waiting.push(waiting);
    }

    /// Whether there is nothing to do and nothing under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty() && self.in_flight.is_empty()
    }

    /// One round. An error is final: the executor is of no more use.
    pub(crate) fn step(&mut self) -> Result<(), EngineError> {
        self.sweep(Instant::now());
        self.admit(Instant::now());
        let mut n_failed = 0;
        while self.in_flight.len() < self.limits.n_in_flight.max(1) {
            let schedule = self.schedule();
            if schedule.is_empty() {
                break;
            }
            n_failed += self.submit(&schedule)?;
        }
        match self.in_flight.pop_front() {
            Some(step) => {
                let picked = self.executor.collect(step.ticket)?;
                self.commit(&step, picked)
            }
            None if self.is_idle() || n_failed > 0 => Ok(()),
            None => Err(EngineError::Failed("requests wait, but none can run on this executor".to_owned())),
        }
    }

    /// Ends what is cancelled or overdue.
    fn sweep(&mut self, now: Instant) {
        for (waiting, reason) in self.waiting.sweep(now) {
            waiting.end(reason, now);
        }
        let over: Vec<(u64, Event)> = self
            .running
            .iter()
            .filter_map(|(&id, sequence)| Some((id, sequence.end(sequence.verdict(now)?, now))))
            .collect();
        for (id, event) in over {
            self.finish(id, event);
        }
    }

    /// Starts waiting requests, in turn, while there is a slot and every page that the first of them can need.
    fn admit(&mut self, now: Instant) {
        while let Some(first) = self.waiting.first() {
            let Some(&slot) = self.free_slots.last() else { return };
            let Some(pages) = self.pool.take(first.request.n_page(&self.limits)) else { return };
            let Some(waiting) = self.waiting.pop() else { return };
            self.free_slots.pop();
            self.n_admitted += 1;
            self.running.insert(self.n_admitted, Sequence::start(waiting, slot, pages, now));
            self.counters.n_running.store(self.running.len(), Ordering::Relaxed);
        }
    }

    fn schedule(&self) -> Vec<Grant> {
        let demands: Vec<Demand> =
            self.running.iter().filter_map(|(&id, sequence)| sequence.demand(id)).collect();
        scheduler::schedule(&demands, self.limits.n_row)
    }

    /// Submits what is scheduled; how many sequences failed and are not part of it.
    fn submit(&mut self, schedule: &[Grant]) -> Result<usize, EngineError> {
        self.n_step += 1;
        let mut failed = Vec::new();
        let mut batch = Batch::default();
        let mut wants = Vec::new();
        for grant in schedule {
            let Some(sequence) = self.running.get_mut(&grant.id) else { continue };
            sequence.served = self.n_step;
            let span = match sequence.next_span(grant.n_token) {
                Ok(span) => span,
                Err(error) => {
                    failed.push((grant.id, error));
                    continue;
                }
            };
            if !matches!(span.want, Want::Nothing) {
                wants.push((grant.id, span.slot));
            }
            batch.spans.push(span);
        }
        let n_failed = failed.len();
        for (id, error) in failed {
            self.finish(id, Event::Error(error));
        }
        if !batch.spans.is_empty() {
            let ticket = self.executor.submit(&batch)?;
            self.counters.n_step.fetch_add(1, Ordering::Relaxed);
            self.in_flight.push_back(Step { ticket, wants });
        }
        Ok(n_failed)
    }

    /// Gives each token to its sequence, unless that has ended meanwhile.
    fn commit(&mut self, step: &Step, picked: Vec<Picked>) -> Result<(), EngineError> {
        let now = Instant::now();
        let slots: Vec<SlotId> = picked.iter().map(|p| p.slot).collect();
        if !slots.iter().eq(step.wants.iter().map(|(_, slot)| slot)) {
            let expected: Vec<SlotId> = step.wants.iter().map(|&(_, slot)| slot).collect();
            return Err(EngineError::Failed(format!(
                "expected tokens for slots {expected:?}, found {slots:?}"
            )));
        }
        for (&(id, slot), picked) in step.wants.iter().zip(picked) {
            let Output::Token(sampled) = picked.output else {
                return Err(EngineError::Failed(format!("expected a token for slot {slot}, found logits")));
            };
            if let Some(event) = self.running.get_mut(&id).and_then(|sequence| sequence.take(sampled, now)) {
                self.finish(id, event);
            }
        }
        Ok(())
    }

    fn finish(&mut self, id: u64, event: Event) {
        if let Some(sequence) = self.running.remove(&id) {
            self.free_slots.push(sequence.slot);
            self.counters.n_running.store(self.running.len(), Ordering::Relaxed);
            sequence.finish(event);
        }
    }

    /// Ends every request with this error.
    pub(crate) fn fail(&mut self, error: &EngineError) {
        self.in_flight.clear();
        let ids: Vec<u64> = self.running.keys().copied().collect();
        for id in ids {
            self.finish(id, Event::Error(error.clone()));
        }
        for waiting in self.waiting.drain() {
            waiting.finish(Event::Error(error.clone()));
        }
    }
}
