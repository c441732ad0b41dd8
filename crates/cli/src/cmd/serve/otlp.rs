//! Exports spans to an OpenTelemetry collector: OTLP over HTTP with JSON, on a thread of its own.
//!
//! Spans go out in batches, at the latest a second after they came. A collector that cannot take them is tried again twice; then the batch is lost and
//! counted. Names of attributes are those of OpenTelemetry's conventions for generative AI, and the latencies' are vLLM's, for which those have
//! none. Source: OTLP specification 1.9, "OTLP/HTTP" and "JSON Protobuf encoding"; semantic conventions, "Generative AI spans".

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::Context;
use serde_json::{Value, json};
use server::spans::{Queued, Span, SpanCounts, Spans};

/// Spans that wait to be exported.
const N_QUEUED: usize = 4096;
/// Spans of a batch.
const N_BATCH: usize = 512;
/// How long a span waits for others.
const DELAY: Duration = Duration::from_secs(1);
/// For a collector to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Waits before a batch is tried again.
const AGAIN: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(2)];
/// Between two lines of the log about a collector that does not answer.
const SILENCE: Duration = Duration::from_secs(60);

/// Who exports.
#[derive(Clone, Debug)]
struct Exporter {
    agent: ureq::Agent,
    url: String,
    resource: Value,
    counts: Arc<SpanCounts>,
    warned: Option<Instant>,
}

/// Reads where spans go: the collector's address, to which the path of traces is added.
pub(super) fn endpoint(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let is_plain = |rest: &str| !rest.is_empty() && !rest.starts_with('/') && !rest.contains(['?', '#', ' ']);
    match rest.filter(|rest| is_plain(rest)) {
        Some(_) => Ok(format!("{}/v1/traces", text.trim_end_matches('/'))),
        None => Err("expected an address such as http://127.0.0.1:4318".to_owned()),
    }
}

/// Starts to export to this URL.
///
/// # Errors
/// When the system starts no thread.
pub(super) fn start(url: &str, worker_id: Option<&str>) -> anyhow::Result<Spans> {
    let (spans, queue) = Spans::new(N_QUEUED);
    let mut exporter = Exporter {
        agent: ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).build().into(),
        url: url.to_owned(),
        resource: resource(worker_id),
        counts: Arc::clone(spans.counts()),
        warned: None,
    };
    thread::Builder::new()
        .name("otlp".to_owned())
        .spawn(move || exporter.run(&queue))
        .context("a thread for spans")?;
    Ok(spans)
}

impl Exporter {
    fn run(&mut self, queue: &Receiver<Queued>) {
        while let Ok(first) = queue.recv() {
            let until = Instant::now() + DELAY;
            let mut batch: Vec<Span> = Vec::new();
            let mut waiter: Option<SyncSender<()>> = None;
            let mut next = Ok(first);
            loop {
                match next {
                    Ok(Queued::Span(span)) => batch.push(*span),
                    Ok(Queued::Flush(done)) => waiter = Some(done),
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
                }
                if batch.len() >= N_BATCH || waiter.is_some() {
                    break;
                }
                next = queue.recv_timeout(until.saturating_duration_since(Instant::now()));
            }
            if !batch.is_empty() {
                self.export(&batch, waiter.is_some());
            }
            if let Some(done) = waiter {
                // Who no longer waits need not know.
                let _gone = done.try_send(());
            }
        }
    }

    fn export(&mut self, batch: &[Span], is_last: bool) {
        let body = body(&self.resource, batch).to_string();
        let mut again = if is_last { [].iter() } else { AGAIN.iter() };
        let n = batch.len() as u64;
        loop {
            let Err(error) = self.agent.post(&self.url).content_type("application/json").send(&body) else {
                self.counts.sent.fetch_add(n, Ordering::Relaxed);
                return;
            };
            match again.next().filter(|_| is_passing(&error)) {
                Some(wait) => thread::sleep(*wait),
                None => {
                    self.counts.lost_on_the_way.fetch_add(n, Ordering::Relaxed);
                    if self.warned.is_none_or(|at| at.elapsed() > SILENCE) {
                        self.warned = Some(Instant::now());
                        tracing::warn!(event = "spans_lost", n, %error, "the collector did not take spans");
                    }
                    return;
                }
            }
        }
    }
}

/// Whether the same batch may be taken later. Source: OTLP, "Failures".
fn is_passing(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::StatusCode(status) => matches!(status, 429 | 502 | 503 | 504),
        _ => true,
    }
}

fn resource(worker_id: Option<&str>) -> Value {
    let mut attributes =
        vec![text("service.name", "worker-orcd"), text("service.version", env!("CARGO_PKG_VERSION"))];
    attributes.extend(worker_id.map(|id| text("service.instance.id", id)));
    json!({"attributes": attributes})
}

/// The body of a request to a collector.
fn body(resource: &Value, batch: &[Span]) -> Value {
    let spans: Vec<Value> = batch.iter().map(span).collect();
    let scope = json!({"name": "worker-orcd", "version": env!("CARGO_PKG_VERSION")});
    json!({"resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": scope, "spans": spans}]}]})
}

/// A server's.
const KIND_SERVER: u8 = 2;
const STATUS_ERROR: u8 = 2;

fn span(span: &Span) -> Value {
    let began = span.began.duration_since(UNIX_EPOCH).unwrap_or_default();
    let nanos = |time: Duration| time.as_nanos().to_string();
    let operation = operation(span.route);
    let mut attributes = vec![
        text("gen_ai.operation.name", operation),
        text("gen_ai.provider.name", "worker-orcd"),
        text("gen_ai.request.model", &span.model),
        text("gen_ai.response.model", &span.model),
        whole("gen_ai.usage.input_tokens", span.n_prompt),
        whole("gen_ai.usage.cache_read.input_tokens", span.n_cached),
        text("http.route", span.route),
        text("worker_orcd.correlation_id", &span.correlation),
        text("worker_orcd.outcome", span.outcome),
        number("gen_ai.latency.e2e", span.took),
    ];
    if operation != "embeddings" {
        attributes.push(whole("gen_ai.usage.output_tokens", span.n_generated));
        let reason = json!({"values": [{"stringValue": span.outcome}]});
        attributes.push(json!({"key": "gen_ai.response.finish_reasons", "value": {"arrayValue": reason}}));
    }
    attributes.extend(span.queued.map(|time| number("gen_ai.latency.time_in_queue", time)));
    attributes.extend(span.first_token.map(|time| number("gen_ai.latency.time_to_first_token", time)));
    attributes.extend(span.error.map(|code| text("error.type", code)));
    let mut written = json!({
        "traceId": format!("{:032x}", span.trace.id),
        "spanId": format!("{:016x}", span.id),
        "name": format!("{operation} {}", span.model),
        "kind": KIND_SERVER,
        "startTimeUnixNano": nanos(began),
        "endTimeUnixNano": nanos(began.saturating_add(span.took)),
        "attributes": attributes,
    });
    if let Some(parent) = span.trace.parent {
        written["parentSpanId"] = format!("{parent:016x}").into();
    }
    if let Some(code) = span.error {
        written["status"] = json!({"code": STATUS_ERROR, "message": code});
    }
    written
}

/// What a route does, in the words of the conventions.
fn operation(route: &str) -> &'static str {
    match route {
        "/v1/embeddings" | "/v1/rerank" => "embeddings",
        "/v1/chat/completions" | "/v1/responses" | "/v1/messages" => "chat",
        _ => "text_completion",
    }
}

fn text(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

/// 64-bit integers are texts in this encoding.
fn whole(key: &str, value: usize) -> Value {
    json!({"key": key, "value": {"intValue": value.to_string()}})
}

fn number(key: &str, value: Duration) -> Value {
    json!({"key": key, "value": {"doubleValue": value.as_secs_f64()}})
}

#[cfg(test)]
mod tests {
    use server::spans::Trace;

    use super::*;

    #[test]
    fn an_endpoint_gets_the_path_of_traces() {
        assert_eq!(endpoint("http://a:4318").as_deref(), Ok("http://a:4318/v1/traces"));
        assert_eq!(endpoint("https://a/otlp/").as_deref(), Ok("https://a/otlp/v1/traces"));
        for wrong in ["a:4318", "http://", "http:///x", "grpc://a:4317", "http://a b", "http://a?x"] {
            assert!(endpoint(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_span_is_written_as_the_encoding_says() {
        let one = Span {
            trace: Trace { id: 0xabc, parent: Some(0x1f), is_sampled: true },
            id: 0x2,
            route: "/v1/chat/completions",
            model: "m".to_owned(),
            began: UNIX_EPOCH + Duration::new(1, 5),
            took: Duration::from_millis(1500),
            queued: Some(Duration::from_millis(250)),
            first_token: None,
            n_prompt: 7,
            n_cached: 3,
            n_generated: 0,
            outcome: "error",
            error: Some("CUDA_ERROR"),
            correlation: "c".to_owned(),
        };
        let body = body(&resource(Some("w")), &[one]);
        let written = &body["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
        let expected = [
            ("traceId", json!("00000000000000000000000000000abc")),
            ("spanId", json!("0000000000000002")),
            ("parentSpanId", json!("000000000000001f")),
            ("name", json!("chat m")),
            ("kind", json!(2)),
            ("startTimeUnixNano", json!("1000000005")),
            ("endTimeUnixNano", json!("2500000005")),
            ("status", json!({"code": 2, "message": "CUDA_ERROR"})),
        ];
        for (name, value) in expected {
            assert_eq!(written[name], value, "{name}");
        }
        let attributes = written["attributes"].as_array().unwrap();
        let value = |key: &str| attributes.iter().find(|a| a["key"] == key).map(|a| a["value"].clone());
        assert_eq!(value("gen_ai.usage.input_tokens"), Some(json!({"intValue": "7"})));
        assert_eq!(value("gen_ai.latency.time_in_queue"), Some(json!({"doubleValue": 0.25})));
        assert_eq!(value("gen_ai.latency.time_to_first_token"), None);
        assert_eq!(value("error.type"), Some(json!({"stringValue": "CUDA_ERROR"})));
        let of_resource = &body["resourceSpans"][0]["resource"]["attributes"];
        assert_eq!(of_resource[2], json!({"key": "service.instance.id", "value": {"stringValue": "w"}}));
    }
}
