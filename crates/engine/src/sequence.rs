//! One running request: what of it is computed, what comes next, and when it is over.
//!
//! Positions count from 0 over prompt and answer. A step computes rows of the prompt or, after it, the row of the token sampled last
//! ([`Input::Last`]: the host need not know it yet). The row at position p chooses the token at p + 1.
//!
//! A request that gave its slot and pages up starts again from its prompt. The tokens that it has are chosen again, each from a mask that allows
//! nothing else: so they are generated rows with the bits that they had, and the slot's history is what it was, whatever the device keeps there.

use std::sync::Arc;
use std::time::Instant;

use device::batch::SlotId;
use device::sampling::TokenMask;
use device::{Input, Role, Sampled, SamplingParams, Span, Want};

use crate::constraint::{self, Guarded};
use crate::pages::Pages;
use crate::prefix_cache::{NodeId, Prefix, PrefixCache};
use crate::scheduler::{Demand, Need};
use crate::shares::Holding;
use crate::stream::{EndReason, Event, Outbox};
use crate::waiting::{Answer, Waiting, verdict};
use crate::{EngineError, EngineRequest};

/// A request on the device. Fields drop in order: the pages are back before the outbox closes.
#[derive(Debug)]
pub(crate) struct Sequence {
    pages: Pages,
    pub(crate) slot: SlotId,
    request: EngineRequest,
    /// The request's place in the order of arrival.
    order: u64,
    params: Arc<SamplingParams>,
    /// Used until `min_tokens` tokens are there.
    params_before_min: Option<Arc<SamplingParams>>,
    constraint: Option<Guarded>,
    /// Where the pages of its prompt are kept for others.
    branch: Option<Branch>,
    /// The sequence that computes the start of this one's prompt, and how much of it, while this one waits for that.
    pub(crate) follows: Option<(u64, usize)>,
    /// Positions whose pages were there already.
    n_cached: usize,
    /// Positions submitted, or there already.
    n_submitted: usize,
    /// Tokens collected since it started, those that it had before among them.
    n_collected: usize,
    /// Tokens that it had when it started.
    n_replay: usize,
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
    /// Whether no more of its pages are kept, as another's stand in their place.
    closed: bool,
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
        let branch = scope.map(|scope| Branch { scope, tip: NodeId::ROOT, n_page: 0, closed: false });
        let Waiting { request, order, constraint, mut answer, outbox } = waiting;
        if answer.started.is_none() {
            answer.started = Some(now);
            outbox.send(Event::Started { queue: answer.waited(now) });
        }
        Sequence {
            pages,
            slot,
            params: Arc::new(request.params.clone()),
            params_before_min: request.params_before_min(),
            constraint,
            branch,
            follows: None,
            n_cached: 0,
            request,
            order,
            n_submitted: 0,
            n_collected: 0,
            n_replay: answer.tokens.len(),
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

    /// Whether its spans and tokens pass through a constraint.
    pub(crate) fn is_constrained(&self) -> bool {
        self.constraint.is_some()
    }

    /// Its prompt and scope, where its pages may be shared.
    pub(crate) fn shared_prompt(&self) -> Option<(u64, &Arc<[u32]>)> {
        Some((self.branch?.scope, &self.request.prompt))
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
    pub(crate) fn adopt(&mut self, prefix: Prefix, page_size: usize) {
        let n_page = prefix.pages.len();
        self.pages.replace_first(prefix.pages);
        self.skip(n_page, prefix.tip, page_size);
    }

    /// Its first `n_page` pages, the last of them kept as `tip`, are there already.
    pub(crate) fn skip(&mut self, n_page: usize, tip: NodeId, page_size: usize) {
        if let Some(branch) = &mut self.branch {
            (branch.tip, branch.n_page) = (tip, n_page);
            self.n_cached = n_page * page_size;
            self.n_submitted = self.n_cached;
        }
        self.mark(page_size);
    }

    /// The pages of what is submitted are used from now on.
    pub(crate) fn mark(&mut self, page_size: usize) {
        self.pages.use_first(self.n_submitted.div_ceil(page_size));
    }

    /// Keeps what is submitted of its prompt for others: later steps may read it, since steps are computed in order.
    pub(crate) fn share(&mut self, cache: &mut PrefixCache, page_size: usize) {
        let Some(branch) = self.branch.as_mut().filter(|branch| !branch.closed) else { return };
        let done = &self.request.prompt[..self.request.prompt.len().min(self.n_submitted)];
        for tokens in done.chunks_exact(page_size).skip(branch.n_page) {
            let page = self.pages.get(branch.n_page);
            match page.and_then(|page| cache.insert(branch.scope, branch.tip, tokens, page)) {
                Some(tip) => (branch.tip, branch.n_page) = (tip, branch.n_page + 1),
                None => {
                    branch.closed = true;
                    return;
                }
            }
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

    /// The rows it could use; none once every token it may have is asked for, or while a constraint has to see the last one
    /// first or another sequence computes the start of its prompt.
    pub(crate) fn demand(&self, id: u64) -> Option<Demand> {
        if self.follows.is_some() {
            return None;
        }
        let left = self.request.prompt.len().saturating_sub(self.n_submitted);
        let need = if left > 0 { Need::Prompt(left) } else { Need::Generated };
        let n_asked = self.n_asked();
        let may_ask = self.constraint.is_none() || n_asked <= self.answer.tokens.len();
        (left > 0 || n_asked < self.request.max_tokens && may_ask).then_some(Demand {
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
        let prompt = &self.request.prompt;
        let chunk = prompt.get(start..prompt.len().min(start + n_token)).filter(|chunk| !chunk.is_empty());
        let (input, role) = match chunk {
            Some(chunk) => (Input::Tokens(chunk.into()), Role::Prompt),
            None => (Input::Last, Role::Generated),
        };
        let begin = self.is_fresh().then(|| Arc::clone(prompt));
        let n_asked = self.n_asked();
        self.n_submitted += input.len();
        let want = if self.n_asked() > n_asked { self.want(n_asked)? } else { Want::Nothing };
        let pages = self.pages.ids();
        Ok(Span { slot: self.slot, begin, start, input, pages, load: None, save: None, role, want })
    }

    /// How the token with this index in the answer is chosen.
    fn want(&mut self, index: usize) -> Result<Want, EngineError> {
        if let Some(&token) = self.answer.tokens.get(index) {
            let mut mask = TokenMask::none(self.n_vocab);
            mask.allow(token);
            return Ok(Want::Sample { params: Arc::clone(&self.params), mask: Some(Arc::new(mask)) });
        }
        let mask = self.constraint.as_mut().map(Guarded::mask).transpose()?;
        let early = self.params_before_min.as_ref().filter(|early| {
            index < self.request.min_tokens && mask.as_ref().is_none_or(|mask| leaves_a_choice(mask, early))
        });
        Ok(Want::Sample { params: Arc::clone(early.unwrap_or(&self.params)), mask })
    }

    /// Takes the next token of the answer and sends it on, unless that was done before; the terminal event, if it was the last.
    pub(crate) fn take(&mut self, sampled: Sampled, now: Instant) -> Option<Event> {
        let position = self.request.prompt.len() + self.n_collected;
        if !sampled.is_choice() {
            return Some(Event::Error(self.no_choice(position)));
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
        let Sequence { pages, outbox, .. } = self;
        drop(pages);
        outbox.finish(event);
    }
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
