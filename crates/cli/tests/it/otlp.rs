//! Spans of the program, as a collector gets them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::program::golden;
use crate::serve::Server;

/// A collector that answers each request with this line, and where it listens.
fn collector(answer: &'static str) -> (String, Receiver<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (requests, received) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.unwrap());
            let mut lines = Vec::new();
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                match line.trim_end() {
                    "" => break,
                    line => lines.push(line.to_ascii_lowercase()),
                }
            }
            let length = lines.iter().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            let mut body = vec![0; length.parse().unwrap()];
            reader.read_exact(&mut body).unwrap();
            write!(
                reader.get_mut(),
                "HTTP/1.1 {answer}\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}"
            )
            .unwrap();
            requests.send((lines.join("\n"), serde_json::from_slice(&body).unwrap())).unwrap();
        }
    });
    (url, received)
}

/// The value of a span's attribute.
fn attribute<'a>(span: &'a Value, key: &str) -> &'a Value {
    let attributes = span["attributes"].as_array().unwrap();
    &attributes.iter().find(|attribute| attribute["key"] == key).unwrap_or_else(|| panic!("{key}"))["value"]
}

#[test]
fn a_collector_gets_a_span_of_an_answer() {
    let (url, received) = collector("200 OK");
    let args = ["--otlp-endpoint", &url, "--worker-id", "w1", "--served-model-name", "tiny"];
    let server = Server::ready(&golden("llama-q4_0.gguf"), &args);
    let (status, text) = server.call(
        "POST",
        "/v1/completions",
        Some(&json!({"prompt": "ab", "max_tokens": 3, "ignore_eos": true})),
    );
    assert_eq!(status, 200, "{text}");
    let (head, body) = received.recv_timeout(Duration::from_secs(30)).unwrap();
    assert!(
        head.starts_with("post /v1/traces http/1.1") && head.contains("content-type: application/json"),
        "{head}"
    );
    let of_resource = &body["resourceSpans"][0]["resource"]["attributes"];
    assert_eq!(of_resource[2], json!({"key": "service.instance.id", "value": {"stringValue": "w1"}}));
    let span = &body["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&span["name"], &span["kind"]), (&json!("text_completion tiny"), &json!(2)));
    assert_eq!((span["traceId"].as_str().unwrap().len(), span.get("parentSpanId")), (32, None));
    let tokens = |name: &str| json!({"intValue": answer["usage"][name].to_string()});
    assert_eq!(*attribute(span, "gen_ai.usage.input_tokens"), tokens("prompt_tokens"));
    assert_eq!(*attribute(span, "gen_ai.usage.output_tokens"), json!({"intValue": "3"}));
    let seconds = |key: &str| attribute(span, key)["doubleValue"].as_f64().unwrap();
    let [queue, first, all] = ["time_in_queue", "time_to_first_token", "e2e"]
        .map(|name| seconds(&format!("gen_ai.latency.{name}")));
    assert!(0.0 <= queue && queue <= first && first <= all, "{queue} {first} {all}");
    let nanos = |key: &str| span[key].as_str().unwrap().parse::<u64>().unwrap();
    let lasted = (nanos("endTimeUnixNano") - nanos("startTimeUnixNano")) as f64 * 1e-9;
    assert!((lasted - all).abs() < 1e-6, "{lasted} {all}");
}

#[test]
fn spans_that_a_collector_refuses_are_counted_and_an_endpoint_is_checked() {
    let (url, received) = collector("400 Bad Request");
    let server = Server::ready(&golden("llama-q4_0.gguf"), &["--otlp-endpoint", &url]);
    let (status, text) =
        server.call("POST", "/v1/completions", Some(&json!({"prompt": "ab", "max_tokens": 1})));
    assert_eq!(status, 200, "{text}");
    received.recv_timeout(Duration::from_secs(30)).unwrap();
    let expected = "worker_otlp_spans_lost_total{at=\"collector\"} 1\n";
    let counted = (0..500).any(|_| {
        thread::sleep(Duration::from_millis(20));
        server.call("GET", "/metrics", None).1.contains(expected)
    });
    assert!(counted);
}
