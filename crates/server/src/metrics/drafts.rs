//! What guessing tokens saves, and what a draft model takes: see [`worker::Load`].

use prometheus::{Counter, IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use worker::Load;

use super::{add, vllm};

/// Numbers of guessed tokens.
pub(super) struct Drafts {
    drafts: IntCounterVec,
    tokens: IntCounterVec,
    accepted: IntCounterVec,
    model: DraftModel,
}

/// Numbers of the draft model: zero where there is none.
struct DraftModel {
    in_use: IntGauge,
    steps: IntCounter,
    rows: IntCounter,
    seconds: Counter,
    not_numbers: IntCounter,
}

impl Drafts {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Drafts> {
        let by_kind = |name, help| add(registry, IntCounterVec::new(Opts::new(name, help), &["kind"])?);
        let counter = |name, help| add(registry, IntCounter::new(name, help)?);
        Ok(Drafts {
            drafts: by_kind(
                "worker_drafts_total",
                "Times that tokens of an answer were guessed for a step, by what guessed them",
            )?,
            tokens: by_kind("worker_draft_tokens_total", "Guessed tokens, by what guessed them")?,
            accepted: by_kind(
                "worker_accepted_draft_tokens_total",
                "Guessed tokens that were the tokens chosen, by what guessed them",
            )?,
            model: DraftModel {
                in_use: add(
                    registry,
                    IntGauge::new("worker_draft_model_in_use", "1 while a draft model is in use, else 0")?,
                )?,
                steps: counter("worker_draft_model_steps_total", "Steps of the draft model")?,
                rows: counter("worker_draft_model_rows_total", "Rows of the draft model's steps")?,
                seconds: add(
                    registry,
                    Counter::new("worker_draft_model_seconds_total", "Time of the draft model's steps")?,
                )?,
                not_numbers: counter(
                    "worker_draft_model_not_numbers_total",
                    "Answers for which the draft model's logits were not numbers, so that no more of it was guessed",
                )?,
            },
        })
    }

    pub(super) fn look(&self, load: &Load) {
        let model = load.by_draft;
        for (counter, all, of_model) in [
            (&self.drafts, load.n_draft, model.n_draft),
            (&self.tokens, load.n_draft_token, model.n_token),
            (&self.accepted, load.n_accepted_token, model.n_accepted),
        ] {
            // Numbers that are read one after the other may be a step apart.
            vllm::catch_up(&counter.with_label_values(&["lookup"]), all.saturating_sub(of_model));
            vllm::catch_up(&counter.with_label_values(&["draft_model"]), of_model);
        }
        let DraftModel { in_use, steps, rows, seconds, not_numbers } = &self.model;
        in_use.set(i64::from(load.has_draft));
        vllm::catch_up(steps, load.n_draft_step);
        vllm::catch_up(rows, load.n_draft_row);
        seconds.inc_by((load.draft_time.as_secs_f64() - seconds.get()).max(0.0));
        vllm::catch_up(not_numbers, load.n_draft_unsound);
    }
}
