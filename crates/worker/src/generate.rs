//! From the engine's tokens to the client's text.
//!
//! A [`Generation`] does its work where its events are taken: no thread and no buffer stands between engine and client. Text comes in
//! whole characters, in pieces of one token or more; a token's text may have to wait for the next token to finish a character or
//! to decide about a stop string.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use device::Sampled;
use engine::{Canceller, EndReason, EngineError, Stream, Timings, Usage};

use crate::chat::Reading;
use crate::stop::StopMatcher;
use crate::text::AnswerText;
use crate::{ValidRequest, Worker, WorkerError};

/// What happens to a request, in order: at most one `Started`, any number of `Delta`, one `End` or `Error`.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// It runs from now on.
    Started {
        /// Tokens of the prompt.
        n_prompt: usize,
        /// The seed that was given or drawn.
        seed: u64,
    },
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
pub struct Generation {
    stream: Stream,
    n_prompt: usize,
    seed: u64,
    text: AnswerText,
    stop: StopMatcher,
    /// Sampled since the last delta.
    tokens: Vec<Sampled>,
    n_generated: usize,
    /// The stop string that was found: what the engine still sends is not part of the answer.
    found: Option<String>,
    ready: VecDeque<Event>,
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
    Ok(Generation {
        stream,
        n_prompt,
        seed,
        text,
        stop,
        tokens: Vec::new(),
        n_generated: 0,
        found: None,
        ready: VecDeque::new(),
    })
}

impl Generation {
    /// Waits for the next event; `None` after the terminal one.
    pub async fn recv(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            let event = self.stream.recv().await?;
            self.take(event);
        }
    }

    /// Waits for the next event on this thread, which must not be one that runs async tasks; `None` after the terminal one.
    pub fn next_blocking(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            let event = self.stream.next_blocking()?;
            self.take(event);
        }
    }

    /// Asks for the end; the terminal event follows within a step.
    pub fn cancel(&self) {
        self.stream.cancel();
    }

    /// A handle that cancels from elsewhere.
    #[must_use]
    pub fn canceller(&self) -> Canceller {
        self.stream.canceller()
    }

    fn take(&mut self, event: engine::Event) {
        match event {
            engine::Event::Started { .. } => {
                self.ready.push_back(Event::Started { n_prompt: self.n_prompt, seed: self.seed });
            }
            engine::Event::Token(sampled) => {
                if self.found.is_none() {
                    let text = self.text.push(sampled.token);
                    self.tokens.push(sampled);
                    self.n_generated += 1;
                    self.pass(&text);
                }
            }
            engine::Event::End { reason, usage, timings } => self.end(reason, usage, timings),
            // The answer was complete before the engine failed.
            engine::Event::Error(_) if self.found.is_some() => {
                let usage = Usage { n_prompt: self.n_prompt, ..Usage::default() };
                self.end(EndReason::Cancelled, usage, Timings::default());
            }
            engine::Event::Error(error) => self.ready.push_back(Event::Error(error)),
        }
    }

    /// Sends on what of this text is decided, and asks the engine to stop where a stop string is complete.
    fn pass(&mut self, text: &str) {
        let passed = self.stop.push(text);
        if !passed.text.is_empty() {
            self.delta(passed.text);
        }
        if passed.stop.is_some() {
            self.found = passed.stop;
            self.stream.cancel();
        }
    }

    fn delta(&mut self, text: String) {
        let tokens = std::mem::take(&mut self.tokens);
        self.ready.push_back(Event::Delta { text, tokens });
    }

    fn end(&mut self, reason: EndReason, usage: Usage, timings: Timings) {
        // A character that was never finished is left out of the text; its bytes are in the token ids.
        let held = if self.found.is_none() { self.stop.finish() } else { String::new() };
        if !held.is_empty() || !self.tokens.is_empty() {
            self.delta(held);
        }
        let (reason, usage) = match self.found.take() {
            // The engine may have run ahead of the stop string.
            Some(stop) => (StopReason::Text(stop), Usage { n_generated: self.n_generated, ..usage }),
            None => (reason.into(), usage),
        };
        self.ready.push_back(Event::End { reason, usage, timings });
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

/// Without the text.
impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generation")
            .field("n_prompt", &self.n_prompt)
            .field("n_generated", &self.n_generated)
            .finish_non_exhaustive()
    }
}
