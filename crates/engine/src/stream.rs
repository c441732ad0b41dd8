//! The two ends of a request: the client's [`Stream`] of events and the engine's [`Outbox`].
//!
//! An outbox is consumed by its terminal event, and sends one when it is dropped without: that a client waits for ever or hears
//! two endings cannot be written down. [`OpenRequests`] can end a request without its outbox, which a hung thread may hold.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use device::Sampled;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::EngineError;
use crate::places::Places;

/// What happens to a request, in order: at most one `Started`, any number of `Prompt`, any number of `Token`, at most one `Embedding`,
/// one `End` or `Error`.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// It has its slot and pages, and runs from now on. It may be stopped for another client's and go on later, which is not told.
    Started {
        /// How long it waited.
        queue: Duration,
    },
    /// Tokens of the prompt with their log probabilities, where these are wanted: in order from the second on, since nothing is before the first.
    Prompt(Vec<Scored>),
    /// The next token of the answer.
    Token(Sampled),
    /// The prompt's vector, `[n_embd]`, where one is wanted instead of an answer; not normalised.
    Embedding(Vec<f32>),
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

/// A token of a prompt, and how likely it was.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// The token, its log probability and those of others.
    pub sampled: Sampled,
    /// Its place among all tokens by their logits, from 1 on; equal ones share the first of their places.
    pub rank: usize,
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
    /// `max_tokens` tokens are there, or the context is full; also after what comes instead of an answer.
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

/// Where the time went, and what saved some; a part that was never reached is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// From submission until it had its slot and pages.
    pub queue: Duration,
    /// From then until the first token.
    pub prompt: Duration,
    /// From the first token until the end, times without a slot among it.
    pub decode: Duration,
    /// Tokens of the answer that were guessed.
    pub n_guessed: usize,
    /// Guesses that were the tokens chosen.
    pub n_accepted: usize,
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
        if self.ended {
            return None;
        }
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

/// The requests that are accepted and unfinished. Whoever takes one out of here sends its terminal event: so it gets exactly one, also where
/// the engine's thread hangs and another speaks for it.
#[derive(Clone, Debug)]
pub(crate) struct OpenRequests(Arc<Mutex<Open>>);

#[derive(Debug)]
struct Open {
    places: Places,
    n_opened: u64,
    /// By number, with the client.
    events: HashMap<u64, (u64, UnboundedSender<Event>)>,
    /// Why there will be no more.
    closed: Option<EngineError>,
}

impl OpenRequests {
    /// As many as there are places.
    pub(crate) fn new(places: Places) -> OpenRequests {
        let open = Open { places, n_opened: 0, events: HashMap::new(), closed: None };
        OpenRequests(Arc::new(Mutex::new(open)))
    }

    /// The two ends of another one of this client and weight, unless there are too many or none is accepted any more.
    pub(crate) fn open(&self, client: u64, weight: u32) -> Result<(Outbox, Stream), EngineError> {
        let mut open = self.lock();
        if let Some(error) = &open.closed {
            return Err(error.clone());
        }
        let taken = open.places.take(client, weight, Instant::now());
        taken.map_err(|limit| EngineError::Busy { limit })?;
        let (sender, receiver) = unbounded_channel();
        let canceller = Canceller::default();
        open.n_opened += 1;
        let id = open.n_opened;
        open.events.insert(id, (client, sender.clone()));
        drop(open);
        let outbox = Outbox { id, open: self.clone(), events: sender, canceller: canceller.clone() };
        Ok((outbox, Stream { events: receiver, canceller, ended: false }))
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.lock().events.len()
    }

    /// How many are this client's, and how many any client may have whatever the others have.
    pub(crate) fn of(&self, client: u64) -> (usize, usize) {
        let open = self.lock();
        (open.places.n_of(client), open.places.n_own())
    }

    /// How many clients have one.
    pub(crate) fn n_client(&self) -> usize {
        self.lock().places.n_client()
    }

    /// Ends every one with this error and accepts no more.
    pub(crate) fn close(&self, error: &EngineError) {
        let mut open = self.lock();
        open.closed.get_or_insert_with(|| error.clone());
        let Open { places, events, .. } = &mut *open;
        for (client, events) in events.drain().map(|(_, one)| one) {
            places.give_back(client);
            let _gone = events.send(Event::Error(error.clone()));
        }
    }

    /// Sends the terminal event unless that was done; there is room for another before it arrives.
    fn finish(&self, id: u64, event: Event) {
        let mut open = self.lock();
        let one = open.events.remove(&id);
        if let Some((client, events)) = one {
            open.places.give_back(client);
            drop(open);
            let _gone = events.send(event);
        }
    }

    /// The table is whole after every operation, so a panic elsewhere does not spoil it.
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The engine's end of a request.
#[derive(Debug)]
pub(crate) struct Outbox {
    id: u64,
    open: OpenRequests,
    events: UnboundedSender<Event>,
    canceller: Canceller,
}

impl Outbox {
    /// Whether the client wants no more.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.canceller.0.load(Ordering::Relaxed)
    }

    /// Sends an event that is not terminal. A client that is gone has cancelled; one that was told of the end meanwhile does not look.
    pub(crate) fn send(&self, event: Event) {
        debug_assert!(!event.is_terminal());
        let _gone = self.events.send(event);
    }

    /// Sends the terminal event; the request's place is free before it arrives.
    pub(crate) fn finish(self, event: Event) {
        debug_assert!(event.is_terminal());
        self.open.finish(self.id, event);
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.open.finish(self.id, Event::Error(EngineError::Stopped));
    }
}
