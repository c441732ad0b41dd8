//! What does the log say of refusals and of the end? And what does a stderr that cannot be written change? Neither answers nor exit codes: lines are
//! lost, and counted.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::program::{command, golden, worker};
use crate::serve::{ENDLESS, Server};

/// For what should take a moment, on a machine that does a lot else.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server with this stderr, and its address. It cannot say which port it took, so it is told one.
fn serve(stderr: Stdio, args: &[&str]) -> (Child, String) {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (port, model) = (address.port().to_string(), golden("llama-q4_0.gguf"));
    let first = ["serve", "--device", "cpu", "--threads", "1", "--model", &model, "--port", &port];
    let mut server = command(&[&first[..], args].concat());
    let server = server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn().unwrap();
    let address = address.to_string();
    let began = Instant::now();
    while get(&address, "/health").is_none_or(|(status, _)| status != 200) {
        assert!(began.elapsed() < PATIENCE, "it does not get ready");
        thread::sleep(Duration::from_millis(10));
    }
    (server, address)
}

fn get(address: &str, path: &str) -> Option<(u16, String)> {
    call(address, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
}

fn complete(address: &str) -> u16 {
    let body = r#"{"prompt":"a","max_tokens":4}"#;
    let head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n";
    call(address, &format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())).unwrap().0
}

fn call(address: &str, request: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some((answer.get(9..12)?.parse().ok()?, answer))
}

/// The exit code after SIGTERM.
fn end(mut server: Child) -> Option<i32> {
    let pid = server.id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let began = Instant::now();
    while server.try_wait().unwrap().is_none() {
        if began.elapsed() > PATIENCE {
            server.kill().unwrap();
            panic!("it does not end");
        }
        thread::sleep(Duration::from_millis(10));
    }
    server.wait().unwrap().code()
}

fn full() -> Stdio {
    OpenOptions::new().write(true).open("/dev/full").unwrap().into()
}

#[test]
fn a_server_whose_log_cannot_be_written_answers_and_counts_what_is_lost() {
    let (server, address) = serve(full(), &[]);
    assert_eq!([complete(&address), complete(&address)], [200, 200]);
    let metrics = get(&address, "/metrics").unwrap().1;
    let lost = metrics.lines().find_map(|line| line.strip_prefix("worker_log_lines_lost_total "));
    assert!(lost.unwrap().parse::<u64>().unwrap() > 4, "{metrics}");
    assert_eq!(end(server), Some(0));
}

#[test]
fn a_server_whose_log_nobody_reads_answers_and_ends() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    // As much as a pipe holds, so that the server cannot write a byte.
    writer.write_all(&[b'\n'; 64 << 10]).unwrap();
    let (server, address) = serve(writer.into(), &[]);
    assert_eq!([complete(&address), complete(&address)], [200, 200]);
    assert_eq!(end(server), Some(0));
    drop(reader);
}

#[test]
fn a_server_whose_reader_of_the_log_is_gone_answers() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let (server, address) = serve(writer.into(), &[]);
    reader.read_exact(&mut [0; 8]).unwrap();
    drop(reader);
    assert_eq!([complete(&address), complete(&address)], [200, 200]);
    assert_eq!(end(server), Some(0));
}

#[test]
fn exit_codes_do_not_depend_on_stderr() {
    let model = golden("llama-q4_0.gguf");
    let code = |args: &[&str]| {
        let mut child = command(args).stdout(Stdio::null()).stderr(full()).spawn().unwrap();
        drop(child.stdin.take());
        child.wait().unwrap().code()
    };
    assert_eq!(code(&["inspect", &model]), Some(0));
    assert_eq!(code(&["inspect", "/nonexistent.gguf"]), Some(3));
    assert_eq!(code(&["inspect"]), Some(2));
    let run = ["run", "--model", &model, "--device", "cpu", "--raw", "-p", "a", "-n", "3"];
    assert_eq!(code(&run), Some(0));
    // The last line is there although a thread of its own writes it.
    let missing = worker(&["inspect", "/nonexistent.gguf"]);
    assert!(
        missing.stderr.starts_with("error: ") && missing.stderr.lines().count() == 1,
        "{}",
        missing.stderr
    );
}

#[test]
fn each_refusal_and_the_drain_are_a_line_with_its_time() {
    let server = Server::ready(&golden(ENDLESS), &[]);
    let ask = |path: &str, body: serde_json::Value| server.call("POST", path, Some(&body));
    let (status, refused) = ask("/v1/completions", json!({"prompt": "zebra", "temprature": 1}));
    let expected = "temprature: expected one of the fields that GET /openapi.json describes, found another; did you mean temperature?";
    assert!(status == 400 && refused.contains(expected), "{refused}");
    let (status, refused) = ask("/execute", json!({"job_id": "1", "prompt": "zebra", "maxtokens": 1}));
    assert!(status == 400 && refused.contains("; did you mean max_tokens?"), "{refused}");
    assert_eq!(ask("/nowhere", json!({})).0, 404);
    server.signal("-TERM");
    let (code, log) = server.end();
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("zebra"), "{log}");
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("request refused")).collect();
    let fields = [
        "status=400 code=\"INVALID_REQUEST\" route=\"/v1/completions\" correlation=",
        "status=400 code=\"INVALID_REQUEST\" route=\"/execute\" correlation=",
        "status=404 code=\"INVALID_REQUEST\" route=\"none\" correlation=",
    ];
    assert_eq!(lines.len(), fields.len(), "{log}");
    assert!(lines.iter().zip(fields).all(|(line, fields)| line.contains(fields)), "{log}");
    assert!(log.contains("waiting at most 30 s for 0 running ones"), "{log}");
    let has_time = |line: &str| line.as_bytes().get(10) == Some(&b'T') && line[..27].ends_with('Z');
    assert!(log.lines().all(has_time), "{log}");
}

#[test]
fn lines_for_programs_name_the_worker_the_device_and_the_job() {
    let server = Server::ready(&golden(ENDLESS), &["--log", "json", "--worker-id", "rack-7:a"]);
    let health: Value = serde_json::from_str(&server.call("GET", "/health", None).1).unwrap();
    assert_eq!(health["quant_kind"], "Q4_K_M");
    let job = json!({"job_id": "job-1", "prompt": "a", "max_tokens": 3, "seed": 1});
    assert_eq!(server.call("POST", "/execute", Some(&job)).0, 200);
    server.signal("-TERM");
    let (code, log) = server.end();
    assert_eq!(code, Some(0), "{log}");
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |event: &str| -> Vec<&Value> { lines.iter().filter(|line| line["event"] == event).collect() };
    assert!(lines.iter().all(|line| line["worker_id"] == "rack-7:a"), "{log}");
    let chosen = lines.iter().position(|line| line["event"] == "model_load_progress").expect("a load");
    assert!(lines[chosen..].iter().all(|line| line["device"] == "cpu"), "{log}");
    assert_eq!(of("model_load_progress").last().expect("a load")["percent"], 100);
    for event in ["execute_start", "execute_end"] {
        let [line] = of(event)[..] else { panic!("{event}: {log}") };
        assert_eq!(line["job_id"], "job-1");
        assert_eq!(line["correlation"].as_str().map(str::len), Some(32), "{log}");
    }
}

#[test]
fn a_load_that_fails_is_an_event() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    std::fs::write(&path, b"GGUF, or so it says").unwrap();
    let path = path.to_str().unwrap();
    let ended = worker(&["serve", "--device", "cpu", "--port", "0", "--log", "json", "--model", path]);
    assert_eq!(ended.code, 4);
    let lines: Vec<Value> = ended.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let last = lines.last().expect("a line");
    assert_eq!(
        (&last["event"], &last["level"], &last["exit_code"]),
        (&json!("error"), &json!("ERROR"), &json!(4))
    );
}
