//! Whatever happens to the engine, each stream ends once with an error that has a type, /health says so, and the server ends.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use device::Limits;
use engine::{Engine, EngineError, EngineOptions};
use serde_json::{Value, json};
use server::{Ending, ServerOptions};
use testkit::fake::{Fake, Fault};

use crate::served::Running;

const LIMITS: Limits = Limits {
    page_size: 16,
    n_page: 256,
    window: None,
    n_slot: 4,
    n_row: 64,
    n_ctx: 1000,
    n_vocab: 320,
    n_embd: 4,
    n_snapshot: None,
    n_guess: 0,
    n_in_flight: 2,
};

/// The step at which it happens: prompts are done, answers are not.
const AT: usize = 20;

/// How long a call may last before the engine is given up.
const STALL_AFTER: Duration = Duration::from_secs(1);

#[test]
fn a_device_that_fails_as_a_step_is_submitted() {
    is_told(Fault::SubmitError(AT), "CUDA_ERROR", |error| matches!(error, EngineError::Device(_)));
}

#[test]
fn a_device_that_fails_as_a_step_is_collected() {
    is_told(Fault::CollectError(AT), "CUDA_ERROR", |error| matches!(error, EngineError::Device(_)));
}

#[test]
fn a_step_whose_result_is_lost() {
    is_told(Fault::TicketLost(AT), "INTERNAL", |error| matches!(error, EngineError::Failed(_)));
}

#[test]
fn a_panic() {
    is_told(Fault::Panic(AT), "INTERNAL", |error| matches!(error, EngineError::Failed(_)));
}

#[test]
fn a_call_that_does_not_return() {
    is_told(Fault::Hang(AT), "CUDA_ERROR", |error| matches!(error, EngineError::Stalled { .. }));
}

#[test]
fn memory_that_is_taken_away() {
    is_told(Fault::NotResident(AT), "CUDA_ERROR", |error| matches!(error, EngineError::NotResident));
}

/// The route of a request, its body, and whether its stream may have begun.
fn requests() -> Vec<(&'static str, Value, bool)> {
    let chat = json!([{"role": "user", "content": "a"}]);
    vec![
        ("/execute", json!({"job_id": "1", "prompt": "ab", "temperature": 0, "max_tokens": 900}), true),
        ("/v1/chat/completions", json!({"messages": chat, "stream": true, "ignore_eos": true}), true),
        ("/v1/completions", json!({"prompt": "abc", "stream": true, "ignore_eos": true}), true),
        ("/v1/chat/completions", json!({"messages": chat, "ignore_eos": true}), false),
        // There is no slot for these.
        ("/execute", json!({"job_id": "2", "prompt": "abcd", "temperature": 0}), false),
        ("/v1/completions", json!({"prompt": "abcde", "stream": true, "ignore_eos": true}), false),
    ]
}

/// That this fault is told to streams, to whole answers, to those who wait and to those who come later.
fn is_told(fault: Fault, code: &str, is_expected: fn(&EngineError) -> bool) {
    // A busy machine may hold the first step for long: no stall, but where one is wanted.
    let is_stall = matches!(fault, Fault::Hang(_));
    let fake = Fake::new(LIMITS).latency(Duration::from_millis(1)).fault(fault);
    let gate = Arc::clone(&fake.gate);
    let engine = EngineOptions {
        stall_after: Some(if is_stall { STALL_AFTER } else { Duration::from_secs(60) }),
        memory_every: Duration::from_millis(1),
        ..EngineOptions::default()
    };
    let engine = Engine::spawn(Box::new(fake), engine).unwrap();
    let options = ServerOptions { linger: Duration::from_secs(1), ..ServerOptions::default() };
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/SHA256SUMS");
    let server = Running::over(engine, options, &file);

    // The first step waits until all are there, but for less than a stall.
    let held = gate.lock().unwrap();
    let mut streams = Vec::new();
    for (route, body, _) in requests() {
        streams.push(server.open("POST", route, &body.to_string()));
        while server.n_unfinished() < streams.len() {
            thread::sleep(Duration::from_millis(1));
        }
    }
    drop(held);

    for (stream, (route, body, has_begun)) in streams.iter_mut().zip(requests()) {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let at = format!("{route} {body}: {answer}");
        let status = &answer[9..12];
        let n_error = answer.matches("\"code\":").count();
        assert_eq!(n_error, 1, "one error: {at}");
        assert_eq!(has_begun, answer.contains("\"t\":") || answer.contains("\"choices\":"), "{at}");
        // Headers wait for the first token but for a second, which a hang outlasts.
        assert!(status == "200" || (!has_begun && status == "500"), "{at}");
        if route == "/execute" {
            assert!(
                answer.contains(&format!("\"code\":\"{code}\"")) && answer.contains("\"retriable\":true"),
                "{at}"
            );
            assert_eq!(answer.matches("event: error").count(), usize::from(status == "200"), "{at}");
            assert!(!answer.contains("event: end"), "{at}");
        } else {
            assert!(answer.contains("\"type\":\"server_error\""), "{at}");
            assert_eq!(answer.matches("data: [DONE]").count(), usize::from(status == "200"), "{at}");
        }
    }

    let (status, health) = server.raw("GET", "/health", "");
    let health: Value = serde_json::from_str(&health).unwrap();
    assert_eq!((status, &health["status"], &health["phase"]), (503, &json!("unhealthy"), &json!("failed")));
    let (status, late) = server.raw("POST", "/execute", &requests()[0].1.to_string());
    assert_eq!((status, &serde_json::from_str::<Value>(&late).unwrap()["code"]), (500, &json!(code)));
    let ending = server.ending();
    assert!(matches!(&ending, Ending::Failed(error) if is_expected(error)), "{ending:?}");
}
