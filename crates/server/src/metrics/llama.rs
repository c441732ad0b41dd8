//! The names that llama-server's dashboards know. Source: llama.cpp, tools/server/README.md, "GET /metrics".
//!
//! Prompt tokens are those that were computed, apart from those that were cached; the first token of an answer comes with its prompt, so rates
//! of answers are over the others.

use std::time::Duration;

use prometheus::{Counter, Gauge, IntCounter, IntGauge, Registry};
use worker::{Load, Timings, Usage};

use super::{add, signed, vllm};

/// llama-server's metrics.
pub(super) struct Llama {
    prompt_tokens: IntCounter,
    cached_tokens: IntCounter,
    prompt_seconds: Counter,
    tokens: IntCounter,
    seconds: Counter,
    steps: IntCounter,
    longest: IntCounter,
    drafts: IntCounter,
    draft_tokens: IntCounter,
    accepted_tokens: IntCounter,
    prompt_rate: Gauge,
    rate: Gauge,
    running: IntGauge,
    waiting: IntGauge,
    busy: Gauge,
    /// Tokens of answers that steps computed, for the rate.
    decoded: IntCounter,
}

impl Llama {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Llama> {
        let counter = |name, help| add(registry, IntCounter::new(name, help)?);
        let seconds = |name, help| add(registry, Counter::new(name, help)?);
        let gauge = |name, help| add(registry, IntGauge::new(name, help)?);
        let rate = |name, help| add(registry, Gauge::new(name, help)?);
        Ok(Llama {
            prompt_tokens: counter(
                "llamacpp:prompt_tokens_total",
                "Prompt tokens computed, of requests that ended",
            )?,
            cached_tokens: counter(
                "llamacpp:prompt_tokens_cached_total",
                "Prompt tokens found in the prefix cache, of requests that ended",
            )?,
            prompt_seconds: seconds(
                "llamacpp:prompt_seconds_total",
                "Time of prompts, of requests that ended",
            )?,
            tokens: counter("llamacpp:tokens_predicted_total", "Generated tokens, of requests that ended")?,
            seconds: seconds(
                "llamacpp:tokens_predicted_seconds_total",
                "Time of generated tokens, of requests that ended",
            )?,
            steps: counter("llamacpp:n_decode_total", "Steps that the device computed")?,
            longest: counter("llamacpp:n_tokens_max", "Most tokens of a prompt and its answer")?,
            drafts: counter(
                "llamacpp:spec_decode_num_drafts_total",
                "Times that tokens of an answer were guessed for a step",
            )?,
            draft_tokens: counter("llamacpp:spec_decode_num_draft_tokens_total", "Guessed tokens")?,
            accepted_tokens: counter(
                "llamacpp:spec_decode_num_accepted_tokens_total",
                "Guessed tokens that were the tokens chosen",
            )?,
            prompt_rate: rate(
                "llamacpp:prompt_tokens_seconds",
                "Prompt tokens a second of a request, on average",
            )?,
            rate: rate(
                "llamacpp:predicted_tokens_seconds",
                "Generated tokens a second of a request, on average",
            )?,
            running: gauge("llamacpp:requests_processing", "Requests that are being computed")?,
            waiting: gauge(
                "llamacpp:requests_deferred",
                "Requests that wait for a slot or for KV cache pages",
            )?,
            busy: rate(
                "llamacpp:n_busy_slots_per_decode",
                "Requests that are being computed during a step, on average",
            )?,
            decoded: IntCounter::new("decoded", "Not registered")?,
        })
    }

    /// A request has ended.
    pub(super) fn ended(&self, usage: &Usage, timings: &Timings) {
        let n_computed = usage.n_prompt.saturating_sub(usage.n_cached);
        self.prompt_tokens.inc_by(n_computed as u64);
        self.cached_tokens.inc_by(usage.n_cached as u64);
        self.tokens.inc_by(usage.n_generated as u64);
        self.decoded.inc_by(usage.n_generated.saturating_sub(1) as u64);
        self.prompt_seconds.inc_by(timings.prompt.as_secs_f64());
        self.seconds.inc_by(timings.decode.as_secs_f64());
        vllm::catch_up(&self.longest, (usage.n_prompt + usage.n_generated) as u64);
    }

    /// Prompts without answers have ended, which took so long.
    pub(super) fn embedded(&self, n_token: usize, n_cached: usize, took: Duration) {
        self.prompt_tokens.inc_by(n_token.saturating_sub(n_cached) as u64);
        self.cached_tokens.inc_by(n_cached as u64);
        self.prompt_seconds.inc_by(took.as_secs_f64());
    }

    /// Takes over what the engine knows; one reader at a time.
    pub(super) fn look(&self, load: &Load) {
        vllm::catch_up(&self.steps, load.n_step);
        vllm::catch_up(&self.drafts, load.n_draft);
        vllm::catch_up(&self.draft_tokens, load.n_draft_token);
        vllm::catch_up(&self.accepted_tokens, load.n_accepted_token);
        self.running.set(signed(load.n_running as u64));
        self.waiting.set(signed(load.n_waiting as u64));
        self.busy.set(load.n_step_running as f64 / load.n_step.max(1) as f64);
        let rate = |n: &IntCounter, seconds: &Counter| match seconds.get() {
            seconds if seconds > 0.0 => n.get() as f64 / seconds,
            _ => 0.0,
        };
        self.prompt_rate.set(rate(&self.prompt_tokens, &self.prompt_seconds));
        self.rate.set(rate(&self.decoded, &self.seconds));
    }
}
