//! What does a request hold before the engine has it, and whom does it hold up?

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use engine::{Engine, EngineOptions};
use serde_json::{Value, json};
use server::{Keys, Limits, Security, ServerOptions};
use testkit::fake::Fake;

use crate::served::{Running, ids};
use testkit::scripted::Scripted;

const ROUTES: [&str; 7] = [
    "/execute",
    "/cancel",
    "/v1/chat/completions",
    "/v1/completions",
    "/tokenize",
    "/detokenize",
    "/apply-template",
];

fn limited(limits: Limits) -> Running {
    Running::with(Scripted::new(ids("abc")), ServerOptions { limits, ..ServerOptions::default() })
}

/// A request whose body has not come yet.
fn begun(server: &Running, path: &str, headers: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n{headers}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

fn answer(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn preparing(server: &Running) -> (f64, f64) {
    let (_, _, text) = server.ask("GET", "/metrics", &[]);
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap().parse().unwrap();
    (value("worker_requests_preparing "), value("worker_body_bytes "))
}

#[test]
fn a_length_beyond_the_limit_is_refused_before_the_body_and_the_refusal_is_heard() {
    let server = limited(Limits::default());
    for path in ROUTES {
        let refused = answer(begun(&server, path, "Content-Length: 104857600"));
        assert!(refused.starts_with("HTTP/1.1 413 "), "{path}: {refused}");
        // A client that sends on regardless is told as well.
        let mut stream = begun(&server, path, "Content-Length: 104857600");
        let _closed = stream.write_all(&vec![b'a'; 2 << 20]);
        let refused = answer(stream);
        assert!(refused.starts_with("HTTP/1.1 413 "), "{path}: {refused}");
    }
    let refused = answer(begun(&server, "/execute", "Content-Length: 99999999999999999999"));
    assert!(refused.starts_with("HTTP/1.1 4"), "{refused}");
}

#[test]
fn who_has_no_key_is_told_so_before_the_body() {
    let security = Security { keys: Keys::one("a-long-enough-key").unwrap(), ..Security::default() };
    let options = ServerOptions { security, ..ServerOptions::default() };
    let server = Running::with(Scripted::new(ids("abc")), options);
    for path in ROUTES {
        let refused = answer(begun(&server, path, "Content-Length: 104857600"));
        assert!(refused.starts_with("HTTP/1.1 401 "), "{path}: {refused}");
    }
}

#[test]
fn bodies_take_no_more_memory_than_there_is_for_them() {
    let patient = Duration::from_secs(300);
    let server = limited(Limits {
        body_bytes: 1 << 20,
        budget_bytes: 1 << 20,
        body_grace: patient,
        body_time: patient,
        ..Limits::default()
    });
    let claimed = begun(&server, "/tokenize", "Content-Length: 700000");
    while preparing(&server) != (1.0, 700_000.0) {
        thread::sleep(Duration::from_millis(2));
    }
    for headers in ["Content-Length: 400000", "Transfer-Encoding: chunked"] {
        let mut stream = begun(&server, "/tokenize", headers);
        if headers.starts_with("Transfer") {
            let _closed = stream.write_all(format!("61a80\r\n{}", "a".repeat(400_000)).as_bytes());
        }
        let refused = answer(stream);
        assert!(refused.starts_with("HTTP/1.1 429 "), "{refused}");
        assert!(refused.to_ascii_lowercase().contains("\r\nretry-after: 1\r\n"), "{refused}");
    }
    // Small ones pass beside it.
    assert_eq!(server.post("/tokenize", &json!({"content": "a"})).0, 200);
    drop(claimed);
    while preparing(&server) != (0.0, 0.0) {
        thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(server.post("/tokenize", &json!({"content": " ".repeat(700_000)})).0, 200);
    let (_, _, text) = server.ask("GET", "/metrics", &[]);
    assert!(text.contains("worker_requests_refused_total{reason=\"memory\"} 2\n"), "{text}");
}

#[test]
fn one_key_leaves_memory_and_places_to_the_others() {
    let keys = Keys::parse("a:the-first-long-key\nb:the-second-long-key").unwrap();
    let security = Security { keys, ..Security::default() };
    let patient = Duration::from_secs(300);
    let limits = Limits {
        body_bytes: 1 << 20,
        budget_bytes: 1 << 20,
        body_grace: patient,
        body_time: patient,
        ..Limits::default()
    };
    let server =
        Running::with(Scripted::new(ids("abc")), ServerOptions { security, limits, ..Default::default() });
    let claim =
        |key: &str| begun(&server, "/tokenize", &format!("X-Api-Key: {key}\r\nContent-Length: 200000"));
    let _claimed: Vec<TcpStream> = (0..3).map(|_| claim("the-first-long-key")).collect();
    let is_held = || {
        let (_, _, text) = server.ask("GET", "/metrics", &["X-Api-Key: the-second-long-key"]);
        text.contains("\nworker_body_bytes 600000\n")
    };
    while !is_held() {
        thread::sleep(Duration::from_millis(2));
    }
    let began = Instant::now();
    let refused = answer(claim("the-first-long-key"));
    assert!(refused.starts_with("HTTP/1.1 429 "), "{refused}");
    // Who tries again at once does so ten times a second.
    assert!(began.elapsed() >= Duration::from_millis(100), "{:?}", began.elapsed());
    let mut other = claim("the-second-long-key");
    let content = json!({"content": " ".repeat(200_000 - "{\"content\":\"\"}".len())}).to_string();
    other.write_all(content.as_bytes()).unwrap();
    let accepted = answer(other);
    assert!(accepted.starts_with("HTTP/1.1 200 "), "{}", &accepted[..100]);
}

#[test]
fn a_body_that_hardly_comes_is_given_up() {
    let limits = Limits { body_grace: Duration::from_millis(200), ..Limits::default() };
    let server = limited(limits);
    for headers in ["Content-Length: 4000000", "Transfer-Encoding: chunked"] {
        let began = Instant::now();
        let mut stream = begun(&server, "/execute", headers);
        let mut writer = stream.try_clone().unwrap();
        let trickle = thread::spawn(move || {
            while writer.write_all(b"1\r\n{\r\n").is_ok() && began.elapsed() < Duration::from_secs(5) {
                thread::sleep(Duration::from_millis(20));
            }
        });
        let mut head = [0; 13];
        stream.read_exact(&mut head).unwrap();
        assert_eq!(std::str::from_utf8(&head), Ok("HTTP/1.1 408 "));
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
        drop(stream);
        trickle.join().unwrap();
    }
    assert_eq!(preparing(&server), (0.0, 0.0));
}

#[test]
fn a_full_queue_is_told_before_the_body_and_leaves_other_clients_their_places() {
    let limits = device::Limits {
        page_size: 16,
        n_page: 256,
        window: None,
        n_slot: 2,
        n_row: 64,
        n_ctx: 1000,
        n_vocab: 320,
        n_embd: 8,
        n_snapshot: None,
        n_guess: 0,
        n_in_flight: 2,
    };
    let fake = Fake::new(limits).latency(Duration::from_millis(1));
    let gate = std::sync::Arc::clone(&fake.gate);
    let engine = Engine::spawn(Box::new(fake), EngineOptions { n_waiting: 1, ..EngineOptions::default() });
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/SHA256SUMS");
    let keys = Keys::parse("a:the-first-long-key\nb:the-second-long-key").unwrap();
    let security = Security { keys, ..Security::default() };
    let server =
        Running::over(engine.unwrap(), ServerOptions { security, ..ServerOptions::default() }, &file);
    let held = gate.lock().unwrap();
    let head = |key: &str, length: usize| format!("X-Api-Key: {key}\r\nContent-Length: {length}");
    let ask = |key: &str, path: &str, body: &Value| {
        let body = body.to_string();
        let mut stream = begun(&server, path, &head(key, body.len()));
        stream.write_all(body.as_bytes()).unwrap();
        stream
    };
    let body = json!({"prompt": "ab", "max_tokens": 4, "ignore_eos": true});
    let mut running: Vec<TcpStream> =
        (0..3).map(|_| ask("the-first-long-key", "/v1/completions", &body)).collect();
    while server.n_unfinished() < 3 {
        thread::sleep(Duration::from_millis(1));
    }
    for path in [
        "/execute",
        "/v1/chat/completions",
        "/v1/completions",
        "/infill",
        "/v1/responses",
        "/v1/messages",
        "/v1/embeddings",
        "/v1/rerank",
        "/v2/rerank",
        "/rerank",
    ] {
        let refused = answer(begun(&server, path, &head("the-first-long-key", 4_000_000)));
        assert!(refused.starts_with("HTTP/1.1 429 ") && refused.contains("3 requests"), "{refused}");
    }
    // What needs no place of the engine has one.
    let tokens = answer(ask("the-first-long-key", "/tokenize", &json!({"content": "a"})));
    assert!(tokens.starts_with("HTTP/1.1 200 "), "{tokens}");
    // Another client has places of its own, as many as there are slots.
    running.extend((0..2).map(|_| ask("the-second-long-key", "/v1/completions", &body)));
    while server.n_unfinished() < 5 {
        thread::sleep(Duration::from_millis(1));
    }
    // Where there are several clients, a refusal is not at once.
    let began = Instant::now();
    let refused = answer(begun(&server, "/v1/completions", &head("the-second-long-key", 4_000_000)));
    assert!(refused.starts_with("HTTP/1.1 429 "), "{refused}");
    assert!(began.elapsed() >= Duration::from_millis(100), "{:?}", began.elapsed());
    drop(held);
    for stream in running {
        let answered = answer(stream);
        assert!(answered.starts_with("HTTP/1.1 200 "), "{answered}");
    }
}

#[test]
fn large_bodies_hold_up_neither_probes_nor_small_requests() {
    let server = limited(Limits::default());
    // Its values are many: the worst that a body's reading can cost.
    let body = format!("{{\"prompt\":[{}0],\"max_tokens\":1}}", "0,".repeat((4 << 20) / 2 - 100));
    let large: Vec<TcpStream> = (0..8).map(|_| server.open("POST", "/v1/completions", &body)).collect();
    let (mut longest, began) = (Duration::ZERO, Instant::now());
    for _ in 0..20 {
        let asked = Instant::now();
        assert_eq!(server.ask("GET", "/health", &[]).0, 200);
        assert_eq!(server.post("/tokenize", &json!({"content": "a"})).0, 200);
        longest = longest.max(asked.elapsed());
        thread::sleep(Duration::from_millis(10));
    }
    for stream in large {
        let refused = answer(stream);
        assert!(
            refused.starts_with("HTTP/1.1 400 ") && refused.contains("\"param\":\"prompt\""),
            "{refused}"
        );
    }
    assert!(longest < Duration::from_secs(1), "{longest:?} of {:?}", began.elapsed());
}

#[test]
fn a_request_s_time_runs_while_it_is_prepared() {
    let limits = Limits { inference_time: Duration::from_millis(1), ..Limits::default() };
    let server = limited(limits);
    for (path, body) in [
        ("/v1/chat/completions", json!({"messages": [{"role": "user", "content": "a ".repeat(300_000)}]})),
        ("/tokenize", json!({"content": "a ".repeat(300_000)})),
    ] {
        let (status, text) = server.post(path, &body);
        assert_eq!(status, 504, "{path}: {text}");
    }
}

#[test]
fn what_an_error_repeats_is_bounded() {
    let server = limited(Limits::default());
    let long = "k".repeat(1_000_000);
    let execute = json!({"job_id": "1", "prompt": "a", long.as_str(): 1});
    let nested = json!({"messages": [{"role": "user", "content": "a", long.as_str(): 1}], long.as_str(): 1});
    let typed = json!({"messages": [{"role": "user", "content": "a"}], "logit_bias": {long.as_str(): "x"}});
    for (path, body) in [
        ("/execute", execute),
        ("/cancel", json!({"job_id": "1", long[..4000].to_owned(): 1})),
        ("/v1/chat/completions", nested),
        ("/v1/chat/completions", typed),
        (
            "/v1/chat/completions",
            json!({"model": &long[..1024], "messages": [{"role": "user", "content": "a"}]}),
        ),
        ("/execute", json!({"job_id": "1", "prompt": "a", "receipt": {long.as_str(): 1}})),
    ] {
        let (status, text) = server.post(path, &body);
        assert!((400..405).contains(&status), "{path}: {status}");
        assert!(text.len() < 3000, "{path}: {} bytes", text.len());
        assert!(serde_json::from_str::<Value>(&text).is_ok());
    }
}

#[test]
fn a_path_that_is_no_text_is_answered_as_all_are() {
    let server = limited(Limits::default());
    for path in ["/page/%ff", "/v1/models/%ff", "/nothing/%ff"] {
        let (status, head, body) = server.ask("GET", path, &[]);
        assert_eq!(status, 404, "{path}: {body}");
        assert!(head.contains("\r\ncontent-type: application/json\r\n"), "{path}: {head}");
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["error"]["code"], "not_found");
    }
}

#[test]
fn a_deadline_that_is_no_time_is_refused_as_such_and_one_that_has_passed_is_a_timeout() {
    let server = limited(Limits::default());
    let body = r#"{"prompt": "a", "max_tokens": 1}"#;
    for (deadline, status, said) in [
        ("soon", 400, r#"X-Deadline: expected milliseconds since 1970, as a whole number, found \"soon\""#),
        ("-5", 400, r#"since 1970, as a whole number, found \"-5\""#),
        ("99999999999999999999", 400, r#"found \"99999999999999999999\""#),
        ("a deadline of more than 32 characters", 400, "found 37 bytes"),
        ("1", 504, "the request timed out"),
    ] {
        let headers = format!("X-Deadline: {deadline}\r\nContent-Length: {}", body.len());
        let mut stream = begun(&server, "/v1/completions", &headers);
        stream.write_all(body.as_bytes()).unwrap();
        let answer = answer(stream);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains(said),
            "{deadline}: {answer}"
        );
    }
}
