//! The flags that say how tokens are chosen, and how long for.
//!
//! Ranges are those of a request, so that a flag and a field of an API mean the same; what needs no model to be refused is refused before
//! one is loaded. Those that `serve` has as well are in [`crate::sampling`].

use device::SamplingParams;
use worker::{Defaults, MAX_STOP_BYTES, MAX_STOP_STRINGS};

use crate::exit::Failure;
use crate::numbers::{self, Seed};
use crate::sampling::DefaultArgs;

/// Flags of sampling.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Sampling")]
pub(crate) struct SamplingArgs {
    #[command(flatten)]
    pub(crate) defaults: DefaultArgs,
    /// Keep the locally typical mass P; 1 keeps all
    #[arg(long, value_name = "P", default_value_t = 1.0, allow_negative_numbers = true)]
    pub(super) typical_p: f32,
    /// Subtracted from the logits of tokens in the answer
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true)]
    pub(super) presence_penalty: f32,
    /// Subtracted from a token's logit for each time it is in the answer
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true)]
    pub(super) frequency_penalty: f32,
    /// Add BIAS to the logit of token ID (repeatable; -inf forbids it)
    #[arg(long, value_name = "ID=BIAS", value_parser = parse_bias)]
    logit_bias: Vec<(u32, f32)>,
    /// Seed of the random numbers: the same seed gives the same answer; -1 draws one [default: random, and reported]
    #[arg(long, short = 's', value_name = "N", allow_negative_numbers = true)]
    pub(crate) seed: Option<Seed>,
    /// Maximum tokens of the answer; -1 for what the context holds [default: what the context holds]
    #[arg(long, short = 'n', alias = "predict", value_name = "N", value_parser = numbers::most_tokens, allow_negative_numbers = true)]
    pub(crate) max_tokens: Option<usize>,
    /// Minimum tokens of the answer
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) min_tokens: usize,
    /// End the answer before this text (repeatable)
    #[arg(long, value_name = "TEXT")]
    pub(crate) stop: Vec<String>,
    /// Ignore the tokens that end an answer (EOS)
    #[arg(long)]
    pub(crate) ignore_eos: bool,
}

impl SamplingArgs {
    /// Refuses what is out of range with every model. Whether the vocabulary has the ids of --logit-bias is seen later.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let wrong = |field, expected: String, found: usize| {
            Err(Failure::Usage(format!("{field}: expected {expected}, found {found}")))
        };
        if self.max_tokens == Some(0) {
            return wrong("max_tokens", "at least 1".to_owned(), 0);
        }
        if let Some(most) = self.max_tokens.filter(|&most| self.min_tokens > most) {
            return wrong("min_tokens", format!("at most max_tokens, {most}"), self.min_tokens);
        }
        if self.stop.len() > MAX_STOP_STRINGS {
            return wrong("stop", format!("at most {MAX_STOP_STRINGS} strings"), self.stop.len());
        }
        if let Some(stop) = self.stop.iter().find(|stop| !(1..=MAX_STOP_BYTES).contains(&stop.len())) {
            return wrong("stop", format!("strings of 1 to {MAX_STOP_BYTES} bytes"), stop.len());
        }
        self.defaults.check()?;
        self.params(Defaults::default())
            .validate(usize::MAX)
            .map_err(|error| Failure::Usage(error.to_string()))
    }

    /// The parameters; `defaults` are in effect for what the flags here do not name.
    pub(crate) fn params(&self, defaults: Defaults) -> SamplingParams {
        SamplingParams {
            typical_p: self.typical_p,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            logit_bias: self.logit_bias.clone(),
            ..self.defaults.over(defaults).params()
        }
    }
}

fn parse_bias(text: &str) -> Result<(u32, f32), String> {
    let pair = text.split_once('=').and_then(|(id, bias)| Some((id.parse().ok()?, bias.parse().ok()?)));
    pair.ok_or_else(|| "expected ID=BIAS, such as 42=-1.5".to_owned())
}
