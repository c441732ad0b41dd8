//! What does a file advise on choosing tokens? The keys `general.sampling.*`, named as in gguf-py.
//!
//! They are advice, not part of the model: a file with a key that makes no sense still runs, and a notice names the key.

use gguf::{GgufError, Metadata};

/// What all the keys begin with.
pub const PREFIX: &str = "general.sampling.";

/// The keys that have a counterpart here, behind [`PREFIX`].
const KNOWN: [&str; 5] = ["temp", "top_k", "top_p", "min_p", "penalty_repeat"];

/// The most keys that a notice names; gguf-py knows seven more than [`KNOWN`].
const MOST_NAMED: usize = 8;

/// What a file advises. Ranges are for whoever takes the advice to check.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SamplingAdvice {
    /// `temp`.
    pub temperature: Option<f32>,
    /// `top_k`; 0 and less keep all tokens.
    pub top_k: Option<i64>,
    /// `top_p`.
    pub top_p: Option<f32>,
    /// `min_p`.
    pub min_p: Option<f32>,
    /// `penalty_repeat`.
    pub repetition_penalty: Option<f32>,
    /// What cannot be followed, a sentence each.
    pub notices: Vec<String>,
}

impl SamplingAdvice {
    /// Reads the keys.
    #[must_use]
    pub fn read(metadata: &Metadata) -> SamplingAdvice {
        let mut notices = Vec::new();
        let mut float = |name: &str| {
            let found = metadata.f32_of(&format!("{PREFIX}{name}"));
            noted(found, &mut notices)
        };
        let (temperature, top_p, min_p) = (float("temp"), float("top_p"), float("min_p"));
        let repetition_penalty = float("penalty_repeat");
        let top_k = noted(metadata.i64_of(&format!("{PREFIX}top_k")), &mut notices);
        let others = metadata.iter().filter_map(|(key, _)| key.strip_prefix(PREFIX));
        let mut others =
            others.filter(|name| !KNOWN.contains(name)).map(|name| name.escape_debug().to_string());
        let named: Vec<String> = others.by_ref().take(MOST_NAMED).collect();
        if !named.is_empty() {
            let more = match others.count() {
                0 => String::new(),
                n => format!(" and {n} more"),
            };
            notices
                .push(format!("{PREFIX}*: no counterpart here, and no effect: {}{more}", named.join(", ")));
        }
        SamplingAdvice { temperature, top_k, top_p, min_p, repetition_penalty, notices }
    }
}

fn noted<T>(found: Result<Option<T>, GgufError>, notices: &mut Vec<String>) -> Option<T> {
    found.unwrap_or_else(|error| {
        notices.push(format!("{error}; it has no effect"));
        None
    })
}

#[cfg(test)]
mod tests {
    use gguf::Value;

    use super::*;

    #[test]
    fn every_key_is_read_or_named() {
        let pairs: [(&str, Value); 6] = [
            ("general.sampling.temp", 0.6f32.into()),
            ("general.sampling.top_k", (-1i32).into()),
            ("general.sampling.top_p", "much".into()),
            ("general.sampling.mirostat", 2i32.into()),
            ("general.sampling.xtc_threshold", 0.1f32.into()),
            ("general.samplings", 1i32.into()),
        ];
        let advice = SamplingAdvice::read(&Metadata::from_pairs(pairs).unwrap());
        assert_eq!((advice.temperature, advice.top_k, advice.top_p), (Some(0.6), Some(-1), None));
        let [wrong, others] = &advice.notices[..] else { panic!("{:?}", advice.notices) };
        assert!(wrong.starts_with("key \"general.sampling.top_p\""), "{wrong}");
        assert!(wrong.ends_with("; it has no effect"), "{wrong}");
        assert_eq!(others, "general.sampling.*: no counterpart here, and no effect: mirostat, xtc_threshold");
    }
}
