//! Does a receipt that the server hands out prove its answer to whoever has the file?

use std::path::Path;

use gguf::Value as GgufValue;
use serde_json::{Value, json};

use crate::program::{rewritten, worker};
use crate::serve::{Server, events, finish};
use crate::verify::verify;

/// A template of a model that has begun to think when its answer begins.
const TEMPLATE: &str = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}\
    {% if add_generation_prompt %}[assistant]<think>{% endif %}";

/// A golden model that takes conversations; of noise, that it thinks is all that can be said of it.
fn model(folder: &Path) -> String {
    let template = ("tokenizer.chat_template", GgufValue::from(TEMPLATE));
    rewritten(folder, "llama-q4_0.gguf", |_| true, &[template])
}

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": { "b": { "enum": ["x", "y"] }, "a": { "type": "string", "maxLength": 6 } },
        "required": ["b", "a"],
        "additionalProperties": false,
    })
}

/// It is true as it stands, and false with another token.
fn check(folder: &Path, receipt: &Value, model: &str) {
    let said = verify(folder, receipt, model, &[]);
    assert!(said.starts_with("0: equal: "), "{said}");
    let mut changed = receipt.clone();
    let last = changed["answer"].as_array().unwrap().len() - 1;
    let id = changed["answer"][last].as_u64().unwrap();
    changed["answer"][last] = (id ^ 1).into();
    let said = verify(folder, &changed, model, &[]);
    let expected =
        format!("error: different at token {last} of the answer: expected id {}, found id {id}", id ^ 1);
    // The receipt's context may be longer than the model was trained for, which is warned of first.
    assert!(said.starts_with("11: ") && said.lines().last().unwrap().ends_with(&expected), "{said}");
}

#[test]
fn what_is_served_among_others_can_be_verified() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(folder.path());
    let server = Server::ready(&model, &["--slots", "4", "--ctx", "600"]);
    let job = |id: &str| json!({"job_id": id, "prompt": "the rain", "max_tokens": 30, "seed": 42, "temperature": 0.7, "receipt": true});
    let (status, body) = server.call("POST", "/execute", Some(&job("alone")));
    assert_eq!(status, 200);
    let alone = events(&body).pop().unwrap().1["receipt"].clone();
    check(folder.path(), &alone, &model);

    let messages = json!([{"role": "user", "content": "hi"}]);
    let format = json!({"type": "json_schema", "json_schema": {"name": "a", "schema": schema()}});
    let tool = json!({"type": "function", "function": {"name": "f", "parameters": schema()}});
    let others = (0..5).map(|i| ("/execute", job(&format!("{i}"))));
    let bodies: Vec<(&str, Value)> = others
        .chain([
            ("/v1/completions", json!({"prompt": "a", "n": 2, "seed": 1, "max_tokens": 20, "receipt": true})),
            (
                "/v1/completions",
                json!({"prompt": "b", "seed": 2, "stop": "e", "max_tokens": 50, "receipt": true, "stream": true}),
            ),
            (
                "/v1/chat/completions",
                json!({"messages": messages, "seed": 3, "max_tokens": 60, "receipt": true, "response_format": format}),
            ),
            (
                "/v1/chat/completions",
                json!({"messages": messages, "seed": 4, "max_tokens": 60, "receipt": true, "tools": [tool], "tool_choice": "required"}),
            ),
        ])
        .collect();
    let streams: Vec<_> = bodies.iter().map(|(path, body)| server.open("POST", path, Some(body))).collect();
    let mut receipts = Vec::new();
    for (stream, (path, body)) in streams.into_iter().zip(&bodies) {
        let (status, text) = finish(stream);
        assert_eq!(status, 200, "{path}: {text}");
        if *path == "/execute" {
            let receipt = events(&text).pop().unwrap().1["receipt"].clone();
            assert_eq!(receipt, alone);
        } else if body["stream"] == true {
            let data = text.split_terminator("\n\n").filter_map(|frame| frame.strip_prefix("data: {"));
            let chunks = data.map(|data| serde_json::from_str::<Value>(&format!("{{{data}")).unwrap());
            receipts.extend(chunks.filter_map(|chunk| chunk["choices"][0].get("receipt").cloned()));
        } else {
            let answer: Value = serde_json::from_str(&text).unwrap();
            receipts.extend(answer["choices"].as_array().unwrap().iter().map(|c| c["receipt"].clone()));
        }
    }
    assert_eq!(receipts.len(), 5);
    assert_eq!(receipts.iter().filter(|receipt| !receipt["parameters"]["constraint"].is_null()).count(), 2);
    for receipt in &receipts {
        check(folder.path(), receipt, &model);
    }
}

#[test]
fn what_a_model_thinks_is_kept_apart_from_its_answer() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(folder.path());
    let path = folder.path().join("receipt.json");
    let args = ["run", "--device", "cpu", "--model", &model, "--prompt", "hi", "--seed", "3", "-q"];
    let args = [&args[..], &["--max-tokens", "12", "--stop", "e"]].concat();
    let answer = worker(&[&args[..], &["--json", "--receipt", path.to_str().unwrap()]].concat()).json();
    let thought = answer["reasoning"].as_str().unwrap();
    assert!(answer["text"] == "" && !thought.is_empty(), "{answer}");
    assert_eq!(worker(&args).ok(), "\n");
    let shown = worker(&[&args[..], &["--reasoning", "show"]].concat()).ok();
    assert_eq!(shown.trim_end(), format!("Thinking...\n{thought}").trim_end());
    // Without a chat, it is a text like any other.
    let raw = worker(&[&args[..], &["--raw", "--json"]].concat()).json();
    assert_eq!(raw["reasoning"], "");
    let receipt = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    check(folder.path(), &receipt, &model);
}
