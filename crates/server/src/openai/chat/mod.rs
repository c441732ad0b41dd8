//! POST /v1/chat/completions: from a conversation to one or more answers.

mod answer;
mod request;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use worker::{ChatEvent, ChatGeneration, ValidRequest};

use super::body::Checked;
use super::choices::{self, Begun, Choices};
use super::{Envelope, Shape, check, check_model, refused};
use crate::admission::{Admitted, Held};
use crate::context::Context;
use crate::error::ApiError;
use crate::receipts::Wanted;
use crate::state::{App, Served};

use answer::ChatAnswer;
pub(crate) use request::{ChatRequest, TemplateRequest};

/// POST /v1/chat/completions.
pub(crate) async fn create(
    State(app): State<App>,
    admitted: Result<Admitted, ApiError>,
) -> Result<Response, ApiError> {
    choices::respond(app, admitted, begin).await
}

/// POST /v1/chat/completions/input_tokens: how many tokens the prompt of such a request has.
pub(crate) async fn count(
    State(app): State<App>,
    admitted: Result<Admitted, ApiError>,
) -> Result<Response, ApiError> {
    let admitted = admitted?;
    let context = admitted.context.clone();
    let count = move |mut held: Held| {
        let Checked { body, .. } = Checked::<ChatRequest>::of(&mut held)?;
        let served = app.ready()?;
        check_model(body.sampling.model.as_deref(), &served)?;
        let prompt = body.into_request(&served, &context)?.0.prompt;
        let tokens = served.worker.tokenize_within(&prompt, held.work());
        let tokens = tokens.map_err(|error| refused(error, "messages"))?;
        Ok(Json(json!({"object": "response.input_tokens", "input_tokens": tokens.len()})).into_response())
    };
    admitted.prepare(count).await
}

/// From a body to answers under way.
fn begin(app: &App, context: &Context, mut held: Held) -> Result<(Choices<ChatEvent>, ChatAnswer), ApiError> {
    let Checked { body, mut ignored } = Checked::<ChatRequest>::of(&mut held)?;
    let served = app.ready()?;
    check_model(body.sampling.model.as_deref(), &served)?;
    let wanted = body.sampling.receipt;
    wanted.check(&served)?;
    body.sampling.note_ignored(&mut ignored);
    let mut shape = Shape {
        n: body.sampling.n(),
        is_stream: body.sampling.stream == Some(true),
        usage: body.sampling.usage(),
        wants_logprobs: body.wants_logprobs(),
        ignored,
    };
    let scores_prompt = body.scores_prompt();
    let (request, ignored) = body.into_request(&served, context)?;
    let request = (request, held.work());
    let request = check(&served, &app.options().limits, request, "messages")?;
    shape.ignored.extend(ignored);
    held.leave();
    let choices = under_way(app, context, &served, &request, (shape.n, wanted, "/v1/chat/completions"))?;
    let object = if shape.is_stream { "chat.completion.chunk" } else { "chat.completion" };
    let envelope = Envelope::new(&served, "chatcmpl", object);
    Ok((choices, ChatAnswer::new(served, envelope, shape, scores_prompt, context.compat)))
}

/// Starts so many answers to a request that came by this route, each with a seed of its own.
pub(in crate::openai) fn under_way(
    app: &App,
    context: &Context,
    served: &Arc<Served>,
    request: &ValidRequest,
    (n, wanted, route): (usize, Wanted, &'static str),
) -> Result<Choices<ChatEvent>, ApiError> {
    let start = |i: u64| -> Result<Begun<ChatGeneration>, ApiError> {
        let request = request.with_seed(request.seed().wrapping_add(i));
        let noted = wanted.begin(served, &request);
        let generation = served.worker.chat(request)?;
        Ok((generation, app.record(context, served, route), noted))
    };
    Ok(Choices::chat((0..n as u64).map(start).collect::<Result<_, _>>()?))
}
