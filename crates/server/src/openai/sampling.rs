//! What do chat completions and completions have in common? How many answers, how tokens are chosen, where answers end.
//!
//! Absent and null are the same. Ranges are in the document; what only the model can know (ids, the context) the worker checks.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Number, Value};
use worker::{Defaults, Prompt, Request, SamplingParams, WorkerError};

use super::format::{self, ResponseFormat, StructuredOutputs};
use super::usage::Wish;
use crate::context::Context;
use crate::error::ApiError;
use crate::openapi;
use crate::receipts::Wanted;

/// The fields of the schema `Sampling`.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Sampling {
    pub(super) model: Option<String>,
    pub(super) stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    n: Option<usize>,
    max_tokens: Option<i64>,
    max_completion_tokens: Option<i64>,
    min_tokens: Option<usize>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<i64>,
    min_p: Option<f32>,
    typical_p: Option<f32>,
    repetition_penalty: Option<f32>,
    repeat_penalty: Option<f32>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    logit_bias: Option<Map<String, Value>>,
    seed: Option<Number>,
    stop: Option<Stop>,
    stop_token_ids: Option<Vec<u32>>,
    ignore_eos: Option<bool>,
    skip_special_tokens: Option<bool>,
    speculate: Option<bool>,
    response_format: Option<ResponseFormat>,
    grammar: Option<String>,
    structured_outputs: Option<StructuredOutputs>,
    #[serde(default)]
    pub(super) receipt: Wanted,
}

#[derive(Debug, Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
    include_obfuscation: Option<IgnoredAny>,
    continuous_usage_stats: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Stop {
    One(String),
    Several(Vec<String>),
}

/// What is told of how likely tokens are.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Likely {
    /// How many alternatives to each.
    pub(super) n_alternatives: u32,
    /// Also of the prompt's own tokens.
    pub(super) of_prompt: bool,
}

impl Sampling {
    /// Answers to each prompt.
    pub(super) fn n(&self) -> usize {
        self.n.unwrap_or(1)
    }

    /// When does a stream say its usage? As in vLLM, chunks have it only where the end has it too.
    pub(super) fn usage(&self) -> Wish {
        match &self.stream_options {
            Some(StreamOptions { include_usage: Some(true), continuous_usage_stats: Some(true), .. }) => {
                Wish::Throughout
            }
            Some(StreamOptions { include_usage: Some(true), .. }) => Wish::AtEnd,
            _ => Wish::Never,
        }
    }

    /// Names the options of streams that have no effect here.
    pub(super) fn note_ignored(&self, ignored: &mut Vec<String>) {
        let Some(options) = &self.stream_options else { return };
        if self.stream != Some(true) {
            return ignored.push("stream_options".to_owned());
        }
        let names = ["include_obfuscation", "continuous_usage_stats"];
        let is_alone = options.continuous_usage_stats == Some(true) && self.usage() == Wish::Never;
        let given = [options.include_obfuscation.is_some(), is_alone];
        let given = names.into_iter().zip(given).filter(|(_, given)| *given);
        ignored.extend(given.map(|(name, _)| format!("stream_options.{name}")));
    }

    /// Refuses the wish for the receipt of an answer that is not wanted.
    pub(super) fn check_receipt(&self) -> Result<(), ApiError> {
        let is_without_answer = self.max_completion_tokens.or(self.max_tokens) == Some(0);
        if is_without_answer && self.receipt != Wanted::default() {
            let message = "expected false where max_tokens is 0: there is no answer";
            return Err(ApiError::invalid("receipt", message));
        }
        Ok(())
    }

    /// Takes another route's name of `max_tokens`, which may stand beside it if it says the same.
    pub(super) fn also_called(&mut self, name: &str, n: Option<i64>) -> Result<(), ApiError> {
        let known = self.max_completion_tokens.or(self.max_tokens);
        if let (Some(n), Some(known)) = (n, known.filter(|&known| Some(known) != n)) {
            let message = format!("expected as many as max_tokens, {known}, found {n}");
            return Err(ApiError::invalid(name, message));
        }
        self.max_tokens = self.max_tokens.or(n);
        Ok(())
    }

    /// The request for this prompt; `defaults` holds for what is not said.
    pub(super) fn request(
        self,
        prompt: Prompt,
        likely: Likely,
        defaults: Defaults,
        context: &Context,
    ) -> Result<Request, ApiError> {
        if let (Some(a), Some(b)) = (self.repetition_penalty, self.repeat_penalty)
            && a != b
        {
            let message = "expected the same as repetition_penalty, whose other name it is";
            return Err(ApiError::invalid("repeat_penalty", message));
        }
        let max_tokens = match self.max_completion_tokens {
            Some(n) => Some(most(n)),
            None => self.max_tokens.map(most),
        };
        let wanted = format::wanted(self.response_format, self.grammar, self.structured_outputs)?;
        let (format, format_field) = wanted.unzip();
        let default = defaults.params();
        let sampling = SamplingParams {
            temperature: self.temperature.unwrap_or(default.temperature),
            top_k: self.top_k.map_or(default.top_k, |k| u32::try_from(k).unwrap_or(0)),
            top_p: self.top_p.unwrap_or(default.top_p),
            min_p: self.min_p.unwrap_or(default.min_p),
            typical_p: self.typical_p.unwrap_or(default.typical_p),
            repetition_penalty: self
                .repetition_penalty
                .or(self.repeat_penalty)
                .unwrap_or(default.repetition_penalty),
            presence_penalty: self.presence_penalty.unwrap_or(default.presence_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(default.frequency_penalty),
            logit_bias: logit_bias(&self.logit_bias.unwrap_or_default())?,
            n_alternatives: likely.n_alternatives,
            ..default
        };
        Ok(Request {
            max_tokens,
            min_tokens: self.min_tokens.unwrap_or(0),
            sampling,
            seed: self.seed.as_ref().map_or(context.unsaid.seed, seed),
            stop: match self.stop {
                None => Vec::new(),
                Some(Stop::One(stop)) => vec![stop],
                Some(Stop::Several(stops)) => stops,
            }
            .into_iter()
            .filter(|stop| !stop.is_empty())
            .collect(),
            stop_token_ids: self.stop_token_ids.unwrap_or_default(),
            ignore_eos: self.ignore_eos.unwrap_or(false),
            show_special: !self.skip_special_tokens.unwrap_or(true),
            timeout: Some(context.left()?),
            format,
            format_field,
            client: context.client.id,
            weight: context.client.weight,
            cache_scope: context.client.cache_scope,
            scores_prompt: likely.of_prompt,
            speculate: self.speculate.unwrap_or(true),
            ..Request::new(prompt)
        })
    }
}

/// The most tokens of an answer; -1, llama-server's word for no limit, is as many as the server allows.
fn most(n: i64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

fn logit_bias(fields: &Map<String, Value>) -> Result<Vec<(u32, f32)>, ApiError> {
    let entry = |(name, bias): (&String, &Value)| {
        let id = name.parse().ok().filter(|_| name.bytes().all(|b| b.is_ascii_digit()));
        let id = id.ok_or_else(|| {
            let message = format!("expected token ids as field names, found {}", openapi::readable(name));
            ApiError::invalid("logit_bias", message)
        })?;
        Ok((id, bias.as_f64().unwrap_or(0.0) as f32))
    };
    fields.iter().map(entry).collect()
}

/// None where it is to be drawn: -1, as in llama-server and vLLM. Any other negative seed is the number with the same bits.
fn seed(number: &Number) -> Option<u64> {
    if number.as_i64() == Some(-1) {
        return None;
    }
    number.as_u64().or_else(|| number.as_i64().map(i64::cast_unsigned))
}

/// A worker's error in the words of these routes. `prompt` is where the route has its prompt.
pub(crate) fn refused(error: WorkerError, prompt: &str) -> ApiError {
    match error {
        WorkerError::Invalid { field: "prompt", expected, found } => {
            ApiError::invalid(prompt, format!("expected {expected}, found {found}"))
        }
        WorkerError::TooLong { n_prompt, n_ctx, .. } => ApiError::too_long(prompt, &error, (n_prompt, n_ctx)),
        other => other.into(),
    }
}
