//! What does a model whose logits are not numbers do? It is told as a fault of the model, wherever it is met.

use std::path::PathBuf;

use gguf::Gguf;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::program::{golden, worker};
use crate::serve::Server;

/// A golden model whose last norm is NaN.
fn damaged() -> (TempDir, String) {
    let source = PathBuf::from(golden("llama-q4_0.gguf"));
    let gguf = Gguf::open(&source).unwrap();
    let info = &gguf.tensor("output_norm.weight").unwrap().info;
    let start = usize::try_from(info.offset).unwrap();
    let mut bytes = std::fs::read(&source).unwrap();
    bytes[start..start + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    std::fs::write(&path, bytes).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

#[test]
fn an_evaluation_writes_what_it_found_and_ends_with_4() {
    let (folder, model) = damaged();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (tokens, out, text) = (file("ids.json"), file("x.npy"), file("text"));
    std::fs::write(&tokens, "[1, 2, 3]").unwrap();
    std::fs::write(&text, "a b c d e f g h i j k l m n o p q r s t u v w x y z").unwrap();
    let common = ["--model", &model, "--device", "cpu", "--threads", "1"];
    let logits = worker(&[&["eval", "logits", "--tokens", &tokens, "--out", &out][..], &common].concat());
    assert_eq!(logits.code, 4, "{}", logits.stderr);
    assert!(logits.stderr.contains("in 3 of 3 rows, first in row 0"), "{}", logits.stderr);
    assert!(std::fs::metadata(&out).unwrap().len() > 3 * 4);
    let perplexity =
        worker(&[&["eval", "perplexity", "--file", &text, "--ctx", "8", "--json"][..], &common].concat());
    assert_eq!(perplexity.code, 4, "{}", perplexity.stderr);
    let report: Value = serde_json::from_str(&perplexity.stdout).unwrap();
    assert_eq!(report["perplexity"], Value::Null);
}

#[test]
fn every_evaluation_with_it_ends_with_4() {
    let (folder, damaged) = damaged();
    let (sound, reference) = (golden("llama-q4_0.gguf"), golden("llama-q4_0.json"));
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (text, saved) = (file("text"), file("saved"));
    std::fs::write(&text, "a b c d e f g h i j k l m n o p q r s t u v w x y z ".repeat(4)).unwrap();
    let of_text = ["--file", &text, "--ctx", "48"];
    let few = ["--requests", "2", "--tokens", "2"];
    let ends_with_4 = |what: &str, flags: &[&[&str]], model: &str| {
        let first = ["eval", what, "--model", model, "--device", "cpu", "--threads", "1", "-q"];
        let done = worker(&[&first[..], &flags.concat()].concat());
        assert_eq!(done.code, 4, "{what} {flags:?}: {}", done.stderr);
        let is_said = ["expected logits that are numbers", "its logits or hidden values are not numbers"];
        assert!(is_said.iter().any(|text| done.stderr.contains(text)), "{what}: {}", done.stderr);
    };
    ends_with_4("save", &[&of_text, &["--out", &saved]], &damaged);
    ends_with_4("divergence", &[&of_text, &["--base", &sound]], &damaged);
    ends_with_4("divergence", &[&of_text, &["--base", &damaged]], &sound);
    ends_with_4("golden", &[&["--reference", &reference]], &damaged);
    ends_with_4("reproducibility", &[&few], &damaged);
    ends_with_4("all", &[&of_text, &few], &damaged);
}

#[test]
fn an_answer_is_refused_as_a_fault_of_the_server() {
    let (_folder, model) = damaged();
    let run = worker(&["run", "--model", &model, "--device", "cpu", "--raw", "-p", "a", "-n", "3"]);
    assert_eq!(run.code, 4, "{}", run.stderr);
    assert!(run.stderr.contains("its logits or hidden values are not numbers"), "{}", run.stderr);
    let server = Server::ready(&model, &[]);
    let ask = |body: Value| server.call("POST", "/v1/completions", Some(&body));
    let (status, text) = ask(json!({"prompt": "a", "max_tokens": 3}));
    let error: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &error["error"]["code"]), (500, &json!("not_numbers")), "{text}");
    // A request that bans some tokens leaves others.
    assert_eq!(ask(json!({"prompt": "a", "max_tokens": 3, "ignore_eos": true})).0, 500);
    assert_eq!(server.call("GET", "/health", None).0, 200);
}
