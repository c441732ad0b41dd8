//! One step after another: schedule, submit, collect, commit.
//!
//! Up to `Limits::n_in_flight` steps are submitted before the first is collected, so the device need not wait for the host. A
//! sequence may then end while its next row is already under way: that row's result is dropped, and its slot and pages may go
//! to another sequence at once, because the device computes steps in the order in which they were submitted.

mod admission;
mod drafting;
mod options;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use device::batch::SlotId;
use device::sampling::Sampler;
use device::{Batch, Executor, Limits, Output, Picked, Role, Sampled, Span, Ticket, Want};

use self::admission::Blocked;
pub use self::options::EngineOptions;
use crate::EngineError;
use crate::cache_events::Listening;
use crate::draft::Draft;
use crate::load::Counters;
use crate::masks::Masks;
use crate::pace::Pace;
use crate::pages::{Held, PagePool};
use crate::prefix_cache::PrefixCache;
use crate::protect::{Kind, Protect};
use crate::queue::Queue;
use crate::scheduler::{self, Demand, Grant};
use crate::sequence::{By, Sequence};
use crate::speculate::{self, Candidate, Extent, Rhythm};
use crate::stall::{Call, CallClock};
use crate::stream::Event;
use crate::waiting::Waiting;

/// The longest that a step is held up for masks that were asked for just before it.
const MAX_GRACE: Duration = Duration::from_millis(2);

/// The part of a step's time that the next is held up for that.
const GRACE_PART: u32 = 8;

/// The most rows that prompts have in a step where somebody waits for a next token: on a GPU a step of more lasts long for that.
const MOST_BESIDE: usize = 2048;

/// How long the engine waits for masks, where nothing else is to be done, before it looks for requests again.
const MASK_TICK: Duration = Duration::from_millis(2);

/// The engine without its thread.
pub(crate) struct Core {
    executor: Box<dyn Executor>,
    draft: Option<Draft>,
    limits: Limits,
    options: EngineOptions,
    pool: PagePool,
    /// The pages of windows, where these have their own: whoever has a slot finds there what it needs, as the executor's limits promise.
    windows: PagePool,
    cache: PrefixCache,
    free_slots: Vec<SlotId>,
    waiting: Queue,
    /// When who is next did not fit, and how many pages it lacked.
    blocked: Option<(Blocked, usize)>,
    /// By number in the order of admission.
    running: BTreeMap<u64, Sequence>,
    in_flight: VecDeque<Step>,
    n_admitted: u64,
    n_step: u64,
    counters: Arc<Counters>,
    clock: Arc<CallClock>,
    masks: Masks,
    /// How long a step is held up for masks.
    grace: Duration,
    pace: Pace,
    rhythm: Rhythm,
    protect: Protect,
    /// What the step that was scheduled last is to streams.
    kind: Kind,
    /// Whether the next step was held back for the tokens under way.
    has_waited: bool,
    /// Scores prompts.
    sampler: Sampler,
    /// When a step was last collected.
    collected: Option<Instant>,
}

/// A submitted step.
struct Step {
    ticket: Ticket,
    /// Who waits for what, in the order of the spans.
    wants: Vec<Awaited>,
    n_prompt_row: usize,
    n_row: usize,
    kind: Kind,
    submitted: Instant,
    /// Whether it was held back until the one before was collected.
    has_waited: bool,
}

/// What a sequence waits for.
struct Awaited {
    id: u64,
    slot: SlotId,
    gives: Gives,
    /// Who guessed, where it has guesses.
    by: By,
}

/// What a span gives back.
#[derive(Clone, Copy, Debug)]
enum Gives {
    Token,
    /// One more than it has guesses, at most.
    Tokens {
        n_guess: usize,
    },
    Logits(usize),
    /// So many values.
    Hidden(usize),
}

impl Gives {
    /// What a span gives that is about to be submitted, if anything.
    fn of(span: &Span, limits: &Limits) -> Option<Gives> {
        match span.want {
            Want::Nothing => None,
            Want::Sample(_) => Some(Gives::Token),
            Want::Check(_) => Some(Gives::Tokens { n_guess: span.input.n_guess() }),
            Want::Logits => Some(Gives::Logits(span.input.len() * limits.n_vocab)),
            Want::Hidden(rows) => Some(Gives::Hidden(rows.of(span.input.len()).len() * limits.n_embd)),
        }
    }

    /// What is wrong with what it gave.
    fn wrong(self, output: &Output) -> Option<String> {
        let found = match output {
            Output::Token(_) => "a token".to_owned(),
            Output::Tokens(tokens) => format!("{} tokens", tokens.len()),
            Output::Logits(logits) => format!("{} logits", logits.len()),
            Output::Hidden(values) => format!("{} hidden values", values.len()),
        };
        let (expected, fits) = match self {
            Gives::Token => ("a token".to_owned(), matches!(output, Output::Token(_))),
            Gives::Tokens { n_guess } => {
                let fits = |tokens: &[Sampled]| (1..=n_guess + 1).contains(&tokens.len());
                let fits = matches!(output, Output::Tokens(tokens) if fits(tokens));
                (format!("1 to {} tokens", n_guess + 1), fits)
            }
            Gives::Logits(n) => {
                (format!("{n} logits"), matches!(output, Output::Logits(logits) if logits.len() == n))
            }
            Gives::Hidden(n) => {
                let fits = matches!(output, Output::Hidden(values) if values.len() == n);
                (format!("{n} hidden values"), fits)
            }
        };
        (!fits).then(|| format!("expected {expected}, found {found}"))
    }
}

impl Core {
    pub(crate) fn new(executor: Box<dyn Executor>, mut options: EngineOptions) -> io::Result<Core> {
        let limits = executor.limits();
        // Pages without the state after them are of no use where none is kept.
        options.prefix_cache &= limits.n_snapshot != Some(0);
        options.speculation = options.speculation.filter(|_| limits.n_guess > 0);
        let clock = Arc::new(CallClock::new(options.stall_after));
        Ok(Core {
            options,
            pool: PagePool::new(limits.n_page),
            windows: PagePool::new(limits.window.map_or(0, |window| window.n_page)),
            cache: PrefixCache::new(&limits),
            // The lowest slots are taken first.
            free_slots: (0..limits.n_slot).rev().filter_map(|slot| SlotId::try_from(slot).ok()).collect(),
            limits,
            executor,
            draft: None,
            waiting: Queue::default(),
            blocked: None,
            running: BTreeMap::new(),
            in_flight: VecDeque::new(),
            n_admitted: 0,
            n_step: 0,
            counters: Arc::default(),
            masks: Masks::new(Arc::clone(&clock))?,
            clock,
            grace: MAX_GRACE,
            pace: Pace::new(options.step_target, limits.n_row).beside(MOST_BESIDE),
            rhythm: Rhythm::default(),
            protect: Protect::new(options.bound_prompts),
            kind: Kind::default(),
            has_waited: false,
            sampler: Sampler::default(),
            collected: None,
        })
    }

    pub(crate) fn executor(&self) -> &dyn Executor {
        &*self.executor
    }

    pub(crate) fn pool(&self) -> PagePool {
        self.pool.clone()
    }

    #[cfg(test)]
    pub(crate) fn windows(&self) -> PagePool {
        self.windows.clone()
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

    /// Tells this listener from now on what the prefix cache keeps.
    pub(crate) fn tell(&mut self, to: Listening) {
        self.cache.tell(to);
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
        self.draft()?;
        self.make_masks()?;
        let mut n_failed = 0;
        while self.in_flight.len() < self.limits.n_in_flight.max(1) && !self.waits_to_guess() {
            let schedule = self.schedule();
            if schedule.is_empty() {
                self.has_waited = false;
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
                let of_streams = (step.n_row - step.n_prompt_row, now - began);
                self.protect.measured(step.kind, of_streams, self.rhythm.cost());
                match self.collected.filter(|_| step.has_waited) {
                    _ if step.n_prompt_row > 0 => {}
                    Some(before) => self.rhythm.measured_apart(step.n_row, now - before),
                    None => self.rhythm.measured_ahead(step.n_row, now - began),
                }
                if let (Some(draft), Some(cost)) = (&mut self.draft, self.rhythm.cost()) {
                    draft.passed(now - began, cost);
                }
                self.grace = ((now - began) / GRACE_PART).min(MAX_GRACE);
                self.collected = Some(now);
                self.commit(&step, picked)
            }
            None if self.is_idle() || n_failed > 0 => Ok(()),
            None if self.running.values().any(|sequence| sequence.mask_lasts(&self.clock).is_some()) => {
                self.masks.wait(MASK_TICK);
                Ok(())
            }
            None => Err(EngineError::Failed("requests wait, but none can run on this executor".to_owned())),
        }
    }

    /// Takes masks that are computed and asks for those that are needed next. The latter are waited for, but not long: a quick constraint costs
    /// its answer no step, and a slow one no other answer much.
    fn make_masks(&mut self) -> Result<(), EngineError> {
        let mut asked: Vec<u64> = Vec::new();
        let guessing =
            self.options.speculation.as_ref().map(|speculation| (speculation, self.limits.n_guess));
        for (&id, sequence) in &mut self.running {
            sequence.look_for_mask();
            // Those whose rows wait for others' are not waited for.
            let yields = self.protect.yields(sequence.client());
            let is_asked = sequence.ask_for_mask((&self.masks, yields), guessing);
            asked.extend((is_asked && !yields).then_some(id));
        }
        let until = Instant::now() + self.grace;
        while !asked.is_empty() && self.masks.wait(until.saturating_duration_since(Instant::now())) {
            asked.retain(|id| {
                self.running.get_mut(id).is_some_and(|sequence| {
                    sequence.look_for_mask();
                    sequence.mask_lasts(&self.clock).is_some()
                })
            });
        }
        // Those after guesses are not waited for any longer.
        for id in asked {
            self.running.get_mut(&id).into_iter().for_each(Sequence::look_for_mask);
        }
        match self.options.stall_after {
            Some(after) if self.masks.are_stuck(after) => Err(self.clock.error(Call::Mask)),
            _ => Ok(()),
        }
    }

    /// Ends what is cancelled or overdue.
    fn sweep(&mut self, now: Instant) {
        for (waiting, reason) in self.waiting.sweep(now) {
            self.blocked = None;
            waiting.end(reason, now);
        }
        let after = self.options.mask_within;
        let over = self.running.iter_mut().filter_map(|(&id, sequence)| {
            if let Some(reason) = sequence.verdict(now) {
                return Some((id, sequence.end(reason, now)));
            }
            let is_slow = sequence.mask_lasts(&self.clock).is_some_and(|lasts| lasts > after);
            is_slow.then_some((id, Event::Error(EngineError::SlowConstraint { after })))
        });
        let over: Vec<(u64, Event)> = over.collect();
        for (id, event) in over {
            self.finish(id, event);
        }
    }

    fn schedule(&mut self) -> Vec<Grant> {
        self.follow();
        // Logits are large: one sequence's in a step.
        let scored = self.running.iter().filter(|(_, sequence)| sequence.n_to_score().is_some());
        let scored = scored.min_by_key(|&(&id, sequence)| (sequence.served, id)).map(|(&id, _)| id);
        let may_run = |id: u64, sequence: &Sequence| Some(id) == scored || sequence.n_to_score().is_none();
        let running = self.running.iter().filter(|&(&id, sequence)| may_run(id, sequence));
        let mut demands: Vec<Demand> = running.filter_map(|(&id, sequence)| sequence.demand(id)).collect();
        let has_streams = self.running.values().any(Sequence::is_generating);
        if self.options.protect_streams {
            let asked = self.asked();
            self.kind = self.protect.filter(&mut demands, (&asked, self.limits.n_slot), self.rhythm.cost());
        }
        let mut grants = scheduler::schedule(&demands, self.limits.n_row, self.pace.n_row(has_streams));
        self.guess(&mut grants);
        grants
    }

    /// Gives sequences rows for guesses beside those that they have, as far as there is room for them and they pay.
    fn guess(&mut self, grants: &mut [Grant]) {
        let Some(speculation) = self.options.speculation else { return };
        let n_row: usize = grants.iter().map(|grant| grant.n_token).sum();
        let room = self.limits.n_guess.min(self.limits.n_row.saturating_sub(n_row));
        let is_paying = speculation.extent == Extent::Paying;
        let cost = self.rhythm.cost().filter(|_| is_paying);
        if room == 0 || is_paying && cost.is_none() {
            return;
        }
        let generating =
            |grant: &&mut Grant| self.running.get(&grant.id).is_some_and(Sequence::is_generating);
        let mut grants: Vec<&mut Grant> = grants.iter_mut().filter(generating).collect();
        let candidates = grants.iter().enumerate().filter_map(|(i, grant)| {
            let sequence = self.running.get_mut(&grant.id)?;
            let yields = self.protect.yields(sequence.client());
            Some((i, sequence.guess(&speculation, room).filter(|_| !yields)?))
        });
        let (which, candidates): (Vec<usize>, Vec<Candidate>) = candidates.unzip();
        let counts = speculate::share(&candidates, (grants.len(), room), cost);
        for (i, n_guess) in which.into_iter().zip(counts) {
            grants[i].n_token += n_guess;
        }
    }

    /// Whether the next step is better submitted when the tokens under way are known, since guesses after them are likely to give more than the
    /// device loses while it has no step.
    fn waits_to_guess(&mut self) -> bool {
        let Some(speculation) = self.options.speculation.filter(|_| !self.in_flight.is_empty()) else {
            return false;
        };
        let candidates = self.later_guesses(&speculation);
        if candidates.is_empty() || speculation.extent == Extent::Most {
            return !candidates.is_empty();
        }
        let waits = self.rhythm.waits(&candidates, (self.n_generating(), self.limits.n_guess));
        self.has_waited |= waits;
        waits
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
            if self.limits.window.is_some() {
                let n_missing = sequence.n_window_missing(grant.n_token, self.limits.page_size);
                sequence.extend_window(take_windows(&self.windows, &mut self.cache, n_missing)?);
            }
            if sequence.saves_after(grant.n_token) {
                sequence.save_to(self.cache.take_snapshot());
            }
            if let Some((_, prompt)) =
                sequence.shared_prompt().filter(|_| sequence.is_fresh() && !sequence.is_resumed())
            {
                let (n_prompt, n_cached) = (prompt.len() as u64, sequence.progress().1 as u64);
                self.counters.n_prefix_query_token.fetch_add(n_prompt, Ordering::Relaxed);
                self.counters.n_prefix_hit_token.fetch_add(n_cached, Ordering::Relaxed);
            }
            let span = match sequence.next_span(grant.n_token) {
                Ok(span) => span,
                Err(error) => {
                    failed.push((grant.id, error));
                    continue;
                }
            };
            let gives = Gives::of(&span, &self.limits);
            let by = sequence.guessed_by();
            wants.extend(gives.map(|gives| Awaited { id: grant.id, slot: span.slot, gives, by }));
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
            self.counters.n_step_running.fetch_add(self.running.len() as u64, Ordering::Relaxed);
            let n_row = batch.n_row();
            let has_waited = std::mem::take(&mut self.has_waited) && self.in_flight.is_empty();
            let kind = self.kind;
            self.protect.submitted(kind);
            self.in_flight.push_back(Step {
                ticket,
                wants,
                n_prompt_row,
                n_row,
                kind,
                submitted,
                has_waited,
            });
            for grant in schedule {
                if let Some(sequence) = self.running.get_mut(&grant.id) {
                    sequence.mark(self.limits.page_size);
                    sequence.share(&mut self.cache, self.limits.page_size);
                    sequence.leave_behind(&self.limits);
                }
            }
            self.counters.n_cached_page.store(self.cache.len(), Ordering::Relaxed);
            self.cache.send_events();
        }
        Ok(n_failed)
    }

    /// Gives each token, logits or hidden rows to its sequence, unless that has ended meanwhile.
    fn commit(&mut self, step: &Step, picked: Vec<Picked>) -> Result<(), EngineError> {
        let now = Instant::now();
        let slots: Vec<SlotId> = picked.iter().map(|p| p.slot).collect();
        if !slots.iter().eq(step.wants.iter().map(|awaited| &awaited.slot)) {
            let expected: Vec<SlotId> = step.wants.iter().map(|awaited| awaited.slot).collect();
            return Err(EngineError::Failed(format!(
                "expected tokens for slots {expected:?}, found {slots:?}"
            )));
        }
        for (&Awaited { id, slot, gives, by }, picked) in step.wants.iter().zip(picked) {
            if let Some(wrong) = gives.wrong(&picked.output) {
                return Err(EngineError::Failed(format!("slot {slot}: {wrong}")));
            }
            if let (Gives::Tokens { n_guess }, Output::Tokens(tokens)) = (gives, &picked.output) {
                let counts = (n_guess, tokens.len() - 1);
                self.counters.count_draft(counts, by);
                if let (By::Draft, Some(draft), Some(cost)) = (by, &mut self.draft, self.rhythm.cost()) {
                    draft.settled(counts, step.n_row, cost);
                }
                if let Some(sequence) = self.running.get_mut(&id) {
                    sequence.settle(n_guess, tokens.len(), &self.limits);
                }
            }
            let tokens = match picked.output {
                Output::Token(sampled) => vec![sampled],
                Output::Tokens(tokens) => tokens,
                Output::Logits(logits) => {
                    let Some(sequence) = self.running.get_mut(&id) else { continue };
                    if let Some(event) = sequence.score(&logits, &mut self.sampler, now) {
                        self.finish(id, event);
                    }
                    continue;
                }
                Output::Hidden(values) => {
                    let Some(sequence) = self.running.get_mut(&id) else { continue };
                    if let Some(event) = sequence.pool(&values, self.limits.n_embd, now) {
                        self.finish(id, event);
                    }
                    continue;
                }
            };
            for sampled in tokens {
                self.take(id, sampled, now)?;
            }
        }
        Ok(())
    }

    /// Gives a token to its sequence, unless that has ended.
    fn take(&mut self, id: u64, sampled: Sampled, now: Instant) -> Result<(), EngineError> {
        let Some(sequence) = self.running.get_mut(&id) else { return Ok(()) };
        if sequence.is_replaying() {
            self.counters.n_replayed_token.fetch_add(1, Ordering::Relaxed);
        }
        let event = if sequence.is_constrained() {
            self.clock.call(Call::Constraint, || sequence.take(sampled, now))?
        } else {
            sequence.take(sampled, now)
        };
        if let Some(event) = event {
            self.finish(id, event);
        }
        Ok(())
    }

    fn finish(&mut self, id: u64, event: Event) {
        if let Some(sequence) = self.remove(id) {
            sequence.finish(event);
        }
    }

    /// Frees a sequence's slot; its pages go with it.
    fn remove(&mut self, id: u64) -> Option<Sequence> {
        let sequence = self.running.remove(&id)?;
        self.free_slots.push(sequence.slot);
        if let Some(draft) = &mut self.draft {
            draft.forget(id, sequence.calibration());
        }
        if let Some(tip) = sequence.tip() {
            self.cache.touch(tip);
        }
        self.counters.n_running.store(self.running.len(), Ordering::Relaxed);
        Some(sequence)
    }

    /// Ends every request with this error.
    pub(crate) fn fail(&mut self, error: &EngineError) {
        self.in_flight.clear();
        self.cache.clear();
        self.cache.send_events();
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

/// Takes pages of windows, at the expense of those that are kept.
fn take_windows(pool: &PagePool, cache: &mut PrefixCache, n: usize) -> Result<Vec<Held>, EngineError> {
    cache.evict_windows(n.saturating_sub(pool.n_unowned()));
    pool.take(n).ok_or_else(|| {
        EngineError::Failed(format!("expected {n} free pages of windows, found {}", pool.n_unowned()))
    })
}
