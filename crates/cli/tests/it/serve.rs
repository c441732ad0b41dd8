//! Does `serve` answer, finish what it began, and end as it was told?
//!
//! Raw HTTP/1.1 over a socket, so that what is tested is the bytes. The golden models answer noise, but the same noise for the same seed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use expect_test::expect;
use serde_json::{Value, json};

use crate::program::{command, done, golden, worker};

/// A server of its own, which ends with the test.
pub(crate) struct Server {
    child: Child,
    /// Host and port.
    pub(crate) address: String,
    /// What it has said.
    said: Arc<Mutex<String>>,
    log: Option<thread::JoinHandle<()>>,
}

impl Server {
    fn start(model: &str, args: &[&str]) -> Server {
        let first = ["serve", "--device", "cpu", "--threads", "1", "--port", "0", "--model", model];
        let mut child = command(&[&first[..], args].concat()).stdout(Stdio::null()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let (mut said, mut address) = (String::new(), String::new());
        while address.is_empty() {
            let at = said.len();
            assert_ne!(stderr.read_line(&mut said).unwrap(), 0, "it ended: {said}");
            if let Some((_, found)) = said[at..].split_once("listening on http://") {
                // In a log for programs a quotation mark ends it.
                found.split('"').next().unwrap_or_default().trim().clone_into(&mut address);
            }
        }
        let said = Arc::new(Mutex::new(said));
        let so_far = Arc::clone(&said);
        let log = thread::spawn(move || {
            for line in stderr.lines() {
                so_far.lock().unwrap().push_str(&(line.unwrap() + "\n"));
            }
        });
        Server { child, address, said, log: Some(log) }
    }

    /// Waits until requests are taken.
    pub(crate) fn ready(model: &str, args: &[&str]) -> Server {
        let server = Server::start(model, args);
        while server.call("GET", "/health", None).0 != 200 {
            thread::sleep(Duration::from_millis(10));
        }
        server
    }

    pub(crate) fn open(&self, method: &str, path: &str, body: Option<&Value>) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let body = body.map(Value::to_string).unwrap_or_default();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).unwrap();
        BufReader::new(stream)
    }

    /// The status of GET /v1/models with this key.
    pub(crate) fn status_with(&self, key: &str) -> u16 {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(
            stream,
            "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {key}\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        finish(BufReader::new(stream)).0
    }

    /// A whole answer: status, and the body with its chunks joined.
    pub(crate) fn call(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, String) {
        finish(self.open(method, path, body))
    }

    pub(crate) fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap().success());
    }

    /// Waits until it says this.
    pub(crate) fn says(&self, text: &str) {
        while !self.said.lock().unwrap().contains(text) {
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// The exit code and the log, once it has ended.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let began = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            if began.elapsed() > Duration::from_secs(60) {
                self.child.kill().unwrap();
                panic!("it does not end");
            }
            thread::sleep(Duration::from_millis(10));
        }
        self.log.take().unwrap().join().unwrap();
        let said = self.said.lock().unwrap().clone();
        (self.child.wait().unwrap().code(), said)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn finish(mut stream: BufReader<TcpStream>) -> (u16, String) {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {text:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body = match head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        true => unchunk(body),
        false => body.to_owned(),
    };
    (status, body)
}

fn unchunk(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return whole;
        }
        whole.push_str(&rest[..size]);
        body = rest[size..].strip_prefix("\r\n").unwrap();
    }
    panic!("the body was cut off after {whole:?}");
}

/// The events of a job, by name.
pub(crate) fn events(body: &str) -> Vec<(String, Value)> {
    let frames = body.split("\n\n").filter(|frame| !frame.is_empty() && !frame.starts_with(':'));
    let event = |frame: &str| {
        let (name, data) = frame.strip_prefix("event: ").unwrap().split_once("\ndata: ").unwrap();
        (name.to_owned(), serde_json::from_str(data).unwrap())
    };
    frames.map(event).collect()
}

/// The text and the terminal event of a job's answer.
fn answer(body: &str) -> (String, String, Value) {
    let events = events(body);
    assert_eq!(events.first().unwrap().0, "started", "{body}");
    let terminal = |name: &str| name == "end" || name == "error";
    assert_eq!(events.iter().filter(|(name, _)| terminal(name)).count(), 1, "{body}");
    let text = events.iter().filter_map(|(_, value)| value["t"].as_str()).collect();
    let (name, value) = events.last().unwrap().clone();
    assert!(terminal(&name), "{body}");
    (text, name, value)
}

fn job(id: &str, max_tokens: usize) -> Value {
    json!({"job_id": id, "prompt": "the rain", "max_tokens": max_tokens, "seed": 42, "temperature": 0.7})
}

/// A model that, at temperature 0, never says that its answer is over.
pub(crate) const ENDLESS: &str = "qwen2-q4_k_m.gguf";

fn endless(id: &str, max_tokens: usize) -> Value {
    json!({"job_id": id, "prompt": "a", "max_tokens": max_tokens, "temperature": 0})
}

#[test]
fn the_same_job_has_the_same_answer_alone_and_among_others() {
    let server = Server::ready(&golden("llama-q4_0.gguf"), &[]);
    let (status, body) = server.call("POST", "/execute", Some(&job("a", 40)));
    assert_eq!(status, 200);
    let alone = answer(&body);
    let streams: Vec<_> =
        (0..12).map(|i| server.open("POST", "/execute", Some(&job(&format!("b{i}"), 40)))).collect();
    for stream in streams {
        let (_, body) = finish(stream);
        let (text, name, end) = answer(&body);
        assert_eq!((&text, &name, &end["stop_reason"]), (&alone.0, &alone.1, &alone.2["stop_reason"]));
    }
    let (status, health) = server.call("GET", "/health", None);
    let health: Value = serde_json::from_str(&health).unwrap();
    assert_eq!((status, &health["status"], &health["kv_cache_usage"]), (200, &json!("healthy"), &json!(0.0)));
}

#[test]
fn what_is_wrong_with_a_job_is_said_before_anything_runs() {
    let server = Server::ready(&golden("llama-q4_0.gguf"), &["--max-tokens-out", "50"]);
    let check = |body: Value, expected: &str| {
        let (status, text) = server.call("POST", "/execute", Some(&body));
        let error: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (status, error["code"].as_str(), &error["retriable"]),
            (400, Some("INVALID_REQUEST"), &json!(false))
        );
        assert_eq!(error["message"], expected, "{body}");
    };
    check(json!({"job_id": "", "prompt": "x"}), "job_id: expected 1 to 256 characters, found 0");
    check(json!({"job_id": "a", "prompt": ""}), "prompt: expected at least 1 characters, found 0");
    check(job("a", 51), "max_tokens: expected at most 50, found 51");
    check(json!({"job_id": "a", "prompt": "x", "top_p": 2}), "top_p: expected 0 to 1, found 2");
    check(
        json!({"job_id": "a", "prompt": "x", "stop": ["a", "b", "c", "d", "e"]}),
        "stop: expected at most 4 items, found 5",
    );
    let (status, _) = server.call("POST", "/nothing", None);
    assert_eq!(status, 404);
    assert_eq!(server.call("GET", "/execute", None).0, 405);
}

#[test]
fn a_cancelled_job_ends_at_once_and_says_so() {
    let server = Server::ready(&golden(ENDLESS), &["--ctx", "50000", "--max-tokens-out", "40000"]);
    let mut stream = server.open("POST", "/execute", Some(&endless("long", 40_000)));
    let mut line = String::new();
    while !line.contains("event: token") {
        line.clear();
        stream.read_line(&mut line).unwrap();
    }
    for _ in 0..2 {
        assert_eq!(server.call("POST", "/cancel", Some(&json!({"job_id": "long"}))).0, 202);
    }
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("event: error") && rest.contains("CANCELLED"), "{rest}");
}

#[test]
fn a_drain_finishes_what_runs_and_refuses_what_comes() {
    for how in ["SIGTERM", "/shutdown"] {
        let args = ["--ctx", "2000", "--slots", "20", "--allow-shutdown"];
        let server = Server::ready(&golden(ENDLESS), &args);
        let streams: Vec<_> = (0..20)
            .map(|i| {
                let mut stream = server.open("POST", "/execute", Some(&endless(&format!("{i}"), 200 + i)));
                let mut line = String::new();
                while !line.contains("event: started") {
                    line.clear();
                    stream.read_line(&mut line).unwrap();
                }
                stream
            })
            .collect();
        match how {
            "SIGTERM" => server.signal("-TERM"),
            path => assert_eq!(server.call("POST", path, Some(&json!({}))).0, 202),
        }
        while server.call("GET", "/health", None).0 != 503 {}
        let (status, body) = server.call("POST", "/execute", Some(&job("late", 5)));
        assert!(status == 503 && body.contains("UNAVAILABLE"), "{how}: {status} {body}");
        for mut stream in streams {
            let mut rest = String::new();
            stream.read_to_string(&mut rest).unwrap();
            assert!(rest.contains("event: end") && rest.ends_with("0\r\n\r\n"), "{how}: {rest}");
        }
        let (code, log) = server.end();
        assert_eq!(code, Some(0), "{log}");
    }
}

#[test]
fn a_second_interrupt_ends_each_stream_with_its_last_event() {
    let args = ["--ctx", "50000", "--max-tokens-out", "40000", "--kv-cache-size-mb", "64"];
    let server = Server::ready(&golden(ENDLESS), &args);
    let mut stream = server.open("POST", "/execute", Some(&endless("long", 40_000)));
    let mut line = String::new();
    while !line.contains("event: token") {
        line.clear();
        stream.read_line(&mut line).unwrap();
    }
    server.signal("-INT");
    while server.call("GET", "/health", None).0 != 503 {}
    let began = Instant::now();
    server.signal("-INT");
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("event: error") && rest.ends_with("0\r\n\r\n"), "{rest}");
    let (code, log) = server.end();
    assert_eq!(code, Some(130), "{log}");
    assert!(began.elapsed() < Duration::from_secs(10), "{log}");
}

#[test]
fn the_log_says_what_memory_is_made_of() {
    let server = Server::ready(&golden("llama-q4_0.gguf"), &["--slots", "4", "--ctx", "256"]);
    server.says("for 4 sequences of up to 256 tokens: weights ");
    server.says("; 1024 positions in the KV cache; ");
    drop(server);
    let many = Server::ready(&golden("llama-q4_0.gguf"), &["--slots", "16", "--ctx", "256"]);
    many.says("times the memory of the weights: fewer --slots");
}

#[test]
fn a_model_that_cannot_be_loaded_ends_it_with_the_code_of_its_failure() {
    let server = Server::start("/nowhere/m.gguf", &[]);
    let (code, log) = server.end();
    assert_eq!(code, Some(3), "{log}");
}

#[test]
fn whoever_started_it_is_told_once_that_it_is_ready() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/ready", listener.local_addr().unwrap());
    let model = golden("llama-q4_0.gguf");
    let server = Server::start(&model, &["--worker-id", "w1", "--callback-url", &url]);
    let (mut stream, _) = listener.accept().unwrap();
    let mut said = Vec::new();
    let body = loop {
        let mut bytes = [0; 1024];
        let n = stream.read(&mut bytes).unwrap();
        said.extend_from_slice(&bytes[..n]);
        let text = String::from_utf8_lossy(&said);
        if let Some((_, body)) = text.split_once("\r\n\r\n").filter(|(_, body)| body.ends_with('}')) {
            break serde_json::from_str::<Value>(body).unwrap();
        }
        assert_ne!(n, 0, "{text}");
    };
    stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
    let expected = json!({
        "worker_id": "w1", "model_ref": model, "vram_bytes": 0, "uri": format!("http://{}", server.address),
    });
    assert_eq!(body, expected);
    assert_eq!(server.call("GET", "/health", None).0, 200);
}

#[test]
fn an_id_of_a_worker_is_bounded() {
    let start = |id: &str| worker(&["serve", "--model", "m.gguf", "--print-config", "--worker-id", id]);
    let long = "a".repeat(129);
    for (id, found) in
        [("", "0 characters"), ("a b", "' '"), ("a\nb", r"'\n'"), ("é", "'é'"), (&long, "129 characters")]
    {
        let done = start(id);
        assert_eq!(done.code, 2, "{id:?}: {}", done.stderr);
        let expected = format!("expected 1 to 128 ASCII letters, digits, -, _, . or :, found {found}");
        assert!(done.stderr.contains(&expected), "{id:?}: {}", done.stderr);
    }
    for id in ["3f2504e0-4f89-11d3-9a0c-0305e82c3301", "host_1.example:8080", &long[..128]] {
        assert!(start(id).ok().contains(&format!("worker-id = \"{id}\"")), "{id}");
    }
}

#[test]
fn settings_come_from_flags_variables_and_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("serve.toml");
    std::fs::write(&file, "model = \"m.gguf\"\nport = 1\nqueue = 7\nserved-model-name = [\"a\", \"b\"]\n")
        .unwrap();
    let run = |args: &[&str], name: &str, value: &str| {
        let mut command = command(args);
        command.env("WORKER_ORCD_CONFIG", &file).env(name, value).stdin(Stdio::null());
        done(command.output().unwrap())
    };
    let printed = run(&["serve", "--port", "3", "--print-config"], "WORKER_ORCD_QUEUE", "9").ok();
    let wanted = ["model =", "port", "queue", "served-model-name", "host"];
    let lines: Vec<&str> =
        printed.lines().filter(|line| wanted.iter().any(|name| line.starts_with(name))).collect();
    expect![[r#"
        model = "m.gguf"  # file FILE
        host = "127.0.0.1"  # default
        port = 3  # flag --port
        served-model-name = ["a", "b"]  # file FILE
        queue = 9  # environment WORKER_ORCD_QUEUE"#]]
    .assert_eq(&lines.join("\n").replace(file.to_str().unwrap(), "FILE"));

    let refused = run(&["serve"], "WORKER_ORCD_QEUE", "9");
    assert_eq!((refused.code, refused.stderr.lines().count()), (2, 1), "{}", refused.stderr);
    assert!(refused.stderr.ends_with("; did you mean WORKER_ORCD_QUEUE?\n"), "{}", refused.stderr);
    let missing = run(&["serve", "--config", "none.toml"], "X", "");
    assert_eq!((missing.code, missing.stderr.lines().count()), (3, 1), "{}", missing.stderr);
}

#[test]
fn the_settings_can_be_looked_at_without_a_model() {
    let printed = worker(&["serve", "--host", "localhost", "--print-config"]).ok();
    let line = |start: &str| printed.lines().find(|line| line.starts_with(start)).unwrap_or("nothing");
    assert_eq!(line("# model"), "# model is not set (--model, WORKER_ORCD_MODEL)");
    let by_word = worker(&["serve", "m.gguf", "--print-config"]).ok();
    assert!(by_word.contains("model = \"m.gguf\"  # the command line\n"), "{by_word}");
    assert_eq!(line("host"), "host = \"localhost\"  # flag --host");
    assert_eq!(
        line("# slots"),
        "# slots is chosen at start: 8 on the CPU, 64 on a GPU (--slots, WORKER_ORCD_SLOTS)"
    );
    assert!(
        line("# ctx").starts_with("# ctx is chosen at start: the model's training context, at most 4096 (")
    );
    let refused = worker(&["serve"]);
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("were not provided:\n  <MODEL|--model <MODEL>>\n"), "{}", refused.stderr);
}

#[test]
fn localhost_is_the_loopback_address_and_other_names_are_none() {
    let server = Server::start("/nowhere/m.gguf", &["--host", "localhost"]);
    assert!(server.address.starts_with("127.0.0.1:"), "{}", server.address);
    let refused = worker(&["serve", "--model", "m", "--host", "example"]);
    assert_eq!(refused.code, 2);
    let line = "invalid value 'example' for '--host <IP>': expected an IP address or localhost";
    assert!(refused.stderr.contains(line), "{}", refused.stderr);
}

#[test]
fn no_prompt_no_answer_and_no_key_reach_the_log() {
    let key = "xq7-a-key-that-nobody-guesses";
    let server = Server::ready(&golden(ENDLESS), &["-vv", "--api-key", key, "--max-tokens-out", "60"]);
    let mark = "zebra-crossing-4711";
    let bodies = [
        ("/execute", json!({"job_id": "1", "prompt": mark, "max_tokens": 40, "temperature": 0})),
        ("/execute", json!({"job_id": "2", "prompt": mark, "top_p": 7})),
        ("/execute", json!({"job_id": "3", "prompt": [mark]})),
        ("/execute", json!({"job_id": "4", "prompt": "a", "stop": [mark], "wrong-field": mark})),
        ("/v1/completions", json!({"prompt": mark, "max_tokens": 40, "temperature": 0})),
        ("/v1/completions", json!({"prompt": {"deep": mark}})),
        ("/v1/chat/completions", json!({"messages": [{"role": mark, "content": mark}]})),
        ("/v1/chat/completions", json!({"messages": [{"role": "user", "content": [{"type": mark}]}]})),
        ("/tokenize", json!({"content": mark})),
    ];
    let mut answers = Vec::new();
    for (path, body) in &bodies {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        let body = body.to_string();
        let head = format!(
            "POST {path}?{mark} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n\
             X-Correlation-Id: follow-me\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).unwrap();
        let (status, body) = finish(BufReader::new(stream));
        if status == 200 && *path == "/execute" {
            answers.push(answer(&body).0);
        }
    }
    assert_eq!(server.status_with(&format!("{mark}-no-key")), 401);
    server.signal("-TERM");
    let (code, log) = server.end();
    assert_eq!((code, answers.len()), (Some(0), 1), "{log}");
    for event in [
        "startup",
        "model_load_start",
        "model_load_complete",
        "ready",
        "execute_start",
        "execute_end",
        "shutdown",
    ] {
        assert!(log.contains(&format!("event=\"{event}\"")), "{event}: {log}");
    }
    assert!(log.contains("correlation=follow-me"), "{log}");
    let start: String = answers[0].chars().take(12).collect();
    for secret in ["zebra", "4711", "xq7", &start] {
        assert!(!log.contains(secret), "{secret:?}: {log}");
    }
}

#[test]
fn keys_are_read_again_at_a_hangup_and_a_broken_file_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys");
    let write = |text: &str| std::fs::write(&file, text).unwrap();
    write("# ours\nalice:the-first-long-secret role=user weight=2\n");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let server = Server::ready(&golden("llama-q4_0.gguf"), &["--api-key-file", file.to_str().unwrap()]);
    assert_eq!((server.status_with("the-first-long-secret"), server.status_with("wrong")), (200, 401));
    write("alice:another-long-secret\n");
    server.signal("-HUP");
    while server.status_with("another-long-secret") != 200 {
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(server.status_with("the-first-long-secret"), 401);
    write("# no keys\n");
    server.signal("-HUP");
    server.says("nothing has changed");
    assert_eq!(server.status_with("another-long-secret"), 200);
    server.signal("-TERM");
    let (code, log) = server.end();
    assert_eq!(code, Some(0));
    assert!(log.contains("expected at least one key, found none"), "{log}");
    assert!(log.contains("all users can read or write"), "{log}");
}

#[test]
fn what_is_not_safe_is_refused_before_anything_is_loaded() {
    let check = |args: &[&str], expected: &str| {
        let refused = done(
            command(&[&["serve", "--model", "none.gguf", "--port", "0"], args].concat()).output().unwrap(),
        );
        assert_eq!((refused.code, refused.stderr.lines().count()), (2, 2), "{}", refused.stderr);
        assert!(refused.stderr.contains(expected), "{}", refused.stderr);
    };
    check(&["--host", "0.0.0.0"], "can be reached from other machines, and there are no API keys");
    check(&["--api-key", ""], "expected a key, found an empty text");
    check(
        &["--api-key", "a b"],
        "--api-key: line 1: expected visible ASCII characters, found another at column 2",
    );
}

/// Resident bytes of a process.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
}

#[cfg(target_os = "linux")]
#[test]
fn a_hundred_requests_leave_the_memory_as_it_was() {
    let server = Server::ready(&golden("llama-q4_0.gguf"), &[]);
    let hundred = || {
        for seed in 0..100 {
            let body = json!({ "prompt": format!("{seed}"), "seed": seed, "max_tokens": 8 });
            assert_eq!(server.call("POST", "/v1/completions", Some(&body)).0, 200);
        }
        resident(server.child.id())
    };
    // The first ones fill the caches and the pages of the KV cache, which stay.
    let (first, second) = (hundred(), hundred());
    assert!(second <= first + (1 << 20), "{first} bytes after 100 requests, {second} after 200");
}
