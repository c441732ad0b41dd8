//! A request that waits: for its first turn, or for its next one after it gave its slot and pages to another client's.

use std::time::Instant;

use device::Limits;

use crate::EngineRequest;
use crate::constraint::Constrained;
use crate::stream::{EndReason, Event, Outbox, Timings, Usage};

/// A checked request that waits to run.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) request: EngineRequest,
    /// Its place in the order of arrival.
    pub(crate) order: u64,
    /// The request's, in the state after the tokens of the answer.
    pub(crate) constraint: Option<Constrained>,
    pub(crate) answer: Answer,
    pub(crate) outbox: Outbox,
}

/// What a request has had so far; it stays when slot and pages go.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Sampled, the end id among them.
    pub(crate) tokens: Vec<u32>,
    /// Tokens of the prompt whose log probabilities were sent.
    pub(crate) n_scored: usize,
    /// Positions of the prompt whose pages were there when it first ran.
    pub(crate) n_cached: Option<usize>,
    /// Tokens that were guessed before they were chosen, and those of them that were chosen.
    pub(crate) n_guessed: usize,
    pub(crate) n_accepted: usize,
    submitted: Instant,
    pub(crate) started: Option<Instant>,
    pub(crate) first_token: Option<Instant>,
}

impl Answer {
    /// The terminal event for ending now.
    pub(crate) fn end(&self, n_prompt: usize, reason: EndReason, now: Instant) -> Event {
        let started = self.started.unwrap_or(now);
        let first_token = self.first_token.unwrap_or(now);
        let usage =
            Usage { n_prompt, n_cached: self.n_cached.unwrap_or_default(), n_generated: self.tokens.len() };
        let timings = Timings {
            queue: started - self.submitted,
            prompt: first_token - started,
            decode: now - first_token,
            n_guessed: self.n_guessed,
            n_accepted: self.n_accepted,
        };
        Event::End { reason, usage, timings }
    }

    /// How long it has waited for its first turn.
    pub(crate) fn waited(&self, now: Instant) -> std::time::Duration {
        now - self.submitted
    }
}

impl Waiting {
    /// A request that was checked against these limits.
    pub(crate) fn new(mut request: EngineRequest, outbox: Outbox, limits: &Limits) -> Waiting {
        let constraint = request.constraint.take().map(|inner| Constrained::new(inner, limits.n_vocab));
        let answer = Answer {
            tokens: Vec::new(),
            n_scored: 0,
            n_cached: None,
            n_guessed: 0,
            n_accepted: 0,
            submitted: Instant::now(),
            started: None,
            first_token: None,
        };
        Waiting { request, order: 0, constraint, answer, outbox }
    }

    /// Why it should not run any more, if so.
    pub(crate) fn verdict(&self, now: Instant) -> Option<EndReason> {
        verdict(&self.outbox, self.request.deadline, now)
    }

    /// Ends it while it waits.
    pub(crate) fn end(self, reason: EndReason, now: Instant) {
        let event = self.answer.end(self.request.prompt.len(), reason, now);
        self.finish(event);
    }

    /// Sends the terminal event.
    pub(crate) fn finish(self, event: Event) {
        self.outbox.finish(event);
    }
}

/// Why a request should not go on, if so.
pub(crate) fn verdict(outbox: &Outbox, deadline: Option<Instant>, now: Instant) -> Option<EndReason> {
    if outbox.is_cancelled() {
        Some(EndReason::Cancelled)
    } else if deadline.is_some_and(|d| d <= now) {
        Some(EndReason::Deadline)
    } else {
        None
    }
}
