//! A server that answers as llama-server does, and what holds where a request does not say.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use server::{Compat, ServerOptions, Unsaid};
use testkit::scripted::Scripted;

use crate::served::{Running, ids, says, tokenizer};

const CHAT: &str = "/v1/chat/completions";

fn with(text: &str, compat: Compat, unsaid: Unsaid) -> Running {
    let mut answer = ids(text);
    answer.push(tokenizer().ends()[0]);
    Running::with(
        Scripted::new(answer),
        ServerOptions { compat, unsaid: Arc::new(unsaid), ..ServerOptions::default() },
    )
}

fn user(text: &str) -> Value {
    json!([{"role": "user", "content": text}])
}

#[test]
fn the_first_chunk_of_a_chat_has_no_content_as_there() {
    let body = json!({"messages": user("a"), "stream": true});
    let first =
        |compat| with("x", compat, Unsaid::default()).events(CHAT, &body)[0]["choices"][0]["delta"].clone();
    assert_eq!(first(Compat::LlamaServer), json!({"role": "assistant", "content": null}));
    assert_eq!(first(Compat::Lenient), json!({"role": "assistant", "content": ""}));
}

#[test]
fn names_of_headers_have_its_case() {
    let names = |compat| {
        use std::io::{Read, Write};
        let server = with("x", compat, Unsaid::default());
        let mut stream = std::net::TcpStream::connect(server.address()).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        (answer.contains("\r\nProcess-Start-Time-Unix: "), answer.contains("\r\nprocess-start-time-unix: "))
    };
    assert_eq!((names(Compat::LlamaServer), names(Compat::Lenient)), ((true, false), (false, true)));
}

#[test]
fn unknown_fields_are_listed_in_this_mode_too() {
    let server = with("x", Compat::LlamaServer, Unsaid::default());
    let answer = server.json(CHAT, &json!({"messages": user("a"), "foo": 1, "model": "other"}));
    assert_eq!(answer["ignored_parameters"], json!(["model", "foo"]));
}

#[test]
fn a_last_message_of_the_assistant_is_continued_as_there() {
    let server = with("x", Compat::LlamaServer, Unsaid::default());
    let mut messages = json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]);
    let prompt = |body: &Value| server.json("/apply-template", body)["prompt"].as_str().unwrap().to_owned();
    assert!(prompt(&json!({"messages": messages})).ends_with("[assistant]b"));
    let said = json!({"messages": messages, "add_generation_prompt": true});
    assert!(prompt(&said).ends_with("b[assistant]"));
    messages.as_array_mut().unwrap().push(json!({"role": "assistant", "content": "c"}));
    let (status, text) = server.post(CHAT, &json!({"messages": messages}));
    assert!(status == 400 && text.contains("at most one message of the assistant at the end"), "{text}");
    assert_eq!(says("x").post(CHAT, &json!({"messages": messages})).0, 200);
}

#[test]
fn an_operator_sets_variables_of_the_template_and_a_request_its_own() {
    let template = Map::from_iter([("mood".to_owned(), json!("calm"))]);
    let server = with("x", Compat::Strict, Unsaid { seed: None, template });
    let prompt = |more: Value| {
        let mut body = json!({"messages": user("a")});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.json("/apply-template", &body)["prompt"].as_str().unwrap().to_owned()
    };
    assert_eq!(prompt(json!({})), "[user]a[calm][assistant]");
    assert_eq!(prompt(json!({"chat_template_kwargs": {"mood": "glad"}})), "[user]a[glad][assistant]");
    let chat = json!({"messages": user("a")});
    let counted = server.json("/v1/chat/completions/input_tokens", &chat);
    let n = ids("[user]a[calm][assistant]").len();
    assert_eq!(counted, json!({"object": "response.input_tokens", "input_tokens": n}));
    assert_eq!(server.json("/chat/completions/input_tokens", &chat), counted);
    assert_eq!(server.json(CHAT, &chat)["usage"]["prompt_tokens"], json!(n));
}

#[test]
fn an_operator_s_seed_holds_where_a_request_names_none() {
    let server = with("x", Compat::Strict, Unsaid { seed: Some(7), template: Map::new() });
    let seed = |more: Value| {
        let mut body = json!({"prompt": "a", "max_tokens": 1});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.json("/v1/completions", &body)["choices"][0]["seed"].as_u64().unwrap()
    };
    assert_eq!((seed(json!({})), seed(json!({"seed": 9}))), (7, 9));
    // Drawn: one of 2^52.
    assert_ne!(seed(json!({"seed": -1})), 7);
    let (_, text) = server.raw("POST", "/execute", &json!({"job_id": "1", "prompt": "a"}).to_string());
    assert!(text.contains(r#""seed":7"#), "{text}");
}

#[test]
fn a_prompt_that_is_too_long_says_how_long_and_on_llama_server_s_paths_in_its_words() {
    let (ours, theirs) = ("invalid_request_error", "exceed_context_size_error");
    for (compat, path, kind) in [
        (Compat::Lenient, CHAT, ours),
        (Compat::Lenient, "/chat/completions", theirs),
        (Compat::LlamaServer, CHAT, theirs),
        (Compat::LlamaServer, "/chat/completions", theirs),
    ] {
        let server = with("x", compat, Unsaid::default());
        let body = json!({"messages": user(&"ab ".repeat(1000))});
        let (status, text) = server.raw("POST", path, &body.to_string());
        assert_eq!(status, 400, "{text}");
        let error = &serde_json::from_str::<Value>(&text).unwrap()["error"];
        assert_eq!(error["type"], kind, "{path} {error}");
        assert_eq!((&error["code"], &error["n_ctx"]), (&json!("context_length_exceeded"), &json!(1000)));
        let n_prompt = error["n_prompt_tokens"].as_u64().unwrap();
        assert!(n_prompt > 1000, "{error}");
        let message = error["message"].as_str().unwrap();
        let words = format!("request ({n_prompt} tokens) exceeds the available context size (1000 tokens)");
        assert_eq!(message.contains(&words), kind == theirs, "{message}");
        assert!(message.contains("messages: expected at most"), "{message}");
    }
}

#[test]
fn a_schema_may_stand_beside_the_type_json_object() {
    let server = says(r#"{"a":1}"#);
    let schema = json!({"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]});
    let ask = |kind: &str| {
        let format = json!({"type": kind, "schema": schema});
        server.post(CHAT, &json!({"messages": user("a"), "response_format": format}))
    };
    assert_eq!(ask("json_object").0, 200);
    let (status, text) = ask("text");
    assert!(
        status == 400 && text.contains("response_format.schema: expected none beside this type"),
        "{text}"
    );
}

#[test]
fn timings_say_what_a_token_took() {
    let timings =
        says("abc").json("/completion", &json!({"prompt": "ab", "n_predict": 3}))["timings"].clone();
    let number = |name: &str| timings[name].as_f64().unwrap();
    assert!((number("predicted_per_token_ms") - number("predicted_ms") / 2.0).abs() < 1e-9, "{timings}");
    assert!((number("prompt_per_token_ms") - number("prompt_ms") / 2.0).abs() < 1e-9, "{timings}");
    assert!((number("predicted_per_second") - 2e3 / number("predicted_ms")).abs() < 1e-6, "{timings}");
    // The first token comes with the prompt.
    let one = says("abc").json("/completion", &json!({"prompt": "ab", "n_predict": 1}))["timings"].clone();
    assert_eq!((&one["predicted_per_token_ms"], &one["predicted_per_second"]), (&json!(0.0), &json!(0.0)));
}

#[test]
fn metrics_have_llama_server_s_names_and_header() {
    let server = says("abc");
    server.json("/completion", &json!({"prompt": "ab", "n_predict": 3}));
    server.json("/v1/embeddings", &json!({"input": "abcd"}));
    let (_, head, text) = server.ask("GET", "/metrics", &[]);
    let began = head.lines().find_map(|line| line.strip_prefix("process-start-time-unix: ")).unwrap();
    assert!(began.parse::<u64>().unwrap() > 1_700_000_000, "{began}");
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("llamacpp:{name} ")));
        line.unwrap_or_else(|| panic!("{name}")).parse::<f64>().unwrap()
    };
    assert_eq!((value("prompt_tokens_total"), value("tokens_predicted_total")), (6.0, 3.0));
    assert_eq!((value("prompt_tokens_cached_total"), value("n_tokens_max")), (0.0, 5.0));
    assert_eq!((value("requests_processing"), value("requests_deferred")), (0.0, 0.0));
    assert_eq!(value("n_busy_slots_per_decode"), 1.0);
    assert!(value("n_decode_total") >= 4.0 && value("predicted_tokens_seconds") > 0.0);
    assert!((value("predicted_tokens_seconds") - 2.0 / value("tokens_predicted_seconds_total")).abs() < 1e-3);
}
