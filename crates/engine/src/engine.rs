//! One step after another: schedule, submit, collect, commit.
//!
//! Up to `Limits::n_in_flight` steps are submitted before the first is collected, so the device need not wait for the host. A
//! sequence may then end while its next row is already under way: that row's result is dropped, and its slot and pages may go
//! to another sequence at once, because the device computes steps in the order in which they were submitted.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use model::batch::SlotId;
use model::{Batch, Executor, Limits, MemoryReport, Output, Picked, Role, Ticket, Want};

use crate::EngineError;
use crate::load::Counters;
use crate::pace::Pace;
use crate::pages::{PagePool, Pages};
use crate::prefix_cache::{NodeId, PrefixCache};
use crate::queue::Queue;
use crate::scheduler::{self, Demand, Grant};
use crate::sequence::{Sequence, Waiting};
use crate::stall::{Call, CallClock};
use crate::stream::Event;

/// How the engine runs.
#[derive(Clone, Copy, Debug)]
pub struct EngineOptions {
    /// How many requests may wait beyond those that have a slot.
    pub n_waiting: usize,
    /// Whether pages of prompts are kept for later requests of the same [`cache_scope`](crate::EngineRequest::cache_scope).
    pub prefix_cache: bool,
    /// How long one call into the executor or a constraint may last before the engine is given up with [`EngineError::Stalled`]; `None`
    /// to wait for ever.
    pub stall_after: Option<Duration>,
    /// How often the executor is asked for its memory, at most once a millisecond.
    pub memory_every: Duration,
    /// About how long a step may last: cancelling is seen between steps. It bounds the prompt rows of a step, not below 32; `None` for
    /// as many as the executor takes.
    pub step_target: Option<Duration>,
}

impl Default for EngineOptions {
    /// 64 may wait, pages are kept, a call may last a minute, memory is looked at every 10 seconds, steps take about 0.1 seconds.
    fn default() -> Self {
        EngineOptions {
            n_waiting: 64,
            prefix_cache: true,
            stall_after: Some(Duration::from_secs(60)),
            memory_every: Duration::from_secs(10),
            step_target: Some(Duration::from_millis(100)),
        }
    }
}

/// The engine without its thread.
pub(crate) struct Core {
    executor: Box<dyn Executor>,
    limits: Limits,
    options: EngineOptions,
    pool: PagePool,
    cache: PrefixCache,
    free_slots: Vec<SlotId>,
    waiting: Queue,
    /// Free pages and made ones of the cache when the first of the queue did not fit: until one of them changes it does not.
    blocked: Option<(usize, u64)>,
    /// By number in the order of admission.
    running: BTreeMap<u64, Sequence>,
    in_flight: VecDeque<Step>,
    n_admitted: u64,
    n_step: u64,
    counters: Arc<Counters>,
    clock: Arc<CallClock>,
    pace: Pace,
    /// When a step was last collected.
    collected: Option<Instant>,
}

/// A submitted step.
struct Step {
    ticket: Ticket,
    /// The sequences that wait for a token, in the order of the spans.
    wants: Vec<(u64, SlotId)>,
    n_prompt_row: usize,
    submitted: Instant,
}

impl Core {
    pub(crate) fn new(executor: Box<dyn Executor>, options: EngineOptions) -> Core {
        let limits = executor.limits();
        Core {
            options,
            pool: PagePool::new(limits.n_page),
            cache: PrefixCache::new(limits.page_size),
            // The lowest slots are taken first.
            free_slots: (0..limits.n_slot).rev().filter_map(|slot| SlotId::try_from(slot).ok()).collect(),
            limits,
            executor,
            waiting: Queue::default(),
            blocked: None,
            running: BTreeMap::new(),
            in_flight: VecDeque::new(),
            n_admitted: 0,
            n_step: 0,
            counters: Arc::default(),
            clock: Arc::new(CallClock::new(options.stall_after)),
            pace: Pace::new(options.step_target, limits.n_row),
            collected: None,
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

    pub(crate) fn clock(&self) -> Arc<CallClock> {
        Arc::clone(&self.clock)
    }

    pub(crate) fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// What the executor says of its memory now.
    pub(crate) fn memory(&self) -> Result<MemoryReport, EngineError> {
        self.clock.call(Call::Memory, || self.executor.memory())
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
        self.admit();
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
                let picked = self.clock.call(Call::Collect, || self.executor.collect(step.ticket))??;
                // The device was busy with the steps before it until they were collected.
                let now = Instant::now();
                let began = self.collected.map_or(step.submitted, |before| before.max(step.submitted));
                self.pace.measured(step.n_prompt_row, now - began);
                self.collected = Some(now);
                self.commit(&step, picked)
            }
            None if self.is_idle() || n_failed > 0 => Ok(()),
            None => Err(EngineError::Failed("requests wait, but none can run on this executor".to_owned())),
        }
    }

    /// Ends what is cancelled or overdue.
    fn sweep(&mut self, now: Instant) {
        for (waiting, reason) in self.waiting.sweep(now) {
            self.blocked = None;
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
    fn admit(&mut self) {
        let share = self.options.prefix_cache;
        while let Some(first) = self.waiting.first() {
            let Some(&slot) = self.free_slots.last() else { return };
            let now = (self.pool.n_free(), self.cache.n_made());
            if self.blocked == Some(now) {
                return;
            }
            let scope = first.request.cache_scope.filter(|_| share);
            let prefix = scope.map(|scope| self.cache.find(scope, &first.request.prompt));
            let n_found = prefix.as_ref().map_or(0, |prefix| prefix.pages.len());
            let n_more = first.request.n_page(&self.limits).saturating_sub(n_found);
            if n_more > self.pool.n_free() {
                self.blocked = Some(now);
                return;
            }
            self.cache.evict(n_more.saturating_sub(self.pool.n_unowned()));
            let Some(more) = self.pool.take(n_more) else { return };
            let Some(waiting) = self.waiting.pop() else { return };
            self.blocked = None;
            self.free_slots.pop();
            self.n_admitted += 1;
            let (mut held, tip) =
                prefix.map_or((Vec::new(), NodeId::ROOT), |prefix| (prefix.pages, prefix.tip));
            held.extend(more);
            let mut sequence = Sequence::start(waiting, slot, Pages::new(held), share);
            sequence.skip(n_found, tip, self.limits.page_size);
            self.running.insert(self.n_admitted, sequence);
            self.counters.n_running.store(self.running.len(), Ordering::Relaxed);
        }
    }

    /// Lets a sequence that has not begun wait for one that came before it and is computing more of the same prompt than is there. Else
    /// requests with one prompt that arrive together would each compute all of it.
    fn follow(&mut self) {
        let fresh = self.running.iter().filter(|(_, s)| s.is_fresh() && s.shared_prompt().is_some());
        let fresh: Vec<u64> = fresh.map(|(&id, _)| id).collect();
        for id in fresh {
            let Some(sequence) = self.running.get(&id) else { continue };
            if let Some((leader, n_token)) = sequence.follows {
                if self.running.get(&leader).is_some_and(|leader| leader.progress().0 < n_token) {
                    continue;
                }
                let Some((scope, prompt)) = sequence.shared_prompt() else { continue };
                let prefix = self.cache.find(scope, &Arc::clone(prompt));
                if let Some(sequence) = self.running.get_mut(&id) {
                    sequence.adopt(prefix, self.limits.page_size);
                }
            }
            let leader = self.leader(id);
            if let Some(sequence) = self.running.get_mut(&id) {
                sequence.follows = leader;
            }
        }
    }

    /// The sequence that came before this one and is computing most of the same prompt beyond what this one has, and how much that is.
    fn leader(&self, id: u64) -> Option<(u64, usize)> {
        let sequence = self.running.get(&id)?;
        let (scope, prompt) = sequence.shared_prompt()?;
        let body = &prompt[..prompt.len() - 1];
        let common = |other: &Sequence| {
            let (_, theirs) = other.shared_prompt().filter(|(theirs, _)| *theirs == scope)?;
            let n_token = body.iter().zip(&**theirs).take_while(|(a, b)| a == b).count();
            let n_token = n_token - n_token % self.limits.page_size;
            (n_token > sequence.progress().1 && n_token > other.progress().0).then_some(n_token)
        };
        let before = self.running.range(..id);
        before.filter_map(|(&id, other)| Some((id, common(other)?))).max_by_key(|&(_, n_token)| n_token)
    }

    fn schedule(&mut self) -> Vec<Grant> {
        self.follow();
        let demands: Vec<Demand> =
            self.running.iter().filter_map(|(&id, sequence)| sequence.demand(id)).collect();
        scheduler::schedule(&demands, self.limits.n_row, self.pace.n_row())
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
            if let Some((_, prompt)) = sequence.shared_prompt().filter(|_| sequence.is_fresh()) {
                let (n_prompt, n_cached) = (prompt.len() as u64, sequence.progress().1 as u64);
                self.counters.n_prefix_query_token.fetch_add(n_prompt, Ordering::Relaxed);
                self.counters.n_prefix_hit_token.fetch_add(n_cached, Ordering::Relaxed);
            }
            let next = if sequence.is_constrained() {
                self.clock.call(Call::Constraint, || sequence.next_span(grant.n_token))?
            } else {
                sequence.next_span(grant.n_token)
            };
            let span = match next {
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
            let prompts = batch.spans.iter().filter(|span| span.role == Role::Prompt);
            let n_prompt_row = prompts.map(|span| span.input.len()).sum();
            let submitted = Instant::now();
            let ticket = self.clock.call(Call::Submit, || self.executor.submit(&batch))??;
            self.counters.n_step.fetch_add(1, Ordering::Relaxed);
            self.in_flight.push_back(Step { ticket, wants, n_prompt_row, submitted });
            for grant in schedule {
                if let Some(sequence) = self.running.get_mut(&grant.id) {
                    sequence.mark(self.limits.page_size);
                    sequence.share(&mut self.cache, self.limits.page_size);
                }
            }
            self.counters.n_cached_page.store(self.cache.len(), Ordering::Relaxed);
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
            let Some(sequence) = self.running.get_mut(&id) else { continue };
            let event = if sequence.is_constrained() {
                self.clock.call(Call::Constraint, || sequence.take(sampled, now))?
            } else {
                sequence.take(sampled, now)
            };
            if let Some(event) = event {
                self.finish(id, event);
            }
        }
        Ok(())
    }

    fn finish(&mut self, id: u64, event: Event) {
        if let Some(sequence) = self.running.remove(&id) {
            self.free_slots.push(sequence.slot);
            if let Some(tip) = sequence.tip() {
                self.cache.touch(tip);
            }
            self.counters.n_running.store(self.running.len(), Ordering::Relaxed);
            sequence.finish(event);
        }
    }

    /// Ends every request with this error.
    pub(crate) fn fail(&mut self, error: &EngineError) {
        self.in_flight.clear();
        self.cache.clear();
        self.counters.n_cached_page.store(0, Ordering::Relaxed);
        let ids: Vec<u64> = self.running.keys().copied().collect();
        for id in ids {
            self.finish(id, Event::Error(error.clone()));
        }
        for waiting in self.waiting.drain() {
            waiting.finish(Event::Error(error.clone()));
        }
    }
}
