//! A server that takes what it does not know: nothing is dropped without being listed, and what is not supported is still refused.

use serde_json::{Value, json};
use server::{Compat, ServerOptions};

use testkit::scripted::Scripted;

use crate::served::{Running, ids, says, tokenizer};

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";

fn lenient(text: &str) -> Running {
    let mut answer = ids(text);
    answer.push(tokenizer().ends()[0]);
    Running::with(
        Scripted::new(answer),
        ServerOptions { compat: Compat::Lenient, ..ServerOptions::default() },
    )
}

/// The status, what the header lists, and the body.
fn post(server: &Running, path: &str, body: &Value) -> (u16, Option<String>, String) {
    let body = body.to_string();
    let length = format!("Content-Length: {}", body.len());
    let (status, head, body) =
        server.ask_with("POST", path, &["Content-Type: application/json", &length], &body);
    let listed = head.lines().find_map(|line| line.strip_prefix("x-ignored-fields: ")).map(str::to_owned);
    (status, listed, body)
}

#[test]
fn unknown_fields_and_names_of_models_are_accepted_and_listed() {
    let server = lenient("Good day");
    let body = json!({
        "model": "llama3:8b", "keep_alive": "5m", "id_slot": 2, "user": "me",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "a", "images": ["b"]}], "foo": 1}],
    });
    let (status, listed, answer) = post(&server, CHAT, &body);
    assert_eq!(status, 200, "{answer}");
    let expected = "id_slot, model, keep_alive, messages[0].foo, messages[0].content[0].images, user";
    assert_eq!(listed.as_deref(), Some(expected));
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["ignored_parameters"], json!(expected.split(", ").collect::<Vec<_>>()));
    assert_eq!(
        (&answer["model"], &answer["choices"][0]["message"]["content"]),
        (&json!("org/tiny"), &json!("Good day"))
    );
    for (path, body) in [
        (COMPLETIONS, json!({"prompt": "a", "model": "x", "foo": 1})),
        ("/v1/responses", json!({"input": "a", "model": "x", "foo": 1})),
        (
            "/v1/messages",
            json!({"messages": [{"role": "user", "content": "a"}], "max_tokens": 9, "model": "x", "foo": 1}),
        ),
        ("/tokenize", json!({"content": "a", "model": "x", "foo": 1})),
    ] {
        let (status, listed, answer) = post(&server, path, &body);
        assert_eq!((status, listed.as_deref()), (200, Some("model, foo")), "{path}: {answer}");
    }
    let stream = json!({"prompt": "a", "stream": true, "foo": 1});
    let (status, listed, _) = post(&server, COMPLETIONS, &stream);
    assert_eq!((status, listed.as_deref()), (200, Some("foo")));
    let (status, listed, _) = post(&server, COMPLETIONS, &json!({"prompt": "a"}));
    assert_eq!((status, listed), (200, None));
}

#[test]
fn what_is_known_and_not_supported_is_refused_as_ever() {
    let server = lenient("a");
    for (body, field) in [
        (json!({"prompt": "a", "mirostat": 2, "foo": 1}), "mirostat"),
        (json!({"prompt": "a", "temperature": 3}), "temperature"),
        (json!({"foo": 1}), "prompt"),
        (json!({"prompt": "a", "guided_regex": "a", "guided_choice": ["b"]}), "guided_choice"),
    ] {
        let (status, _, answer) = post(&server, COMPLETIONS, &body);
        let error: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!((status, &error["error"]["param"]), (400, &json!(field)), "{answer}");
    }
    // A list of its own has no names but the served ones.
    assert_eq!(server.ask("GET", "/v1/models/x", &[]).0, 404);
}

#[test]
fn other_servers_names_mean_the_same_as_the_own_ones() {
    let server = lenient("yes");
    let chat = |more: Value| {
        let mut body = json!({"messages": [{"role": "user", "content": "a"}], "seed": 1});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (status, listed, answer) = post(&server, CHAT, &body);
        assert_eq!((status, listed), (200, None), "{answer}");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        answer["choices"][0].clone()
    };
    assert_eq!(chat(json!({"guided_choice": ["yes", "no"]}))["message"]["content"], "yes");
    assert_eq!(chat(json!({"n_predict": 1}))["finish_reason"], "length");
    let likely = chat(json!({"n_probs": 2}));
    assert_eq!(likely["logprobs"]["content"][0]["top_logprobs"].as_array().unwrap().len(), 2);
    // The model of these tests says its text whatever it may say, which the constraint does not let pass.
    let body = json!({"messages": [{"role": "user", "content": "a"}], "guided_regex": "[0-9]"});
    let (status, _, answer) = post(&server, CHAT, &body);
    assert!(status == 400 && answer.contains("doesn't satisfy the grammar"), "{answer}");
}

#[test]
fn a_server_refuses_what_it_does_not_know_by_default() {
    let server = says("a");
    for body in [
        json!({"prompt": "a", "foo": 1}),
        json!({"prompt": "a", "guided_regex": "a"}),
        json!({"prompt": "a", "model": "x"}),
    ] {
        let (status, listed, answer) = post(&server, COMPLETIONS, &body);
        assert!((status == 400 || status == 404) && listed.is_none(), "{answer}");
    }
}
