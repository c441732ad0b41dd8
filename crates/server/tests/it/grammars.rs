//! Is a grammar compiled once for all that a request asks for, and not waited for by a client that has left?

use std::path::Path;
use std::thread;
use std::time::Duration;

use engine::{Engine, EngineOptions};
use serde_json::{Value, json};
use server::{Limits, ServerOptions};
use testkit::scripted::Scripted;

use crate::served::{Running, ids, tokenizer};

/// With places for so many answers, each of which is "abc".
fn running(n_waiting: usize, limits: Limits) -> Running {
    let mut answer = ids("abc");
    answer.push(tokenizer().ends()[0]);
    let options = EngineOptions { n_waiting, ..EngineOptions::default() };
    let engine = Engine::spawn(Box::new(Scripted::new(answer)), options).unwrap();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/SHA256SUMS");
    Running::over(engine, ServerOptions { limits, ..ServerOptions::default() }, &file)
}

/// A request whose schema takes long to compile.
fn dear() -> Value {
    let properties: serde_json::Map<String, Value> = (0..2_400).map(|i| (i.to_string(), json!({}))).collect();
    let names: Vec<&String> = properties.keys().collect();
    let schema = json!({ "type": "object", "required": names, "properties": properties });
    let format = json!({ "type": "json_schema", "json_schema": { "name": "dear", "schema": schema } });
    json!({ "messages": [{ "role": "user", "content": "a" }], "response_format": format, "max_tokens": 1 })
}

fn metric(server: &Running, name: &str) -> f64 {
    let (_, _, text) = server.ask("GET", "/metrics", &[]);
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
}

fn until(server: &Running, name: &str, value: f64) {
    while metric(server, name) != value {
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_request_s_prompts_and_answers_share_one_compilation() {
    let server = running(200, Limits::default());
    let many = json!({ "prompt": vec!["a"; 128], "structured_outputs": { "regex": "[a-c]+x?" } });
    let answers = server.json("/v1/completions", &many);
    assert!(answers["choices"].as_array().unwrap().iter().all(|choice| choice["text"] == "abc"));
    let more = json!({ "prompt": "a", "n": 128, "structured_outputs": { "regex": "[a-c]+x?" } });
    assert_eq!(server.json("/v1/completions", &more)["choices"].as_array().unwrap().len(), 128);
    assert_eq!(metric(&server, "worker_grammars_compiled_total"), 1.0);
}

#[test]
fn who_leaves_does_not_wait_for_a_grammar_any_more() {
    let server = running(0, Limits::default());
    let leaves = server.open("POST", "/v1/chat/completions", &dear().to_string());
    until(&server, "worker_grammars_compiled_total", 1.0);
    drop(leaves);
    until(&server, "worker_grammars_waiting", 0.0);
    // What was begun goes on, and whoever asks next has it, unless it came to an end between two of its parts before that.
    let (status, text) = server.post("/v1/chat/completions", &dear());
    assert_eq!(status, 200, "{text}");
    let n_compiled = metric(&server, "worker_grammars_compiled_total");
    assert!((1.0..=2.0).contains(&n_compiled), "{n_compiled}");
}
