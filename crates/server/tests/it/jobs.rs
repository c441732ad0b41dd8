//! POST /execute, beyond what other tests see of it.

use std::time::Duration;

use serde_json::{Value, json};
use server::{Limits, ServerOptions};

use crate::served::{Running, ids, says};
use testkit::scripted::Scripted;

const PATH: &str = "/execute";

/// The data of a job's last event.
fn end(server: &Running, body: &Value) -> Value {
    let (status, text) = server.raw("POST", PATH, &body.to_string());
    assert_eq!(status, 200, "{text}");
    let last = text.split_terminator("\n\n").last().unwrap();
    serde_json::from_str(last.strip_prefix("event: end\ndata: ").unwrap()).unwrap()
}

#[test]
fn a_body_that_is_too_large_is_refused_in_the_form_of_jobs() {
    let limits = Limits { body_bytes: 1000, ..Limits::default() };
    let server = Running::with(Scripted::new(ids("x")), ServerOptions { limits, ..ServerOptions::default() });
    for path in [PATH, "/cancel"] {
        let (status, text) = server.post(path, &json!({"job_id": "1", "prompt": "a".repeat(1000)}));
        let error: Value = serde_json::from_str(&text).unwrap();
        let message = "the body is too large: expected at most 1000 bytes";
        let expected = json!({"code": "INVALID_REQUEST", "message": message, "retriable": false});
        assert_eq!((status, error), (413, expected), "{path}");
    }
}

#[test]
fn null_is_as_good_as_absent() {
    let server = says("Good day");
    let plain = json!({"job_id": "1", "prompt": "a", "seed": 1});
    let mut nulls = plain.clone();
    for name in [
        "stop",
        "max_tokens",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "repetition_penalty",
        "metrics",
        "receipt",
    ] {
        nulls[name] = Value::Null;
    }
    for body in [plain, nulls] {
        let end = end(&server, &body);
        assert_eq!(
            (&end["tokens_out"], &end["stop_reason"]),
            (&json!(ids("Good day").len() + 1), &json!("stop"))
        );
    }
}

#[test]
fn an_empty_stop_is_none() {
    let server = says("Good day");
    for (stop, reason) in [(json!([""]), "stop"), (json!(["", "d"]), "stop_string")] {
        let end = end(&server, &json!({"job_id": "1", "prompt": "a", "seed": 1, "stop": stop}));
        assert_eq!(end["stop_reason"], reason, "{stop}");
    }
}

#[test]
fn a_job_says_when_it_started_and_its_metrics_where_they_are_wanted() {
    let server = says("Good day");
    let events = |metrics: bool| -> Vec<(String, Value)> {
        let body = json!({"job_id": "1", "prompt": "abc", "seed": 1, "metrics": metrics});
        let (status, text) = server.raw("POST", PATH, &body.to_string());
        assert_eq!(status, 200, "{text}");
        let parts = text.split_terminator("\n\n").map(|part| {
            let (name, data) = part.strip_prefix("event: ").unwrap().split_once("\ndata: ").unwrap();
            (name.to_owned(), serde_json::from_str(data).unwrap())
        });
        parts.collect()
    };
    let with = events(true);
    let [.., (name, metrics), (last, end)] = with.as_slice() else { panic!("{with:?}") };
    assert_eq!((name.as_str(), last.as_str()), ("metrics", "end"));
    assert_eq!((&metrics["predicted_n"], &metrics["cache_n"]), (&end["tokens_out"], &json!(0)));
    assert!(metrics["prompt_n"].as_u64().unwrap() >= 3 && metrics["prompt_ms"].is_f64(), "{metrics}");
    assert!(events(false).iter().all(|(name, _)| name != "metrics"));
    let (name, started) = &with[0];
    let (iso, ms) = (started["started_at"].as_str().unwrap(), started["started_at_ms"].as_u64().unwrap());
    assert!(iso.ends_with(&format!(".{:03}Z", ms % 1000)) && iso.len() == 24, "{name}: {started}");
}

#[test]
fn the_time_of_decoding_is_without_that_of_the_prompt() {
    // The prompt takes ten steps of 64 tokens; its answer's first token is the last.
    let server = Running::start(Scripted::new(ids("x")).latency(Duration::from_millis(20)));
    let job = |max_tokens: usize| json!({"job_id": "1", "prompt": "a".repeat(640), "max_tokens": max_tokens});
    assert_eq!(end(&server, &job(1))["decode_time_ms"], 0);
    // Three more steps, two of which may be under way when the first token comes.
    assert!(end(&server, &job(4))["decode_time_ms"].as_u64().unwrap() >= 20);
}

#[test]
fn a_cancellation_that_names_no_job_is_refused_in_the_words_of_all_routes() {
    let server = says("x");
    let long = "a".repeat(257);
    for (body, message) in [
        ("[]", "body: expected an object, found an array"),
        ("{}", "job_id: expected a value, found none"),
        (r#"{"job_id": 1}"#, "job_id: expected a string, found an integer"),
        (
            r#"{"job_id": "a", "x": 1}"#,
            "x: expected one of the fields that GET /openapi.json describes, found another",
        ),
        (
            r#"{"job_id": "a", "job_id": "b"}"#,
            "job_id: line 1, column 30: expected one value under a name, found two that differ",
        ),
        (r#"{"job_id": ""}"#, "job_id: expected 1 to 256 characters, found 0"),
        (&format!(r#"{{"job_id": "{long}"}}"#), "job_id: expected 1 to 256 characters, found 257"),
        ("{", "the body is not JSON: line 1, column 1: expected a comma, a colon or }, found the end"),
    ] {
        let (status, text) = server.raw("POST", "/cancel", body);
        let expected = json!({"code": "INVALID_REQUEST", "message": message, "retriable": false});
        assert_eq!((status, serde_json::from_str(&text).unwrap()), (400, expected), "{body}");
    }
    assert_eq!(server.raw("POST", "/cancel", r#"{"job_id": "a", "job_id": "a"}"#).0, 202);
}
