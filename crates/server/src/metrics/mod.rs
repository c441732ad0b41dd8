//! How is it doing, in numbers? What Prometheus reads at GET /metrics.
//!
//! The server's own names begin with `worker_`; beside them stand vLLM's (`vllm.rs`) and llama-server's (`llama.rs`), which dashboards and gateways know. Routes tell a
//! [`Recorder`] what happens to a request; what engine and device know is asked for when somebody reads. Times are in seconds unless a name
//! says otherwise. Source: Prometheus, "Exposition formats", text format 0.0.4.

mod drafts;
mod grammars;
mod llama;
mod recorder;
mod vllm;

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use prometheus::core::Collector;
use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

pub use recorder::{Outcome, Recorder};
pub(crate) use vllm::catch_up;

use self::drafts::Drafts;
use self::grammars::Grammars;
use self::llama::Llama;
use self::vllm::Vllm;
use crate::connections::Closed;
use crate::error::{ApiError, Refused};
use crate::kv_events::{KvEventOptions, KvEvents};
use crate::state::{App, Phase, Served};

/// Bounds of `worker_inference_duration_ms`: from a short answer on a GPU to the longest that is usual.
const DURATION_MS: [f64; 15] = [
    1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10_000.0, 60_000.0,
    300_000.0,
];

/// The numbers. Clones are the same.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    http: IntCounterVec,
    requests: IntCounterVec,
    tokens: IntCounter,
    duration: Histogram,
    uptime: Gauge,
    resident_set: IntGauge,
    connections: IntGauge,
    refused: IntCounterVec,
    closed: IntCounterVec,
    preparing: IntGauge,
    body_bytes: IntGauge,
    grammars: Grammars,
    lost_log_lines: IntCounter,
    memory: IntGaugeVec,
    vram: IntGauge,
    ready: IntGauge,
    steps: IntCounter,
    clients: IntGauge,
    preemptions: IntCounter,
    replayed: IntCounter,
    drafts: Drafts,
    llama: Llama,
    pages: IntGauge,
    used_pages: IntGauge,
    reserved_pages: IntGauge,
    cached_pages: IntGauge,
    spans: IntCounter,
    lost_spans: IntCounterVec,
    /// Held while counters are brought up to the engine's, by whoever reads.
    reading: Mutex<()>,
    /// Since the model is there, under its name.
    vllm: OnceLock<Vllm>,
}

impl Inner {
    fn new() -> prometheus::Result<Inner> {
        let registry = Registry::new();
        let r = &registry;
        let http = Opts::new("worker_http_requests_total", "HTTP responses, by route and status");
        let requests = Opts::new("worker_requests_total", "Accepted requests that ended, by outcome");
        let duration = HistogramOpts::new(
            "worker_inference_duration_ms",
            "Milliseconds from the arrival of a request that was accepted until it ended",
        );
        let memory =
            Opts::new("worker_memory_bytes", "Bytes that the device holds for the model, by purpose");
        let refused =
            Opts::new("worker_requests_refused_total", "Requests refused before any work, by reason");
        let closed = Opts::new(
            "worker_http_connections_closed_total",
            "Connections that the server closed, by reason",
        );
        let lost_spans =
            Opts::new("worker_otlp_spans_lost_total", "Spans lost, at the full queue or by the collector");
        let gauge = |name, help| add(r, IntGauge::new(name, help)?);
        let inner = Inner {
            http: add(r, IntCounterVec::new(http, &["route", "status"])?)?,
            requests: add(r, IntCounterVec::new(requests, &["outcome"])?)?,
            tokens: add(r, IntCounter::new("worker_tokens_generated_total", "Generated tokens")?)?,
            duration: add(r, Histogram::with_opts(duration.buckets(DURATION_MS.to_vec()))?)?,
            uptime: add(r, Gauge::new("worker_uptime_seconds", "Seconds since the server began")?)?,
            resident_set: gauge(
                "process_resident_memory_bytes",
                "Bytes of the process in the host's memory",
            )?,
            connections: gauge("worker_http_connections", "Open connections")?,
            refused: add(r, IntCounterVec::new(refused, &["reason"])?)?,
            closed: add(r, IntCounterVec::new(closed, &["reason"])?)?,
            preparing: gauge(
                "worker_requests_preparing",
                "Requests being read, checked and tokenised, or waiting for that",
            )?,
            body_bytes: gauge("worker_body_bytes", "Bytes reserved for the bodies of these requests")?,
            grammars: Grammars::new(r)?,
            lost_log_lines: add(
                r,
                IntCounter::new("worker_log_lines_lost_total", "Lines of the log that could not be written")?,
            )?,
            memory: add(r, IntGaugeVec::new(memory, &["purpose"])?)?,
            vram: gauge("worker_vram_bytes", "Bytes of the GPU's memory held for the model; 0 on a CPU")?,
            ready: gauge("worker_ready", "1 while the server accepts requests, else 0")?,
            steps: add(r, IntCounter::new("worker_steps_total", "Steps that the device computed")?)?,
            clients: gauge("worker_clients", "Clients that have unfinished requests")?,
            preemptions: add(
                r,
                IntCounter::new(
                    "worker_preemptions_total",
                    "Preemptions: requests stopped for another client, to resume later",
                )?,
            )?,
            replayed: add(
                r,
                IntCounter::new(
                    "worker_replayed_tokens_total",
                    "Generated tokens recomputed after preemptions",
                )?,
            )?,
            drafts: Drafts::new(r)?,
            llama: Llama::new(r)?,
            pages: gauge("worker_kv_cache_pages", "Pages of the KV cache")?,
            used_pages: gauge("worker_kv_cache_used_pages", "Pages that have tokens of running requests")?,
            reserved_pages: gauge(
                "worker_kv_cache_reserved_pages",
                "Pages reserved for all that running requests may need",
            )?,
            cached_pages: gauge("worker_kv_cache_cached_pages", "Pages kept for prefix caching")?,
            spans: add(r, IntCounter::new("worker_otlp_spans_total", "Spans that a collector took")?)?,
            lost_spans: add(r, IntCounterVec::new(lost_spans, &["at"])?)?,
            reading: Mutex::new(()),
            vllm: OnceLock::new(),
            registry,
        };
        for name in Outcome::NAMES {
            inner.requests.with_label_values(&[name]);
        }
        for name in Refused::NAMES {
            inner.refused.with_label_values(&[name]);
        }
        for at in ["queue", "collector"] {
            inner.lost_spans.with_label_values(&[at]);
        }
        for name in Closed::NAMES {
            inner.closed.with_label_values(&[name]);
        }
        Ok(inner)
    }

    /// vLLM's names, from the first time that the model is known.
    fn vllm(&self, model: &str) -> &Vllm {
        self.vllm.get_or_init(|| Vllm::new(&self.registry, model).expect(CONSTANT))
    }
}

/// Why making a metric cannot fail: a test makes them all.
const CONSTANT: &str = "names and bounds are constants, right and different";

/// Registers a metric.
pub(crate) fn add<M: Collector + Clone + 'static>(registry: &Registry, metric: M) -> prometheus::Result<M> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics(Arc::new(Inner::new().expect(CONSTANT)))
    }
}

impl Metrics {
    /// What publishes the prefix cache's events, with its numbers among these.
    pub(crate) fn kv_events(&self, options: &KvEventOptions) -> KvEvents {
        KvEvents::new(options, &self.0.registry).expect(CONSTANT)
    }

    /// A response went out.
    pub(crate) fn responded(&self, route: &str, status: u16) {
        self.0.http.with_label_values(&[route, &status.to_string()]).inc();
    }

    /// A request was not looked at.
    pub(crate) fn refused(&self, reason: &str) {
        self.0.refused.with_label_values(&[reason]).inc();
    }

    /// The server closed a connection by itself.
    pub(crate) fn closed(&self, why: Closed) {
        self.0.closed.with_label_values(&[why.name()]).inc();
    }

    /// A connection is open until this is dropped.
    pub(crate) fn connected(&self) -> impl Drop + use<> {
        Counted::new(self.0.connections.clone())
    }

    /// Everything, as Prometheus reads it.
    fn text(&self, app: &App) -> Result<String, prometheus::Error> {
        let inner = &self.0;
        let _one_at_a_time = inner.reading.lock().unwrap_or_else(PoisonError::into_inner);
        inner.uptime.set(app.began().elapsed().as_secs_f64());
        let (n_preparing, n_byte) = app.budget().held();
        inner.preparing.set(signed(n_preparing as u64));
        inner.body_bytes.set(signed(n_byte as u64));
        inner.ready.set(i64::from(app.phase() == Phase::Ready));
        vllm::catch_up(&inner.lost_log_lines, app.options().lost_log_lines.load(Ordering::Relaxed));
        if let Some(bytes) = resident_set() {
            inner.resident_set.set(bytes);
        }
        if let Some(spans) = &app.options().spans {
            let counts = spans.counts();
            vllm::catch_up(&inner.spans, counts.sent.load(Ordering::Relaxed));
            for (at, n) in [("queue", &counts.lost_in_queue), ("collector", &counts.lost_on_the_way)] {
                vllm::catch_up(&inner.lost_spans.with_label_values(&[at]), n.load(Ordering::Relaxed));
            }
        }
        if let Some(events) = app.kv_events() {
            events.look();
        }
        if let Some(served) = app.served() {
            inner.look(served);
        }
        TextEncoder::new().encode_to_string(&inner.registry.gather())
    }
}

impl Inner {
    /// What engine and device know.
    fn look(&self, served: &Served) {
        let memory = served.worker.engine().memory();
        for (purpose, bytes) in [
            ("weights", memory.weights),
            ("kv_cache", memory.kv_cache),
            ("state", memory.state),
            ("activations", memory.activations),
        ] {
            self.memory.with_label_values(&[purpose]).set(signed(bytes));
        }
        self.vram.set(if served.info.device == "cpu" { 0 } else { signed(memory.total()) });
        self.grammars.look(&served.worker.grammar_load());
        let load = served.worker.engine().load();
        vllm::catch_up(&self.steps, load.n_step);
        self.clients.set(signed(load.n_client as u64));
        vllm::catch_up(&self.preemptions, load.n_preempted);
        vllm::catch_up(&self.replayed, load.n_replayed_token);
        self.drafts.look(&load);
        self.llama.look(&load);
        self.pages.set(signed(load.n_page as u64));
        self.used_pages.set(signed(load.n_used_page as u64));
        self.reserved_pages.set(signed(load.n_page.saturating_sub(load.n_free_page) as u64));
        self.cached_pages.set(signed(load.n_cached_page as u64));
        let vllm = self.vllm(&served.info.id);
        vllm.look(&load);
        vllm.look_at_cache(served.worker.engine().limits().page_size, load.n_page);
    }
}

/// Prometheus counts in signed numbers.
fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Bytes of this process in the host's memory, where the system tells. Source: proc_pid_status(5).
fn resident_set() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Counts something in a gauge while it is there.
pub(crate) struct Counted(IntGauge);

impl Counted {
    pub(crate) fn new(gauge: IntGauge) -> Counted {
        gauge.inc();
        Counted(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// llama-server's header of /metrics: when the process began, in seconds since 1970.
const STARTED: HeaderName = HeaderName::from_static("process-start-time-unix");

fn began(app: &App) -> u64 {
    let began = SystemTime::now().checked_sub(app.began().elapsed());
    began.and_then(|began| began.duration_since(UNIX_EPOCH).ok()).unwrap_or_default().as_secs()
}

/// GET /metrics.
pub(crate) async fn metrics(State(app): State<App>) -> Response {
    match app.metrics().text(&app) {
        Ok(text) => {
            let kind =
                (header::CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
            ([kind, (STARTED, began(&app).into())], text).into_response()
        }
        Err(error) => {
            tracing::error!(event = "error", %error, "the metrics cannot be written");
            ApiError::Internal.into_response()
        }
    }
}
