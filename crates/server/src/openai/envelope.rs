//! What all chunks of a response share: its id, when it began, which model and program wrote it.

use std::hash::{BuildHasher, RandomState};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::state::Served;

/// The fields around an answer.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Envelope {
    id: String,
    pub(super) object: &'static str,
    created: u64,
    model: String,
    system_fingerprint: String,
}

impl Envelope {
    /// Of a new response; ids begin with `prefix`.
    pub(super) fn new(served: &Served, prefix: &str, object: &'static str) -> Envelope {
        Envelope {
            id: new_id(&format!("{prefix}-")),
            object,
            created: now(),
            model: served.info.id.clone(),
            system_fingerprint: fingerprint(&served.info.id),
        }
    }
}

/// An id that no other has.
pub(super) fn new_id(prefix: &str) -> String {
    // The standard library seeds a RandomState from the operating system.
    let [a, b] = [0, 1].map(|n: u64| RandomState::new().hash_one(n));
    format!("{prefix}{a:016x}{b:016x}")
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Program and model: with both, a seed means the same.
fn fingerprint(model: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() || "._".contains(c) { c } else { '-' };
    let short: String = model.chars().map(plain).take(32).collect();
    format!("worker-orcd-{}-{short}", env!("CARGO_PKG_VERSION"))
}

/// A chunk of a stream, or the whole of an answer.
#[derive(Debug, Serialize)]
pub(super) struct Message<'a, C> {
    #[serde(flatten)]
    pub(super) envelope: &'a Envelope,
    pub(super) choices: &'a [C],
    /// Absent, null, or there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) usage: Option<Option<super::usage::Report>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) timings: Option<super::usage::Timings>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(super) ignored_parameters: &'a [String],
}
