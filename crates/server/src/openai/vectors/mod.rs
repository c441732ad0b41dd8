//! Routes that compute vectors of texts and no answers: embeddings, and ranks of documents.
//!
//! A request may have many texts, each a request of the engine's. As many as there are slots are with the engine at once, so that a batch takes the
//! queue from nobody; the first decides whether there is a place for it now. Dropping a batch, which is what a disconnect does, cancels all of it.

mod embeddings;
mod rerank;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use serde::Serialize;
use worker::embed::{Asker, Embedding, ValidText};
use worker::{EngineError, Usage, Worker, WorkerError};

use super::refused;
use crate::admission::Held;
use crate::context::Context;
use crate::error::ApiError;
use crate::metrics::{Outcome, Recorder};
use crate::state::{App, Served};

pub(crate) use embeddings::{create as embeddings, create_llama as llama_embeddings};
pub(crate) use rerank::create as rerank;

/// The most tokens of all texts of a request.
const MAX_TOKENS: usize = 1 << 20;

/// How long a text of a batch waits before it asks for a place again that another request has taken.
const PLACE_AGAIN: Duration = Duration::from_millis(10);

/// Texts, the first of them under way.
struct Batch {
    served: Arc<Served>,
    texts: Vec<ValidText>,
    first: Embedding,
    recorder: Recorder,
    /// Bytes and a place, while not all texts are with the engine or the response is large.
    held: Option<Held>,
}

/// What the texts of a request cost.
#[derive(Clone, Copy, Debug, Serialize)]
struct Cost {
    prompt_tokens: usize,
    total_tokens: usize,
}

/// Who asks for vectors.
fn asker(context: &Context) -> Asker {
    let client = context.client;
    Asker { client: client.id, weight: client.weight, cache_scope: client.cache_scope }
}

/// Checks the texts of a request one by one, each under the name of its field.
fn check<'a, T>(
    (app, served, held): (&App, &Served, &Held),
    texts: impl ExactSizeIterator<Item = (String, T)> + 'a,
    checked: impl Fn(T) -> Result<ValidText, WorkerError>,
) -> Result<Vec<ValidText>, ApiError> {
    let mut n_token = 0usize;
    let limit = app.options().limits.prompt_tokens;
    let n_ctx = served.worker.engine().capacity();
    let mut valid = Vec::with_capacity(texts.len());
    for (field, text) in texts {
        if let Some(why) = held.work().stop().reason() {
            return Err(WorkerError::Stopped(why).into());
        }
        let text = checked(text).map_err(|error| refused(error, &field))?;
        if let Some(limit) = limit.filter(|&limit| text.n_token() > limit) {
            let n_prompt = text.n_token();
            let message = format!("expected at most {limit} tokens, found {n_prompt}");
            return Err(ApiError::ContextLength { param: field, message, n_prompt, n_ctx });
        }
        n_token += text.n_token();
        if n_token > MAX_TOKENS {
            let message =
                format!("expected at most {MAX_TOKENS} tokens in all, found {n_token} up to this one");
            return Err(ApiError::invalid(field, message));
        }
        valid.push(text);
    }
    Ok(valid)
}

impl Batch {
    /// Starts the first text. `n_byte` is about what the response takes.
    fn begin(
        (app, context): (&App, &Context),
        (served, route): (Arc<Served>, &'static str),
        texts: Vec<ValidText>,
        (mut held, n_byte): (Held, usize),
    ) -> Result<Batch, ApiError> {
        let most = app.options().limits.budget_bytes / 2;
        let is_small = texts.len() == 1;
        if !is_small {
            held.reserve(n_byte.min(most))?;
        }
        let first = texts.first().cloned().ok_or(ApiError::Internal)?;
        let first = served.worker.embed(first)?;
        let recorder = app.record(context, &served, route);
        let held = (!is_small).then_some(held);
        Ok(Batch { served, texts, first, recorder, held })
    }

    /// Computes all vectors, in whatever order they come.
    async fn run(self, each: impl FnMut(usize, Vec<f32>)) -> Result<Cost, ApiError> {
        let Batch { served, texts, first, mut recorder, held } = self;
        let n_token = texts.iter().map(ValidText::n_token).sum();
        recorder.started(n_token);
        let began = Instant::now();
        let done = collect(&served.worker, texts, first, each).await;
        drop(held);
        match done {
            Ok(n_cached) => {
                recorder.embedded(n_cached, began.elapsed());
                recorder.end(Outcome::Stop);
                Ok(Cost { prompt_tokens: n_token, total_tokens: n_token })
            }
            Err(error) => {
                let error = error.into();
                recorder.fail(&error);
                Err(error)
            }
        }
    }
}

/// Computes all vectors. Gives how many tokens were in the prefix cache.
async fn collect(
    worker: &Worker,
    texts: Vec<ValidText>,
    first: Embedding,
    mut each: impl FnMut(usize, Vec<f32>),
) -> Result<usize, WorkerError> {
    let mut n_cached = 0;
    let mut first = Some(first);
    let vectors = texts.into_iter().enumerate().map(|(index, text)| {
        let begun = first.take();
        async move {
            let begun = match begun {
                Some(begun) => begun,
                None => begin_later(worker, text).await?,
            };
            begun.finish().await.map(|(vector, usage): (_, Usage)| (index, vector, usage.n_cached))
        }
    });
    let mut vectors = stream::iter(vectors).buffer_unordered(worker.engine().limits().n_slot.max(1));
    while let Some(done) = vectors.next().await {
        let (index, vector, n) = done?;
        n_cached += n;
        each(index, vector);
    }
    Ok(n_cached)
}

/// Starts another text of a batch once there is a place for it; the batch's deadline is each text's.
async fn begin_later(worker: &Worker, text: ValidText) -> Result<Embedding, WorkerError> {
    loop {
        match worker.embed(text.clone()) {
            Err(WorkerError::Engine(EngineError::Busy { .. })) => tokio::time::sleep(PLACE_AGAIN).await,
            begun => return begun,
        }
        if let Some(why) = text.overdue() {
            return Err(WorkerError::Stopped(why));
        }
    }
}

/// A list of items that are JSON already, in the place that `around` leaves for it.
fn with_items(around: (&str, &str), items: &[Vec<u8>]) -> Bytes {
    let n = items.iter().map(|item| item.len() + 1).sum::<usize>() + around.0.len() + around.1.len();
    let mut body = Vec::with_capacity(n);
    body.extend_from_slice(around.0.as_bytes());
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            body.push(b',');
        }
        body.extend_from_slice(item);
    }
    body.extend_from_slice(around.1.as_bytes());
    body.into()
}
