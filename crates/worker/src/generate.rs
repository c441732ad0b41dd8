//! From the engine's tokens to the client's text.
//!
//! Text comes in whole characters. A token's text may have to wait for the next token to finish a character or to decide about a
//! stop string; what waited comes with the later token, or at the end with none.

use std::collections::VecDeque;
use std::sync::Arc;

use device::Sampled;
use engine::{EndReason, EngineError, Scored, Stream, Timings, Usage};

use crate::chat::Reading;
use crate::pump::{Answer, End, Pump};
use crate::stop::StopMatcher;
use crate::text::AnswerText;
use crate::{ValidRequest, Worker, WorkerError};

/// What happens to a request, in order: at most one `Started`, any number of `Prompt`, any number of `Delta`, one `End` or `Error`.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// It runs from now on.
    Started {
        /// Tokens of the prompt.
        n_prompt: usize,
        /// The seed that was given or drawn.
        seed: u64,
    },
    /// Tokens of the prompt with their log probabilities, where these are wanted: in order from the second on.
    Prompt(Vec<Scored>),
    /// More of the answer.
    Delta {
        /// Whole characters; empty only in a last delta that brings tokens without text.
        text: String,
        /// The tokens since the last delta, those of an unshown stop string among them. The last of them may have brought text
        /// that is still to come.
        tokens: Vec<Sampled>,
    },
    /// The answer is complete. Terminal.
    End {
        /// Why.
        reason: StopReason,
        /// What was computed for it.
        usage: Usage,
        /// How long it took.
        timings: Timings,
    },
    /// The request failed. Terminal.
    Error(EngineError),
}

/// Why an answer is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The model's own end token, or one of the request's stop ids.
    Token(u32),
    /// One of the request's stop strings.
    Text(String),
    /// `max_tokens`, or the context is full.
    Length,
    /// The client asked.
    Cancelled,
    /// The request's time is over.
    Deadline,
}

/// A request's events. Dropping it cancels the request.
pub type Generation = Pump<Plain>;

/// An answer that is text and nothing else.
pub struct Plain {
    text: AnswerText,
    stop: StopMatcher,
    /// Sampled since the last delta.
    tokens: Vec<Sampled>,
    /// The stop string that was found.
    found: Option<String>,
}

/// A request that the engine has taken.
pub(crate) struct Submitted {
    pub(crate) stream: Stream,
    pub(crate) n_prompt: usize,
    pub(crate) seed: u64,
    pub(crate) text: AnswerText,
    pub(crate) stop: StopMatcher,
    pub(crate) show_special: bool,
    pub(crate) reading: Reading,
}

pub(crate) fn submit(worker: &Worker, request: ValidRequest) -> Result<Submitted, WorkerError> {
    let ValidRequest { engine, stop, show_special, reading, terms: _ } = request;
    let text = AnswerText::new(Arc::clone(&worker.tokenizer), &engine.prompt, show_special);
    let (n_prompt, seed) = (engine.prompt.len(), engine.params.seed);
    let stream = worker.engine.submit(engine)?;
    Ok(Submitted { stream, n_prompt, seed, text, stop, show_special, reading })
}

pub(crate) fn start(worker: &Worker, request: ValidRequest) -> Result<Generation, WorkerError> {
    let Submitted { stream, n_prompt, seed, text, stop, .. } = submit(worker, request)?;
    let answer = Plain { text, stop, tokens: Vec::new(), found: None };
    Ok(Pump::new(stream, n_prompt, seed, answer))
}

impl Plain {
    fn delta(&mut self, text: String, events: &mut VecDeque<Event>) {
        let tokens = std::mem::take(&mut self.tokens);
        events.push_back(Event::Delta { text, tokens });
    }
}

impl Answer for Plain {
    type Event = Event;

    fn started(n_prompt: usize, seed: u64) -> Event {
        Event::Started { n_prompt, seed }
    }

    fn scored(tokens: Vec<Scored>) -> Option<Event> {
        Some(Event::Prompt(tokens))
    }

    fn token(&mut self, sampled: Sampled, events: &mut VecDeque<Event>) -> bool {
        let text = self.text.push(sampled.token);
        self.tokens.push(sampled);
        let passed = self.stop.push(&text);
        if !passed.text.is_empty() {
            self.delta(passed.text, events);
        }
        self.found = passed.stop;
        self.found.is_some()
    }

    fn end(&mut self, end: End, events: &mut VecDeque<Event>) {
        // A character that was never finished is left out of the text; its bytes are in the token ids.
        let held = if self.found.is_none() { self.stop.finish() } else { String::new() };
        if !held.is_empty() || !self.tokens.is_empty() {
            self.delta(held, events);
        }
        let reason = self.found.take().map_or_else(|| end.reason.into(), StopReason::Text);
        events.push_back(Event::End { reason, usage: end.usage, timings: end.timings });
    }

    fn failed(error: EngineError) -> Event {
        Event::Error(error)
    }
}

impl From<EndReason> for StopReason {
    fn from(reason: EndReason) -> StopReason {
        match reason {
            EndReason::Stop(token) => StopReason::Token(token),
            EndReason::Length => StopReason::Length,
            EndReason::Cancelled => StopReason::Cancelled,
            EndReason::Deadline => StopReason::Deadline,
        }
    }
}
