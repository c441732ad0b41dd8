//! Are ids and text the same thing through `tokenize` and `detokenize`?
//!
//! The ids are those of the golden files, made by the reference tokenizer; the text has characters of one to four bytes.

use crate::program::{golden, golden_json, worker_reading};

#[test]
fn text_becomes_the_reference_ids_and_comes_back() {
    let (model, case) = (golden("llama-q4_0.gguf"), golden_json("llama-q4_0.json"));
    let text = case["text"].as_str().unwrap();
    let ids = worker_reading(&["tokenize", "--model", &model], text.as_bytes()).json();
    assert_eq!(ids.as_array().unwrap()[..], case["tokens"]["text"].as_array().unwrap()[1..]);
    let back = worker_reading(&["detokenize", "--model", &model], ids.to_string().as_bytes()).ok();
    assert_eq!(back, text);
}

#[test]
fn lines_are_converted_one_by_one() {
    let model = golden("llama-q4_0.gguf");
    let lines = "\"the rain\\nin\"\n\"\"\n\"caf\u{e9} \u{1f680}\"\n";
    let ids = worker_reading(&["tokenize", "--model", &model, "--jsonl"], lines.as_bytes()).ok();
    assert_eq!(ids.lines().nth(1), Some("[]"));
    let back = worker_reading(&["detokenize", "--model", &model, "--jsonl"], ids.as_bytes()).ok();
    assert_eq!(back, lines);
}
