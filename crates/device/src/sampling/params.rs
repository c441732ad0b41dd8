//! What a request says about how its tokens are chosen, and which values make sense.
//!
//! The ranges are wider than any public API's; they keep the arithmetic of the sampler finite and its cost bounded.

use std::ops::RangeInclusive;

use thiserror::Error;

/// The most alternatives a request may ask for.
pub const MAX_ALTERNATIVES: u32 = 20;

/// The most entries of a request's `logit_bias`.
pub const MAX_LOGIT_BIAS: usize = 1024;

/// The sampling parameters of a request. The default is plain sampling from the softmax.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingParams {
    /// Divides the logits; 0 is greedy: the largest logit, the lowest id among equals.
    pub temperature: f32,
    /// Keep the k likeliest; 0 keeps all.
    pub top_k: u32,
    /// Keep the likeliest whose probabilities add up to this; 1 keeps all (Holtzman et al., arXiv 1904.09751).
    pub top_p: f32,
    /// Drop what is less likely than this times the likeliest; 0 drops none (arXiv 2407.01082).
    pub min_p: f32,
    /// Keep the locally typical mass; 1 keeps all (Meister et al., arXiv 2202.00666).
    pub typical_p: f32,
    /// Divides positive and multiplies negative logits of tokens in prompt or answer; 1 is none (arXiv 1909.05858).
    pub repetition_penalty: f32,
    /// Subtracted from the logit of each token already in the answer.
    pub presence_penalty: f32,
    /// Subtracted from a token's logit for each time it stands in the answer.
    pub frequency_penalty: f32,
    /// Added to the logits of these ids; −∞ bans one.
    pub logit_bias: Vec<(u32, f32)>,
    /// With the token's position this alone decides the random number.
    pub seed: u64,
    /// How many alternatives to report.
    pub n_alternatives: u32,
}

impl Default for SamplingParams {
    fn default() -> Self {
        SamplingParams {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            typical_p: 1.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: 0,
            n_alternatives: 0,
        }
    }
}

/// A sampling parameter outside its range.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{field}: expected {expected}, found {found}")]
pub struct ParamError {
    /// The parameter's name, as in [`SamplingParams`].
    pub field: &'static str,
    /// What is accepted.
    pub expected: String,
    /// What was given.
    pub found: String,
}

impl SamplingParams {
    /// Whether the largest logit is simply taken.
    #[must_use]
    pub fn is_greedy(&self) -> bool {
        self.temperature <= 0.0
    }

    /// Checks every parameter against its range, and the ids of `logit_bias` against the vocabulary.
    ///
    /// # Errors
    /// The first parameter outside its range.
    pub fn validate(&self, n_vocab: usize) -> Result<(), ParamError> {
        in_range("temperature", self.temperature, 0.0..=100.0)?;
        in_range("top_p", self.top_p, 0.0..=1.0)?;
        in_range("min_p", self.min_p, 0.0..=1.0)?;
        in_range("typical_p", self.typical_p, 0.0..=1.0)?;
        in_range("repetition_penalty", self.repetition_penalty, 0.01..=100.0)?;
        in_range("presence_penalty", self.presence_penalty, -100.0..=100.0)?;
        in_range("frequency_penalty", self.frequency_penalty, -100.0..=100.0)?;
        if self.n_alternatives > MAX_ALTERNATIVES {
            return Err(ParamError {
                field: "n_alternatives",
                expected: format!("at most {MAX_ALTERNATIVES}"),
                found: self.n_alternatives.to_string(),
            });
        }
        if self.logit_bias.len() > MAX_LOGIT_BIAS {
            return Err(ParamError {
                field: "logit_bias",
                expected: format!("at most {MAX_LOGIT_BIAS} entries"),
                found: self.logit_bias.len().to_string(),
            });
        }
        for &(id, bias) in &self.logit_bias {
            if id as usize >= n_vocab {
                return Err(ParamError {
                    field: "logit_bias",
                    expected: format!("ids below {n_vocab}"),
                    found: id.to_string(),
                });
            }
            if bias != f32::NEG_INFINITY {
                in_range("logit_bias", bias, -100.0..=100.0)?;
            }
        }
        Ok(())
    }
}

/// NaN is in no range.
fn in_range(field: &'static str, found: f32, range: RangeInclusive<f32>) -> Result<(), ParamError> {
    if range.contains(&found) {
        return Ok(());
    }
    Err(ParamError {
        field,
        expected: format!("{} to {}", range.start(), range.end()),
        found: found.to_string(),
    })
}
