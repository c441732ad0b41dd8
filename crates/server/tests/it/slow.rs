//! What if a client sends or reads too slowly, or too much?

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use serde_json::json;
use server::{Limits, ServerOptions};

use crate::served::{Running, ids};
use testkit::scripted::Scripted;

fn limited(limits: Limits) -> Running {
    Running::with(Scripted::new(ids("abc")), ServerOptions { limits, ..ServerOptions::default() })
}

#[test]
fn an_answer_that_nobody_reads_is_broken_off() {
    let limits = Limits { write_time: Duration::from_millis(200), send_buffer: 4096, ..Limits::default() };
    let server = limited(limits);
    // More than all buffers between here and there hold, several times.
    let body = json!({"messages": [{"role": "user", "content": "x"}], "stream": true, "max_tokens": 900, "n": 4,
        "logprobs": true, "top_logprobs": 20});
    let streams: Vec<TcpStream> = (0..4)
        .map(|_| {
            let stream = server.open("POST", "/v1/chat/completions", &body.to_string());
            thread::sleep(Duration::from_millis(10));
            stream
        })
        .collect();
    let count = |name: &str| {
        let (_, _, text) = server.ask("GET", "/metrics", &[]);
        let value = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
        value.trim().parse::<f64>().unwrap()
    };
    // The one connection is that of the question itself.
    while count("worker_http_connections ") > 1.0 {
        thread::sleep(Duration::from_millis(10));
    }
    assert!(count("worker_requests_total{outcome=\"disconnected\"} ") >= 4.0);
    assert_eq!(server.n_unfinished(), 0);
    drop(streams);
}

#[test]
fn a_request_that_does_not_come_is_not_waited_for() {
    let short = Duration::from_millis(200);
    let server =
        limited(Limits { header_time: short, body_time: short, idle_time: short, ..Limits::default() });
    let answer = |sent: &str| {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.write_all(sent.as_bytes()).unwrap();
        let mut answer = String::new();
        // The connection ends by itself, with or without a word.
        let _reset = stream.read_to_string(&mut answer);
        answer
    };
    assert_eq!(answer(""), "");
    let half = answer("POST /execute HTTP/1.1\r\nHost: local");
    assert!(half.is_empty() || half.starts_with("HTTP/1.1 408"), "{half}");
    let body = answer(
        "POST /execute HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\
         Connection: close\r\n\r\n{",
    );
    assert!(body.starts_with("HTTP/1.1 408 "), "{body}");
    // What is said once is heard, and then the connection rests no longer than it may.
    assert!(answer("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").starts_with("HTTP/1.1 200 "));
}

#[test]
fn what_is_too_large_is_refused_by_name() {
    let server = limited(Limits { body_bytes: 1000, prompt_tokens: Some(50), ..Limits::default() });
    let (status, body) = server.post("/execute", &json!({"job_id": "1", "prompt": "x".repeat(1000)}));
    assert_eq!(status, 413, "{body}");
    assert!(body.contains("1000 bytes"), "{body}");
    let (status, body) = server.post("/execute", &json!({"job_id": "1", "prompt": "word ".repeat(100)}));
    assert!(status == 400 && body.contains("at most 50 tokens"), "{status} {body}");
    let line = format!("X-Long: {}", "x".repeat(100_000));
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let _closed = write!(stream, "GET /health HTTP/1.1\r\nHost: localhost\r\n{line}\r\n\r\n");
    let mut answer = String::new();
    let _reset = stream.read_to_string(&mut answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
}
