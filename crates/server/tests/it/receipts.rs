//! Does every route hand out receipts that can be run again, and refuse them where there can be none?

use std::fs::File;
use std::io::Read;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use expect_test::{Expect, expect};
use serde_json::{Value, json};
use server::{Ending, Phase, ServerOptions};
use tempfile::TempDir;
use worker::receipt::{Comparison, Receipt};

use crate::served::{Running, ids, says, tokenizer};
use testkit::scripted::Scripted;

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";

fn chat(more: &Value) -> Value {
    let mut body = json!({"messages": [{"role": "user", "content": "Hello"}], "receipt": true});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// Runs a receipt again on the server's own worker.
fn verified(server: &Running, receipt: &Value) -> Receipt {
    let receipt = Receipt::parse(&receipt.to_string()).unwrap();
    let worker = server.app().served().unwrap().worker.clone();
    let replay = |receipt: &Receipt| {
        let replay = receipt.replay(&worker, receipt.prompt_ids(None).unwrap()).unwrap();
        let (answer, reason) = replay.wait().unwrap();
        receipt.compare(&answer, &reason)
    };
    assert_eq!(replay(&receipt), Comparison::Equal);
    let mut changed = receipt.clone();
    changed.answer[0] ^= 1;
    assert!(matches!(replay(&changed), Comparison::Different { position: 0, .. }));
    receipt
}

/// The events of a job: name and data.
fn job(server: &Running, body: &Value) -> Vec<(String, Value)> {
    let (status, text) = server.raw("POST", "/execute", &body.to_string());
    assert_eq!(status, 200, "{text}");
    text.split_terminator("\n\n").map(event).collect()
}

fn event(frame: &str) -> (String, Value) {
    let (name, data) = frame.strip_prefix("event: ").unwrap().split_once("\ndata: ").unwrap();
    (name.to_owned(), serde_json::from_str(data).unwrap())
}

#[test]
fn a_job_ends_with_its_receipt() {
    let server = says("Oh €");
    let body = json!({"job_id": "1", "prompt": "Say", "seed": 9, "temperature": 0.7, "receipt": true});
    let mut events = job(&server, &body);
    let (name, end) = events.pop().unwrap();
    assert_eq!(name, "end");
    let receipt = verified(&server, &end["receipt"]);
    assert_eq!((receipt.answer.as_slice(), receipt.parameters.seed), (&*ids("Oh €"), 9));
    // As it was asked for: numbers do not grow digits on their way.
    assert_eq!(end["receipt"]["parameters"]["temperature"].to_string(), "0.7");
    assert!(events.iter().all(|(_, data)| data.get("receipt").is_none()));
    for without in [json!(false), json!(null)] {
        let mut body = body.clone();
        body["receipt"] = without;
        let (_, end) = job(&server, &body).pop().unwrap();
        assert_eq!(end.as_object().unwrap().len(), 3, "{end}");
    }
}

#[test]
fn each_choice_has_its_own_with_its_own_seed() {
    let server = says("Good day");
    let n = json!({"prompt": ["a", "b"], "n": 2, "seed": 5, "receipt": true, "stop": "day"});
    for (path, body, n_prompt) in [(CHAT, chat(&json!({"n": 3, "seed": 5})), 1), (COMPLETIONS, n, 2)] {
        let choices = server.json(path, &body)["choices"].as_array().unwrap().clone();
        let mut streamed = body.clone();
        streamed["stream"] = true.into();
        let events = server.events(path, &streamed);
        for (i, choice) in choices.iter().enumerate() {
            let receipt = verified(&server, &choice["receipt"]);
            assert_eq!(receipt.parameters.seed, 5 + (i % (choices.len() / n_prompt)) as u64);
            assert!(ids("Good day").starts_with(&receipt.answer));
            // A stream says the same, with the reason of the choice's end and nowhere else.
            let with: Vec<&Value> = events
                .iter()
                .map(|event| &event["choices"][0])
                .filter(|part| part["index"] == i && part.get("receipt").is_some())
                .collect();
            let [last] = with.as_slice() else { panic!("{events:?}") };
            assert_eq!(last["finish_reason"], choice["finish_reason"]);
            assert_eq!(last["receipt"], choice["receipt"]);
        }
    }
}

#[test]
fn what_binds_an_answer_and_where_it_stops_are_part_of_it() {
    // Reasoning is no content: its stop string ends nothing.
    let server = says("<think>one two</think>one two");
    let choice = server.json(CHAT, &chat(&json!({"stop": "two"})))["choices"][0].clone();
    assert_eq!(choice["message"]["content"], "one ");
    let receipt = verified(&server, &choice["receipt"]);
    assert_eq!(choice["receipt"]["stop"], json!({"text": "two"}));
    assert_eq!(receipt.answer.len(), ids("<think>one two</think>one two").len());

    let call = r#"<tool_call>{"name": "f", "arguments": {}}</tool_call>"#;
    let server = says(call);
    let tool = json!({"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}});
    let forced = json!({"tools": [tool], "tool_choice": "required", "parallel_tool_calls": false});
    let choice = server.json(CHAT, &chat(&forced))["choices"][0].clone();
    assert_eq!(
        (&choice["finish_reason"], &choice["receipt"]["stop"]),
        (&json!("tool_calls"), &json!("call"))
    );
    let receipt = verified(&server, &choice["receipt"]);
    assert_eq!(receipt.parameters.chat.unwrap().tools, ["f"]);
    assert!(receipt.parameters.constraint.is_some());
}

#[test]
fn a_prompt_can_be_kept_out() {
    let server = says("a");
    let body = json!({"prompt": ids("Hi"), "receipt": {"prompt": "hash"}});
    let kept = server.json(COMPLETIONS, &body)["choices"][0]["receipt"]["prompt"].clone();
    assert_eq!(kept.as_object().unwrap().keys().collect::<Vec<_>>(), ["sha256"]);
    let body = json!({"job_id": "1", "prompt": "Hi", "receipt": {"prompt": "hash"}});
    let (_, end) = job(&server, &body).pop().unwrap();
    assert!(end["receipt"]["prompt"]["sha256"].is_string(), "{end}");
}

#[test]
fn a_cancelled_job_has_one_of_what_there_was() {
    let server = Running::start(Scripted::new(ids("abc")).latency(Duration::from_millis(5)));
    // The hash is known from here on.
    job(&server, &json!({"job_id": "0", "prompt": "a", "max_tokens": 1, "receipt": true}));
    let body = json!({"job_id": "1", "prompt": "a", "max_tokens": 900, "receipt": true}).to_string();
    let mut stream = server.open("POST", "/execute", &body);
    let mut said = String::new();
    while said.matches("event: token").count() < 4 {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        said.push(char::from(byte[0]));
    }
    server.raw("POST", "/cancel", r#"{"job_id": "1"}"#);
    stream.read_to_string(&mut said).unwrap();
    let error = said.split_once("event: error\ndata: ").unwrap().1.lines().next().unwrap();
    let error: Value = serde_json::from_str(error).unwrap();
    assert_eq!((&error["code"], &error["receipt"]["stop"]), (&json!("CANCELLED"), &json!("interrupted")));
    let receipt = verified(&server, &error["receipt"]);
    assert!(receipt.answer.len() >= 4 && receipt.answer.len() < 900);
}

#[test]
fn what_is_no_wish_for_a_receipt_is_refused_by_name() {
    let server = says("x");
    let check = |path: &str, body: Value, expected: &Expect| {
        let (status, text) = server.raw("POST", path, &body.to_string());
        expected.assert_eq(&format!("{status} {text}"));
    };
    check(
        CHAT,
        chat(&json!({"receipt": "yes"})),
        &expect![[
            r#"400 {"error":{"message":"receipt: expected a boolean, an object or null, found a string","type":"invalid_request_error","param":"receipt","code":null}}"#
        ]],
    );
    check(
        CHAT,
        chat(&json!({"receipt": {"prompt": "none"}})),
        &expect![[
            r#"400 {"error":{"message":"receipt.prompt: expected \"ids\" or \"hash\", found \"none\"","type":"invalid_request_error","param":"receipt.prompt","code":null}}"#
        ]],
    );
    check(
        COMPLETIONS,
        json!({"prompt": "a", "receipt": 1}),
        &expect![[
            r#"400 {"error":{"message":"receipt: expected a boolean, an object or null, found an integer","type":"invalid_request_error","param":"receipt","code":null}}"#
        ]],
    );
    check(
        COMPLETIONS,
        json!({"prompt": "a", "receipt": {"promt": "ids"}}),
        &expect![[
            r#"400 {"error":{"message":"receipt.promt: expected one of the fields that GET /openapi.json describes, found another; did you mean prompt?","type":"invalid_request_error","param":"receipt.promt","code":null}}"#
        ]],
    );
    check(
        "/execute",
        json!({"job_id": "1", "prompt": "a", "receipt": []}),
        &expect![[
            r#"400 {"code":"INVALID_REQUEST","message":"receipt: expected a boolean, an object or null, found an array","retriable":false}"#
        ]],
    );
    check(
        "/execute",
        json!({"job_id": "1", "prompt": "a", "receipt": {"prompt": 1}}),
        &expect![[
            r#"400 {"code":"INVALID_REQUEST","message":"receipt.prompt: expected a string, found an integer","retriable":false}"#
        ]],
    );
}

#[test]
fn without_a_hash_nothing_runs_and_no_path_is_told() {
    let server = Running::of_file(
        Scripted::new(vec![tokenizer().ends()[0]]),
        ServerOptions::default(),
        Path::new("/nowhere/secret.gguf"),
    );
    let (status, text) = server.post(COMPLETIONS, &json!({"prompt": "a", "receipt": true}));
    expect![[r#"400 {"error":{"message":"receipt: expected false, since the model's file cannot be read again for its hash","type":"invalid_request_error","param":"receipt","code":null}}"#]].assert_eq(&format!("{status} {text}"));
    assert_eq!(server.post(CHAT, &chat(&json!({}))).0, 400);
    let (status, text) = server.post("/execute", &json!({"job_id": "1", "prompt": "a", "receipt": true}));
    expect![[r#"400 {"code":"INVALID_REQUEST","message":"receipt: expected false, since the model's file cannot be read again for its hash","retriable":false}"#]].assert_eq(&format!("{status} {text}"));
    // Whoever wants none is served.
    assert_eq!(server.post(COMPLETIONS, &json!({"prompt": "a"})).0, 200);
}

/// A folder opens like a file and cannot be read, which shows when its hash is wanted.
#[test]
fn a_hash_that_fails_is_an_error_after_the_answer_and_a_refusal_from_then_on() {
    let folder = tempfile::tempdir().unwrap();
    let start = || {
        let mut answer = ids("ab");
        answer.push(tokenizer().ends()[0]);
        let slow = Scripted::new(answer).latency(Duration::from_millis(200));
        Running::of_file(slow, ServerOptions::default(), folder.path())
    };
    let server = start();
    let body = json!({"prompt": "a", "receipt": true});
    let (status, text) = server.post(COMPLETIONS, &body);
    expect![[r#"500 {"error":{"message":"the answer is complete, but the model's file could not be read again for its receipt","type":"server_error","param":null,"code":"receipt_failed"}}"#]].assert_eq(&format!("{status} {text}"));
    let (status, text) = server.post(COMPLETIONS, &body);
    assert_eq!(status, 400, "{text}");

    let (_, text) = start().post(CHAT, &chat(&json!({"stream": true})));
    expect![[r#"
        "error":{"message":"the answer is complete, but the model's file could not be read again for its receipt","type":"server_error","param":null,"code":"receipt_failed"}}

        data: [DONE]

    "#]].assert_eq(text.rsplit_once("data: {").unwrap().1);
    let job = json!({"job_id": "1", "prompt": "a", "receipt": true});
    let (_, text) = start().raw("POST", "/execute", &job.to_string());
    let (name, data) = event(text.split_terminator("\n\n").last().unwrap());
    expect![[r#"error {"code":"INTERNAL","message":"the answer is complete, but the model's file could not be read again for its receipt","retriable":false}"#]].assert_eq(&format!("{name} {data}"));
}

/// A step that short answers do not come to.
const FAILS_AT: u64 = 60;

/// A model whose file can be read when the test says so.
struct Withheld {
    server: Running,
    writer: File,
    _folder: TempDir,
}

impl Withheld {
    /// With a complete answer that waits for its receipt.
    fn start(drain_timeout: Duration) -> (Withheld, TcpStream) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        let writer = File::options().read(true).write(true).open(&path).unwrap();
        let mut answer = ids("ab");
        answer.push(tokenizer().ends()[0]);
        let options = ServerOptions { drain_timeout, ..ServerOptions::default() };
        let scripted = Scripted::new(answer).latency(Duration::from_millis(5)).fails_at(FAILS_AT);
        let server = Running::of_file(scripted, options, &path);
        let job = json!({"job_id": "1", "prompt": "a", "receipt": true});
        let stream = server.open("POST", "/execute", &job.to_string());
        while server.app().served().unwrap().origin.model.n_waiting() == 0 {
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(server.n_unfinished(), 0);
        (Withheld { server, writer, _folder: folder }, stream)
    }
}

#[test]
fn a_drain_waits_for_receipts_too() {
    let (Withheld { server, writer, _folder }, mut stream) = Withheld::start(Duration::from_secs(30));
    server.app().drain();
    thread::sleep(Duration::from_millis(200));
    assert_eq!(server.raw("GET", "/health", "").0, 503);
    // There is no writer any more, so that the file ends.
    drop(writer);
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    assert!(said.contains("event: end") && said.contains("\"receipt\""), "{said}");
    assert_eq!(server.ending(), Ending::Drained { n_cut: 0 });
}

#[test]
fn a_drain_that_takes_too_long_ends_who_waits_for_a_receipt() {
    let (Withheld { server, writer, _folder }, mut stream) = Withheld::start(Duration::from_millis(100));
    server.app().drain();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    assert!(said.contains("event: error\ndata: {\"code\":\"INTERNAL\""), "{said}");
    assert_eq!(server.ending(), Ending::Drained { n_cut: 1 });
    drop(writer);
}

#[test]
fn an_engine_that_fails_in_a_drain_ends_who_waits_for_a_receipt() {
    let (Withheld { server, writer, _folder }, mut stream) = Withheld::start(Duration::from_secs(30));
    let long = json!({"prompt": "a", "max_tokens": 900, "ignore_eos": true, "stream": true});
    let mut running = server.open("POST", COMPLETIONS, &long.to_string());
    while server.n_unfinished() == 0 && server.app().phase() == Phase::Ready {
        thread::sleep(Duration::from_millis(1));
    }
    server.app().drain();
    for stream in [&mut running, &mut stream] {
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        assert_eq!(said.matches("\"code\":").count(), 1, "{said}");
        assert!(!said.contains("event: end"), "{said}");
    }
    assert!(matches!(server.ending(), Ending::Failed(_)));
    drop(writer);
}
