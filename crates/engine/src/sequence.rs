//! One running request: what of it is computed, what comes next, and when it is over.
//!
//! Positions count from 0 over prompt and answer. A step computes rows of the prompt or, after it, the row of the token sampled last
//! ([`Input::Last`]: the host need not know it yet). The row at position p chooses the token at p + 1.
//!
//! A request that gave its slot and pages up starts again from its prompt. The tokens that it has are chosen again, each from a mask that allows
//! nothing else: so they are generated rows with the bits that they had, and the slot's history is what it was, whatever the device keeps there.

mod guesses;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use device::batch::SlotId;
use device::sampling::{Sampler, TokenMask};
use device::{Choice, Input, Limits, Role, Sampled, SamplingParams, Span, Want};

pub(crate) use self::guesses::By;
use self::guesses::Guesses;
use crate::constraint::{self, Constrained};
use crate::masks::{Asker, Masks};
use crate::pages::{Held, Pages, WindowHeld};
use crate::pooling::Pooled;
use crate::prefix_cache::{NodeId, Prefix, PrefixCache};
use crate::scheduler::{Demand, Need};
use crate::shares::Holding;
use crate::snapshots::Snapshot;
use crate::speculate::{Calibration, Speculation};
use crate::stall::CallClock;
use crate::stream::{EndReason, Event, Outbox, Scored};
use crate::waiting::{Answer, Waiting, verdict};
use crate::{EngineError, EngineRequest};

/// A request on the device. Fields drop in order: the pages are back before the outbox closes.
#[derive(Debug)]
pub(crate) struct Sequence {
    pages: Pages,
    /// In the layers with a window, where these have pages of their own.
    window: WindowHeld,
    pub(crate) slot: SlotId,
    request: EngineRequest,
    /// The request's place in the order of arrival.
    order: u64,
    params: Arc<SamplingParams>,
    /// Used until `min_tokens` tokens are there.
    params_before_min: Option<Arc<SamplingParams>>,
    constraint: Option<Constrained>,
    /// Where the pages of its prompt are kept for others.
    branch: Option<Branch>,
    /// Positions at which its state is to be kept.
    saves: BTreeSet<usize>,
    /// The state that it begins with, until that is submitted.
    load: Option<Arc<Snapshot>>,
    /// Where its next span leaves its state.
    saving: Option<Arc<Snapshot>>,
    /// The sequence that computes the start of this one's prompt, and how much of it, while this one waits for that.
    pub(crate) follows: Option<(u64, usize)>,
    /// Positions whose pages were there already.
    n_cached: usize,
    /// Positions submitted, or there already.
    n_submitted: usize,
    /// Tokens collected since it started, those that it had before among them.
    n_collected: usize,
    /// Rows of its prompt whose logits were collected since it started.
    n_scored: usize,
    /// Of its prompt's vector.
    pooled: Pooled,
    /// Tokens that it had when it started.
    n_replay: usize,
    guesses: Option<Guesses>,
    /// Guesses that are submitted and not collected.
    n_guess: usize,
    /// The chances of these.
    under_way: Vec<f64>,
    /// Of the draft model, before any of this sequence's tokens.
    calibration: Calibration,
    n_vocab: usize,
    /// The last step in which it got a row.
    pub(crate) served: u64,
    answer: Answer,
    outbox: Outbox,
}

/// How far a sequence's pages stand in the prefix cache.
#[derive(Clone, Copy, Debug)]
struct Branch {
    scope: u64,
    /// The last page of it.
    tip: NodeId,
    n_page: usize,
    keeps: Keeps,
}

/// Whose pages a sequence's prompt is kept by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keeps {
    /// Its own.
    Own,
    /// Another's, which stand in their place: none of its own can follow.
    Others,
    /// Nobody's from here on.
    Nothing,
}

impl Sequence {
    /// Starts a request on its slot and pages, and says so the first time. Its pages may be shared through the prefix cache if `shares`.
    pub(crate) fn start(
        waiting: Waiting,
        slot: SlotId,
        pages: Pages,
        shares: bool,
        n_vocab: usize,
    ) -> Sequence {
        let now = Instant::now();
        let scope = waiting.request.cache_scope.filter(|_| shares);
        let branch = scope.map(|scope| Branch { scope, tip: NodeId::ROOT, n_page: 0, keeps: Keeps::Own });
        let Waiting { request, order, constraint, mut answer, outbox } = waiting;
        if answer.started.is_none() {
            answer.started = Some(now);
            outbox.send(Event::Started { queue: answer.waited(now) });
        }
        Sequence {
            pages,
            window: WindowHeld::new(0, Vec::new()),
            slot,
            params: Arc::new(request.params.clone()),
            params_before_min: request.params_before_min(),
            constraint,
            branch,
            saves: BTreeSet::new(),
            load: None,
            saving: None,
            follows: None,
            n_cached: 0,
            request,
            order,
            n_submitted: 0,
            n_collected: 0,
            n_scored: 0,
            pooled: Pooled::default(),
            n_replay: answer.tokens.len(),
            guesses: None,
            n_guess: 0,
            under_way: Vec::new(),
            calibration: Calibration::default(),
            n_vocab,
            served: 0,
            answer,
            outbox,
        }
    }

    /// Gives slot and pages back, to start again later. What is under way of it is to be dropped.
    pub(crate) fn suspend(mut self) -> Waiting {
        self.note_cached();
        let Sequence { request, order, constraint, answer, outbox, .. } = self;
        Waiting { request, order, constraint, answer, outbox }
    }

    /// Remembers what was there of its prompt when it first ran.
    fn note_cached(&mut self) {
        if !self.is_fresh() {
            self.answer.n_cached.get_or_insert(self.n_cached);
        }
    }

    /// What it holds.
    pub(crate) fn holding(&self, id: u64) -> Holding {
        Holding {
            id,
            client: self.request.client,
            weight: self.request.weight,
            order: self.order,
            n_page: self.pages.ids().len(),
            n_new: self.answer.tokens.len() - self.n_replay,
            n_replay: self.n_replay,
        }
    }

    /// Whether the next token to be collected is one that it has.
    pub(crate) fn is_replaying(&self) -> bool {
        self.n_collected < self.n_replay
    }

    /// Whether it ran before.
    pub(crate) fn is_resumed(&self) -> bool {
        self.answer.n_cached.is_some()
    }

    /// Whether its tokens pass through a constraint.
    pub(crate) fn is_constrained(&self) -> bool {
        self.constraint.is_some()
    }

    /// Takes the mask before its next token, if that is computed.
    pub(crate) fn look_for_mask(&mut self) {
        self.constraint.iter_mut().for_each(Constrained::look);
    }

    /// Has the mask before its next token computed, unless there is one, and those after guesses; whether that was begun.
    pub(crate) fn ask_for_mask(
        &mut self,
        (masks, yields): (&Masks, bool),
        guessing: Option<(&Speculation, usize)>,
    ) -> bool {
        match self.constraint.take() {
            Some(Constrained::Here(constraint, None)) => {
                let guesses = guessing.map_or_else(Vec::new, |guessing| self.worth_masks(guessing));
                let (client, weight) = (self.request.client, self.request.weight);
                let whose = Asker { client, weight, yields };
                self.constraint = Some(Constrained::Away(masks.ask((constraint, guesses), whose)));
                true
            }
            other => {
                self.constraint = other;
                false
            }
        }
    }

    /// For how long its mask has been computed.
    pub(crate) fn mask_lasts(&self, clock: &CallClock) -> Option<Duration> {
        match &self.constraint {
            Some(Constrained::Away(pending)) => Some(pending.lasts(clock)),
            _ => None,
        }
    }

    /// Whether the next token could be chosen: every token before it has been seen by the constraint, and its mask is there.
    fn may_ask(&self) -> bool {
        let n_known = self.answer.tokens.len();
        self.constraint.as_ref().is_none_or(|constraint| {
            self.n_asked() < n_known || self.n_asked() == n_known && constraint.mask().is_some()
        })
    }

    /// Its prompt and scope, where its pages may be shared.
    pub(crate) fn shared_prompt(&self) -> Option<(u64, &Arc<[u32]>)> {
        Some((self.branch?.scope, &self.request.prompt))
    }

    /// Tokens of its prompt.
    pub(crate) fn n_prompt(&self) -> usize {
        self.request.prompt.len()
    }

    /// Whether no step has computed any of it.
    pub(crate) fn is_fresh(&self) -> bool {
        self.n_submitted == self.n_cached
    }

    /// Positions submitted or there already, and of these the latter.
    pub(crate) fn progress(&self) -> (usize, usize) {
        (self.n_submitted, self.n_cached)
    }

    /// Starts from pages that are there, in the place of its own first ones. It must be fresh.
    pub(crate) fn adopt(&mut self, mut prefix: Prefix, page_size: usize) {
        let pages = std::mem::take(&mut prefix.pages);
        let n_page = pages.len();
        self.pages.replace_first(pages);
        self.skip(n_page, prefix, page_size);
    }

    /// Its first `n_page` pages, those of `prefix`, are there already.
    pub(crate) fn skip(&mut self, n_page: usize, prefix: Prefix, page_size: usize) {
        if let Some(branch) = &mut self.branch {
            (branch.tip, branch.n_page) = (prefix.tip, n_page);
            self.n_cached = n_page * page_size;
            self.n_submitted = self.n_cached;
            self.load = prefix.snapshot;
            self.window = WindowHeld::new(n_page - prefix.window.len(), prefix.window);
        }
        self.mark(page_size);
    }

    /// How many pages of windows it lacks for its next `n_token` tokens.
    pub(crate) fn n_window_missing(&self, n_token: usize, page_size: usize) -> usize {
        self.window.n_missing((self.n_submitted + n_token).div_ceil(page_size))
    }

    /// Takes as many.
    pub(crate) fn extend_window(&mut self, pages: Vec<Held>) {
        self.window.extend(pages);
    }

    /// Gives back the pages of windows of which its next token sees nothing: later steps may write to them, since steps are computed in order.
    pub(crate) fn leave_behind(&mut self, limits: &Limits) {
        if let Some(window) = limits.window {
            // Guesses may be taken back.
            let next = self.n_submitted - self.n_guess;
            self.window.leave_behind(window.first_page(next, limits.page_size));
        }
    }

    /// Keeps its state once the first `n_token` tokens of its prompt are computed, if they are not yet.
    pub(crate) fn save_at(&mut self, n_token: usize) {
        if n_token > self.n_submitted && n_token < self.request.prompt.len() {
            self.saves.insert(n_token);
        }
    }

    /// Whether its next `n_token` tokens end where its state is to be kept.
    pub(crate) fn saves_after(&self, n_token: usize) -> bool {
        self.saves.contains(&(self.n_submitted + n_token))
    }

    /// Its next span leaves its state there.
    pub(crate) fn save_to(&mut self, snapshot: Option<Arc<Snapshot>>) {
        self.saving = snapshot;
    }

    /// The pages of what is submitted are used from now on.
    pub(crate) fn mark(&mut self, page_size: usize) {
        self.pages.use_first(self.n_submitted.div_ceil(page_size));
    }

    /// Keeps what is submitted of its prompt for others: later steps may read it, since steps are computed in order.
    pub(crate) fn share(&mut self, cache: &mut PrefixCache, page_size: usize) {
        self.load = None;
        let saved = self.saving.take();
        let Some(branch) = &mut self.branch else { return };
        let done = &self.request.prompt[..self.request.prompt.len().min(self.n_submitted)];
        for tokens in done.chunks_exact(page_size).skip(branch.n_page) {
            let next = match (branch.keeps, self.pages.get(branch.n_page)) {
                (Keeps::Own, Some(page)) => match cache.insert(branch.scope, branch.tip, tokens, page) {
                    Ok(own) => Some(own),
                    Err(other) if cache.restores() => {
                        branch.keeps = Keeps::Others;
                        Some(other)
                    }
                    Err(_) => None,
                },
                (Keeps::Others, _) => cache.child(branch.scope, branch.tip, tokens),
                _ => None,
            };
            let Some(tip) = next else {
                branch.keeps = Keeps::Nothing;
                return;
            };
            if let Some(page) = self.window.get(branch.n_page) {
                cache.keep_window(tip, page);
            }
            (branch.tip, branch.n_page) = (tip, branch.n_page + 1);
        }
        if let Some(snapshot) = saved.filter(|_| branch.n_page * page_size == self.n_submitted) {
            cache.keep(branch.tip, snapshot);
        }
    }

    /// The last of its pages in the prefix cache.
    pub(crate) fn tip(&self) -> Option<NodeId> {
        self.branch.map(|branch| branch.tip)
    }

    /// Samples asked for so far, collected or not.
    fn n_asked(&self) -> usize {
        (self.n_submitted + 1).saturating_sub(self.request.prompt.len())
    }

    /// Rows of its prompt whose logits are wanted, from the next one on: all but the last, which chooses the answer's first token.
    pub(crate) fn n_to_score(&self) -> Option<usize> {
        let left = (self.request.prompt.len() - 1).checked_sub(self.n_submitted)?;
        (self.request.scores_prompt && left > 0).then_some(left)
    }

    pub(crate) fn client(&self) -> u64 {
        self.request.client
    }

    pub(crate) fn weight(&self) -> u32 {
        self.request.weight
    }

    /// The rows it could use; none once every token it may have is asked for, or while its next token's mask is computed, another
    /// sequence computes the start of its prompt, or guesses are under way.
    pub(crate) fn demand(&self, id: u64) -> Option<Demand> {
        if self.follows.is_some() || self.n_guess > 0 {
            return None;
        }
        let n_asked = self.n_asked();
        let may_ask = n_asked < self.request.n_to_ask() && self.may_ask();
        // The prompt's last token asks for the answer's first, or completes its vector.
        let is_without = self.request.embeds.is_none() && n_asked == 0 && !may_ask;
        let n_prompt = self.request.prompt.len() - usize::from(is_without);
        let left = n_prompt.saturating_sub(self.n_submitted);
        // A span ends where a state is to be kept.
        let next_save = self.saves.range(self.n_submitted + 1..).next();
        let up_to = next_save.map_or(left, |save| save - self.n_submitted);
        let up_to = self.n_to_score().map_or(up_to, |n| up_to.min(n).min(scored_rows(self.n_vocab)));
        let need = if left > 0 { Need::Prompt(up_to) } else { Need::Generated };
        (left > 0 || may_ask).then_some(Demand {
            id,
            client: self.request.client,
            weight: self.request.weight,
            need,
            served: self.served,
        })
    }

    /// Its next `n_token` tokens (those of a [`crate::scheduler::Grant`]) as a span, which from now on count as submitted. An error is this
    /// sequence's alone, and its end.
    pub(crate) fn next_span(&mut self, n_token: usize) -> Result<Span, EngineError> {
        let start = self.n_submitted;
        let guesses = self.take_guesses(n_token - 1);
        let prompt = &self.request.prompt;
        let chunk = prompt.get(start..prompt.len().min(start + n_token)).filter(|chunk| !chunk.is_empty());
        let (input, role) = match chunk {
            Some(chunk) => (Input::Tokens(chunk.into()), Role::Prompt),
            None if guesses.is_empty() => (Input::Last, Role::Generated),
            None => (Input::Guess(guesses.into()), Role::Generated),
        };
        let begin = self.is_fresh().then(|| Arc::clone(prompt));
        let (n_asked, scores) = (self.n_asked(), self.n_to_score().is_some());
        self.n_submitted += input.len();
        let n_prompt = self.request.prompt.len();
        let hidden = self.request.embeds.map(|pooling| pooling.rows(start, self.n_submitted, n_prompt));
        let want = match self.n_asked() > n_asked {
            _ if hidden.is_some() => hidden.flatten().map_or(Want::Nothing, Want::Hidden),
            true if self.n_guess > 0 => {
                let choices = (n_asked..self.n_asked()).map(|index| self.choice(index));
                Want::Check(choices.collect::<Result<_, _>>()?)
            }
            true => Want::Sample(self.choice(n_asked)?),
            false if scores => Want::Logits,
            false => Want::Nothing,
        };
        let (pages, window) = (self.pages.ids(), self.window.pages());
        let load = self.load.as_ref().filter(|_| begin.is_some()).map(|snapshot| snapshot.id);
        let save = self.saving.as_ref().map(|snapshot| snapshot.id);
        Ok(Span { slot: self.slot, begin, start, input, pages, window, load, save, role, want })
    }

    /// How the token with this index in the answer is chosen.
    fn choice(&self, index: usize) -> Result<Choice, EngineError> {
        if let Some(&token) = self.answer.tokens.get(index) {
            let mut mask = TokenMask::none(self.n_vocab);
            mask.allow(token);
            return Ok(Choice { params: Arc::clone(&self.params), mask: Some(Arc::new(mask)) });
        }
        let mask = match (&self.constraint, index - self.answer.tokens.len()) {
            (None, _) => None,
            (Some(constraint), 0) => constraint.mask().cloned().transpose()?,
            (Some(constraint), n) => constraint.ahead().get(n - 1).map(|(_, mask)| Arc::clone(mask)),
        };
        let early = self.params_before_min.as_ref().filter(|early| {
            index < self.request.min_tokens && mask.as_ref().is_none_or(|mask| leaves_a_choice(mask, early))
        });
        Ok(Choice { params: Arc::clone(early.unwrap_or(&self.params)), mask })
    }

    /// Takes the logits of the prompt's next rows, `[rows, n_vocab]`, and sends how likely the tokens after them were, unless that was done
    /// before; the terminal event, if nothing else is wanted.
    pub(crate) fn score(&mut self, logits: &[f32], sampler: &mut Sampler, now: Instant) -> Option<Event> {
        let first = self.n_scored + 1;
        let rows = logits.chunks_exact(self.n_vocab);
        self.n_scored += rows.len();
        let rows = rows.zip(first..).filter(|&(_, position)| position > self.answer.n_scored);
        let n = self.params.n_alternatives;
        let scored = |(row, at): (&[f32], usize)| {
            let token = *self.request.prompt.get(at)?;
            let own = row.get(token as usize)?;
            let rank = 1 + row.iter().filter(|logit| *logit > own).count();
            Some(Scored { sampled: sampler.score(row, token, n), rank })
        };
        let tokens: Vec<Scored> = rows.filter_map(scored).collect();
        if !tokens.is_empty() {
            self.answer.n_scored = self.n_scored;
            self.outbox.send(Event::Prompt(tokens));
        }
        let is_over = self.request.max_tokens == 0 && self.n_scored + 1 == self.request.prompt.len();
        is_over.then(|| self.end(EndReason::Length, now))
    }

    /// Takes the hidden rows that were wanted of a span, `[_, n_embd]`; once they make the prompt's vector, sends it and gives the terminal event.
    pub(crate) fn pool(&mut self, rows: &[f32], n_embd: usize, now: Instant) -> Option<Event> {
        let n_prompt = self.request.prompt.len();
        self.pooled.add(rows, n_embd);
        let vector = self.pooled.vector(self.request.embeds?, n_prompt)?;
        if !vector.iter().all(|x| x.is_finite()) {
            let position = n_prompt - 1;
            tracing::error!(position, "the model's hidden values are not numbers");
            return Some(Event::Error(EngineError::NotNumbers { position }));
        }
        self.outbox.send(Event::Embedding(vector));
        Some(self.end(EndReason::Length, now))
    }

    /// Takes the next token of the answer and sends it on, unless that was done before; the terminal event, if it was the last.
    pub(crate) fn take(&mut self, sampled: Sampled, now: Instant) -> Option<Event> {
        let position = self.request.prompt.len() + self.n_collected;
        if !sampled.is_choice() {
            return Some(Event::Error(self.no_choice(position)));
        }
        if self.request.max_tokens == 0 {
            return Some(self.end(EndReason::Length, now));
        }
        let token = sampled.token;
        let known = self.answer.tokens.get(self.n_collected).copied();
        self.n_collected += 1;
        if let Some(known) = known {
            let error = || {
                EngineError::Failed(format!(
                    "expected token {known} again at position {position}, found {token}"
                ))
            };
            return (known != token).then(|| Event::Error(error()));
        }
        self.answer.tokens.push(token);
        self.answer.first_token.get_or_insert(now);
        if self.request.end_ids.contains(&token) {
            return Some(self.end(EndReason::Stop(token), now));
        }
        if let Some(Err(error)) = self.constraint.as_mut().map(|c| c.accept(token)) {
            return Some(Event::Error(error));
        }
        self.outbox.send(Event::Token(sampled));
        (self.n_collected == self.request.max_tokens).then(|| self.end(EndReason::Length, now))
    }

    /// Whose fault it is that no token could be chosen: the request's where it may have excluded all of them.
    fn no_choice(&self, position: usize) -> EngineError {
        let params = self.params_before_min.as_ref().unwrap_or(&self.params);
        if self.constraint.is_some() || banned(params).len() >= self.n_vocab {
            return EngineError::NothingAllowed { position };
        }
        tracing::error!(position, "the model's logits are not numbers");
        EngineError::NotNumbers { position }
    }

    /// The terminal event for ending now.
    pub(crate) fn end(&mut self, reason: EndReason, now: Instant) -> Event {
        self.answer.n_cached.get_or_insert(self.n_cached);
        self.answer.end(self.request.prompt.len(), reason, now)
    }

    /// Why it should not run any more, if so.
    pub(crate) fn verdict(&self, now: Instant) -> Option<EndReason> {
        verdict(&self.outbox, self.request.deadline, now)
    }

    /// Gives the pages back, then sends the terminal event.
    pub(crate) fn finish(self, event: Event) {
        let Sequence { pages, window, outbox, .. } = self;
        drop((pages, window));
        outbox.finish(event);
    }
}

/// The most rows of a step whose logits are wanted, so that these take 32 MiB at most, or one row.
fn scored_rows(n_vocab: usize) -> usize {
    ((8 << 20) / n_vocab.max(1)).max(1)
}

/// Whether a mask allows a token that these parameters do not ban.
fn leaves_a_choice(mask: &TokenMask, params: &SamplingParams) -> bool {
    constraint::allows_beyond(mask, &banned(params))
}

/// The ids that parameters exclude, in order, each once.
fn banned(params: &SamplingParams) -> Vec<u32> {
    let banned = params.logit_bias.iter().filter(|&&(_, bias)| bias == f32::NEG_INFINITY);
    let mut banned: Vec<u32> = banned.map(|&(id, _)| id).collect();
    banned.sort_unstable();
    banned.dedup();
    banned
}
