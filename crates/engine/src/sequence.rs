//! One running request: what of it is computed, what comes next, and when it is over.
//!
//! Positions count from 0 over prompt and answer. A step computes rows of the prompt or, after it, the row of the token sampled last
//! ([`Input::Last`]: the host need not know it yet). The row at position p chooses the token at p + 1.

use std::sync::Arc;
use std::time::Instant;

use model::batch::SlotId;
use model::sampling::TokenMask;
use model::{Input, Limits, Role, Sampled, SamplingParams, Span, Want};

use crate::constraint::{self, Guarded};
use crate::pages::Pages;
use crate::prefix_cache::{NodeId, Prefix, PrefixCache};
use crate::scheduler::{Demand, Need};
use crate::stream::{EndReason, Event, Outbox, Timings, Usage};
use crate::{EngineError, EngineRequest};

/// A checked request that waits to run.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) request: EngineRequest,
    /// The request's.
    constraint: Option<Guarded>,
    n_vocab: usize,
    outbox: Outbox,
    submitted: Instant,
}

impl Waiting {
    /// A request that was checked against these limits.
    pub(crate) fn new(mut request: EngineRequest, outbox: Outbox, limits: &Limits) -> Waiting {
        let constraint = request.constraint.take().map(|inner| Guarded::new(inner, limits.n_vocab));
        Waiting { request, constraint, n_vocab: limits.n_vocab, outbox, submitted: Instant::now() }
    }

    /// Why it should not run any more, if so.
    pub(crate) fn verdict(&self, now: Instant) -> Option<EndReason> {
        verdict(&self.outbox, self.request.deadline, now)
    }

    /// Ends it before it ran.
    pub(crate) fn end(self, reason: EndReason, now: Instant) {
        let usage = Usage { n_prompt: self.request.prompt.len(), ..Usage::default() };
        let timings = Timings { queue: now - self.submitted, ..Timings::default() };
        self.finish(Event::End { reason, usage, timings });
    }

    /// Sends the terminal event.
    pub(crate) fn finish(self, event: Event) {
        self.outbox.finish(event);
    }
}

/// A request on the device. Fields drop in order: the pages are back before the outbox closes.
#[derive(Debug)]
pub(crate) struct Sequence {
    pages: Pages,
    pub(crate) slot: SlotId,
    n_vocab: usize,
    request: EngineRequest,
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
    /// Tokens sampled and collected.
    n_generated: usize,
    /// The last step in which it got a row.
    pub(crate) served: u64,
    submitted: Instant,
    started: Instant,
    first_token: Option<Instant>,
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
    /// Starts a request on its slot and pages, and says so. Its pages may be shared through the prefix cache if `shares`.
    pub(crate) fn start(waiting: Waiting, slot: SlotId, pages: Pages, shares: bool) -> Sequence {
        let now = Instant::now();
        let scope = waiting.request.cache_scope.filter(|_| shares);
        let branch = scope.map(|scope| Branch { scope, tip: NodeId::ROOT, n_page: 0, closed: false });
        let Waiting { request, constraint, n_vocab, outbox, submitted } = waiting;
        outbox.send(Event::Started { queue: now - submitted });
        Sequence {
            pages,
            slot,
            params: Arc::new(request.params.clone()),
            params_before_min: request.params_before_min(),
            constraint,
            branch,
            follows: None,
            n_cached: 0,
            n_vocab,
            request,
            n_submitted: 0,
            n_generated: 0,
            served: 0,
            submitted,
            started: now,
            first_token: None,
            outbox,
        }
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
        let may_ask = self.constraint.is_none() || n_asked == self.n_generated;
        (left > 0 || n_asked < self.request.max_tokens && may_ask).then_some(Demand {
            id,
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
        Ok(Span { slot: self.slot, begin, start, input, pages: self.pages.ids(), role, want })
    }

    /// How the token with this index in the answer is chosen.
    fn want(&mut self, index: usize) -> Result<Want, EngineError> {
        let mask = self.constraint.as_mut().map(Guarded::mask).transpose()?;
        let early = self.params_before_min.as_ref().filter(|early| {
            index < self.request.min_tokens && mask.as_ref().is_none_or(|mask| leaves_a_choice(mask, early))
        });
        Ok(Want::Sample { params: Arc::clone(early.unwrap_or(&self.params)), mask })
    }

    /// Takes the next token of the answer and sends it on; the terminal event, if it was the last.
    pub(crate) fn take(&mut self, sampled: Sampled, now: Instant) -> Option<Event> {
        if !sampled.is_choice() {
            let position = self.request.prompt.len() + self.n_generated;
            return Some(Event::Error(self.no_choice(position)));
        }
        self.n_generated += 1;
        self.first_token.get_or_insert(now);
        let token = sampled.token;
        if self.request.end_ids.contains(&token) {
            return Some(self.end(EndReason::Stop(token), now));
        }
        if let Some(Err(error)) = self.constraint.as_mut().map(|c| c.accept(token)) {
            return Some(Event::Error(error));
        }
        self.outbox.send(Event::Token(sampled));
        (self.n_generated == self.request.max_tokens).then(|| self.end(EndReason::Length, now))
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
    pub(crate) fn end(&self, reason: EndReason, now: Instant) -> Event {
        let usage = Usage {
            n_prompt: self.request.prompt.len(),
            n_cached: self.n_cached,
            n_generated: self.n_generated,
        };
        let timings = Timings {
            queue: self.started - self.submitted,
            prompt: self.first_token.unwrap_or(now) - self.started,
            decode: now - self.first_token.unwrap_or(now),
        };
        Event::End { reason, usage, timings }
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

fn verdict(outbox: &Outbox, deadline: Option<Instant>, now: Instant) -> Option<EndReason> {
    if outbox.is_cancelled() {
        Some(EndReason::Cancelled)
    } else if deadline.is_some_and(|d| d <= now) {
        Some(EndReason::Deadline)
    } else {
        None
    }
}
