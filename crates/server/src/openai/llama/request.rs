//! What does the body of POST /completion say?

use serde::Deserialize;
use serde_json::{Map, Value};
use worker::{Prompt, Work, Worker};

use super::prompts::Prompts;
use crate::error::ApiError;
use crate::openai::body::Body;
use crate::openai::refused;
use crate::openai::sampling::Sampling;
use crate::openapi;

/// The schema `LlamaCompletionRequest`.
#[derive(Debug, Deserialize)]
pub(crate) struct LlamaRequest {
    pub(super) prompt: Prompts,
    pub(super) n_predict: Option<i64>,
    pub(super) n_probs: Option<u32>,
    /// Before `sampling`, which has another form of it.
    pub(super) logit_bias: Option<Bias>,
    pub(super) json_schema: Option<Value>,
    pub(super) return_tokens: Option<bool>,
    pub(super) response_fields: Option<Vec<String>>,
    #[serde(flatten)]
    pub(super) sampling: Sampling,
}

/// What is added to logits, by ids or by texts.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Bias {
    Pairs(Vec<(Key, Value)>),
    Fields(Map<String, Value>),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Key {
    Id(u32),
    Text(String),
}

impl Body for LlamaRequest {
    const SCHEMA: &'static str = "LlamaCompletionRequest";
}

impl Bias {
    /// Of a text each of its tokens has the bias; `false` bans.
    pub(super) fn into_pairs(self, (worker, work): (&Worker, &Work)) -> Result<Vec<(u32, f32)>, ApiError> {
        let entries: Vec<(Key, Value)> = match self {
            Bias::Pairs(pairs) => pairs,
            Bias::Fields(fields) => {
                let key = |name: String| name.parse().map_or_else(|_| Key::Text(name), Key::Id);
                fields.into_iter().map(|(name, bias)| (key(name), bias)).collect()
            }
        };
        let mut pairs = Vec::new();
        for (key, bias) in entries {
            let bias = match bias {
                Value::Bool(false) => f32::NEG_INFINITY,
                Value::Number(bias) => bias.as_f64().unwrap_or_default() as f32,
                other => {
                    let found = openapi::shown(&other);
                    let message = format!("expected numbers or false as biases, found {found}");
                    return Err(ApiError::invalid("logit_bias", message));
                }
            };
            let ids = match key {
                Key::Id(id) => vec![id],
                Key::Text(text) => {
                    let text = Prompt::Text { text, add_special: false, parse_special: false };
                    worker.tokenize_within(&text, work).map_err(|error| refused(error, "logit_bias"))?
                }
            };
            pairs.extend(ids.into_iter().map(|id| (id, bias)));
        }
        Ok(pairs)
    }
}
