//! A draft model: a second, smaller model on an executor of its own, whose likeliest tokens are guesses of the first one's.
//!
//! It runs on the engine's thread between the steps of the model, so nothing of it is ever under way while a sequence ends: its slots and pages come back with the
//! sequence's. A sequence that finds no slot or pages there is not drafted for, and waits for nothing. Its prompt is computed piece by piece once its answer has begun, so
//! that the first token comes as early as without.
//!
//! How far it drafts follows from measured time and acceptance ([`Terms`]) and is bounded by what it gave ([`Account`]). None of that can change a
//! token: see [`crate::speculate`].

mod account;
mod followed;
mod rounds;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use device::batch::SlotId;
use device::{Batch, Choice, Executor, ExecutorError, Limits, MemoryReport, Output, SamplingParams, Span};

use self::account::Account;
use self::followed::Followed;
use crate::EngineError;
use crate::load::Counters;
use crate::pace::Pace;
use crate::pages::{PagePool, Pages};
use crate::speculate::{Calibration, RowCost};
use crate::stall::{Call, CallClock};

/// The part of a step's target that a piece of a prompt may take.
const FEED_PART: u32 = 4;

/// The most rows that a sequence may lack to be drafted for at once.
const MAX_LAG: usize = 32;

/// What a sequence asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask<'a> {
    pub(crate) id: u64,
    pub(crate) prompt: &'a [u32],
    pub(crate) answer: &'a [u32],
    /// Tokens that the answer may still have.
    pub(crate) n_left: usize,
    /// The most guesses that it can use.
    pub(crate) most: usize,
    pub(crate) calibration: Calibration,
}

impl Ask<'_> {
    fn tokens(&self) -> Vec<u32> {
        [self.prompt, self.answer].concat()
    }
}

/// What a step of the model is like, for a draft that is to pay; `cost` is `None` where as many are wanted as there are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms<'a> {
    pub(crate) cost: Option<&'a RowCost>,
    /// Generated rows of the step without guesses.
    pub(crate) n_generated: usize,
    /// Guesses that the step may have in all.
    pub(crate) room: usize,
}

/// The draft model.
pub(crate) struct Draft {
    executor: Box<dyn Executor>,
    limits: Limits,
    pool: PagePool,
    free_slots: Vec<SlotId>,
    /// By the sequence's number; `None` where it is given up.
    followed: BTreeMap<u64, Option<Followed>>,
    greedy: Choice,
    /// Of its generated rows.
    cost: RowCost,
    pace: Pace,
    /// Seconds of a row of a prompt, once measured.
    of_prompt_row: Option<f64>,
    account: Account,
    calibration: Calibration,
    /// Tokens that the last draft had for a sequence, at most.
    n_last: usize,
    clock: Arc<CallClock>,
    counters: Arc<Counters>,
}

/// Why a draft failed.
pub(crate) enum Failure {
    /// The draft model is of no more use; the engine is.
    Draft(ExecutorError),
    /// The engine was given up.
    Engine(EngineError),
}

impl Draft {
    pub(crate) fn new(
        executor: Box<dyn Executor>,
        step_target: Option<Duration>,
        clock: Arc<CallClock>,
        counters: Arc<Counters>,
    ) -> Draft {
        let limits = executor.limits();
        let params = Arc::new(SamplingParams { temperature: 0.0, ..SamplingParams::default() });
        Draft {
            pool: PagePool::new(limits.n_page),
            free_slots: (0..limits.n_slot).rev().filter_map(|slot| SlotId::try_from(slot).ok()).collect(),
            followed: BTreeMap::new(),
            greedy: Choice { params, mask: None },
            cost: RowCost::default(),
            pace: Pace::new(step_target.map(|target| target / FEED_PART), limits.own_window_rows()),
            of_prompt_row: None,
            account: Account::default(),
            calibration: Calibration::default(),
            n_last: 1,
            limits,
            executor,
            clock,
            counters,
        }
    }

    #[cfg(test)]
    pub(crate) fn pool(&self) -> &PagePool {
        &self.pool
    }

    /// What its executor says of its memory now.
    pub(crate) fn memory(&self) -> Result<MemoryReport, EngineError> {
        self.clock.call(Call::Memory, || self.executor.memory())
    }

    /// How often it was right in the sequences so far.
    pub(crate) fn calibration(&self) -> Calibration {
        self.calibration
    }

    /// A sequence ended or was stopped; how often the draft model was right in it, if it was asked.
    pub(crate) fn forget(&mut self, id: u64, calibration: Option<Calibration>) {
        if let Some(Some(followed)) = self.followed.remove(&id) {
            self.free_slots.push(followed.slot);
        }
        if let Some(calibration) = calibration {
            self.calibration = calibration.for_next();
        }
    }

    /// A step of the model took so long, where one of a single row takes what `cost` says.
    pub(crate) fn passed(&mut self, took: Duration, cost: &RowCost) {
        self.account.passed(took.as_secs_f64(), cost.of(1));
    }

    /// Of `n_guess` guesses of it in a step of `n_row` rows so many were right.
    pub(crate) fn settled(&mut self, (n_guess, n_accepted): (usize, usize), n_row: usize, cost: &RowCost) {
        // What a token takes without guesses, with the others of the step.
        let n_others = n_row.saturating_sub(n_guess).max(1);
        let of_token = cost.of(n_others) / n_others as f64;
        self.account.saved(n_accepted as f64 * of_token - n_guess as f64 * cost.of_row());
    }

    /// Tokens that a sequence is likely to be drafted, and their chance; none where that does not pay.
    pub(crate) fn prospect(&self, id: u64, terms: &Terms<'_>) -> Option<(usize, f64)> {
        let has_place = self.followed.get(&id).map_or(!self.free_slots.is_empty(), Option::is_some);
        if !has_place {
            return None;
        }
        let chance = self.calibration.expected();
        let pays = terms.cost.is_none_or(|cost| self.pays(chance, cost, terms.n_generated));
        pays.then_some((self.n_last, chance))
    }

    /// Whether the first token of a draft is likely to save more than it costs.
    fn pays(&self, chance: f64, cost: &RowCost, n_generated: usize) -> bool {
        let extra = if self.cost.is_known() { self.cost.of(1) } else { 0.0 } + cost.of_row();
        chance * cost.of(n_generated) > crate::speculate::MARGIN * n_generated as f64 * extra
    }

    /// Gives a sequence a slot and the pages of all its tokens, as far as its context goes. `None` where there is neither, now or ever.
    fn follow(&mut self, ask: &Ask<'_>, tokens: &[u32]) -> Option<&mut Followed> {
        if !self.followed.contains_key(&ask.id) {
            let n_position = (tokens.len() + ask.n_left).min(self.limits.n_ctx);
            let is_foreign = |&id: &u32| id as usize >= self.limits.n_vocab;
            if tokens.len() >= n_position || tokens.iter().any(is_foreign) {
                self.followed.insert(ask.id, None);
                return None;
            }
            let slot = *self.free_slots.last()?;
            let held = self.pool.take(n_position.div_ceil(self.limits.page_size))?;
            self.free_slots.pop();
            self.followed.insert(ask.id, Some(Followed::new(slot, Pages::new(held), n_position)));
        }
        self.followed.get_mut(&ask.id)?.as_mut()
    }

    /// Does without a sequence from now on.
    fn give_up(&mut self, id: u64) {
        if let Some(Some(followed)) = self.followed.insert(id, None) {
            self.free_slots.push(followed.slot);
        }
    }

    /// Computes a step; what each span that wants something gave, and how long it took.
    fn step(&mut self, spans: Vec<Span>) -> Result<(Vec<Output>, Duration), Failure> {
        let batch = Batch { spans };
        let began = Instant::now();
        let executor = &mut self.executor;
        let ticket = self.clock.call(Call::Submit, || executor.submit(&batch));
        let ticket = ticket.map_err(Failure::Engine)?.map_err(Failure::Draft)?;
        let picked = self.clock.call(Call::Collect, || executor.collect(ticket));
        let picked = picked.map_err(Failure::Engine)?.map_err(Failure::Draft)?;
        let took = began.elapsed();
        self.account.spent(took.as_secs_f64());
        self.counters.count_draft_step(batch.n_row(), took);
        let n_wanted = batch.spans.iter().filter(|span| !matches!(span.want, device::Want::Nothing)).count();
        if picked.len() != n_wanted {
            let text = format!("expected {n_wanted} spans' tokens, found {}", picked.len());
            return Err(Failure::Draft(ExecutorError::Device(text)));
        }
        Ok((picked.into_iter().map(|picked| picked.output).collect(), took))
    }

    /// A sequence's logits are not numbers: it is not drafted for any more.
    fn count_unsound(&mut self, id: u64) {
        self.counters.n_draft_unsound.fetch_add(1, Ordering::Relaxed);
        self.give_up(id);
    }
}
