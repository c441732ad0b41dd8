//! POST /tokenize, in both of its forms.

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use worker::{Prompt, Work, Worker};

use super::written;
use crate::admission::{Admitted, Held};
use crate::context::Context;
use crate::error::ApiError;
use crate::openai::{Body, Checked, TemplateRequest, check_model, refused};
use crate::state::App;

/// The body of POST /tokenize.
#[derive(Debug, Deserialize)]
pub(crate) struct Tokenize {
    model: Option<String>,
    content: Option<String>,
    add_special: Option<bool>,
    parse_special: Option<bool>,
    with_pieces: Option<bool>,
    prompt: Option<String>,
    add_special_tokens: Option<bool>,
    return_token_strs: Option<bool>,
    messages: Option<Vec<Value>>,
    tools: Option<Vec<Value>>,
    chat_template_kwargs: Option<Map<String, Value>>,
    add_generation_prompt: Option<bool>,
    continue_final_message: Option<bool>,
}

impl Body for Tokenize {
    const SCHEMA: &'static str = "TokenizeRequest";
}

/// POST /tokenize.
pub(crate) async fn tokenize(
    State(app): State<App>,
    admitted: Result<Admitted, ApiError>,
) -> Result<Response, ApiError> {
    let admitted = admitted?;
    let context = admitted.context.clone();
    let tokenized = move |mut held: Held| {
        let Checked { body, .. } = Checked::<Tokenize>::of(&mut held)?;
        let served = app.ready()?;
        check_model(body.model.as_deref(), &served)?;
        body.check()?;
        Ok(written(&body.answer(&served.worker, (held.work(), &context))?))
    };
    admitted.prepare(tokenized).await
}

impl Tokenize {
    /// One form at a time; a field of the other would have no effect.
    fn check(&self) -> Result<(), ApiError> {
        let n_text = [self.content.is_some(), self.prompt.is_some(), self.messages.is_some()];
        if n_text.iter().filter(|&&there| there).count() != 1 {
            return Err(ApiError::body("expected one of content, prompt and messages"));
        }
        let given = [
            ("add_special", self.add_special.is_some(), self.content.is_some(), "content"),
            ("parse_special", self.parse_special.is_some(), self.content.is_some(), "content"),
            ("with_pieces", self.with_pieces.is_some(), self.content.is_some(), "content"),
            ("add_special_tokens", self.add_special_tokens.is_some(), self.prompt.is_some(), "prompt"),
            (
                "return_token_strs",
                self.return_token_strs.is_some(),
                self.content.is_none(),
                "prompt or messages",
            ),
            ("tools", self.tools.is_some(), self.messages.is_some(), "messages"),
            (
                "chat_template_kwargs",
                self.chat_template_kwargs.is_some(),
                self.messages.is_some(),
                "messages",
            ),
            (
                "add_generation_prompt",
                self.add_generation_prompt.is_some(),
                self.messages.is_some(),
                "messages",
            ),
            (
                "continue_final_message",
                self.continue_final_message.is_some(),
                self.messages.is_some(),
                "messages",
            ),
        ];
        match given.iter().find(|(_, is_given, has_place, _)| *is_given && !has_place) {
            Some((name, _, _, place)) => {
                Err(ApiError::invalid(*name, format!("expected {place} beside it, found none")))
            }
            None => Ok(()),
        }
    }

    fn answer(self, worker: &Worker, (work, context): (&Work, &Context)) -> Result<Value, ApiError> {
        let tokenizer = worker.tokenizer();
        if let Some(text) = self.content {
            let prompt = Prompt::Text {
                text,
                add_special: self.add_special.unwrap_or(false),
                parse_special: self.parse_special.unwrap_or(true),
            };
            let ids = worker.tokenize_within(&prompt, work).map_err(|error| refused(error, "content"))?;
            if self.with_pieces != Some(true) {
                return Ok(json!({"tokens": ids}));
            }
            let piece = |id: &u32| {
                let bytes = tokenizer.token_bytes(*id).unwrap_or_default();
                let piece = std::str::from_utf8(bytes).map_or_else(|_| json!(bytes), |text| json!(text));
                json!({"id": id, "piece": piece})
            };
            return Ok(json!({"tokens": ids.iter().map(piece).collect::<Vec<_>>()}));
        }
        let (prompt, field) = match (self.prompt, self.messages) {
            (Some(text), _) => {
                let add_special = self.add_special_tokens.unwrap_or(true);
                (Prompt::Text { text, add_special, parse_special: true }, "prompt")
            }
            (None, messages) => {
                let template = TemplateRequest {
                    messages: messages.unwrap_or_default(),
                    tools: self.tools,
                    chat_template_kwargs: self.chat_template_kwargs,
                    add_generation_prompt: self.add_generation_prompt,
                    continue_final_message: self.continue_final_message,
                };
                (Prompt::Chat(template.into_chat(context)?), "messages")
            }
        };
        let ids = worker.tokenize_within(&prompt, work).map_err(|error| refused(error, field))?;
        let mut answer =
            json!({"count": ids.len(), "max_model_len": worker.engine().capacity(), "tokens": ids});
        if self.return_token_strs == Some(true) {
            let text = |id: &u32| {
                String::from_utf8_lossy(tokenizer.token_bytes(*id).unwrap_or_default()).into_owned()
            };
            answer["token_strs"] = ids.iter().map(text).collect();
        }
        Ok(answer)
    }
}
