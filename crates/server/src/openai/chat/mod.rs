//! POST /v1/chat/completions: from a conversation to one or more answers.

mod answer;
mod request;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};

use super::body::Checked;
use super::choices::{self, Choices};
use super::{Envelope, Shape, blocking, check, check_model};
use crate::context::Context;
use crate::error::ApiError;
use crate::state::App;

use answer::ChatAnswer;
pub(crate) use request::{ChatRequest, TemplateRequest};

/// POST /v1/chat/completions.
pub(crate) async fn create(
    State(app): State<App>,
    context: Context,
    checked: Result<Checked<ChatRequest>, ApiError>,
) -> Result<Response, ApiError> {
    let Checked { body, mut ignored } = checked?;
    let served = app.ready()?;
    check_model(body.sampling.model.as_deref(), &served)?;
    let wanted = body.sampling.receipt;
    wanted.check(&served)?;
    body.sampling.note_ignored(&mut ignored);
    let shape = Shape {
        n: body.sampling.n(),
        is_stream: body.sampling.stream == Some(true),
        usage: body.sampling.usage(),
        wants_logprobs: body.wants_logprobs(),
        ignored,
    };
    let (n, is_stream) = (shape.n, shape.is_stream);
    let (for_check, limits, asked) = (served.clone(), app.options().limits, context.clone());
    // Templates, tokenisation and grammars can take their time: not on a thread that others' events pass through.
    let (request, ignored) = blocking(move || {
        let (request, ignored) = body.into_request(&for_check, context)?;
        Ok((check(&for_check, &limits, request, "messages")?, ignored))
    })
    .await?;
    let shape = Shape { ignored: [shape.ignored, ignored].concat(), ..shape };
    let generations = (0..n as u64)
        .map(|i| {
            let request = request.with_seed(request.seed().wrapping_add(i));
            let noted = wanted.begin(&served, &request);
            let generation = served.worker.chat(request)?;
            Ok((generation, app.record(&asked, &served, "/v1/chat/completions"), noted))
        })
        .collect::<Result<Vec<_>, ApiError>>()?;
    let choices = Choices::chat(generations);
    let object = if is_stream { "chat.completion.chunk" } else { "chat.completion" };
    let envelope = Envelope::new(&served, "chatcmpl", object);
    let mut answer = ChatAnswer::new(served, envelope, shape);
    if is_stream {
        return choices::stream(choices, answer).await;
    }
    choices::collect(choices, &mut answer).await?;
    Ok(Json(answer.whole()).into_response())
}
