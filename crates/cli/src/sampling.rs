//! How are tokens chosen where nobody says? The flags of `run` and `serve`, over what the model's file advises.
//!
//! Both commands have the same flags with the same meaning, so that the same question has the same answers in the terminal, over HTTP and on the page.

use clap::ArgMatches;
use gguf::Gguf;
use hub::ModelRef;
use model::SamplingAdvice;
use serde_json::json;
use worker::Defaults;

use crate::config::InEffect;
use crate::exit::Failure;
use crate::named::Named;
use crate::numbers;

/// Flags that stand over the file's advice.
#[derive(clap::Args, Clone, Copy, Debug)]
pub(crate) struct DefaultArgs {
    /// Divides the logits; 0 always picks the likeliest token (greedy) [default: the model file's, else 0.8]
    #[arg(long, visible_alias = "temp", value_name = "T", allow_negative_numbers = true)]
    pub(crate) temperature: Option<f32>,
    /// Keep the K likeliest tokens; 0 and -1 keep all [default: the model file's, else 40]
    #[arg(long, value_name = "K", value_parser = numbers::top_k, allow_negative_numbers = true)]
    pub(crate) top_k: Option<u32>,
    /// Keep the likeliest tokens whose probabilities add up to P; 1 keeps all [default: the model file's, else 0.95]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub(crate) top_p: Option<f32>,
    /// Drop tokens less likely than P times the likeliest; 0 drops none [default: the model file's, else 0.05]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub(crate) min_p: Option<f32>,
    /// Makes tokens of prompt and answer less likely; 1 does nothing [default: the model file's, else 1]
    #[arg(long, visible_alias = "repeat-penalty", value_name = "X", allow_negative_numbers = true)]
    pub(crate) repetition_penalty: Option<f32>,
}

impl DefaultArgs {
    /// Refuses what is out of range with every model.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let params = self.over(Defaults::default()).params();
        params.validate(usize::MAX).map_err(|error| Failure::Usage(error.to_string()))
    }

    /// What is in effect for this file's model. What cannot be followed of its advice goes to the log.
    pub(crate) fn of(&self, gguf: &Gguf) -> Defaults {
        let (defaults, notices) = advised(gguf);
        notices.iter().for_each(|notice| tracing::warn!("{notice}"));
        self.over(defaults)
    }

    /// What was given, over these.
    pub(crate) fn over(&self, defaults: Defaults) -> Defaults {
        Defaults {
            temperature: self.temperature.unwrap_or(defaults.temperature),
            top_k: self.top_k.unwrap_or(defaults.top_k),
            top_p: self.top_p.unwrap_or(defaults.top_p),
            min_p: self.min_p.unwrap_or(defaults.min_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(defaults.repetition_penalty),
        }
    }
}

/// For settings that nobody set and that the model's file decides: what is in effect, by the ids of their arguments. Nothing where the model
/// is not a file that can be read here and now.
pub(crate) fn in_effect(serve: &ArgMatches) -> Vec<InEffect> {
    let Some(ModelRef::Path(path)) = Named::find(serve) else { return Vec::new() };
    let Ok(gguf) = Gguf::open(path) else { return Vec::new() };
    let [advised, documented] = [advised(&gguf).0, Defaults::default()].map(|defaults| json!(defaults));
    let values = advised.as_object().into_iter().flatten();
    values
        .map(|(id, value)| {
            let origin = if documented[id] == *value { "default" } else { "the model's file" };
            InEffect { id: id.clone(), value: value.to_string(), origin }
        })
        .collect()
}

fn advised(gguf: &Gguf) -> (Defaults, Vec<String>) {
    Defaults::advised(&SamplingAdvice::read(gguf.metadata()))
}
