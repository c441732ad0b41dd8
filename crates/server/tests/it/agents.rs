//! What coding agents send beyond the question: accepted where it changes nothing, else refused by name.

use serde_json::{Value, json};

use crate::served::{Running, says};

const MESSAGES: &str = "/v1/messages";
const RESPONSES: &str = "/v1/responses";
const CHAT: &str = "/v1/chat/completions";

/// The shortest body of a route, with more.
fn body(path: &str, more: &Value) -> Value {
    let messages = json!([{"role": "user", "content": "Hello"}]);
    let mut body = match path {
        MESSAGES => json!({"model": "", "max_tokens": 9, "messages": messages}),
        RESPONSES => json!({"input": "Hello"}),
        _ => json!({"messages": messages}),
    };
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn ignored(server: &Running, path: &str, more: &Value) -> Vec<String> {
    let answer = server.json(path, &body(path, more));
    serde_json::from_value(answer["ignored_parameters"].clone()).unwrap_or_default()
}

fn refused(server: &Running, path: &str, more: &Value) -> String {
    let (status, text) = server.post(path, &body(path, more));
    assert_eq!(status, 400, "{text}");
    let error: Value = serde_json::from_str(&text).unwrap();
    error["error"]["message"].as_str().unwrap().to_owned()
}

#[test]
fn what_changes_nothing_is_accepted() {
    let server = says("Good day");
    let tool = |more: Value| {
        let mut tool = json!({"name": "f", "input_schema": {"type": "object"}});
        tool.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "tools": [tool] })
    };
    let none: [&str; 0] = [];
    let keep = json!({"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]});
    assert_eq!(ignored(&server, MESSAGES, &json!({ "context_management": keep })), none);
    assert_eq!(
        ignored(&server, MESSAGES, &json!({"context_management": {"edits": []}, "speed": "standard"})),
        none
    );
    assert_eq!(
        ignored(&server, MESSAGES, &tool(json!({"defer_loading": false, "eager_input_streaming": true}))),
        none
    );
    assert_eq!(ignored(&server, MESSAGES, &json!({"betas": ["a-2025-01-01"]})), ["betas"]);
    assert_eq!(
        ignored(&server, RESPONSES, &json!({"client_metadata": {"a": "b"}, "max_tool_calls": 4})),
        ["client_metadata", "max_tool_calls"]
    );
    assert_eq!(ignored(&server, RESPONSES, &json!({"text": {"verbosity": "medium"}})), none);
    // The template of these tests has no such variable.
    for effort in ["low", "max"] {
        assert_eq!(
            ignored(&server, MESSAGES, &json!({"output_config": {"effort": effort}})),
            ["output_config.effort"]
        );
    }
    for (path, more, expected) in [
        (
            MESSAGES,
            json!({"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}}),
            "context_management.edits[0].type: expected \"clear_thinking_20251015\", found \"clear_tool_uses_20250919\"",
        ),
        (
            MESSAGES,
            tool(json!({"defer_loading": true})),
            "tools[0].defer_loading: expected false or null, found true",
        ),
        (
            MESSAGES,
            json!({"output_config": {"effort": "much"}}),
            "output_config.effort: expected \"low\", \"medium\", \"high\", \"xhigh\", \"max\" or null, found \"much\"",
        ),
        (
            RESPONSES,
            json!({"text": {"verbosity": "low"}}),
            "text.verbosity: expected \"medium\" or null, found \"low\"",
        ),
        (
            RESPONSES,
            json!({"tools": [{"type": "custom", "name": "patch"}]}),
            "tools[0].type: expected \"function\", found \"custom\": a tool of free text is written here as a function with one parameter, a string",
        ),
    ] {
        assert_eq!(refused(&server, path, &more), expected);
    }
}

#[test]
fn a_chat_s_prompt_is_scored_too() {
    let server = says("ab");
    let answer = server.json(CHAT, &body(CHAT, &json!({"prompt_logprobs": 1, "n": 2})));
    let list = answer["prompt_logprobs"].as_array().unwrap();
    assert_eq!(
        (list.len() as u64, &list[0]),
        (answer["usage"]["prompt_tokens"].as_u64().unwrap(), &Value::Null)
    );
    for entry in &list[1..] {
        // The device says that all of 320 tokens are alike, so the likeliest is the first.
        assert_eq!(entry["0"]["rank"], 1);
        assert!((entry["0"]["logprob"].as_f64().unwrap() + 320f64.ln()).abs() < 1e-5, "{entry}");
    }
    assert_eq!(answer["choices"][1]["message"]["content"], "ab");
    assert_eq!(answer["choices"][0]["logprobs"], Value::Null);
    let alone = server.json(CHAT, &body(CHAT, &json!({"prompt_logprobs": 0, "max_tokens": 0})));
    assert_eq!(alone["prompt_logprobs"].as_array().unwrap().len(), list.len());
    assert_eq!(
        (&alone["choices"][0]["finish_reason"], &alone["usage"]["completion_tokens"]),
        (&json!("length"), &json!(0))
    );
    assert_eq!(server.json(CHAT, &body(CHAT, &json!({}))).get("prompt_logprobs"), None);
    for (more, expected) in [
        (
            json!({"prompt_logprobs": 1, "stream": true}),
            "prompt_logprobs: expected no stream beside it: it comes with the whole answer",
        ),
        (
            json!({"prompt_logprobs": 1, "logprobs": true, "top_logprobs": 2}),
            "prompt_logprobs: expected as many as top_logprobs, 2, found 1",
        ),
        (json!({"prompt_logprobs": 21}), "prompt_logprobs: expected 0 to 20, found 21"),
        (
            json!({"prompt_logprobs": 1, "max_tokens": 0, "receipt": true}),
            "receipt: expected false where max_tokens is 0: there is no answer",
        ),
    ] {
        assert_eq!(refused(&server, CHAT, &more), expected);
    }
}
