//! POST /v1/responses: OpenAI's Responses API, as a translation to and from a chat.
//!
//! A body becomes a chat's body (`request`, `items`), which takes the way of every chat; its events become items of output (`answer`, `output`). A
//! conversation may be named by its last response's id, as long as it is kept (`store`, `kept`). Source: OpenAI's API reference, "Responses".

mod answer;
mod items;
mod kept;
mod output;
mod request;
mod store;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use worker::ChatEvent;

use super::body::Checked;
use super::chat::{ChatRequest, under_way};
use super::choices::{self, Choices};
use super::{Shape, check, check_model, refused, usage};
use crate::admission::{Admitted, Held};
use crate::context::Context;
use crate::error::ApiError;
use crate::state::{App, Served};

use answer::ResponseAnswer;
pub(crate) use kept::{delete, get, input_items};
use request::{ResponseRequest, in_our_words};
pub(crate) use store::Store;

/// POST /v1/responses.
pub(crate) async fn create(
    State(app): State<App>,
    admitted: Result<Admitted, ApiError>,
) -> Result<Response, ApiError> {
    choices::respond(app, admitted, begin).await
}

/// POST /v1/responses/input_tokens: how many tokens the prompt of such a request has.
pub(crate) async fn count(
    State(app): State<App>,
    admitted: Result<Admitted, ApiError>,
) -> Result<Response, ApiError> {
    let admitted = admitted?;
    let context = admitted.context.clone();
    let counted = move |mut held: Held| {
        let Checked { body, .. } = request::read(&mut held)?;
        let served = app.ready()?;
        let (chat, _) = chat_of(&body, &app, &context, &served)?;
        let prompt = chat.into_request(&served, &context).map_err(in_our_words)?.0.prompt;
        let tokens = served.worker.tokenize_within(&prompt, held.work());
        let tokens = tokens.map_err(|error| in_our_words(refused(error, "input")))?;
        Ok(Json(json!({"object": "response.input_tokens", "input_tokens": tokens.len()})).into_response())
    };
    admitted.prepare(counted).await
}

/// A chat's body, and the items of the conversation that it has.
fn chat_of(
    body: &ResponseRequest,
    app: &App,
    context: &Context,
    served: &Served,
) -> Result<(ChatRequest, Vec<Value>), ApiError> {
    let items = body.items(app.responses(), context.client.id)?;
    let chat = body.chat(&items)?;
    check_model(chat.sampling.model.as_deref(), served)?;
    Ok((chat, items))
}

/// From a body to an answer under way.
fn begin(
    app: &App,
    context: &Context,
    mut held: Held,
) -> Result<(Choices<ChatEvent>, ResponseAnswer), ApiError> {
    let Checked { body, mut ignored } = request::read(&mut held)?;
    let served = app.ready()?;
    let (chat, items) = chat_of(&body, app, context, &served)?;
    let wanted = chat.sampling.receipt;
    wanted.check(&served)?;
    body.note_ignored(&mut ignored);
    chat.sampling.note_ignored(&mut ignored);
    let mut shape = Shape {
        n: 1,
        is_stream: chat.sampling.stream == Some(true),
        usage: usage::Wish::Never,
        wants_logprobs: chat.wants_logprobs(),
        ignored,
    };
    let (request, ignored) = chat.into_request(&served, context).map_err(in_our_words)?;
    let request = check(&served, &app.options().limits, (request, held.work()), "input");
    let request = request.map_err(in_our_words)?;
    shape.ignored.extend(ignored.into_iter().map(request::name_of));
    held.leave();
    let choices = under_way(app, context, &served, &request, (1, wanted, "/v1/responses"))?;
    let keep = body.is_stored().then(|| (app.clone(), context.client.id, items));
    let said = body.said(served.worker.options().defaults);
    Ok((choices, ResponseAnswer::new(served, said, shape, keep)))
}
