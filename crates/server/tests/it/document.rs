//! GET /openapi.json, and answers held against it.

use serde_json::{Value, json};
use server::{Security, ServerOptions};

use crate::served::{Running, ids, says};
use testkit::scripted::Scripted;

#[test]
fn every_route_of_the_document_is_there() {
    let security = Security { allow_shutdown: true, ..Security::default() };
    let options = ServerOptions { security, ..ServerOptions::default() };
    let server = Running::with(Scripted::new(ids("x")), options);
    let (status, text) = server.raw("GET", "/openapi.json", "");
    assert_eq!(status, 200);
    let document: Value = serde_json::from_str(&text).unwrap();
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.len() > 10);
    let mut ids: Vec<Value> = (0..3)
        .map(|_| server.json("/v1/responses", &json!({"input": "a", "max_output_tokens": 1}))["id"].clone())
        .collect();
    // After this one there is none.
    let (last, others): (Vec<_>, Vec<_>) = paths.iter().partition(|(path, _)| *path == "/shutdown");
    for (path, methods) in others.into_iter().chain(last) {
        for method in methods.as_object().unwrap().keys() {
            let mut path = path.replace("{model}", "gpt-4o");
            if path.contains("{id}") {
                path = path.replace("{id}", ids.pop().unwrap().as_str().unwrap());
            }
            let (status, text) = server.raw(&method.to_uppercase(), &path, "[]");
            assert!(status == 200 || status == 400 || status == 202, "{method} {path}: {status} {text}");
        }
    }
}

/// Whole answers have the fields that the document says they have, and no others.
#[test]
fn answers_are_as_the_document_says() {
    let server = says("a€");
    let document: Value = serde_json::from_str(&server.raw("GET", "/openapi.json", "").1).unwrap();
    let message = json!([{"role": "user", "content": "Hello"}]);
    for (path, body, schema) in [
        (
            "/v1/chat/completions",
            json!({"messages": message, "logprobs": true, "top_logprobs": 2, "receipt": true, "stop": ["b"], "logit_bias": {"3": -1}}),
            "ChatCompletion",
        ),
        (
            "/v1/completions",
            json!({"prompt": "a", "logprobs": 2, "user": "me", "receipt": {"prompt": "hash"}}),
            "Completion",
        ),
        (
            "/v1/responses",
            json!({"input": "Hello", "include": ["message.output_text.logprobs"], "receipt": true, "user": "me", "metadata": {"a": "b"}}),
            "Response",
        ),
        ("/v1/responses/input_tokens", json!({"input": "Hello"}), "InputTokens"),
        (
            "/v1/messages",
            json!({"model": "", "max_tokens": 9, "messages": message, "receipt": true, "metadata": {}}),
            "AnswerMessage",
        ),
        ("/v1/messages/count_tokens", json!({"model": "", "messages": message}), "MessageTokens"),
        ("/v1/embeddings", json!({"input": ["a", "b"], "user": "me"}), "Embeddings"),
        ("/v1/embeddings", json!({"input": [70], "encoding_format": "base64"}), "Embeddings"),
        (
            "/completion",
            json!({"prompt": "a", "n_probs": 2, "user": "me", "receipt": true}),
            "LlamaCompletion",
        ),
        ("/embedding", json!({"content": "a"}), "LlamaEmbeddings"),
        ("/tokenize", json!({"content": "a€", "with_pieces": true}), "Tokens"),
        ("/tokenize", json!({"messages": message, "return_token_strs": true}), "Tokens"),
        ("/detokenize", json!({"tokens": [70]}), "Text"),
        ("/apply-template", json!({"messages": message}), "Prompt"),
    ] {
        is_as_said(
            &document,
            &json!({"$ref": format!("#/components/schemas/{schema}")}),
            &server.json(path, &body),
            path,
        );
    }
    for (path, schema) in [("/props", "LlamaProps"), ("/slots", "LlamaSlots")] {
        let answer: Value = serde_json::from_str(&server.raw("GET", path, "").1).unwrap();
        is_as_said(&document, &json!({"$ref": format!("#/components/schemas/{schema}")}), &answer, path);
    }
    let held = json!({"messages": message, "response_format": {"type": "json_object"}, "receipt": true});
    let schema = json!({"$ref": "#/components/schemas/ChatCompletion"});
    is_as_said(&document, &schema, &says("{}").json("/v1/chat/completions", &held), "held");
    for event in server.events(
        "/v1/chat/completions",
        &json!({"messages": message, "stream": true, "logprobs": true, "receipt": true}),
    ) {
        is_as_said(&document, &json!({"$ref": "#/components/schemas/ChatCompletionChunk"}), &event, "chunk");
    }
    let (_, error) = server.raw("POST", "/v1/completions", "{}");
    is_as_said(
        &document,
        &json!({"$ref": "#/components/schemas/Error"}),
        &serde_json::from_str(&error).unwrap(),
        "error",
    );
}

/// Types, fields and enumerations, which is what schemas of answers say.
fn is_as_said(document: &Value, schema: &Value, value: &Value, at: &str) {
    let schema = match schema["$ref"].as_str() {
        Some(path) => document.pointer(path.trim_start_matches('#')).unwrap(),
        None => schema,
    };
    // Anything may stand there.
    if schema.as_object().is_some_and(serde_json::Map::is_empty) {
        return;
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        let fits = |choice: &&Value| has_type(document, choice, value);
        return is_as_said(
            document,
            choices.iter().find(fits).unwrap_or_else(|| panic!("{at}: {value}")),
            value,
            at,
        );
    }
    assert!(has_type(document, schema, value), "{at}: {value} for {schema}");
    if let Some(allowed) = schema["enum"].as_array() {
        assert!(allowed.contains(value), "{at}: {value}");
    }
    match value {
        Value::Array(items) => items.iter().for_each(|item| is_as_said(document, &schema["items"], item, at)),
        Value::Object(fields) => {
            for (name, value) in fields {
                let at = format!("{at}.{name}");
                let known = &schema["properties"][name];
                let known = if known.is_null() { &schema["additionalProperties"] } else { known };
                assert!(known.is_object(), "{at} is not in the document");
                is_as_said(document, known, value, &at);
            }
            for name in schema["required"].as_array().into_iter().flatten() {
                assert!(fields.contains_key(name.as_str().unwrap()), "{at} has no {name}");
            }
        }
        _ => {}
    }
}

fn has_type(document: &Value, schema: &Value, value: &Value) -> bool {
    let schema = match schema["$ref"].as_str() {
        Some(path) => document.pointer(path.trim_start_matches('#')).unwrap(),
        None => schema,
    };
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let is = |name: &Value| name == found || (found == "integer" && name == "number");
    match &schema["type"] {
        Value::Array(names) => names.iter().any(is),
        name => is(name),
    }
}
