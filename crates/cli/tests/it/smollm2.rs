//! Does a published model say what the reference implementation says? SmolLM2-135M-Instruct, greedy, `--exact`.
//!
//! `tests/golden/smollm2.json` holds prompts (plain and chat), the ids they become through tokenizer and template, and the greedy
//! continuations in float32.

use std::{env, fs};

use crate::program::{fixture, golden_json, worker, worker_reading};

/// Lincoln's speech, in the public domain, 320 tokens long.
const GETTYSBURG: &str = include_str!("../gettysburg.txt");

#[test]
fn the_six_greedy_continuations_are_the_references() {
    let Some(model) = fixture("smollm2.gguf") else { return };
    for case in golden_json("smollm2.json")["greedy"].as_array().unwrap() {
        let mut args =
            vec!["run", "--model", &model, "--prompt", "-", "--exact", "--temperature", "0", "--json"];
        args.extend(["--max-tokens", "48"]);
        if case["kind"] == "raw" {
            args.push("--raw");
        }
        let answer = worker_reading(&args, case["prompt"].as_str().unwrap().as_bytes()).json();
        assert_eq!(answer["prompt_tokens"], case["ids"].as_array().unwrap().len(), "{}", case["prompt"]);
        let mut ids = answer["tokens"].as_array().unwrap().clone();
        ids.extend(answer.get("stop_token").filter(|id| !id.is_null()).cloned());
        assert_eq!(&ids, case["greedy"].as_array().unwrap(), "{}", case["prompt"]);
    }
}

/// The perplexity of a text's first chunks.
fn perplexity(model: &str, text: &str, chunks: [&str; 2], more: &[&str]) -> f64 {
    let [ctx, n_chunk] = chunks;
    let args = ["eval", "perplexity", "--model", model, "--device", "cpu", "--file", text, "--json"];
    let report = worker(&[&args[..], &["--ctx", ctx, "--chunks", n_chunk], more].concat()).json();
    report["perplexity"].as_f64().unwrap()
}

/// Within a part of the reference: `--exact` has its digits, the fast kernels round.
fn near(found: f64, reference: f64, part: f64) {
    assert!((found / reference - 1.0).abs() < part, "{found}, the reference has {reference}");
}

#[test]
fn the_perplexity_of_a_speech_is_the_references() {
    let Some(model) = fixture("smollm2.gguf") else { return };
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("gettysburg.txt");
    fs::write(&text, GETTYSBURG).unwrap();
    let of = |more: &[&str]| perplexity(&model, text.to_str().unwrap(), ["128", "2"], more);
    // The file's weights in float64, by NumPy.
    let reference = 18.616_166;
    near(of(&["--exact"]), reference, 1e-5);
    // Prompts in bfloat16, where there is AMX, have 8 bits of each value; WikiText is long enough for their errors to cancel out.
    near(of(&[]), reference, 1e-2);
    near(of(&["--cpu-features", "scalar"]), reference, 2e-3);
}

#[test]
#[allow(clippy::print_stderr, reason = "the reason for skipping")]
fn the_perplexity_of_wikitext_is_the_references() {
    // Its licence asks for the same of what contains it, so it is no part of this repository.
    let Some(text) = env::var_os("WORKER_ORCD_WIKITEXT") else {
        eprintln!("skipped: WORKER_ORCD_WIKITEXT does not name WikiText-2's wiki.test.raw");
        return;
    };
    let Some(model) = fixture("smollm2.gguf") else { return };
    // The file's weights in float32, by Hugging Face transformers.
    near(perplexity(&model, text.to_str().unwrap(), ["512", "20"], &[]), 28.6245, 1e-3);
}
