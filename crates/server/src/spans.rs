//! Where the time of a request went, as a span of a trace, for whoever exports it.
//!
//! A span is made at an answer's end and put into a queue of bounded length: no request waits for it. Names are those of OpenTelemetry's conventions
//! for generative AI, which the exporter knows. Source: W3C Trace Context; OpenTelemetry, "Trace SDK", section "Built-in samplers".

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, SystemTime};

use axum::http::HeaderMap;

/// Which trace a request is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The trace; never 0.
    pub id: u128,
    /// The span that the request came from.
    pub parent: Option<u64>,
    /// Whether whoever began it records it.
    pub is_sampled: bool,
}

/// One answer to a request, from its arrival to its end.
#[derive(Clone, Debug)]
pub struct Span {
    /// The trace that it is part of.
    pub trace: Trace,
    /// Its own id; never 0.
    pub id: u64,
    /// The path of its route.
    pub route: &'static str,
    /// The model's name.
    pub model: String,
    /// When the request arrived.
    pub began: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// How long it waited until it ran, where it did.
    pub queued: Option<Duration>,
    /// How long it took to its first token, where it had one.
    pub first_token: Option<Duration>,
    /// Tokens of the prompt.
    pub n_prompt: usize,
    /// Of these, those that were in the prefix cache.
    pub n_cached: usize,
    /// Generated tokens.
    pub n_generated: usize,
    /// How it ended: a value of the metrics' label `outcome`.
    pub outcome: &'static str,
    /// The code of the job API, where it failed.
    pub error: Option<&'static str>,
    /// The id of the log's lines about it.
    pub correlation: String,
}

/// Takes spans; clones are the same queue.
#[derive(Clone, Debug)]
pub struct Spans {
    queue: SyncSender<Queued>,
    counts: Arc<SpanCounts>,
}

/// What an exporter takes from the queue.
#[derive(Debug)]
pub enum Queued {
    /// A span.
    Span(Box<Span>),
    /// Whoever waits at the other end wants all before it to be exported first.
    Flush(SyncSender<()>),
}

/// What became of spans.
#[derive(Debug, Default)]
pub struct SpanCounts {
    /// Exported.
    pub sent: AtomicU64,
    /// Lost because the queue was full.
    pub lost_in_queue: AtomicU64,
    /// Lost because nobody took them.
    pub lost_on_the_way: AtomicU64,
}

impl Spans {
    /// A queue of so many spans.
    #[must_use]
    pub fn new(n_span: usize) -> (Spans, Receiver<Queued>) {
        let (queue, receiver) = sync_channel(n_span);
        (Spans { queue, counts: Arc::default() }, receiver)
    }

    /// What became of spans.
    #[must_use]
    pub fn counts(&self) -> &Arc<SpanCounts> {
        &self.counts
    }

    /// Queues a span, or counts it as lost.
    pub(crate) fn put(&self, span: Span) {
        if self.queue.try_send(Queued::Span(Box::new(span))).is_err() {
            self.counts.lost_in_queue.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until what is queued is exported, but no longer than this.
    pub fn flush(&self, most: Duration) {
        let (done, is_done) = sync_channel(1);
        if self.queue.try_send(Queued::Flush(done)).is_ok() {
            let _late = is_done.recv_timeout(most);
        }
    }
}

impl Trace {
    /// That of `traceparent`, or a new one.
    pub(crate) fn of(headers: &HeaderMap) -> Trace {
        Trace::given(headers).unwrap_or_else(|| {
            let id = u128::from(draw()) << 64 | u128::from(draw());
            Trace { id, parent: None, is_sampled: true }
        })
    }

    /// Version 0 has four fields; later ones may have more after them. Source: W3C Trace Context, section 3.2.
    pub(crate) fn given(headers: &HeaderMap) -> Option<Trace> {
        let text = headers.get("traceparent")?.to_str().ok()?;
        let mut fields = text.split('-');
        let mut hex = |n: usize| {
            let text = fields.next().filter(|text| text.len() == n)?;
            let is_hex = text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
            u128::from_str_radix(text, 16).ok().filter(|_| is_hex)
        };
        let (version, id, parent, flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
        let is_whole = version != 0 || fields.next().is_none();
        let is_good = version != 0xff && id != 0 && parent != 0 && is_whole;
        let parent = u64::try_from(parent).ok();
        is_good.then_some(Trace { id, parent, is_sampled: flags & 1 != 0 })
    }
}

/// A number that no other span has. The standard library seeds a [`RandomState`] from the operating system.
pub(crate) fn draw() -> u64 {
    RandomState::new().hash_one(0).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(text: &str) -> Option<Trace> {
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", text.parse().unwrap());
        Trace::given(&headers)
    }

    #[test]
    fn a_parent_is_read_whole_or_not_at_all() {
        let (id, parent) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
        let expected = Trace {
            id: 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c,
            parent: Some(0xb7ad_6b71_6920_3331),
            is_sampled: true,
        };
        assert_eq!(given(&format!("00-{id}-{parent}-01")), Some(expected));
        assert_eq!(given(&format!("00-{id}-{parent}-00")), Some(Trace { is_sampled: false, ..expected }));
        assert_eq!(given(&format!("01-{id}-{parent}-03-more")), Some(expected));
        for wrong in [
            format!("00-{id}-{parent}"),
            format!("00-{id}-{parent}-01-more"),
            format!("ff-{id}-{parent}-01"),
            format!("00-{}-{parent}-01", "0".repeat(32)),
            format!("00-{id}-{}-01", "0".repeat(16)),
            format!("00-{}-{parent}-01", id.to_uppercase()),
            format!("00-+{}-{parent}-01", &id[1..]),
        ] {
            assert_eq!(given(&wrong), None, "{wrong}");
        }
        let drawn = Trace::of(&HeaderMap::new());
        assert!(drawn.id != 0 && drawn.parent.is_none() && drawn.is_sampled);
    }

    #[test]
    fn a_full_queue_loses_and_counts() {
        let (spans, queue) = Spans::new(1);
        let span = Span {
            trace: Trace { id: 1, parent: None, is_sampled: true },
            id: 1,
            route: "/x",
            model: String::new(),
            began: SystemTime::UNIX_EPOCH,
            took: Duration::ZERO,
            queued: None,
            first_token: None,
            n_prompt: 0,
            n_cached: 0,
            n_generated: 0,
            outcome: "stop",
            error: None,
            correlation: String::new(),
        };
        spans.put(span.clone());
        spans.put(span);
        assert_eq!(spans.counts().lost_in_queue.load(Ordering::Relaxed), 1);
        assert!(matches!(queue.recv(), Ok(Queued::Span(_))));
        // Nobody answers.
        spans.flush(Duration::from_millis(1));
    }
}
