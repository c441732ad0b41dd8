//! Vectors without a server: the reference's numbers, those of the route, and what is refused.

use serde_json::{Value, json};

use crate::program::{golden, golden_json, worker, worker_reading};
use crate::serve::Server;

fn model() -> String {
    golden("vectors/qwen3-embedding.gguf")
}

fn vectors(lines: &str) -> Vec<Vec<f32>> {
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn floats(json: &Value) -> Vec<f32> {
    json.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

#[test]
fn vectors_are_the_reference_s_by_each_pooling() {
    let known = golden_json("vectors/qwen3-embedding.json");
    let cases = known["cases"].as_array().unwrap();
    let texts = cases.iter().map(|case| case["text"].to_string() + "\n").collect::<String>();
    let ids = cases.iter().map(|case| case["ids"].to_string() + "\n").collect::<String>();
    let model = model();
    for (name, flags) in [
        ("last", &[][..]),
        ("last", &["--pooling", "last", "--slots", "1"]),
        ("mean", &["--pooling", "mean"]),
        ("cls", &["--pooling", "cls"]),
        ("last_16", &["--dimensions", "16"]),
    ] {
        let args = [&["embed", &model, "--exact", "--jsonl"][..], flags].concat();
        let found = worker_reading(&args, texts.as_bytes()).ok();
        assert_eq!(worker_reading(&args, ids.as_bytes()).ok(), found);
        let found = vectors(&found);
        assert_eq!(found.len(), cases.len());
        for (vector, case) in found.iter().zip(cases) {
            let error = testkit::nmse(vector, &floats(&case[name]));
            assert!(error < 1e-9, "{name} of {}: {error:e}", case["text"]);
        }
    }
}

#[test]
fn words_and_lines_have_the_vectors_of_the_route() {
    let words = worker(&["embed", &model(), "Gravity attracts.", "caf\u{e9} \u{1f680}"]).ok();
    let lines = worker_reading(
        &["embed", "--model", &model()],
        "Gravity attracts.\r\ncaf\u{e9} \u{1f680}".as_bytes(),
    );
    assert_eq!(lines.ok(), words);
    let server = Server::ready(&model(), &[]);
    let (status, text) = server.call(
        "POST",
        "/v1/embeddings",
        Some(&json!({"input": ["Gravity attracts.", "caf\u{e9} \u{1f680}"]})),
    );
    assert_eq!(status, 200, "{text}");
    let answer: Value = serde_json::from_str(&text).unwrap();
    let of_route: Vec<Vec<f32>> = (0..2).map(|i| floats(&answer["data"][i]["embedding"])).collect();
    assert_eq!(vectors(&words), of_route);
    // As long as they come: the same direction.
    let long = vectors(&worker(&["embed", &model(), "--no-normalize", "Gravity attracts."]).ok()).remove(0);
    let length = long.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    assert!((length - 1.0).abs() > 0.1, "{length}");
    for (long, one) in long.iter().zip(&of_route[0]) {
        assert!((f64::from(*long) / length - f64::from(*one)).abs() < 1e-6, "{long} and {one}");
    }
}

#[test]
fn a_server_pools_as_it_is_told() {
    let known = golden_json("vectors/qwen3-embedding.json");
    let case = &known["cases"][1];
    let server = Server::ready(&model(), &["--exact", "--pooling", "mean"]);
    let (_, text) = server.call("POST", "/v1/embeddings", Some(&json!({"input": case["text"]})));
    let answer: Value = serde_json::from_str(&text).unwrap();
    let error = testkit::nmse(&floats(&answer["data"][0]["embedding"]), &floats(&case["mean"]));
    assert!(error < 1e-9, "{error:e}");
    let models: Value = serde_json::from_str(&server.call("GET", "/v1/models", None).1).unwrap();
    assert_eq!(
        models["data"][0]["embeddings"],
        json!({"pooling": "mean", "pooling_of_file": false, "dimensions": 64, "max_input_tokens": 512})
    );
}

#[test]
fn what_has_no_vector_is_refused_after_those_before_it() {
    let refused = |args: &[&str], stdin: &[u8], code: i32, words: &str| {
        let done = worker_reading(args, stdin);
        assert!(done.code == code && done.stderr.contains(words), "{} {}", done.code, done.stderr);
        done.stdout
    };
    let (model, ranker) = (model(), golden("vectors/qwen3-reranker.gguf"));
    let long = [b"one\ntwo\n", "word ".repeat(600).as_bytes(), b"\nthree\n"].concat();
    let written = refused(&["embed", &model], &long, 8, "stdin, line 3: ");
    assert_eq!(written, worker(&["embed", &model, "one", "two"]).ok());
    let words = "stdin, line 2: expected UTF-8";
    assert_eq!(refused(&["embed", &model], b"one\n\xff\n", 8, words), worker(&["embed", &model, "one"]).ok());
    for line in [&b"{}\n"[..], b"text\n", b"[1.5]\n", b"\n"] {
        let words = "stdin, line 1: expected a JSON string, or an array of token ids";
        assert_eq!(refused(&["embed", &model, "--jsonl"], line, 8, words), "");
    }
    refused(&["embed", &model, "--jsonl"], b"[4000000]\n", 8, "stdin, line 1: ");
    refused(
        &["embed", &model, "--dimensions", "65", "a"],
        b"",
        8,
        "expected 1 to 64, the model's own, found 65",
    );
    refused(&["embed", &model, "--pooling", "rank", "a"], b"", 2, "expected mean, cls or last");
    refused(&["embed", &ranker, "a"], b"", 8, "it ranks documents");
    refused(&["embed", &model, "--jsonl", "a"], b"", 2, "--jsonl");
    assert_eq!(worker(&["embed", &model]).ok(), "");
}
