//! How busy is the engine?
//!
//! The engine's thread writes [`Counters`] as it goes, anyone reads them without waiting for it. Each number is exact; numbers read one
//! after the other may be a step apart.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::sequence::By;

/// How busy the engine is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Requests accepted and unfinished.
    pub n_unfinished: usize,
    /// The most that are accepted.
    pub max_unfinished: usize,
    /// Of the unfinished, those that have a slot and pages.
    pub n_running: usize,
    /// Of the unfinished, those that have none yet.
    pub n_waiting: usize,
    /// Pages of the KV cache that no request holds, among them those that are kept because another may want them.
    pub n_free_page: usize,
    /// Pages that have positions of a running request in them. One holds from its start all that it can come to need, most of them empty.
    pub n_used_page: usize,
    /// Pages in all.
    pub n_page: usize,
    /// Pages that are kept for the prompts of later requests, held by a running one or not.
    pub n_cached_page: usize,
    /// Prompt tokens of requests with a cache scope, since the engine started.
    pub n_prefix_query_token: u64,
    /// Of these, those whose pages were there already.
    pub n_prefix_hit_token: u64,
    /// Steps submitted since the engine started.
    pub n_step: u64,
    /// Running requests, added up over these steps.
    pub n_step_running: u64,
    /// Spans with guesses that were collected since the engine started.
    pub n_draft: u64,
    /// Tokens guessed in them.
    pub n_draft_token: u64,
    /// Of these, those that were the tokens chosen.
    pub n_accepted_token: u64,
    /// What of these three is the draft model's.
    pub by_draft: Drafts,
    /// Steps of the draft model since the engine started.
    pub n_draft_step: u64,
    /// Rows of these.
    pub n_draft_row: u64,
    /// How long they took.
    pub draft_time: Duration,
    /// Sequences for which the draft model's logits were not numbers.
    pub n_draft_unsound: u64,
    /// Whether there is a draft model: none where it failed.
    pub has_draft: bool,
    /// Clients that have unfinished requests.
    pub n_client: usize,
    /// How often a running request was stopped for another client's, to go on later.
    pub n_preempted: u64,
    /// Tokens of answers that were computed again for this.
    pub n_replayed_token: u64,
}

/// Guesses of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drafts {
    /// Spans with guesses.
    pub n_draft: u64,
    /// Tokens guessed in them.
    pub n_token: u64,
    /// Of these, those that were the tokens chosen.
    pub n_accepted: u64,
}

/// What the engine's thread tells of itself. Written by it alone.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) n_running: AtomicUsize,
    pub(crate) n_cached_page: AtomicUsize,
    pub(crate) n_prefix_query_token: AtomicU64,
    pub(crate) n_prefix_hit_token: AtomicU64,
    pub(crate) n_step: AtomicU64,
    pub(crate) n_step_running: AtomicU64,
    pub(crate) n_draft: AtomicU64,
    pub(crate) n_draft_token: AtomicU64,
    pub(crate) n_accepted_token: AtomicU64,
    by_draft: [AtomicU64; 3],
    n_draft_step: AtomicU64,
    n_draft_row: AtomicU64,
    draft_nanos: AtomicU64,
    pub(crate) n_draft_unsound: AtomicU64,
    pub(crate) has_draft: AtomicBool,
    pub(crate) n_preempted: AtomicU64,
    pub(crate) n_replayed_token: AtomicU64,
}

impl Counters {
    /// A span with so many guesses was collected, of which so many were right.
    pub(crate) fn count_draft(&self, (n_guess, n_accepted): (usize, usize), by: By) {
        if by == By::Draft {
            let [n, n_token, n_right] = &self.by_draft;
            n.fetch_add(1, Ordering::Relaxed);
            n_token.fetch_add(n_guess as u64, Ordering::Relaxed);
            n_right.fetch_add(n_accepted as u64, Ordering::Relaxed);
        }
        self.n_draft.fetch_add(1, Ordering::Relaxed);
        self.n_draft_token.fetch_add(n_guess as u64, Ordering::Relaxed);
        self.n_accepted_token.fetch_add(n_accepted as u64, Ordering::Relaxed);
    }

    /// A step of the draft model had so many rows and took so long.
    pub(crate) fn count_draft_step(&self, n_row: usize, took: Duration) {
        self.n_draft_step.fetch_add(1, Ordering::Relaxed);
        self.n_draft_row.fetch_add(n_row as u64, Ordering::Relaxed);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.draft_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// These numbers; the others are left at 0.
    pub(crate) fn load(&self) -> Load {
        Load {
            n_running: self.n_running.load(Ordering::Relaxed),
            n_cached_page: self.n_cached_page.load(Ordering::Relaxed),
            n_prefix_query_token: self.n_prefix_query_token.load(Ordering::Relaxed),
            n_prefix_hit_token: self.n_prefix_hit_token.load(Ordering::Relaxed),
            n_step: self.n_step.load(Ordering::Relaxed),
            n_step_running: self.n_step_running.load(Ordering::Relaxed),
            n_draft: self.n_draft.load(Ordering::Relaxed),
            n_draft_token: self.n_draft_token.load(Ordering::Relaxed),
            n_accepted_token: self.n_accepted_token.load(Ordering::Relaxed),
            by_draft: {
                let [n_draft, n_token, n_accepted] =
                    [0, 1, 2].map(|i| self.by_draft[i].load(Ordering::Relaxed));
                Drafts { n_draft, n_token, n_accepted }
            },
            n_draft_step: self.n_draft_step.load(Ordering::Relaxed),
            n_draft_row: self.n_draft_row.load(Ordering::Relaxed),
            draft_time: Duration::from_nanos(self.draft_nanos.load(Ordering::Relaxed)),
            n_draft_unsound: self.n_draft_unsound.load(Ordering::Relaxed),
            has_draft: self.has_draft.load(Ordering::Relaxed),
            n_preempted: self.n_preempted.load(Ordering::Relaxed),
            n_replayed_token: self.n_replayed_token.load(Ordering::Relaxed),
            ..Load::default()
        }
    }
}
