//! /tokenize, /detokenize, /v1/models, /version.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use crate::served::{Running, ids, says};

fn check(server: &Running, path: &str, body: &Value, expected: &Expect) {
    let (status, text) = server.post(path, body);
    expected.assert_eq(&format!("{status} {text}"));
}

#[test]
fn text_becomes_tokens_in_both_tongues() {
    let server = says("x");
    check(&server, "/tokenize", &json!({"content": "a€"}), &expect![[r#"200 {"tokens":[97,226,130,172]}"#]]);
    check(
        &server,
        "/tokenize",
        &json!({"content": "a€", "with_pieces": true, "add_special": true}),
        &expect![[
            r#"200 {"tokens":[{"id":97,"piece":"a"},{"id":226,"piece":[226]},{"id":130,"piece":[130]},{"id":172,"piece":[172]}]}"#
        ]],
    );
    check(
        &server,
        "/tokenize",
        &json!({"prompt": "ab", "return_token_strs": true}),
        &expect![[r#"200 {"count":2,"max_model_len":1000,"tokens":[97,98],"token_strs":["a","b"]}"#]],
    );
    check(
        &server,
        "/tokenize",
        &json!({"prompt": "ab", "with_pieces": true}),
        &expect![[
            r#"400 {"error":{"message":"with_pieces: expected content beside it, found none","type":"invalid_request_error","param":"with_pieces","code":null}}"#
        ]],
    );
    check(
        &server,
        "/tokenize",
        &json!({}),
        &expect![[
            r#"400 {"error":{"message":"expected one of content, prompt and messages","type":"invalid_request_error","param":null,"code":null}}"#
        ]],
    );
}

#[test]
fn tokens_become_text_again() {
    let server = says("x");
    for text in ["", "Hello", "a€ 日本 👩‍👩‍👧"] {
        let back = server.json("/detokenize", &json!({"tokens": ids(text)}));
        assert_eq!(back, json!({"content": text, "prompt": text}));
    }
    check(
        &server,
        "/detokenize",
        &json!({"tokens": [1, 320]}),
        &expect![[
            r#"400 {"error":{"message":"tokens[1]: expected ids below 320, found 320","type":"invalid_request_error","param":"tokens[1]","code":null}}"#
        ]],
    );
    check(
        &server,
        "/detokenize",
        &json!({"tokens": ids("€")[..1]}),
        &expect![[r#"200 {"content":"�","prompt":"�"}"#]],
    );
}

#[test]
fn the_model_is_listed_and_found_by_its_names() {
    let server = says("x");
    let get = |path: &str, expected: &Expect| {
        let (status, text) = server.raw("GET", path, "");
        expected.assert_eq(&format!("{status} {text}"));
    };
    get(
        "/v1/models",
        &expect![[
            r#"200 {"object":"list","data":[{"id":"org/tiny","object":"model","created":7,"owned_by":"worker-orcd","max_model_len":1000,"aliases":["gpt-4o"],"defaults":{"temperature":0.6,"top_k":20,"top_p":0.9,"min_p":0.0,"repetition_penalty":1.05,"max_tokens":64},"embeddings":{"pooling":"last","pooling_of_file":false,"dimensions":8,"max_input_tokens":1000},"rerank":false,"meta":{"n_vocab":320,"n_ctx_train":1000,"n_params":1000,"size":600}}]}"#
        ]],
    );
    get(
        "/v1/models/org/tiny",
        &expect![[
            r#"200 {"id":"org/tiny","object":"model","created":7,"owned_by":"worker-orcd","max_model_len":1000,"aliases":["gpt-4o"],"defaults":{"temperature":0.6,"top_k":20,"top_p":0.9,"min_p":0.0,"repetition_penalty":1.05,"max_tokens":64},"embeddings":{"pooling":"last","pooling_of_file":false,"dimensions":8,"max_input_tokens":1000},"rerank":false,"meta":{"n_vocab":320,"n_ctx_train":1000,"n_params":1000,"size":600}}"#
        ]],
    );
    assert_eq!(server.raw("GET", "/v1/models/gpt-4o", ""), server.raw("GET", "/v1/models/org%2Ftiny", ""));
    get(
        "/v1/models/other",
        &expect![[
            r#"404 {"error":{"message":"the model `other` is not served here; GET /v1/models names the one that is","type":"invalid_request_error","param":"model","code":"model_not_found"}}"#
        ]],
    );
    let (status, text) = server.call("GET", "/version", "");
    expect![[r#"200 {"version":"VERSION","program":null}"#]].assert_eq(&format!("{status} {text}"));
}
