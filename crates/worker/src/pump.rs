//! From the engine's events to a client's, where they are taken: no thread and no buffer stands between engine and client.

use std::collections::VecDeque;
use std::fmt;

use device::Sampled;
use engine::{Canceller, EndReason, EngineError, Scored, Stream, Timings, Usage};

/// What an answer's tokens become.
pub trait Answer {
    /// What the client sees.
    type Event;

    /// The request runs from now on.
    fn started(n_prompt: usize, seed: u64) -> Self::Event;

    /// Tokens of the prompt from the second on, where their log probabilities are wanted; nothing where this kind of answer asks for none.
    fn scored(tokens: Vec<Scored>) -> Option<Self::Event>;

    /// One more token; what is decided goes to `events`. Returns whether the answer is complete, whatever the engine still sends.
    fn token(&mut self, sampled: Sampled, events: &mut VecDeque<Self::Event>) -> bool;

    /// No more tokens follow: the rest of the answer and its terminal event go to `events`.
    fn end(&mut self, end: End, events: &mut VecDeque<Self::Event>);

    /// The request failed.
    fn failed(error: EngineError) -> Self::Event;
}

/// How the engine ended a request.
pub struct End {
    /// Why; of no meaning for an answer that was complete before.
    pub reason: EndReason,
    /// What was computed, without what the engine ran ahead.
    pub usage: Usage,
    /// How long it took.
    pub timings: Timings,
}

/// A request's events. Dropping it cancels the request.
pub struct Pump<A: Answer> {
    stream: Stream,
    n_prompt: usize,
    seed: u64,
    answer: A,
    n_generated: usize,
    /// What the engine still sends is no part of the answer.
    is_complete: bool,
    ready: VecDeque<A::Event>,
}

impl<A: Answer> Pump<A> {
    pub(crate) fn new(stream: Stream, n_prompt: usize, seed: u64, answer: A) -> Pump<A> {
        Pump { stream, n_prompt, seed, answer, n_generated: 0, is_complete: false, ready: VecDeque::new() }
    }

    /// Waits for the next event; `None` after the terminal one.
    pub async fn recv(&mut self) -> Option<A::Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            let event = self.stream.recv().await?;
            self.take(event);
        }
    }

    /// Waits for the next event on this thread, which must not be one that runs async tasks; `None` after the terminal one.
    pub fn next_blocking(&mut self) -> Option<A::Event> {
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
            engine::Event::Started { .. } => self.ready.push_back(A::started(self.n_prompt, self.seed)),
            engine::Event::Prompt(tokens) => self.ready.extend(A::scored(tokens)),
            engine::Event::Token(sampled) => self.token(sampled),
            // Comes instead of answers alone.
            engine::Event::Embedding(_) => {}
            engine::Event::End { reason, usage, timings } => self.end(reason, usage, timings),
            // The answer was complete before the engine failed.
            engine::Event::Error(_) if self.is_complete => {
                let usage = Usage { n_prompt: self.n_prompt, ..Usage::default() };
                self.end(EndReason::Cancelled, usage, Timings::default());
            }
            engine::Event::Error(error) => self.ready.push_back(A::failed(error)),
        }
    }

    fn token(&mut self, sampled: Sampled) {
        if self.is_complete {
            return;
        }
        self.n_generated += 1;
        if self.answer.token(sampled, &mut self.ready) {
            self.is_complete = true;
            self.stream.cancel();
        }
    }

    fn end(&mut self, reason: EndReason, usage: Usage, timings: Timings) {
        // The engine may have run ahead of the answer's end.
        let n_generated = if self.is_complete { self.n_generated } else { usage.n_generated };
        let usage = Usage { n_generated, ..usage };
        self.answer.end(End { reason, usage, timings }, &mut self.ready);
    }
}

/// Without the text.
impl<A: Answer> fmt::Debug for Pump<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pump")
            .field("n_prompt", &self.n_prompt)
            .field("n_generated", &self.n_generated)
            .finish_non_exhaustive()
    }
}
