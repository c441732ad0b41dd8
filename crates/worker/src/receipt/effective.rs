//! What decided an answer's tokens besides model, prompt and device? A request's parameters with everything that was left open filled in.

use model::SamplingParams;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ReceiptError;
use crate::{Format, Prompt, Request, ValidRequest, Worker};

/// The parameters of an answer; names and meanings are those of [`Request`] and [`SamplingParams`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "they are described where they come from")]
pub struct Effective {
    pub seed: u64,
    pub temperature: f32,
    pub top_k: u32,
    pub top_p: f32,
    pub min_p: f32,
    pub typical_p: f32,
    pub repetition_penalty: f32,
    pub presence_penalty: f32,
    pub frequency_penalty: f32,
    /// `null` bans a token: JSON has no infinity.
    pub logit_bias: Vec<(u32, Option<f32>)>,
    pub max_tokens: usize,
    pub min_tokens: usize,
    pub stop: Vec<String>,
    pub stop_token_ids: Vec<u32>,
    pub ignore_eos: bool,
    pub show_special: bool,
    pub format: Option<FormatRecord>,
}

/// A [`Format`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FormatRecord {
    /// Any JSON object.
    JsonObject,
    /// JSON that this schema accepts.
    JsonSchema(Value),
    /// Text that this regular expression accepts.
    Regex(String),
    /// Text of this grammar.
    Grammar(String),
}

impl Effective {
    pub(super) fn of(
        worker: &Worker,
        request: &Request,
        valid: &ValidRequest,
    ) -> Result<Effective, ReceiptError> {
        // It follows from the template too, which a list of ids does not show.
        if matches!(request.prompt, Prompt::Chat(_)) && valid.engine.constraint.is_some() {
            return Err(ReceiptError::ChatForm);
        }
        let room = worker.engine.capacity().saturating_sub(valid.prompt().len());
        let SamplingParams {
            temperature,
            top_k,
            top_p,
            min_p,
            typical_p,
            repetition_penalty,
            presence_penalty,
            frequency_penalty,
            ref logit_bias,
            seed: _,
            n_alternatives: _,
        } = request.sampling;
        let bias = |&(id, bias): &(u32, f32)| (id, Some(bias).filter(|bias| bias.is_finite()));
        Ok(Effective {
            seed: valid.seed(),
            temperature,
            top_k,
            top_p,
            min_p,
            typical_p,
            repetition_penalty,
            presence_penalty,
            frequency_penalty,
            logit_bias: logit_bias.iter().map(bias).collect(),
            max_tokens: valid.engine.max_tokens.min(room),
            min_tokens: request.min_tokens,
            stop: request.stop.clone(),
            stop_token_ids: request.stop_token_ids.clone(),
            ignore_eos: request.ignore_eos,
            show_special: request.show_special,
            format: request.format.as_ref().map(FormatRecord::of),
        })
    }

    pub(super) fn request(&self, prompt: Prompt) -> Request {
        let bias = |&(id, bias): &(u32, Option<f32>)| (id, bias.unwrap_or(f32::NEG_INFINITY));
        Request {
            max_tokens: Some(self.max_tokens),
            min_tokens: self.min_tokens.min(self.max_tokens),
            sampling: SamplingParams {
                temperature: self.temperature,
                top_k: self.top_k,
                top_p: self.top_p,
                min_p: self.min_p,
                typical_p: self.typical_p,
                repetition_penalty: self.repetition_penalty,
                presence_penalty: self.presence_penalty,
                frequency_penalty: self.frequency_penalty,
                logit_bias: self.logit_bias.iter().map(bias).collect(),
                ..SamplingParams::default()
            },
            seed: Some(self.seed),
            stop: self.stop.clone(),
            stop_token_ids: self.stop_token_ids.clone(),
            ignore_eos: self.ignore_eos,
            show_special: self.show_special,
            format: self.format.as_ref().map(FormatRecord::format),
            ..Request::new(prompt)
        }
    }
}

impl FormatRecord {
    fn of(format: &Format) -> FormatRecord {
        match format {
            Format::JsonObject => FormatRecord::JsonObject,
            Format::JsonSchema(schema) => FormatRecord::JsonSchema(schema.clone()),
            Format::Regex(regex) => FormatRecord::Regex(regex.clone()),
            Format::Grammar(grammar) => FormatRecord::Grammar(grammar.clone()),
        }
    }

    fn format(&self) -> Format {
        match self {
            FormatRecord::JsonObject => Format::JsonObject,
            FormatRecord::JsonSchema(schema) => Format::JsonSchema(schema.clone()),
            FormatRecord::Regex(regex) => Format::Regex(regex.clone()),
            FormatRecord::Grammar(grammar) => Format::Grammar(grammar.clone()),
        }
    }
}
