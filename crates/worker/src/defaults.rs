//! How are tokens chosen where a request does not say? One answer for every way to ask: the terminal, all routes, the page.
//!
//! The documented values are those that are known from llama.cpp. A file may advise others (`general.sampling.*`); an operator's flags win over both,
//! and what a request says over all of them. [`SamplingParams::default`] is something else: plain sampling, with every filter off.

use std::fmt;

use device::SamplingParams;
use model::SamplingAdvice;
use model::sampling::PREFIX;
use serde::Serialize;

use crate::receipt::short;

/// What a request takes for each parameter that it does not name. All others are off.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the names and meanings are those of SamplingParams")]
pub struct Defaults {
    #[serde(serialize_with = "short")]
    pub temperature: f32,
    pub top_k: u32,
    #[serde(serialize_with = "short")]
    pub top_p: f32,
    #[serde(serialize_with = "short")]
    pub min_p: f32,
    #[serde(serialize_with = "short")]
    pub repetition_penalty: f32,
}

impl Default for Defaults {
    fn default() -> Self {
        Defaults { temperature: 0.8, top_k: 40, top_p: 0.95, min_p: 0.05, repetition_penalty: 1.0 }
    }
}

impl Defaults {
    /// What a file advises, and the documented values for the rest. The notices say what of the advice is not followed.
    #[must_use]
    pub fn advised(advice: &SamplingAdvice) -> (Defaults, Vec<String>) {
        type Set = fn(&mut Defaults, f32);
        let numbers: [(&str, Option<f32>, Set); 4] = [
            ("temp", advice.temperature, |defaults, value| defaults.temperature = value),
            ("top_p", advice.top_p, |defaults, value| defaults.top_p = value),
            ("min_p", advice.min_p, |defaults, value| defaults.min_p = value),
            ("penalty_repeat", advice.repetition_penalty, |defaults, value| {
                defaults.repetition_penalty = value;
            }),
        ];
        let mut notices = advice.notices.clone();
        let mut defaults = Defaults::default();
        if let Some(top_k) = advice.top_k {
            // 0 keeps all tokens, and so does a number beyond any vocabulary.
            defaults.top_k = u32::try_from(top_k.max(0)).unwrap_or(0);
        }
        for (key, value, set) in numbers {
            let Some(value) = value else { continue };
            let mut changed = defaults;
            set(&mut changed, value);
            match changed.params().validate(usize::MAX) {
                Ok(()) => defaults = changed,
                Err(error) => notices.push(format!(
                    "{PREFIX}{key}: expected {}, found {}; it has no effect",
                    error.expected, error.found
                )),
            }
        }
        (defaults, notices)
    }

    /// The parameters of a request that names none.
    #[must_use]
    pub fn params(self) -> SamplingParams {
        let Defaults { temperature, top_k, top_p, min_p, repetition_penalty } = self;
        SamplingParams { temperature, top_k, top_p, min_p, repetition_penalty, ..SamplingParams::default() }
    }
}

impl fmt::Display for Defaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Defaults { temperature, top_k, top_p, min_p, repetition_penalty } = self;
        write!(f, "temperature {temperature}, top-k {top_k}, top-p {top_p}, min-p {min_p}")?;
        write!(f, ", repetition penalty {repetition_penalty}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_followed_where_it_is_in_range_and_named_where_not() {
        let advice = SamplingAdvice {
            temperature: Some(0.6),
            top_k: Some(-1),
            top_p: Some(1.5),
            min_p: Some(f32::NAN),
            repetition_penalty: Some(1.1),
            notices: vec!["before".to_owned()],
        };
        let (defaults, notices) = Defaults::advised(&advice);
        assert_eq!(
            defaults.to_string(),
            "temperature 0.6, top-k 0, top-p 0.95, min-p 0.05, repetition penalty 1.1"
        );
        assert_eq!(
            notices,
            [
                "before",
                "general.sampling.top_p: expected 0 to 1, found 1.5; it has no effect",
                "general.sampling.min_p: expected 0 to 1, found NaN; it has no effect",
            ]
        );
        assert_eq!(Defaults::advised(&SamplingAdvice::default()), (Defaults::default(), Vec::new()));
    }
}
