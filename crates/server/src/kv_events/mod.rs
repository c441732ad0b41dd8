//! What the prefix cache keeps, published for routers that send a prompt where its start is: vLLM's KV cache events over ZeroMQ.
//!
//! The engine tells batches to a thread here and never waits for it; the thread writes them down once, and puts them into a ring that all
//! subscribers read ([`publish`]). A message has three frames: the topic, the batch's number as 8 bytes with the highest first, and the payload
//! ([`wire`]). A subscriber that comes later hears only of what happens from then on; the last batches can be asked for ([`replay`]).

mod publish;
mod replay;
mod wire;
mod zmtp;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::{io, thread};

use bytes::Bytes;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use tokio::net::TcpListener;
use tokio::sync::broadcast;

use crate::metrics::{add, catch_up};
use crate::state::Served;

use publish::{Counts, Message};
use replay::Kept;
use wire::Place;

/// Batches that wait for the thread, and messages that wait for the slowest subscriber.
const N_BATCH: usize = 1024;

/// Where events are published, and under which topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvEventOptions {
    /// Where subscribers connect to.
    pub bind: SocketAddr,
    /// Where the last batches can be asked for again.
    pub replay: Option<SocketAddr>,
    /// The first frame of each message.
    pub topic: String,
}

/// Publishes what a cache keeps.
pub(crate) struct KvEvents {
    topic: Bytes,
    ring: broadcast::Sender<Message>,
    /// The last batches, where they can be asked for.
    kept: Option<Kept>,
    metrics: KvMetrics,
    n_lost: OnceLock<Arc<AtomicU64>>,
}

/// What is counted of it.
#[derive(Clone)]
struct KvMetrics {
    batches: IntCounter,
    lost: IntCounterVec,
    subscribers: IntGauge,
}

impl KvEvents {
    /// Has no subscribers and nothing to publish yet.
    pub(crate) fn new(options: &KvEventOptions, registry: &Registry) -> prometheus::Result<KvEvents> {
        let lost = Opts::new(
            "worker_kv_event_batches_lost_total",
            "Batches of KV cache events lost, at the engine's queue or by a slow subscriber",
        );
        let metrics = KvMetrics {
            batches: add(
                registry,
                IntCounter::new("worker_kv_event_batches_total", "Batches of KV cache events published")?,
            )?,
            lost: add(registry, IntCounterVec::new(lost, &["at"])?)?,
            subscribers: add(
                registry,
                IntGauge::new("worker_kv_event_subscribers", "Subscribers of KV cache events")?,
            )?,
        };
        for at in ["queue", "subscriber"] {
            metrics.lost.with_label_values(&[at]);
        }
        let topic = Bytes::from(options.topic.clone());
        let kept = options.replay.map(|_| Kept::default());
        Ok(KvEvents { topic, ring: broadcast::Sender::new(N_BATCH), kept, metrics, n_lost: OnceLock::new() })
    }

    /// Lets subscribers in, and those that ask for the last batches, for as long as the process lives.
    pub(crate) fn serve(&self, listener: TcpListener, replays: Option<TcpListener>) {
        let missed = self.metrics.lost.with_label_values(&["subscriber"]);
        let counts = Counts { subscribers: self.metrics.subscribers.clone(), missed };
        tokio::spawn(publish::serve(listener, self.ring.clone(), counts));
        if let (Some(listener), Some(kept)) = (replays, self.kept.clone()) {
            tokio::spawn(replay::serve(listener, kept));
        }
    }

    /// Publishes what this model's cache keeps from now on. Only the first call counts.
    ///
    /// # Errors
    /// When the system starts no thread.
    pub(crate) fn follow(&self, served: &Served) -> io::Result<()> {
        let engine = served.worker.engine();
        let medium = if served.info.device == "cpu" { "CPU" } else { "GPU" };
        let place = Place { page_size: engine.limits().page_size, medium };
        let listener = engine.listen_to_cache(N_BATCH);
        if self.n_lost.set(listener.n_lost()).is_err() {
            return Ok(());
        }
        let (topic, ring, batches) = (self.topic.clone(), self.ring.clone(), self.metrics.batches.clone());
        let kept = self.kept.clone();
        let publish = move || {
            while let Ok(batch) = listener.next() {
                let Ok(payload) = wire::payload(&batch, place).map(Bytes::from) else { continue };
                batches.inc();
                // First, so that who has heard of a batch can ask for it.
                if let Some(kept) = &kept {
                    kept.keep(batch.number, payload.clone());
                }
                // Nobody listens: then nobody misses it.
                let _alone = ring.send(Message::new(topic.clone(), &[&batch.number.to_be_bytes(), &payload]));
            }
        };
        thread::Builder::new().name("kv-events".to_owned()).spawn(publish).map(drop)
    }

    /// Brings the numbers up to the engine's.
    pub(crate) fn look(&self) {
        if let Some(n_lost) = self.n_lost.get() {
            catch_up(&self.metrics.lost.with_label_values(&["queue"]), n_lost.load(Ordering::Relaxed));
        }
    }
}
