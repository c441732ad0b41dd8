//! POST /v1/embeddings, and what POST /v1/rerank says where nothing is ranked.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use engine::{Engine, EngineOptions};
use expect_test::{Expect, expect};
use serde_json::{Value, json};
use server::{Limits, ServerOptions};
use testkit::fake::{Fake, LIMITS};
use testkit::scripted::Scripted;

use crate::served::{Running, ids, says};

const PATH: &str = "/v1/embeddings";

fn check(server: &Running, body: &Value, expected: &Expect) {
    let (status, text) = server.post(PATH, body);
    expected.assert_eq(&format!("{status} {text}"));
}

/// A server over the fake executor, whose rows depend on the tokens up to them.
fn faked(limits: device::Limits, latency: Duration) -> Running {
    let limits = device::Limits { n_vocab: 320, n_page: 512, n_ctx: 128, ..limits };
    let fake = Fake::new(limits).latency(latency);
    let engine = Engine::spawn(Box::new(fake), EngineOptions { n_waiting: 4, ..EngineOptions::default() });
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/SHA256SUMS");
    Running::over(engine.unwrap(), ServerOptions::default(), &file)
}

fn vectors(server: &Running, body: &Value) -> Vec<Value> {
    let answer = server.json(PATH, body);
    let data = answer["data"].as_array().unwrap().clone();
    assert!(data.iter().enumerate().all(|(i, item)| item["index"] == i), "{data:?}");
    data.into_iter().map(|mut item| item["embedding"].take()).collect()
}

#[test]
fn a_vector_comes_in_openai_s_form() {
    let server = says("x");
    check(
        &server,
        &json!({"input": "ab", "model": "gpt-4o", "user": "me"}),
        &expect![[
            r#"200 {"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.5883484,0.78446454,0.19611613,0.0,0.0,0.0,0.0,0.0]}],"model":"org/tiny","usage":{"prompt_tokens":2,"total_tokens":2},"ignored_parameters":["user"]}"#
        ]],
    );
    // 0.6 and 0.8 as float32, little-endian.
    check(
        &server,
        &json!({"input": ["a", "ab"], "encoding_format": "base64", "dimensions": 2}),
        &expect![[
            r#"200 {"object":"list","data":[{"object":"embedding","index":0,"embedding":"mpkZP83MTD8="},{"object":"embedding","index":1,"embedding":"mpkZP83MTD8="}],"model":"org/tiny","usage":{"prompt_tokens":3,"total_tokens":3}}"#
        ]],
    );
}

#[test]
fn an_input_is_text_or_tokens_or_several() {
    let server = faked(LIMITS, Duration::ZERO);
    let one = |input: Value| vectors(&server, &json!({"input": input})).remove(0);
    let (a, b) = (one(json!("ab")), one(json!("a longer text €")));
    assert_ne!(a, b);
    let all = |input: Value| vectors(&server, &json!({"input": input}));
    assert_eq!(all(json!(["ab", "a longer text €", "ab"])), [a.clone(), b.clone(), a.clone()]);
    assert_eq!(all(json!(ids("ab"))), std::slice::from_ref(&a));
    assert_eq!(all(json!([ids("ab"), ids("a longer text €")])), [a, b]);
}

#[test]
fn what_is_no_input_is_refused_by_its_name() {
    let server = says("x");
    for (body, expected) in [
        (
            json!({"input": ""}),
            expect![[
                r#"400 {"error":{"message":"input: expected 1 to 1000 tokens, found 0","type":"invalid_request_error","param":"input","code":null}}"#
            ]],
        ),
        (
            json!({"input": ["a", ""]}),
            expect![[
                r#"400 {"error":{"message":"input[1]: expected 1 to 1000 tokens, found 0","type":"invalid_request_error","param":"input[1]","code":null}}"#
            ]],
        ),
        (
            json!({"input": []}),
            expect![[
                r#"400 {"error":{"message":"input: expected 1 to 1048576 items, found 0","type":"invalid_request_error","param":"input","code":null}}"#
            ]],
        ),
        (
            json!({}),
            expect![[
                r#"400 {"error":{"message":"input: expected a value, found none","type":"invalid_request_error","param":"input","code":null}}"#
            ]],
        ),
        (
            json!({"input": vec!["a"; 10_000]}),
            expect![[
                r#"400 {"error":{"message":"input: expected at most 2048 texts with vectors of 8 values, found 10000","type":"invalid_request_error","param":"input","code":null}}"#
            ]],
        ),
        (
            json!({"input": ["a", "b ".repeat(1000)]}),
            expect![[
                r#"400 {"error":{"message":"input[1]: expected at most 1000 tokens, found 1001, 1 too many: shorten it, or start with a --ctx of at least 1002","type":"invalid_request_error","param":"input[1]","code":"context_length_exceeded","n_prompt_tokens":1001,"n_ctx":1000}}"#
            ]],
        ),
        (
            json!({"input": [1, 320]}),
            expect![[
                r#"400 {"error":{"message":"input: expected ids below 320, found 320","type":"invalid_request_error","param":"input","code":null}}"#
            ]],
        ),
        (
            json!({"input": [[1], [-1]]}),
            expect![[
                r#"400 {"error":{"message":"input[1][0]: expected 0 to 4294967295, found -1","type":"invalid_request_error","param":"input[1][0]","code":null}}"#
            ]],
        ),
        (
            json!({"input": "a", "dimensions": 9}),
            expect![[
                r#"400 {"error":{"message":"dimensions: expected 1 to 8, the model's own, found 9","type":"invalid_request_error","param":"dimensions","code":null}}"#
            ]],
        ),
        (
            json!({"input": "a", "dimensions": 0}),
            expect![[
                r#"400 {"error":{"message":"dimensions: expected 1 to 1048576, found 0","type":"invalid_request_error","param":"dimensions","code":null}}"#
            ]],
        ),
        (
            json!({"input": "a", "encoding_format": "int8"}),
            expect![[
                r#"400 {"error":{"message":"encoding_format: expected \"float\", \"base64\" or null, found \"int8\"","type":"invalid_request_error","param":"encoding_format","code":null}}"#
            ]],
        ),
        (
            json!({"input": "a", "receipt": true}),
            expect![[
                r#"400 {"error":{"message":"receipt: expected one of the fields that GET /openapi.json describes, found another","type":"invalid_request_error","param":"receipt","code":null}}"#
            ]],
        ),
        (
            json!({"input": "a", "model": "another"}),
            expect![[
                r#"404 {"error":{"message":"the model `another` is not served here; GET /v1/models names the one that is","type":"invalid_request_error","param":"model","code":"model_not_found"}}"#
            ]],
        ),
    ] {
        check(&server, &body, &expected);
    }
}

#[test]
fn tokens_are_bounded_in_all_and_by_the_operator() {
    let options = ServerOptions {
        limits: Limits { prompt_tokens: Some(4), ..Limits::default() },
        ..ServerOptions::default()
    };
    let server = Running::with(Scripted::new(ids("x")), options);
    check(
        &server,
        &json!({"input": ["abcd", "abcde"]}),
        &expect![[
            r#"400 {"error":{"message":"input[1]: expected at most 4 tokens, found 5","type":"invalid_request_error","param":"input[1]","code":"context_length_exceeded","n_prompt_tokens":5,"n_ctx":1000}}"#
        ]],
    );
    let server = says("x");
    let lists = vec![vec![1; 1000]; 1100];
    check(
        &server,
        &json!({"input": lists}),
        &expect![[
            r#"400 {"error":{"message":"input[1048]: expected at most 1048576 tokens in all, found 1049000 up to this one","type":"invalid_request_error","param":"input[1048]","code":null}}"#
        ]],
    );
}

#[test]
fn a_batch_is_the_same_as_its_texts_alone_and_takes_the_queue_from_nobody() {
    // 4 slots and 4 places to wait in: a batch of 128 has more texts than there are places.
    let server = faked(LIMITS, Duration::from_micros(200));
    let texts: Vec<String> = (0..128).map(|i| format!("text {i} {}", "x".repeat(i % 60))).collect();
    let alone: Vec<Value> =
        texts.iter().map(|text| vectors(&server, &json!({"input": text})).remove(0)).collect();
    let batch = json!({"input": texts}).to_string();
    let running = server.open("POST", PATH, &batch);
    while server.n_unfinished() == 0 {
        thread::sleep(Duration::from_millis(1));
    }
    let mut n_beside = 0;
    while server.n_unfinished() > 0 {
        let (status, text) = server.post("/v1/completions", &json!({"prompt": "ab", "max_tokens": 1}));
        assert_eq!(status, 200, "{text}");
        n_beside += 1;
    }
    assert!(n_beside > 1, "the batch was over at once");
    drop(running);
    assert_eq!(vectors(&server, &json!({"input": texts})), alone);
    assert_eq!(vectors(&server, &json!({"input": vec!["a"; 2048], "dimensions": 1})).len(), 2048);
}

#[test]
fn who_leaves_a_batch_ends_it() {
    let server = faked(LIMITS, Duration::from_millis(5));
    let running = server.open("POST", PATH, &json!({"input": vec!["abcdefgh".repeat(8); 2000]}).to_string());
    while server.n_unfinished() == 0 {
        thread::sleep(Duration::from_millis(1));
    }
    drop(running);
    let began = Instant::now();
    while server.n_unfinished() > 0 {
        assert!(began.elapsed() < Duration::from_secs(20), "{} are left", server.n_unfinished());
        thread::sleep(Duration::from_millis(5));
    }
    let count = || {
        let (_, text) = server.raw("GET", "/metrics", "");
        let line =
            text.lines().find(|line| line.starts_with("worker_requests_total{outcome=\"disconnected\"}"));
        line.unwrap().rsplit_once(' ').unwrap().1.to_owned()
    };
    // The engine's part ends before the route's, which counts.
    while count() == "0" {
        assert!(began.elapsed() < Duration::from_secs(20), "the client that left is not counted");
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(count(), "1");
}

#[test]
fn an_input_may_mix_texts_and_tokens_as_in_llama_server() {
    let server = faked(LIMITS, Duration::ZERO);
    let [a, b] = [ids("ab"), ids("cd")];
    let whole: Vec<u32> = a.iter().chain(&b).copied().collect();
    let text = &vectors(&server, &json!({"input": "abcd"}))[0];
    let tokens = &vectors(&server, &json!({"input": whole}))[0];
    // One prompt of both, with ids at the top.
    let mixed: Vec<Value> = std::iter::once(json!("ab")).chain(b.iter().map(|id| json!(id))).collect();
    for one in [json!(mixed), json!([mixed]), json!([["ab", "cd"]])] {
        assert_eq!(&vectors(&server, &json!({"input": one}))[..], std::slice::from_ref(tokens), "{one}");
    }
    // Several, each in a form of its own.
    let parts = json!({"content": [{"type": "text", "text": "ab"}, {"type": "text", "text": "cd"}]});
    let several = json!(["abcd", whole, {"prompt_string": "abcd"}, parts]);
    let expected = [text, tokens, text, text].map(Clone::clone);
    assert_eq!(vectors(&server, &json!({"input": several})), expected);
    assert_eq!(&vectors(&server, &json!({"input": parts}))[..], std::slice::from_ref(text));
    for (input, field) in [
        (json!([1, ["ab"]]), "input[1]"),
        (json!({"content": "ab"}), "input.content"),
        (json!({"content": [{"type": "image_url"}]}), "input.content[0].type"),
    ] {
        let (status, text) = server.post(PATH, &json!({"input": input}));
        assert!(status == 400 && text.contains(&format!("\"message\":\"{field}: ")), "{input} {text}");
    }
}

#[test]
fn time_is_over_for_all_texts_of_a_batch() {
    let limits = Limits { inference_time: Duration::from_millis(150), ..Limits::default() };
    let fake = Fake::new(device::Limits { n_vocab: 320, ..LIMITS }).latency(Duration::from_millis(20));
    let engine = Engine::spawn(Box::new(fake), EngineOptions::default()).unwrap();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/SHA256SUMS");
    let server = Running::over(engine, ServerOptions { limits, ..ServerOptions::default() }, &file);
    check(
        &server,
        &json!({"input": vec!["abcdefgh".repeat(4); 1000]}),
        &expect![[
            r#"504 {"error":{"message":"the request timed out","type":"timeout_error","param":null,"code":"timeout"}}"#
        ]],
    );
    while server.n_unfinished() > 0 {
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_device_or_a_model_that_is_not_for_it_says_why() {
    let server = faked(device::Limits { n_embd: 0, ..LIMITS }, Duration::ZERO);
    check(
        &server,
        &json!({"input": "a"}),
        &expect![[
            r#"400 {"error":{"message":"this model gives no embeddings: the device that it is on gives no hidden rows","type":"invalid_request_error","param":"model","code":"unsupported_model"}}"#
        ]],
    );
    let models: Value = serde_json::from_str(&server.raw("GET", "/v1/models", "").1).unwrap();
    assert_eq!(models["data"][0]["embeddings"], Value::Null);
    let server = says("x");
    let body = json!({"query": "a", "documents": ["b", {"text": "c"}]});
    for path in ["/v1/rerank", "/v2/rerank", "/rerank"] {
        let (status, text) = server.post(path, &body);
        expect![[r#"400 {"error":{"message":"this model gives no ranks: its file is not one that ranks (pooling_type is not rank)","type":"invalid_request_error","param":"model","code":"unsupported_model"}}"#]]
            .assert_eq(&format!("{status} {text}"));
    }
    let (status, text) = server.post("/v1/rerank", &json!({"query": "a", "documents": [1]}));
    expect![[r#"400 {"error":{"message":"documents[0]: expected a string or an object, found an integer","type":"invalid_request_error","param":"documents[0]","code":null}}"#]]
        .assert_eq(&format!("{status} {text}"));
}
