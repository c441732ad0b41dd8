//! Are tokens chosen alike in the terminal, over HTTP and by the job API, where nobody says how?

use std::path::Path;

use expect_test::expect;
use serde_json::{Value, json};

use crate::program::{golden, rewritten, worker};
use crate::serve::{Server, events};

/// A model whose file advises on sampling, not always with reason.
fn advising(folder: &Path) -> String {
    let advice: [(&str, gguf::Value); 5] = [
        ("general.sampling.temp", gguf::Value::F32(0.6)),
        ("general.sampling.top_k", gguf::Value::I32(20)),
        ("general.sampling.top_p", gguf::Value::F32(1.5)),
        ("general.sampling.penalty_repeat", gguf::Value::F32(1.05)),
        ("general.sampling.mirostat", gguf::Value::I32(2)),
    ];
    rewritten(folder, "llama-q4_0.gguf", |_| true, &advice)
}

/// The five parameters that have a default of the model's.
fn chosen(parameters: &Value) -> String {
    let names = ["temperature", "top_k", "top_p", "min_p", "repetition_penalty"];
    names.map(|name| parameters[name].to_string()).join(" ")
}

#[test]
fn a_files_advice_holds_for_every_way_to_ask() {
    let folder = tempfile::tempdir().unwrap();
    let model = advising(folder.path());
    let receipt = folder.path().join("receipt.json");
    let args = ["run", "--model", &model, "--raw", "--prompt", "a", "-n", "1", "--receipt"];
    let run = |more: &[&str]| {
        let done = worker(&[&args[..], &[receipt.to_str().unwrap()], more].concat());
        assert_eq!(done.code, 0, "{}", done.stderr);
        let receipt: Value = serde_json::from_str(&std::fs::read_to_string(&receipt).unwrap()).unwrap();
        (chosen(&receipt["parameters"]), done.stderr)
    };
    let (by_run, log) = run(&[]);
    assert_eq!(by_run, "0.6 20 0.95 0.05 1.05");
    for notice in [
        "general.sampling.top_p: expected 0 to 1, found 1.5; it has no effect",
        "general.sampling.*: no counterpart here, and no effect: mirostat",
    ] {
        assert!(log.contains(notice), "{log}");
    }
    assert_eq!(run(&["--temperature", "0", "--min-p", "0.1"]).0, "0.0 20 0.95 0.1 1.05");

    let server = Server::ready(&model, &["--max-tokens-out", "60"]);
    let ask = |path: &str, body: Value| {
        let answer = server.call("POST", path, Some(&body)).1;
        let receipt = match path {
            "/execute" => events(&answer).pop().unwrap().1["receipt"].clone(),
            _ => serde_json::from_str::<Value>(&answer).unwrap()["choices"][0]["receipt"].clone(),
        };
        chosen(&receipt["parameters"])
    };
    let completion = json!({"prompt": "a", "max_tokens": 1, "receipt": true});
    let job = json!({"job_id": "1", "prompt": "a", "max_tokens": 1, "receipt": true});
    assert_eq!([ask("/v1/completions", completion.clone()), ask("/execute", job)], [by_run.clone(), by_run]);
    let mut explicit = completion;
    explicit["temperature"] = 1.into();
    explicit["top_p"] = 1.into();
    assert_eq!(ask("/v1/completions", explicit), "1.0 20 1.0 0.05 1.05");
    let models: Value = serde_json::from_str(&server.call("GET", "/v1/models", None).1).unwrap();
    let expected = json!({"temperature": 0.6, "top_k": 20, "top_p": 0.95, "min_p": 0.05,
        "repetition_penalty": 1.05, "max_tokens": 60});
    assert_eq!(models["data"][0]["defaults"], expected);
}

#[test]
fn values_in_effect_are_shown_before_anything_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let model = advising(folder.path());
    let printed = |model: &str, more: &[&str]| {
        let printed = worker(&[&["serve", "--model", model, "--print-config"][..], more].concat()).ok();
        let names = ["temperature", "top-k", "top-p", "min-p", "repetition-penalty"];
        let is_one = |line: &&str| names.iter().any(|name| line.trim_start_matches("# ").starts_with(name));
        printed.lines().filter(is_one).collect::<Vec<_>>().join("\n")
    };
    expect![[r##"
        temperature = 0.6  # the model's file
        top-k = 7  # flag --top-k
        top-p = 0.95  # default
        min-p = 0.05  # default
        repetition-penalty = 1.05  # the model's file"##]]
    .assert_eq(&printed(&model, &["--top-k", "7"]));
    expect![[r##"
        temperature = 0.8  # default
        top-k = 40  # default
        top-p = 0.95  # default
        min-p = 0.05  # default
        repetition-penalty = 1.0  # default"##]]
    .assert_eq(&printed(&golden("llama-q4_0.gguf"), &[]));
    expect![[r##"
        # temperature is chosen at start: the model file's, else 0.8 (--temperature, WORKER_ORCD_TEMPERATURE)
        # top-k is chosen at start: the model file's, else 40 (--top-k, WORKER_ORCD_TOP_K)
        # top-p is chosen at start: the model file's, else 0.95 (--top-p, WORKER_ORCD_TOP_P)
        # min-p is chosen at start: the model file's, else 0.05 (--min-p, WORKER_ORCD_MIN_P)
        # repetition-penalty is chosen at start: the model file's, else 1 (--repetition-penalty, WORKER_ORCD_REPETITION_PENALTY)"##]]
    .assert_eq(&printed("nowhere.gguf", &[]));

    let inspected = worker(&["inspect", &model]).ok();
    let lines: Vec<&str> = inspected.lines().filter(|line| line.contains("top")).collect();
    expect![[r#"
        sampling       temperature 0.6, top-k 20, top-p 0.95, min-p 0.05, repetition penalty 1.05
        notice         general.sampling.top_p: expected 0 to 1, found 1.5; it has no effect"#]]
    .assert_eq(&lines.join("\n"));
    assert!(inspected.contains("no effect: mirostat"), "{inspected}");
}
