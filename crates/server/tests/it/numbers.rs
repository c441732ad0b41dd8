//! GET /metrics: does it count what happened, in Prometheus's form, under the names that others know?

use std::collections::BTreeMap;
use std::io::Read;
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::served::{Running, ids, says};
use testkit::scripted::Scripted;

/// Samples by name and labels. Every line must be a comment or a sample whose type was said before it.
fn samples(server: &Running) -> BTreeMap<String, f64> {
    let (status, head, text) = server.ask("GET", "/metrics", &[]);
    assert_eq!(status, 200);
    assert!(head.contains("\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{head}");
    let mut kinds = BTreeMap::new();
    let mut samples = BTreeMap::new();
    for line in text.lines() {
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert!(kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} twice");
        } else if !line.starts_with("# HELP ") {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let family = name.split('{').next().unwrap();
            let of_histogram = ["_bucket", "_sum", "_count"]
                .iter()
                .any(|end| family.strip_suffix(end).is_some_and(|family| kinds.contains_key(family)));
            assert!(of_histogram || kinds.contains_key(family), "{line}");
            samples.insert(name.to_owned(), value.parse().unwrap());
        }
    }
    samples
}

#[test]
fn answers_are_counted_under_both_names() {
    let server = says("abc");
    let before = samples(&server);
    let model = "model_name=\"org/tiny\"";
    assert_eq!(before[&format!("vllm:num_requests_running{{{model}}}")], 0.0);
    let message = json!([{"role": "user", "content": "Hello"}]);
    server.json("/v1/chat/completions", &json!({"messages": message, "n": 2}));
    server.json("/v1/completions", &json!({"prompt": "a", "max_tokens": 1}));
    server.post("/execute", &json!({"job_id": "1", "prompt": "a"}));
    server.post("/execute", &json!({"job_id": "", "prompt": "a"}));
    let after = samples(&server);
    let grew = |name: &str| after[name] - before.get(name).copied().unwrap_or(0.0);
    let n_token = ids("abc").len() as f64;
    assert_eq!(grew("worker_tokens_generated_total"), 3.0 * n_token + 1.0);
    assert_eq!(grew("worker_requests_total{outcome=\"stop\"}"), 3.0);
    assert_eq!(grew("worker_requests_total{outcome=\"length\"}"), 1.0);
    assert_eq!(grew("worker_inference_duration_ms_count"), 4.0);
    assert_eq!(grew("worker_http_requests_total{route=\"/execute\",status=\"400\"}"), 1.0);
    assert_eq!(grew("worker_http_requests_total{route=\"/v1/chat/completions\",status=\"200\"}"), 1.0);
    let vllm = |name: &str, more: &str| grew(&format!("vllm:{name}{{{more}{model}}}"));
    assert_eq!(vllm("request_success_total", "finished_reason=\"stop\","), 3.0);
    assert_eq!(vllm("generation_tokens_total", ""), 3.0 * n_token + 1.0);
    for histogram in ["time_to_first_token", "e2e_request_latency", "request_queue_time"] {
        assert_eq!(vllm(&format!("{histogram}_seconds_count"), ""), 4.0, "{histogram}");
    }
    assert_eq!(vllm("inter_token_latency_seconds_count", ""), 3.0 * (n_token - 1.0));
    assert!(vllm("prompt_tokens_total", "") > 3.0);
    for name in [
        "num_requests_waiting",
        "num_preemptions_total",
        "kv_cache_usage_perc",
        "gpu_cache_usage_perc",
        "prefix_cache_queries_total",
        "prefix_cache_hits_total",
        "spec_decode_num_drafts_total",
        "spec_decode_num_draft_tokens_total",
        "spec_decode_num_accepted_tokens_total",
    ] {
        assert!(after.contains_key(&format!("vllm:{name}{{{model}}}")), "{name}");
    }
    for name in [
        "worker_vram_bytes",
        "worker_uptime_seconds",
        "worker_ready",
        "process_resident_memory_bytes",
        "worker_clients",
        "worker_preemptions_total",
        "worker_replayed_tokens_total",
        "worker_drafts_total{kind=\"lookup\"}",
        "worker_draft_tokens_total{kind=\"draft_model\"}",
        "worker_accepted_draft_tokens_total{kind=\"draft_model\"}",
        "worker_draft_model_in_use",
        "worker_draft_model_steps_total",
        "worker_draft_model_rows_total",
        "worker_draft_model_seconds_total",
        "worker_draft_model_not_numbers_total",
    ] {
        assert!(after.contains_key(name), "{name}");
    }
    assert_eq!(after["worker_ready"], 1.0);
}

#[test]
fn a_cache_s_usage_is_what_has_tokens_in_it_and_not_what_is_reserved() {
    let server = Running::start(Scripted::new(ids("abc")).latency(Duration::from_millis(30)));
    let body = json!({"job_id": "1", "prompt": "a", "max_tokens": 900}).to_string();
    let mut stream = server.open("POST", "/execute", &body);
    stream.read_exact(&mut [0; 200]).unwrap();
    while samples(&server)["worker_kv_cache_used_pages"] < 1.0 {
        thread::sleep(Duration::from_millis(5));
    }
    let now = samples(&server);
    let share = |name: &str| now[&format!("vllm:{name}{{model_name=\"org/tiny\"}}")];
    // Pages have 16 positions, and a request reserves all it can come to need.
    assert_eq!(now["worker_kv_cache_pages"], 256.0);
    let config = "vllm:cache_config_info{block_size=\"16\",model_name=\"org/tiny\",num_gpu_blocks=\"256\"}";
    assert_eq!(now[config], 1.0);
    assert!(now["worker_kv_cache_reserved_pages"] >= 56.0);
    let used = now["worker_kv_cache_used_pages"];
    assert!((1.0..=4.0).contains(&used), "{used}");
    assert_eq!(share("kv_cache_usage_perc"), used / 256.0);
    assert_eq!(share("gpu_cache_usage_perc"), share("kv_cache_usage_perc"));
    let (_, _, health) = server.ask("GET", "/health", &[]);
    let health: serde_json::Value = serde_json::from_str(&health).unwrap();
    let (used, reserved) = (&health["kv_cache_usage"], &health["kv_cache_reserved"]);
    assert!(0.0 < used.as_f64().unwrap() && used.as_f64() < reserved.as_f64(), "{health}");
    drop(stream);
    while samples(&server)["worker_kv_cache_reserved_pages"] > 0.0 {
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(samples(&server)["worker_kv_cache_used_pages"], 0.0);
}

#[test]
fn a_client_that_goes_away_is_counted_and_so_is_a_device_that_fails() {
    let server = Running::start(Scripted::new(ids("abc")).latency(Duration::from_millis(5)));
    let body = json!({"job_id": "1", "prompt": "a", "max_tokens": 900}).to_string();
    let mut stream = server.open("POST", "/execute", &body);
    stream.read_exact(&mut [0; 200]).unwrap();
    // The headers may come before the engine has looked at the request.
    while samples(&server)["vllm:num_requests_running{model_name=\"org/tiny\"}"] < 1.0 {
        thread::sleep(Duration::from_millis(5));
    }
    drop(stream);
    while samples(&server)["worker_requests_total{outcome=\"disconnected\"}"] < 1.0 {
        thread::sleep(Duration::from_millis(5));
    }
    let reason = "vllm:request_success_total{finished_reason=\"abort\",model_name=\"org/tiny\"}";
    assert_eq!(samples(&server)[reason], 1.0);

    let server = Running::start(Scripted::new(ids("abc")).fails_at(3));
    server.post("/execute", &json!({"job_id": "1", "prompt": "a"}));
    let after = samples(&server);
    assert_eq!((after["worker_requests_total{outcome=\"error\"}"], after["worker_ready"]), (1.0, 0.0));
}
