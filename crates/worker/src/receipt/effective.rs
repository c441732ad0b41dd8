//! What decided an answer's tokens besides model, prompt and device? A request's parameters with everything that was left open filled in.

use device::SamplingParams;
use llguidance::api::GrammarWithLexer;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::chat::ChatForm;
use crate::grammar::Source;
use crate::request::{Form, Terms};
use crate::{Prompt, Request, ValidRequest, Worker, WorkerError};

/// From here on a double does not hold every integer.
const EXACT: u64 = 1 << 53;

/// The parameters of an answer; names and meanings are those of [`Request`] and [`SamplingParams`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "they are described where they come from")]
pub struct Effective {
    /// On its way it may be rounded by a program that computes with doubles; see [`Effective::seed`].
    #[serde(deserialize_with = "rounded")]
    pub seed: u64,
    /// The digits of a seed that a double does not hold for certain: of 2^53 or more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed_text: Option<String>,
    #[serde(serialize_with = "short")]
    pub temperature: f32,
    pub top_k: u32,
    #[serde(serialize_with = "short")]
    pub top_p: f32,
    #[serde(serialize_with = "short")]
    pub min_p: f32,
    #[serde(serialize_with = "short")]
    pub typical_p: f32,
    #[serde(serialize_with = "short")]
    pub repetition_penalty: f32,
    #[serde(serialize_with = "short")]
    pub presence_penalty: f32,
    #[serde(serialize_with = "short")]
    pub frequency_penalty: f32,
    /// `null` bans a token: JSON has no infinity.
    #[serde(serialize_with = "short_biases")]
    pub logit_bias: Vec<(u32, Option<f32>)>,
    pub max_tokens: usize,
    pub min_tokens: usize,
    pub stop: Vec<String>,
    pub stop_token_ids: Vec<u32>,
    pub ignore_eos: bool,
    pub show_special: bool,
    /// The grammar that the answer was held to, whole: what stands around its content in a chat is part of it.
    pub constraint: Option<Vec<GrammarRecord>>,
    /// How the answer to a conversation was read, which decides where stop strings were looked for.
    pub chat: Option<ChatForm>,
}

/// A part of a grammar, as llguidance reads it. The first one starts the answer and may name the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum GrammarRecord {
    /// In llguidance's dialect of Lark.
    Lark {
        /// By which other parts name it.
        name: Option<String>,
        /// Its rules.
        text: String,
    },
    /// A JSON schema.
    JsonSchema {
        /// By which other parts name it.
        name: Option<String>,
        /// As JSON text, since the order of its fields and the digits of its numbers count.
        text: String,
    },
}

impl Effective {
    pub(super) fn of(worker: &Worker, valid: &ValidRequest) -> Effective {
        let room = worker.engine.capacity().saturating_sub(valid.prompt().len());
        let Terms { sampling, stop, stop_token_ids, ignore_eos, form } = &*valid.terms;
        let &SamplingParams {
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
        } = sampling;
        let bias = |&(id, bias): &(u32, f32)| (id, Some(bias).filter(|bias| bias.is_finite()));
        let constraint = form.grammar.as_ref().map(|source| source.parts().iter().map(GrammarRecord::of));
        let seed = valid.seed();
        Effective {
            seed,
            seed_text: (seed >= EXACT).then(|| seed.to_string()),
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
            min_tokens: valid.engine.min_tokens,
            stop: stop.clone(),
            stop_token_ids: stop_token_ids.clone(),
            ignore_eos: *ignore_eos,
            show_special: valid.show_special,
            constraint: constraint.map(Iterator::collect),
            chat: form.chat.clone().map(|chat| ChatForm { schemas: Vec::new(), ..chat }),
        }
    }

    /// The seed that was used: by its digits, where they stand beside the number.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed_text.as_ref().and_then(|text| text.parse().ok()).unwrap_or(self.seed)
    }

    /// The request with these parameters, but for its form.
    pub(super) fn request(&self) -> Request {
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
            seed: Some(self.seed()),
            stop: self.stop.clone(),
            stop_token_ids: self.stop_token_ids.clone(),
            ignore_eos: self.ignore_eos,
            show_special: self.show_special,
            ..Request::new(Prompt::Tokens(Vec::new()))
        }
    }

    /// What the answer must be, and how it is read.
    pub(super) fn form(&self) -> Result<Form, WorkerError> {
        let parts = |parts: &Vec<GrammarRecord>| parts.iter().map(GrammarRecord::part).collect();
        let parts: Option<Vec<_>> = self.constraint.as_ref().map(parts).transpose()?;
        let grammar = parts.map(Source::of_receipt).transpose()?;
        Ok(Form { grammar, chat: self.chat.clone() })
    }
}

impl GrammarRecord {
    fn of(part: &GrammarWithLexer) -> GrammarRecord {
        let name = part.name.clone();
        match (&part.json_schema, &part.lark_grammar) {
            (Some(schema), _) => GrammarRecord::JsonSchema { name, text: schema.to_string() },
            (None, lark) => GrammarRecord::Lark { name, text: lark.clone().unwrap_or_default() },
        }
    }

    fn part(&self) -> Result<GrammarWithLexer, WorkerError> {
        Ok(match self {
            GrammarRecord::Lark { name, text } => {
                GrammarWithLexer { name: name.clone(), ..GrammarWithLexer::from_lark(text.clone()) }
            }
            GrammarRecord::JsonSchema { name, text } => {
                let schema: Value = serde_json::from_str(text).map_err(|error| WorkerError::Invalid {
                    field: "constraint",
                    expected: "a JSON schema".to_owned(),
                    found: format!("other text: {error}"),
                })?;
                GrammarWithLexer { name: name.clone(), ..GrammarWithLexer::from_json_schema(schema) }
            }
        })
    }
}

/// A seed, also one that a double was written for, which may be a little more than 64 bits hold.
fn rounded<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let number = serde_json::Number::deserialize(deserializer)?;
    let double = number.as_f64().filter(|double| (EXACT as f64..=u64::MAX as f64).contains(double));
    let seed = number.as_u64().or_else(|| double.map(|double| double as u64));
    seed.ok_or_else(|| D::Error::custom(format!("seed: expected an integer of 64 bits, found {number}")))
}

/// The fewest digits that mean the number, also where it passes through a [`Value`], whose numbers have 64 bits.
pub(crate) fn short<S: Serializer>(number: &f32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(digits(*number))
}

fn short_biases<S: Serializer>(biases: &[(u32, Option<f32>)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(biases.iter().map(|&(id, bias)| (id, bias.map(digits))))
}

fn digits(number: f32) -> f64 {
    number.to_string().parse().unwrap_or_else(|_| number.into())
}
