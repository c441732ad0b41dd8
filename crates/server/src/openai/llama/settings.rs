//! How are tokens chosen, in llama-server's words? What there is no choice of here has the value that changes nothing there.

use serde_json::{Value, json};
use worker::{SamplingParams, ValidRequest};

/// The steps that choose a token, by llama-server's names, in the order in which they are here.
const SAMPLERS: [&str; 6] = ["penalties", "temperature", "top_k", "typ_p", "top_p", "min_p"];

/// Which settings an answer has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings<'a> {
    pub(super) params: &'a SamplingParams,
    /// The most tokens of an answer, where that is not all the context holds.
    pub(super) n_predict: Option<usize>,
    pub(super) stop: &'a [String],
    pub(super) ignore_eos: bool,
    pub(super) is_stream: bool,
}

impl<'a> Settings<'a> {
    /// Of a request.
    pub(super) fn of(request: &'a ValidRequest, is_stream: bool) -> Settings<'a> {
        Settings {
            params: request.params(),
            n_predict: Some(request.max_tokens()).filter(|&n| n != usize::MAX),
            stop: request.stop(),
            ignore_eos: request.ignore_eos(),
            is_stream,
        }
    }

    pub(super) fn json(&self) -> Value {
        let Settings { params: p, stop, ignore_eos, is_stream, n_predict } = *self;
        let n_predict = n_predict.map_or(json!(-1), Value::from);
        // JSON has no infinity: null bans a token, as in llama-server.
        let bias = |&(token, bias): &(u32, f32)| json!({"token": token, "bias": bias.is_finite().then(|| short(bias))});
        json!({
            "seed": p.seed,
            "temperature": short(p.temperature),
            "dynatemp_range": 0.0,
            "dynatemp_exponent": 1.0,
            "top_k": p.top_k,
            "top_p": short(p.top_p),
            "min_p": short(p.min_p),
            "top_n_sigma": -1.0,
            "xtc_probability": 0.0,
            "xtc_threshold": 0.1,
            "typical_p": short(p.typical_p),
            "repeat_last_n": -1,
            "repeat_penalty": short(p.repetition_penalty),
            "presence_penalty": short(p.presence_penalty),
            "frequency_penalty": short(p.frequency_penalty),
            "dry_multiplier": 0.0,
            "dry_base": 1.75,
            "dry_allowed_length": 2,
            "dry_penalty_last_n": -1,
            "dry_sequence_breakers": [],
            "mirostat": 0,
            "mirostat_tau": 5.0,
            "mirostat_eta": 0.1,
            "adaptive_target": -1.0,
            "adaptive_decay": 0.9,
            "stop": stop,
            "max_tokens": n_predict,
            "n_predict": n_predict,
            "n_keep": 0,
            "n_discard": 0,
            "ignore_eos": ignore_eos,
            "stream": is_stream,
            "logit_bias": p.logit_bias.iter().map(bias).collect::<Value>(),
            "n_probs": p.n_alternatives,
            "min_keep": 0,
            "samplers": SAMPLERS,
            "timings_per_token": false,
            "post_sampling_probs": false,
            "lora": [],
        })
    }
}

/// A number as short as it can be, where a double would show how it was rounded.
fn short(number: f32) -> Value {
    number.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}
