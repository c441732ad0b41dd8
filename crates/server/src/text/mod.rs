//! Text without answers: what is it in tokens, what are tokens in text, and which prompt does a conversation become?
//!
//! POST /tokenize speaks as llama-server does (`content`) and as vLLM does (`prompt` or `messages`), told apart by the key that is there;
//! POST /detokenize answers both at once.

mod tokenize;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::openai::{Body, Checked, TemplateRequest, blocking, check_model, refused};
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
    checked: Result<Checked<Detokenize>, ApiError>,
) -> Result<Json<Value>, ApiError> {
    let Checked { body, .. } = checked?;
    let served = app.ready()?;
    check_model(body.model.as_deref(), &served)?;
    let tokenizer = served.worker.tokenizer().clone();
    let n_vocab = tokenizer.n_vocab();
    if let Some(at) = body.tokens.iter().position(|&id| id as usize >= n_vocab) {
        let message = format!("expected ids below {n_vocab}, found {}", body.tokens[at]);
        return Err(ApiError::invalid(format!("tokens[{at}]"), message));
    }
    let text = blocking(move || Ok(tokenizer.decode(&body.tokens, true))).await?;
    Ok(Json(json!({"content": text, "prompt": text})))
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
    checked: Result<Checked<ApplyTemplate>, ApiError>,
) -> Result<Json<Value>, ApiError> {
    let Checked { body, .. } = checked?;
    let served = app.ready()?;
    check_model(body.model.as_deref(), &served)?;
    let prompt = blocking(move || {
        let chat = body.template.into_chat()?;
        served.worker.render(&chat).map_err(|error| refused(error, "messages"))
    })
    .await?;
    Ok(Json(json!({"prompt": prompt})))
}
