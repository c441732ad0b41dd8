//! Text without answers: what is it in tokens, what are tokens in text, and which prompt does a conversation become?
//!
//! POST /tokenize speaks as llama-server does (`content`) and as vLLM does (`prompt` or `messages`), told apart by the key that is there;
//! POST /detokenize answers both at once.

mod tokenize;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::admission::{Admitted, Held};
use crate::error::ApiError;
use crate::openai::{Body, Checked, TemplateRequest, check_model, refused};
use crate::state::App;

pub(crate) use tokenize::tokenize;

/// The body of POST /detokenize.
#[derive(Debug, Deserialize)]
pub(crate) struct Detokenize {
    model: Option<String>,
    tokens: Vec<u32>,
}

impl Body for Detokenize {
    const SCHEMA: &'static str = "DetokenizeRequest";
}

/// POST /detokenize. Special tokens are shown by name; bytes that are no character become U+FFFD.
pub(crate) async fn detokenize(
    State(app): State<App>,
    admitted: Result<Admitted, ApiError>,
) -> Result<Response, ApiError> {
    let detokenized = move |mut held: Held| {
        let Checked { body, .. } = Checked::<Detokenize>::of(&mut held)?;
        let served = app.ready()?;
        check_model(body.model.as_deref(), &served)?;
        let tokenizer = served.worker.tokenizer();
        let n_vocab = tokenizer.n_vocab();
        if let Some(at) = body.tokens.iter().position(|&id| id as usize >= n_vocab) {
            let message = format!("expected ids below {n_vocab}, found {}", body.tokens[at]);
            return Err(ApiError::invalid(format!("tokens[{at}]"), message));
        }
        let text = tokenizer.decode(&body.tokens, true);
        Ok(written(&json!({"content": text, "prompt": text})))
    };
    admitted?.prepare(detokenized).await
}

/// The body of POST /apply-template.
#[derive(Debug, Deserialize)]
pub(crate) struct ApplyTemplate {
    model: Option<String>,
    #[serde(flatten)]
    template: TemplateRequest,
}

impl Body for ApplyTemplate {
    const SCHEMA: &'static str = "ApplyTemplateRequest";
}

/// POST /apply-template.
pub(crate) async fn apply_template(
    State(app): State<App>,
    admitted: Result<Admitted, ApiError>,
) -> Result<Response, ApiError> {
    let admitted = admitted?;
    let context = admitted.context.clone();
    let rendered = move |mut held: Held| {
        let Checked { body, .. } = Checked::<ApplyTemplate>::of(&mut held)?;
        let served = app.ready()?;
        check_model(body.model.as_deref(), &served)?;
        let chat = body.template.into_chat(&context)?;
        let prompt =
            served.worker.render_within(&chat, held.work()).map_err(|error| refused(error, "messages"))?;
        Ok(written(&json!({"prompt": prompt})))
    };
    admitted.prepare(rendered).await
}

/// The response with this value. It is written where it was made: a large one takes its time too.
fn written(value: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}
