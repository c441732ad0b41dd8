//! What structured output costs before its first token.

use prometheus::core::{AtomicF64, GenericCounter};
use prometheus::{IntCounter, IntGauge, Registry};
use worker::GrammarLoad;

use super::{add, signed, vllm};

/// Numbers of the grammars.
pub(super) struct Grammars {
    compiled: IntCounter,
    hits: IntCounter,
    waited: GenericCounter<AtomicF64>,
    waiting: IntGauge,
    bytes: IntGauge,
}

impl Grammars {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Grammars> {
        let counter = |name, help| add(registry, IntCounter::new(name, help)?);
        let gauge = |name, help| add(registry, IntGauge::new(name, help)?);
        Ok(Grammars {
            compiled: counter(
                "worker_grammars_compiled_total",
                "Grammars that were compiled, or refused while they were",
            )?,
            hits: counter(
                "worker_grammar_cache_hits_total",
                "Requests for a grammar that was compiled before",
            )?,
            waited: add(
                registry,
                GenericCounter::new(
                    "worker_grammar_wait_seconds_total",
                    "Seconds that requests waited for compilations",
                )?,
            )?,
            waiting: gauge("worker_grammars_waiting", "Requests that wait for a grammar to be compiled")?,
            bytes: gauge(
                "worker_grammar_cache_bytes",
                "Bytes of compiled grammars that are kept, estimated",
            )?,
        })
    }

    pub(super) fn look(&self, load: &GrammarLoad) {
        vllm::catch_up(&self.compiled, load.n_compiled);
        vllm::catch_up(&self.hits, load.n_hit);
        self.waited.inc_by((load.waited.as_secs_f64() - self.waited.get()).max(0.0));
        self.waiting.set(signed(load.n_waiting as u64));
        self.bytes.set(signed(load.bytes as u64));
    }
}
