//! What guessing tokens saves: see [`worker::Load`].

use prometheus::{IntCounter, Registry};
use worker::Load;

use super::{add, vllm};

/// Numbers of guessed tokens.
pub(super) struct Drafts {
    drafts: IntCounter,
    tokens: IntCounter,
    accepted: IntCounter,
}

impl Drafts {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Drafts> {
        let counter = |name, help| add(registry, IntCounter::new(name, help)?);
        Ok(Drafts {
            drafts: counter("worker_drafts_total", "Times that tokens of an answer were guessed for a step")?,
            tokens: counter("worker_draft_tokens_total", "Guessed tokens")?,
            accepted: counter(
                "worker_accepted_draft_tokens_total",
                "Guessed tokens that were the tokens chosen",
            )?,
        })
    }

    pub(super) fn look(&self, load: &Load) {
        vllm::catch_up(&self.drafts, load.n_draft);
        vllm::catch_up(&self.tokens, load.n_draft_token);
        vllm::catch_up(&self.accepted, load.n_accepted_token);
    }
}
