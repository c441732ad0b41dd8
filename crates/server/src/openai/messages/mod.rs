//! POST /v1/messages: Anthropic's Messages API, as a translation to and from a chat.
//!
//! A body becomes a chat's body (`request`), which takes the way of every chat; its events become blocks of content (`answer`). Source: Anthropic's
//! API reference, "Messages".

mod answer;
mod request;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use worker::ChatEvent;

use super::body::Checked;
use super::chat::under_way;
use super::choices::{self, Choices};
use super::{Shape, check, check_model, refused, usage};
use crate::admission::{Admitted, Held};
use crate::context::Context;
use crate::error::{ApiError, Form};
use crate::state::App;

use answer::MessageAnswer;
use request::{MessageRequest, in_our_words, name_of};

/// POST /v1/messages.
pub(crate) async fn create(State(app): State<App>, admitted: Result<Admitted, ApiError>) -> Response {
    let answered = choices::respond(app, admitted, begin).await;
    answered.unwrap_or_else(|error| error.response(Form::Anthropic))
}

/// POST /v1/messages/count_tokens: how many tokens the prompt of such a request has.
pub(crate) async fn count(State(app): State<App>, admitted: Result<Admitted, ApiError>) -> Response {
    let counted = async {
        let admitted = admitted?;
        let context = admitted.context.clone();
        let count = move |mut held: Held| {
            let Checked { body, .. } = Checked::<MessageRequest>::of(&mut held)?;
            let served = app.ready()?;
            let chat = body.chat()?;
            check_model(chat.sampling.model.as_deref(), &served)?;
            let prompt = chat.into_request(&served, &context).map_err(in_our_words)?.0.prompt;
            let tokens = served.worker.tokenize_within(&prompt, held.work());
            let tokens = tokens.map_err(|error| in_our_words(refused(error, "messages")))?;
            Ok(Json(json!({"input_tokens": tokens.len()})).into_response())
        };
        admitted.prepare(count).await
    };
    counted.await.unwrap_or_else(|error: ApiError| error.response(Form::Anthropic))
}

/// From a body to an answer under way.
fn begin(
    app: &App,
    context: &Context,
    mut held: Held,
) -> Result<(Choices<ChatEvent>, MessageAnswer), ApiError> {
    let Checked { body, mut ignored } = Checked::<MessageRequest>::of(&mut held)?;
    let served = app.ready()?;
    let chat = body.chat()?;
    check_model(chat.sampling.model.as_deref(), &served)?;
    body.has_max_tokens()?;
    let wanted = chat.sampling.receipt;
    wanted.check(&served)?;
    body.note_ignored(&served, &mut ignored);
    let is_stream = chat.sampling.stream == Some(true);
    let (request, unused) = chat.into_request(&served, context).map_err(in_our_words)?;
    ignored.extend(unused.iter().filter(|name| body.says(name)).map(|name| name_of(name)));
    let shape = Shape { n: 1, is_stream, usage: usage::Wish::Never, wants_logprobs: false, ignored };
    let request = check(&served, &app.options().limits, (request, held.work()), "messages");
    let request = request.map_err(in_our_words)?;
    held.leave();
    let choices = under_way(app, context, &served, &request, (1, wanted, "/v1/messages"))?;
    Ok((choices, MessageAnswer::new(served, shape)))
}
