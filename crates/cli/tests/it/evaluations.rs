//! Do the evaluations measure what they say? Divergence, saved predictions, reproducibility and round trips on the golden models.

use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use crate::program::{Done, golden, worker};

/// Runs `eval` on the CPU over chunks of 16 tokens.
fn eval(what: &str, model: &str, args: &[&str]) -> Done {
    let common = ["eval", what, "--model", model, "--device", "cpu", "--threads", "2", "--ctx", "16"];
    worker(&[&common[..], args].concat())
}

/// A text of some chunks, and a folder for what is written.
fn text() -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text");
    let words: Vec<String> = (0..40).map(|n| format!("word {n} of {}", n * n)).collect();
    fs::write(&path, words.join(", ")).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

fn number(report: &Value, key: &str) -> f64 {
    report[key].as_f64().unwrap_or_else(|| panic!("{key} of {report}"))
}

#[test]
fn a_model_is_at_no_distance_from_itself_and_at_some_from_others() {
    let (_folder, text) = text();
    let (model, base) = (golden("llama-q4_0.gguf"), golden("llama-f16.gguf"));
    let run = |model: &str, base: &str, more: &[&str]| {
        eval("divergence", model, &[&["--base", base, "--file", &text, "--json"], more].concat())
    };
    let same = run(&base, &base, &[]).json();
    assert_eq!((number(&same, "max_kl"), number(&same, "agreement")), (0.0, 1.0), "{same}");
    let other = run(&model, &base, &[]).json();
    assert!(number(&other, "mean_kl") > 1e-5 && number(&other, "rms_difference") > 0.0, "{other}");
    assert!(number(&other, "median_kl") <= number(&other, "kl_99"), "{other}");
    for bound in [["--max-kl", "1e-9"], ["--min-agreement", "1.1"]] {
        let refused = run(&model, &base, &bound);
        assert_eq!(refused.code, 13, "{}", refused.stderr);
        assert!(refused.stderr.contains("expected at"), "{}", refused.stderr);
    }
}

#[test]
fn saved_predictions_stand_for_their_model_and_are_gone_on_with() {
    let (folder, text) = text();
    let (model, base) = (golden("llama-q4_0.gguf"), golden("llama-f16.gguf"));
    let saved = folder.path().join("saved").to_str().unwrap().to_owned();
    let save = |model: &str, chunks: &str| {
        eval("save", model, &["--file", &text, "--chunks", chunks, "--out", &saved])
    };
    save(&base, "4").ok();
    let whole = fs::read(&saved).unwrap();
    // A writer that was stopped in the third chunk.
    fs::write(&saved, &whole[..whole.len() * 5 / 8]).unwrap();
    save(&base, "4").ok();
    assert!(fs::read(&saved).unwrap() == whole, "another file after a stop");

    let run = |model: &str, args: &[&str]| {
        let common = ["--file", &text, "--chunks", "4", "--json"];
        eval("divergence", model, &[&common[..], args].concat())
    };
    let itself = run(&base, &["--saved", &saved]).json();
    assert!(number(&itself, "max_kl") < 1e-7 && number(&itself, "agreement") == 1.0, "{itself}");
    let (from_file, from_model) =
        (run(&model, &["--saved", &saved]).json(), run(&model, &["--base", &base]).json());
    for key in ["mean_kl", "max_kl", "rms_difference", "base_perplexity"] {
        let (a, b) = (number(&from_file, key), number(&from_model, key));
        assert!((a - b).abs() <= 1e-3 * b.abs(), "{key}: {a} from the file, {b} from the model");
    }

    let other_model = save(&model, "4");
    assert_eq!(other_model.code, 8, "{}", other_model.stderr);
    let other_text = folder.path().join("other");
    fs::write(
        &other_text,
        "quite another text, which is long enough for four chunks of sixteen tokens. ".repeat(4),
    )
    .unwrap();
    let other_text = other_text.to_str().unwrap();
    let refused = eval("divergence", &model, &["--file", other_text, "--chunks", "4", "--saved", &saved]);
    assert_eq!(refused.code, 8);
    assert!(refused.stderr.contains("another id than the text's"), "{}", refused.stderr);
    let short = eval("divergence", &model, &["--file", &text, "--chunks", "5", "--saved", &saved]);
    assert!(short.code == 8 && short.stderr.contains("expected 5 chunks, found 4"), "{}", short.stderr);
    fs::write(&saved, "{}\n").unwrap();
    assert_eq!(run(&model, &["--saved", &saved]).code, 8);
}

#[test]
fn everything_is_one_table() {
    let (_folder, text) = text();
    let model = golden("qwen3-q4_0.gguf");
    let args = ["--file", &text, "--requests", "3", "--tokens", "4", "--prompts", &text, "--ctx", "128"];
    let common = ["eval", "all", "--model", &model, "--device", "cpu", "--threads", "2", "--base", &model];
    let table = worker(&[&common[..], &args].concat());
    let rows: Vec<&str> =
        table.stdout.lines().skip(1).map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(rows, ["tokenizer", "perplexity", "divergence", "reproducibility"], "{}", table.stderr);
    let report = worker(&[&common[..], &args, &["--json"]].concat()).json();
    let ways = report["reproducibility"]["ways"].as_array().unwrap();
    assert_eq!(ways.len(), 5);
    assert!(ways.iter().all(|way| way["equal"] == 3), "{report}");
    assert_eq!(report["divergence"]["mean_kl"], 0.0);
}

#[test]
fn a_golden_model_agrees_with_its_reference_and_says_how_far() {
    let model = golden("llama-q4_0.gguf");
    let run = |args: &[&str]| {
        let common = ["eval", "golden", "--model", &model, "--device", "cpu", "--threads", "2"];
        worker(&[&common[..], args].concat())
    };
    let exact = run(&["--exact", "--json", "--max-nmse", "1e-9", "--max-generated-nmse", "1e-9"]).json();
    assert_eq!(exact["greedy"], serde_json::json!({"same": 24, "of": 24}), "{exact}");
    let fast = run(&["--json"]).json();
    for sequence in fast["sequences"].as_array().unwrap() {
        let (tokens, prompt) = (sequence["tokens"].as_u64().unwrap(), &sequence["prompt"]);
        assert!(number(prompt, "nmse") < 1e-3 && number(prompt, "nmse") > 0.0, "{fast}");
        assert!(number(&sequence["generated"], "nmse") < 1e-3, "{fast}");
        assert!(prompt["same_top"].as_u64().unwrap() * 10 > tokens * 9, "{fast}");
    }
    let refused = run(&["--max-generated-nmse", "1e-12"]);
    assert_eq!(refused.code, 13, "{}", refused.stderr);
    assert!(
        refused.stderr.contains("NMSE of the generated rows of \"text\": expected at most"),
        "{}",
        refused.stderr
    );
    // Another model's reference is far away. One that is not there is a file that is missing.
    let other = golden("gpt2-q4_k_m.json");
    let refused = run(&["--reference", &other, "--max-nmse", "0.5"]);
    assert_eq!(
        (refused.code, refused.stderr.contains("prompt rows of \"text\"")),
        (13, true),
        "{}",
        refused.stderr
    );
    let refused = run(&["--reference", "nowhere.json"]);
    assert_eq!((refused.code, refused.stderr.contains("nowhere.json")), (3, true), "{}", refused.stderr);
}
