//! The names that vLLM's dashboards and Kubernetes' inference gateway know, each with the label `model_name`.
//!
//! The gateway picks a server by the first three: running, waiting and the share of the KV cache that has something in it. Source: vLLM's
//! documentation, "Production metrics"; Gateway API Inference Extension, "Model server protocol".

use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};
use worker::Load;

use super::{add, signed};

/// Seconds until a first token.
const FIRST_TOKEN: [f64; 18] = [
    0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0, 20.0, 80.0,
];
/// Seconds between tokens; a small model on a fast GPU takes a quarter of a millisecond.
const BETWEEN_TOKENS: [f64; 18] = [
    0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5,
    10.0, 40.0,
];
/// Seconds of a request, and of its wait.
const LATENCY: [f64; 18] =
    [0.005, 0.025, 0.1, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 960.0];

/// vLLM's metrics of one model.
pub(super) struct Vllm {
    running: IntGauge,
    waiting: IntGauge,
    kv_cache_usage: Gauge,
    /// The same by the name of vLLM's older versions.
    gpu_cache_usage: Gauge,
    /// Always 1; its labels say how large the KV cache is.
    cache_config: IntGaugeVec,
    preemptions: IntCounter,
    prefix_queries: IntCounter,
    prefix_hits: IntCounter,
    drafts: IntCounter,
    draft_tokens: IntCounter,
    accepted_tokens: IntCounter,
    pub(super) prompt_tokens: IntCounter,
    pub(super) generation_tokens: IntCounter,
    pub(super) success: IntCounterVec,
    pub(super) first_token: Histogram,
    pub(super) between_tokens: Histogram,
    pub(super) latency: Histogram,
    pub(super) queue: Histogram,
}

impl Vllm {
    pub(super) fn new(registry: &Registry, model: &str) -> prometheus::Result<Vllm> {
        let r = registry;
        let opts = |name, help| Opts::new(name, help).const_label("model_name", model);
        let gauge = |name, help| add(r, IntGauge::with_opts(opts(name, help))?);
        let counter = |name, help| add(r, IntCounter::with_opts(opts(name, help))?);
        let histogram = |name, help, bounds: &[f64]| {
            let opts =
                HistogramOpts::new(name, help).const_label("model_name", model).buckets(bounds.to_vec());
            add(r, Histogram::with_opts(opts)?)
        };
        let share = |name| {
            add(r, Gauge::with_opts(opts(name, "Share of the KV cache that has tokens in it, 0 to 1"))?)
        };
        let success = opts("vllm:request_success_total", "Requests that ended, by reason");
        let cache_config = opts("vllm:cache_config_info", "The KV cache: positions of a page, and pages");
        let vllm = Vllm {
            running: gauge("vllm:num_requests_running", "Requests that are being computed")?,
            waiting: gauge(
                "vllm:num_requests_waiting",
                "Requests that wait for a slot or for KV cache pages",
            )?,
            kv_cache_usage: share("vllm:kv_cache_usage_perc")?,
            gpu_cache_usage: share("vllm:gpu_cache_usage_perc")?,
            cache_config: add(r, IntGaugeVec::new(cache_config, &["block_size", "num_gpu_blocks"])?)?,
            preemptions: counter(
                "vllm:num_preemptions_total",
                "Preemptions: requests stopped to resume later",
            )?,
            prefix_queries: counter(
                "vllm:prefix_cache_queries_total",
                "Prompt tokens looked up in the prefix cache",
            )?,
            prefix_hits: counter("vllm:prefix_cache_hits_total", "Prompt tokens found in the prefix cache")?,
            drafts: counter(
                "vllm:spec_decode_num_drafts_total",
                "Times that tokens of an answer were guessed for a step",
            )?,
            draft_tokens: counter("vllm:spec_decode_num_draft_tokens_total", "Guessed tokens")?,
            accepted_tokens: counter(
                "vllm:spec_decode_num_accepted_tokens_total",
                "Guessed tokens that were the tokens chosen",
            )?,
            prompt_tokens: counter("vllm:prompt_tokens_total", "Prompt tokens of requests that started")?,
            generation_tokens: counter("vllm:generation_tokens_total", "Generated tokens")?,
            success: add(r, IntCounterVec::new(success, &["finished_reason"])?)?,
            first_token: histogram(
                "vllm:time_to_first_token_seconds",
                "Time to first token, from the arrival of a request",
                &FIRST_TOKEN,
            )?,
            between_tokens: histogram(
                "vllm:inter_token_latency_seconds",
                "Time between two tokens of an answer",
                &BETWEEN_TOKENS,
            )?,
            latency: histogram(
                "vllm:e2e_request_latency_seconds",
                "Time from the arrival of a request to its end",
                &LATENCY,
            )?,
            queue: histogram(
                "vllm:request_queue_time_seconds",
                "Time from the arrival of a request until it runs",
                &LATENCY,
            )?,
        };
        for reason in ["stop", "length", "abort", "error"] {
            vllm.success.with_label_values(&[reason]);
        }
        Ok(vllm)
    }

    /// Says how large the KV cache is; engine and numbers are the same for as long as the process lives.
    pub(super) fn look_at_cache(&self, page_size: usize, n_page: usize) {
        self.cache_config.with_label_values(&[&page_size.to_string(), &n_page.to_string()]).set(1);
    }

    /// Takes over what the engine knows; one reader at a time.
    pub(super) fn look(&self, load: &Load) {
        let used = if load.n_page == 0 { 0.0 } else { load.n_used_page as f64 / load.n_page as f64 };
        self.running.set(signed(load.n_running as u64));
        self.waiting.set(signed(load.n_waiting as u64));
        self.kv_cache_usage.set(used);
        self.gpu_cache_usage.set(used);
        catch_up(&self.preemptions, load.n_preempted);
        catch_up(&self.prefix_queries, load.n_prefix_query_token);
        catch_up(&self.prefix_hits, load.n_prefix_hit_token);
        catch_up(&self.drafts, load.n_draft);
        catch_up(&self.draft_tokens, load.n_draft_token);
        catch_up(&self.accepted_tokens, load.n_accepted_token);
    }
}

/// Brings a counter up to one that is kept elsewhere.
pub(crate) fn catch_up(counter: &IntCounter, to: u64) {
    counter.inc_by(to.saturating_sub(counter.get()));
}
