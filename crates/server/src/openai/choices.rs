//! Several answers at once, as one stream of events with the index of their choice; and when a response's headers are sent.
//!
//! An error before the first token should be an HTTP status, so headers wait for the first event that says more than "started", but
//! for a second at most: a client or a proxy should not wonder whether anybody is there. Later errors are part of the stream.
//! Dropping the stream cancels all of them.

use std::collections::VecDeque;
use std::time::Duration;

use axum::Json;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, SelectAll, Stream, StreamExt};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};
use worker::receipt::Receipt;
use worker::{ChatEvent, ChatGeneration, Event, Finish, Generation, Sampled, StopReason};

use crate::admission::{Admitted, Held};
use crate::context::Context;
use crate::error::ApiError;
use crate::metrics::Recorder;
use crate::receipts::Noted;
use crate::sse;
use crate::state::App;

/// How long headers wait for the first event.
const HEADERS_WAIT: Duration = Duration::from_secs(1);

/// An error within a stream of chunks, and the stream's end.
pub(super) fn failed(error: &ApiError) -> Vec<Bytes> {
    vec![sse::data(&error.openai()), sse::DONE]
}

/// What happens to a choice.
pub(super) trait Step: Sized + Send + 'static {
    /// Is this the news that it runs, and no more?
    fn is_start(&self) -> bool;

    /// Ends that a client did not wish for are errors.
    fn ok(self) -> Result<Self, ApiError>;

    /// The tokens that it brings.
    fn tokens(&self) -> &[Sampled];

    /// Why the answer is complete, if it is.
    fn end(&self) -> Option<&StopReason>;
}

/// What happened to a choice, and its receipt where one is wanted and this is its end.
#[derive(Debug)]
pub(super) struct Told<E> {
    pub(super) event: E,
    pub(super) receipt: Option<Receipt>,
}

impl<E: Step> Told<E> {
    /// At an answer's end this waits for its receipt.
    async fn of(event: E, noted: &mut Option<Noted>) -> Result<Told<E>, ApiError> {
        let event = event.ok()?;
        if let Some(noted) = noted {
            noted.add(event.tokens());
        }
        let receipt = match event.end() {
            Some(reason) => match noted.take() {
                Some(noted) => Some(noted.finish(reason).await?),
                None => None,
            },
            None => None,
        };
        Ok(Told { event, receipt })
    }
}

impl Step for Event {
    fn is_start(&self) -> bool {
        matches!(self, Event::Started { .. })
    }

    fn ok(self) -> Result<Event, ApiError> {
        match self {
            Event::Error(error) => Err(error.into()),
            Event::End { reason: StopReason::Cancelled, .. } => Err(ApiError::Cancelled),
            Event::End { reason: StopReason::Deadline, .. } => Err(ApiError::Deadline),
            event => Ok(event),
        }
    }

    fn tokens(&self) -> &[Sampled] {
        match self {
            Event::Delta { tokens, .. } => tokens,
            _ => &[],
        }
    }

    fn end(&self) -> Option<&StopReason> {
        match self {
            Event::End { reason, .. } => Some(reason),
            _ => None,
        }
    }
}

impl Step for ChatEvent {
    fn is_start(&self) -> bool {
        matches!(self, ChatEvent::Started { .. })
    }

    fn ok(self) -> Result<ChatEvent, ApiError> {
        match self {
            ChatEvent::Error(error) => Err(error.into()),
            ChatEvent::End { finish: Finish::Cancelled, .. } => Err(ApiError::Cancelled),
            ChatEvent::End { finish: Finish::Deadline, .. } => Err(ApiError::Deadline),
            event => Ok(event),
        }
    }

    fn tokens(&self) -> &[Sampled] {
        match self {
            ChatEvent::Delta(delta) => &delta.tokens,
            _ => &[],
        }
    }

    fn end(&self) -> Option<&StopReason> {
        match self {
            ChatEvent::End { reason, .. } => Some(reason),
            _ => None,
        }
    }
}

/// A choice under way: what records it, and its receipt where one is wanted.
pub(super) type Begun<G> = (G, Recorder, Option<Noted>);

/// What happens to one choice, with its index.
type Telling<E> = BoxStream<'static, (usize, Result<Told<E>, ApiError>)>;

/// The events of all choices, as they come.
pub(super) struct Choices<E>(SelectAll<Telling<E>>);

impl Choices<Event> {
    /// Of plain answers.
    pub(super) fn plain(generations: Vec<Begun<Generation>>) -> Choices<Event> {
        Choices::merged(generations.into_iter().map(|answer| {
            stream::unfold(answer, |(mut generation, mut recorder, mut noted)| async {
                let event = generation.recv().await?;
                recorder.event(&event);
                Some((Told::of(event, &mut noted).await, (generation, recorder, noted)))
            })
        }))
    }
}

impl Choices<ChatEvent> {
    /// Of answers in a conversation.
    pub(super) fn chat(generations: Vec<Begun<ChatGeneration>>) -> Choices<ChatEvent> {
        Choices::merged(generations.into_iter().map(|answer| {
            stream::unfold(answer, |(mut generation, mut recorder, mut noted)| async {
                let event = generation.recv().await?;
                recorder.chat_event(&event);
                Some((Told::of(event, &mut noted).await, (generation, recorder, noted)))
            })
        }))
    }
}

impl<E: Step> Choices<E> {
    fn merged<S>(streams: impl Iterator<Item = S>) -> Choices<E>
    where
        S: Stream<Item = Result<Told<E>, ApiError>> + Send + 'static,
    {
        let indexed = |(index, events): (usize, S)| events.map(move |event| (index, event)).boxed();
        Choices(stream::select_all(streams.enumerate().map(indexed)))
    }

    async fn next(&mut self) -> Option<Result<(usize, Told<E>), ApiError>> {
        let (index, told) = self.0.next().await?;
        Some(told.map(|told| (index, told)))
    }
}

/// Turns events into an answer: each into frames of a stream, or all into one.
pub(super) trait Answer: Send + 'static {
    /// What it is made of.
    type Event: Step;

    /// Takes an event in, and gives the frames that it becomes.
    fn take(&mut self, index: usize, told: Told<Self::Event>) -> Vec<Bytes>;

    /// The frames after the last event, the stream's end among them.
    fn finish(&mut self) -> Vec<Bytes>;

    /// The frames of an error, the last that there are.
    fn fail(&mut self, error: &ApiError) -> Vec<Bytes>;

    /// Whether the client wants it as a stream.
    fn is_stream(&self) -> bool;

    /// All of it, for a client that does not.
    fn whole(self) -> Value;
}

/// Answers under way, and what they become.
type Answering<A> = Result<(Choices<<A as Answer>::Event>, A), ApiError>;

/// Prepares a request, and answers it as a stream or whole.
///
/// # Errors
/// What happened before anything could be said.
pub(super) async fn respond<A: Answer>(
    app: App,
    admitted: Result<Admitted, ApiError>,
    begin: fn(&App, &Context, Held) -> Answering<A>,
) -> Result<Response, ApiError> {
    let admitted = admitted?;
    let context = admitted.context.clone();
    let (choices, mut answer) = admitted.prepare(move |held| begin(&app, &context, held)).await?;
    if answer.is_stream() {
        return stream(choices, answer).await;
    }
    collect(choices, &mut answer).await?;
    Ok(Json(answer.whole()).into_response())
}

/// Takes all events in. The first error, of any choice, is that of all.
async fn collect<A: Answer>(mut choices: Choices<A::Event>, answer: &mut A) -> Result<(), ApiError> {
    while let Some(event) = choices.next().await {
        let (index, told) = event?;
        answer.take(index, told);
    }
    Ok(())
}

/// The response that streams the frames.
///
/// # Errors
/// What happened before anything could be said.
async fn stream<A: Answer>(mut choices: Choices<A::Event>, mut answer: A) -> Result<Response, ApiError> {
    let until = Instant::now() + HEADERS_WAIT;
    let mut frames = VecDeque::new();
    while let Ok(event) = timeout_at(until, choices.next()).await {
        let Some(event) = event else { break };
        let (index, told) = event?;
        let is_start = told.event.is_start();
        frames.extend(answer.take(index, told));
        if !is_start {
            break;
        }
    }
    Ok(sse::response(stream::unfold(Streaming { choices: Some(choices), answer, frames }, Streaming::next)))
}

/// A response under way.
struct Streaming<A: Answer> {
    /// None once the end was written.
    choices: Option<Choices<A::Event>>,
    answer: A,
    frames: VecDeque<Bytes>,
}

impl<A: Answer> Streaming<A> {
    async fn next(mut self) -> Option<(Bytes, Streaming<A>)> {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return Some((frame, self));
            }
            match self.choices.as_mut()?.next().await {
                Some(Ok((index, told))) => self.frames.extend(self.answer.take(index, told)),
                Some(Err(error)) => {
                    self.choices = None;
                    self.frames.extend(self.answer.fail(&error));
                }
                None => {
                    self.choices = None;
                    self.frames.extend(self.answer.finish());
                }
            }
        }
    }
}
