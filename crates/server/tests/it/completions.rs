//! POST /v1/completions.

use std::time::Duration;

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use crate::served::{Running, ids, says};
use testkit::scripted::Scripted;

const PATH: &str = "/v1/completions";

fn check(server: &Running, body: &Value, expected: &Expect) {
    let (status, text) = server.post(PATH, body);
    expected.assert_eq(&format!("{status}\n{text}"));
}

#[test]
fn an_answer_comes_whole_or_in_chunks() {
    let server = says("Oh €");
    check(
        &server,
        &json!({"prompt": "Say", "logprobs": 1}),
        &expect![[r#"
            200
            {"id":"cmpl-ID","object":"text_completion","created":TIME,"model":"org/tiny","system_fingerprint":"worker-orcd-VERSION-org-tiny","choices":[{"index":0,"text":"Oh €","logprobs":{"tokens":["O","h"," ","bytes:\\xe2","bytes:\\x82","bytes:\\xac"],"token_logprobs":[-1.0,-1.0,-1.0,-1.0,-1.0,-1.0],"top_logprobs":[{"O":-1.0},{"h":-1.0},{" ":-1.0},{"bytes:\\xe2":-1.0},{"bytes:\\x82":-1.0},{"bytes:\\xac":-1.0}],"text_offset":[0,1,2,3,4,4]},"seed":SEED,"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":7,"total_tokens":10,"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}},"timings":{"cache_n":0,"prompt_n":3,"prompt_ms":N,"prompt_per_token_ms":N,"prompt_per_second":N,"predicted_n":7,"predicted_ms":N,"predicted_per_token_ms":N,"predicted_per_second":N}}"#]],
    );
    check(
        &server,
        &json!({"prompt": "Say", "echo": true, "stream": true}),
        &expect![[r#"
            200
            data: {"id":"cmpl-ID","object":"text_completion","created":TIME,"model":"org/tiny","system_fingerprint":"worker-orcd-VERSION-org-tiny","choices":[{"index":0,"text":"Say","logprobs":null,"finish_reason":null}]}

            data: {"id":"cmpl-ID","object":"text_completion","created":TIME,"model":"org/tiny","system_fingerprint":"worker-orcd-VERSION-org-tiny","choices":[{"index":0,"text":"O","logprobs":null,"finish_reason":null}]}

            data: {"id":"cmpl-ID","object":"text_completion","created":TIME,"model":"org/tiny","system_fingerprint":"worker-orcd-VERSION-org-tiny","choices":[{"index":0,"text":"h","logprobs":null,"finish_reason":null}]}

            data: {"id":"cmpl-ID","object":"text_completion","created":TIME,"model":"org/tiny","system_fingerprint":"worker-orcd-VERSION-org-tiny","choices":[{"index":0,"text":" ","logprobs":null,"finish_reason":null}]}

            data: {"id":"cmpl-ID","object":"text_completion","created":TIME,"model":"org/tiny","system_fingerprint":"worker-orcd-VERSION-org-tiny","choices":[{"index":0,"text":"€","logprobs":null,"finish_reason":null}]}

            data: {"id":"cmpl-ID","object":"text_completion","created":TIME,"model":"org/tiny","system_fingerprint":"worker-orcd-VERSION-org-tiny","choices":[{"index":0,"text":"","logprobs":null,"seed":SEED,"finish_reason":"stop"}],"timings":{"cache_n":0,"prompt_n":3,"prompt_ms":N,"prompt_per_token_ms":N,"prompt_per_second":N,"predicted_n":7,"predicted_ms":N,"predicted_per_token_ms":N,"predicted_per_second":N}}

            data: [DONE]

        "#]],
    );
}

#[test]
fn a_prompt_is_text_or_tokens_or_several() {
    let server = says("ab");
    let said = |body: Value| {
        let answer = server.json(PATH, &body);
        let choices = answer["choices"].as_array().unwrap().clone();
        let texts: Vec<Value> = choices.iter().map(|choice| choice["text"].clone()).collect();
        (json!(texts), answer["usage"]["prompt_tokens"].as_u64().unwrap() as usize)
    };
    let n = |text: &str| ids(text).len();
    // BOS comes first where the prompt is text.
    let bos = said(json!({"prompt": "Hi"})).1 - n("Hi");
    assert_eq!(said(json!({"prompt": "Hi", "add_special_tokens": false})).1, n("Hi"));
    assert_eq!(said(json!({"prompt": ids("Hi"), "echo": true})), (json!(["Hiab"]), n("Hi")));
    assert_eq!(
        said(json!({"prompt": ["Hi", "You"], "n": 2, "echo": true})),
        (json!(["Hiab", "Hiab", "Youab", "Youab"]), n("Hi") + n("You") + 2 * bos)
    );
    assert_eq!(said(json!({"prompt": [ids("Hi"), [5]]})), (json!(["ab", "ab"]), n("Hi") + 1));
}

#[test]
fn log_probabilities_point_into_the_text() {
    let server = says("a€b");
    let choice = server.json(PATH, &json!({"prompt": "x", "logprobs": 0}))["choices"][0].clone();
    let (text, logprobs) = (choice["text"].as_str().unwrap(), &choice["logprobs"]);
    let offsets: Vec<u64> =
        logprobs["text_offset"].as_array().unwrap().iter().map(|at| at.as_u64().unwrap()).collect();
    assert_eq!(offsets.len(), ids("a€b").len());
    assert_eq!(text.chars().nth(*offsets.last().unwrap() as usize), Some('b'));
    assert!(
        logprobs["top_logprobs"].as_array().unwrap().iter().all(|top| top.as_object().unwrap().len() == 1)
    );
    // A stream says the same.
    let events = server.events(PATH, &json!({"prompt": "x", "logprobs": 0, "stream": true}));
    let streamed: Vec<&Value> = events
        .iter()
        .flat_map(|event| event["choices"][0]["logprobs"]["text_offset"].as_array().into_iter().flatten())
        .collect();
    assert_eq!(json!(streamed), logprobs["text_offset"]);
}

#[test]
fn what_cannot_be_done_is_refused_by_name() {
    let server = says("x");
    check(
        &server,
        &json!({"prompt": "a", "best_of": 2}),
        &expect![[r#"
            400
            {"error":{"message":"best_of: expected n, 1, found 2","type":"invalid_request_error","param":"best_of","code":null}}"#]],
    );
    check(
        &server,
        &json!({"prompt": ["a", "b"], "n": 65}),
        &expect![[r#"
            400
            {"error":{"message":"prompt: expected at most 128 answers, found 2 prompts times 65","type":"invalid_request_error","param":"prompt","code":null}}"#]],
    );
    check(
        &server,
        &json!({"prompt": [1, "a"]}),
        &expect![[r#"
            400
            {"error":{"message":"prompt[1]: expected an integer, found a string","type":"invalid_request_error","param":"prompt[1]","code":null}}"#]],
    );
    check(
        &server,
        &json!({"prompt": ["a", 1]}),
        &expect![[r#"
            400
            {"error":{"message":"prompt[1]: expected a string, found an integer","type":"invalid_request_error","param":"prompt[1]","code":null}}"#]],
    );
    check(
        &server,
        &json!({"prompt": vec!["a"; 129]}),
        &expect![[r#"
            400
            {"error":{"message":"prompt: expected 1 to 128 items, found 129","type":"invalid_request_error","param":"prompt","code":null}}"#]],
    );
    check(
        &server,
        &json!({"prompt": [[]]}),
        &expect![[r#"
            400
            {"error":{"message":"prompt[0]: expected 1 to 1048576 items, found 0","type":"invalid_request_error","param":"prompt[0]","code":null}}"#]],
    );
    check(
        &server,
        &json!({"prompt": [null]}),
        &expect![[r#"
            400
            {"error":{"message":"prompt[0]: expected an integer, found null","type":"invalid_request_error","param":"prompt[0]","code":null}}"#]],
    );
    check(
        &server,
        &json!({"prompt": []}),
        &expect![[r#"
            400
            {"error":{"message":"prompt: expected 1 to 1048576 items, found 0","type":"invalid_request_error","param":"prompt","code":null}}"#]],
    );
    check(
        &server,
        &json!({"prompt": [[9999]]}),
        &expect![[r#"
            400
            {"error":{"message":"prompt: expected ids below 320, found 9999","type":"invalid_request_error","param":"prompt","code":null}}"#]],
    );
    check(
        &server,
        &json!({}),
        &expect![[r#"
            400
            {"error":{"message":"prompt: expected a value, found none","type":"invalid_request_error","param":"prompt","code":null}}"#]],
    );
    // More answers than may be unfinished at once, and none of them soon.
    let slow = Running::start(Scripted::new(ids("x")).latency(Duration::from_millis(50)));
    check(
        &slow,
        &json!({"prompt": "a", "n": 128}),
        &expect![[r#"
        429
        {"error":{"message":"busy: 68 requests of this client are unfinished, and no more are accepted now","type":"rate_limit_error","param":null,"code":"busy"}}"#]],
    );
}

#[test]
fn an_echo_with_log_probabilities_begins_with_the_prompts() {
    let server = says("ab");
    let body = json!({"prompt": ids("x€"), "echo": true, "logprobs": 0});
    let choice = server.json(PATH, &body)["choices"][0].clone();
    assert_eq!(choice["text"], "x€ab");
    let logprobs = &choice["logprobs"];
    let tokens = json!(["x", r"bytes:\xe2", r"bytes:\x82", r"bytes:\xac", "a", "b"]);
    assert_eq!((&logprobs["tokens"], &logprobs["text_offset"]), (&tokens, &json!([0, 1, 2, 2, 2, 3])));
    assert_eq!((&logprobs["token_logprobs"][0], &logprobs["top_logprobs"][0]), (&Value::Null, &Value::Null));
    // The device says that all of 320 tokens are alike.
    let likely = |i: usize| logprobs["token_logprobs"][i].as_f64().unwrap();
    assert!((1..4).all(|i| (likely(i) + 320f64.ln()).abs() < 1e-5), "{logprobs}");
    assert!((4..6).all(|i| likely(i) == -1.0), "{logprobs}");

    let mut stream = body;
    stream["stream"] = json!(true);
    for field in ["tokens", "token_logprobs", "text_offset"] {
        let events = server.events(PATH, &stream);
        let parts = events.iter().filter_map(|event| event["choices"][0]["logprobs"][field].as_array());
        assert_eq!(json!(parts.flatten().collect::<Vec<_>>()), logprobs[field], "{field}");
    }
    // A begin token that was put first takes no room in the text.
    let text = json!({"prompt": ["x", "yz"], "echo": true, "logprobs": 1, "n": 2});
    for choice in server.json(PATH, &text)["choices"].as_array().unwrap() {
        let n_own = choice["text"].as_str().unwrap().len();
        let offsets = choice["logprobs"]["text_offset"].as_array().unwrap();
        assert_eq!(offsets.last().unwrap().as_u64(), Some(n_own as u64 - 1), "{choice}");
        assert_eq!(choice["logprobs"]["tokens"].as_array().unwrap().len(), offsets.len());
    }
}

#[test]
fn a_prompt_s_log_probabilities_come_by_id_as_well() {
    let server = says("ab");
    let prompt = ids("x€");
    let body = json!({"prompt": [prompt, [70, 71]], "n": 2, "prompt_logprobs": 1, "max_tokens": 2});
    let choices = server.json(PATH, &body)["choices"].as_array().unwrap().clone();
    assert_eq!(choices.len(), 4);
    for choice in &choices[..2] {
        let list = choice["prompt_logprobs"].as_array().unwrap();
        assert_eq!((choice["text"].as_str(), list.len(), &list[0]), (Some("ab"), prompt.len(), &Value::Null));
        for (entry, id) in list.iter().zip(&prompt).skip(1) {
            // The device says that all of 320 tokens are alike, so the likeliest is the first.
            let own = &entry[id.to_string()];
            assert!((own["logprob"].as_f64().unwrap() + 320f64.ln()).abs() < 1e-5, "{entry}");
            assert_eq!((&own["rank"], entry.as_object().unwrap().len()), (&json!(1), 2));
            assert_eq!(entry["0"]["rank"], 1);
        }
        assert_eq!(list[1][prompt[1].to_string()]["decoded_token"], "\u{fffd}");
        assert_eq!(choice["logprobs"], Value::Null);
    }
    assert_eq!(choices[3]["prompt_logprobs"].as_array().unwrap().len(), 2);
    let plain = json!({"prompt": "a", "max_tokens": 1});
    assert_eq!(server.json(PATH, &plain)["choices"][0].get("prompt_logprobs"), None);
}

#[test]
fn without_an_answer_a_prompt_is_kept_for_the_next_request() {
    let server = says("ab");
    let prompt =
        "a prompt that is longer than a page of the cache, so that there is something to keep".repeat(2);
    let warm = server.json(PATH, &json!({"prompt": prompt, "max_tokens": 0}));
    let choice = &warm["choices"][0];
    assert_eq!((&choice["text"], &choice["finish_reason"]), (&json!(""), &json!("length")));
    assert_eq!(warm["usage"]["completion_tokens"], 0);
    let cached = |usage: &Value| usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
    assert_eq!(cached(&warm["usage"]), 0);
    let answer = server.json(PATH, &json!({"prompt": prompt, "max_tokens": 2}));
    assert!(cached(&answer["usage"]) > 0, "{answer}");
    assert_eq!(answer["choices"][0]["text"], "ab");
}

#[test]
fn a_prompt_is_scored_without_an_answer() {
    let server = says("ab");
    for scores in [json!({"echo": true, "logprobs": 1}), json!({"prompt_logprobs": 1})] {
        let mut body = json!({"prompt": "xyz", "max_tokens": 0});
        body.as_object_mut().unwrap().extend(scores.as_object().unwrap().clone());
        let answer = server.json(PATH, &body);
        let choice = &answer["choices"][0];
        let echo = if scores["echo"] == true { "xyz" } else { "" };
        assert_eq!((&choice["text"], &choice["finish_reason"]), (&json!(echo), &json!("length")));
        assert_eq!(answer["usage"]["completion_tokens"], 0);
        let n_prompt = answer["usage"]["prompt_tokens"].as_u64().unwrap() as usize;
        let list = if echo.is_empty() { &choice["prompt_logprobs"] } else { &choice["logprobs"]["tokens"] };
        assert_eq!(list.as_array().unwrap().len(), n_prompt);
    }
    let echo = server.json(PATH, &json!({"prompt": "xyz", "max_tokens": 0, "echo": true}));
    assert_eq!((&echo["choices"][0]["text"], &echo["choices"][0]["logprobs"]), (&json!("xyz"), &Value::Null));
    let stream = json!({"prompt": "xyz", "max_tokens": 0, "echo": true, "logprobs": 1, "stream": true});
    let events = server.events(PATH, &stream);
    assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], "length");
    for (more, expected) in [
        (
            json!({"max_tokens": 0, "prompt_logprobs": 0, "receipt": true}),
            "receipt: expected false where max_tokens is 0: there is no answer",
        ),
        (
            json!({"logprobs": 1, "prompt_logprobs": 2}),
            "prompt_logprobs: expected as many as logprobs, 1, found 2",
        ),
        (
            json!({"stream": true, "prompt_logprobs": 2}),
            "prompt_logprobs: expected no stream beside it: it comes with the whole answer",
        ),
        (json!({"prompt_logprobs": -1}), "prompt_logprobs: expected 0 to 20, found -1"),
    ] {
        let mut body = json!({"prompt": "xyz"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (status, text) = server.post(PATH, &body);
        let error: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((status, &error["error"]["message"]), (400, &json!(expected)));
    }
}
