//! The two ends of a request: the client's [`Stream`] of events and the engine's [`Outbox`].
//!
//! An outbox is consumed by its terminal event, and sends one when it is dropped without: that a client waits for ever or hears
//! two endings cannot be written down.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use model::Sampled;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::EngineError;

/// What happens to a request, in order: at most one `Started`, any number of `Token`, one `End` or `Error`.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// It has its slot and pages, and runs from now on.
    Started {
        /// How long it waited.
        queue: Duration,
    },
    /// The next token of the answer.
    Token(Sampled),
    /// It is over. Terminal.
    End {
        /// Why.
        reason: EndReason,
        /// What was computed.
        usage: Usage,
        /// How long it took.
        timings: Timings,
    },
    /// It failed. Terminal.
    Error(EngineError),
}

impl Event {
    /// Whether nothing follows.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        matches!(self, Event::End { .. } | Event::Error(_))
    }
}

/// Why an answer is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// This one of the request's end ids was sampled.
    Stop(u32),
    /// `max_tokens` tokens are there, or the context is full.
    Length,
    /// The client asked, or its stream is gone.
    Cancelled,
    /// The request's deadline passed.
    Deadline,
}

/// Counts of tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Of the prompt.
    pub n_prompt: usize,
    /// Of the prompt's, those whose pages were there already.
    pub n_cached: usize,
    /// Sampled, an end id among them.
    pub n_generated: usize,
}

/// Where the time went; a part that was never reached is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// From submission until it had its slot and pages.
    pub queue: Duration,
    /// From then until the first token.
    pub prompt: Duration,
    /// From the first token until the end.
    pub decode: Duration,
}

/// A request's events. Dropping it cancels the request.
#[derive(Debug)]
pub struct Stream {
    events: UnboundedReceiver<Event>,
    canceller: Canceller,
    ended: bool,
}

impl Stream {
    /// Waits for the next event; `None` after the terminal one.
    pub async fn recv(&mut self) -> Option<Event> {
        if self.ended {
            return None;
        }
        let event = self.events.recv().await;
        Some(self.pass(event))
    }

    /// Waits for the next event on this thread, which must not be one that runs async tasks; `None` after the terminal one.
    pub fn next_blocking(&mut self) -> Option<Event> {
        if self.ended {
            return None;
        }
        let event = self.events.blocking_recv();
        Some(self.pass(event))
    }

    /// The next event if it is already there.
    pub fn try_next(&mut self) -> Option<Event> {
        let event = self.events.try_recv().ok()?;
        Some(self.pass(Some(event)))
    }

    /// Asks for the end; the terminal event follows within a step.
    pub fn cancel(&self) {
        self.canceller.cancel();
    }

    /// A handle that cancels from elsewhere.
    #[must_use]
    pub fn canceller(&self) -> Canceller {
        self.canceller.clone()
    }

    fn pass(&mut self, event: Option<Event>) -> Event {
        let event = event.unwrap_or(Event::Error(EngineError::Stopped));
        self.ended = event.is_terminal();
        event
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// Cancels one request.
#[derive(Clone, Debug, Default)]
pub struct Canceller(Arc<AtomicBool>);

impl Canceller {
    /// Asks for the end; asking twice or after the end changes nothing.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One of the places for unfinished requests; dropping it makes room for another.
#[derive(Debug)]
pub(crate) struct Place(Arc<AtomicUsize>);

impl Place {
    /// Takes a place unless `limit` are taken.
    pub(crate) fn take(taken: &Arc<AtomicUsize>, limit: usize) -> Result<Place, EngineError> {
        taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < limit).then_some(n + 1))
            .map(|_| Place(Arc::clone(taken)))
            .map_err(|_| EngineError::Busy { limit })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The engine's end of a request.
#[derive(Debug)]
pub(crate) struct Outbox {
    events: UnboundedSender<Event>,
    canceller: Canceller,
    /// Gone once the terminal event is sent.
    place: Option<Place>,
}

impl Outbox {
    /// The two ends of a request that holds this place.
    pub(crate) fn open(place: Place) -> (Outbox, Stream) {
        let (sender, receiver) = unbounded_channel();
        let canceller = Canceller::default();
        let outbox = Outbox { events: sender, canceller: canceller.clone(), place: Some(place) };
        (outbox, Stream { events: receiver, canceller, ended: false })
    }

    /// Whether the client wants no more.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.canceller.0.load(Ordering::Relaxed)
    }

    /// Sends an event that is not terminal. A client that is gone has cancelled.
    pub(crate) fn send(&self, event: Event) {
        debug_assert!(!event.is_terminal());
        let _gone = self.events.send(event);
    }

    /// Sends the terminal event; the request's place is free before it arrives.
    pub(crate) fn finish(mut self, event: Event) {
        debug_assert!(event.is_terminal());
        self.close(event);
    }

    fn close(&mut self, event: Event) {
        if self.place.take().is_some() {
            let _gone = self.events.send(event);
        }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.close(Event::Error(EngineError::Stopped));
    }
}
