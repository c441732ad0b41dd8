//! Can a measurement be repeated from its proof folder? Each that has one, and folders that somebody changed.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::program::{Done, golden, worker};

const DEVICE: [&str; 5] = ["--device", "cpu", "--threads", "2", "-q"];

/// A folder with a text of some chunks in it.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let words: Vec<String> = (0..40).map(|n| format!("word {n} of {}", n * n)).collect();
        fs::write(folder.path().join("text"), words.join(", ")).unwrap();
        Place { folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// Measures and keeps the proof in a folder of this name.
    fn measure(&self, name: &str, args: &[&str]) -> PathBuf {
        let proof = self.path(name);
        // A vocabulary needs no device.
        let device = if args.contains(&"tokenizer") { &DEVICE[4..] } else { &DEVICE[..] };
        worker(&[args, device, &["--proof", &proof]].concat()).ok();
        proof.into()
    }
}

fn verify(proof: &Path, args: &[&str]) -> Done {
    worker(&[&["verify", proof.to_str().unwrap()], args, &DEVICE].concat())
}

fn read(proof: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(proof.join("measurement.json")).unwrap()).unwrap()
}

#[test]
fn an_evaluation_is_repeated_value_by_value() {
    let place = Place::new();
    let (text, model, base) = (place.path("text"), golden("llama-q4_0.gguf"), golden("llama-f16.gguf"));
    let of_text = ["--file", &text];
    let check = |name: &str, args: &[&str], inputs: &[&str], expected: &str| {
        let common = ["eval", name, "--model", &model];
        let proof = place.measure(name, &[&common[..], args, inputs].concat());
        let metadata = fs::read_to_string(proof.join("metadata.json")).unwrap();
        let hash = &read(&proof)["model"][0];
        assert!(
            hash.as_str().unwrap().len() == 64 && metadata.contains(hash.as_str().unwrap()),
            "{metadata}"
        );
        assert!(fs::read_to_string(proof.join("README.md")).unwrap().contains("worker-orcd verify"));
        let verified = verify(&proof, &[&["--model", &model], inputs].concat());
        assert_eq!(verified.ok(), expected, "{name}");
        let another = verify(&proof, &[&["--model", &base], inputs].concat());
        assert!(another.code == 11 && another.stderr.contains("another model"), "{}", another.stderr);
    };
    let chunks = ["--ctx", "16", "--chunks", "3"];
    check("perplexity", &chunks, &of_text, "equal: eval perplexity, 8 values\n");
    let with_base = ["--file", &text, "--base", &base];
    check("divergence", &["--ctx", "16", "--exact"], &with_base, "equal: eval divergence, 16 values\n");
    let requests = ["--requests", "2", "--tokens", "4", "--kv-type", "q8_0"];
    check("reproducibility", &requests, &[], "equal: eval reproducibility, 21 values\n");
    check("tokenizer", &[], &[], "equal: eval tokenizer, 8 values\n");
    let reference = golden("llama-q4_0.json");
    check("golden", &[], &["--reference", &reference], "equal: eval golden, 15 values\n");
    let all = [&chunks[..], &requests[..4]].concat();
    check("all", &all, &with_base, "equal: eval all, 53 values\n");
}

#[test]
fn a_benchmark_is_repeated_and_its_rates_stand_beside_the_old_ones() {
    let place = Place::new();
    let model = golden("llama-q4_0.gguf");
    let sizes = ["-p", "8,16", "-n", "4", "--batch", "1,2", "--reps", "2", "--roofline", "10"];
    let proof = place.measure("bench", &[&["bench", &model], &sizes[..]].concat());
    assert_eq!(read(&proof)["flags"][1], "--prompt=8,16");
    let shown = verify(&proof, &["--model", &model]).ok();
    assert!(shown.starts_with("equal: bench, ") && shown.contains("ratio"), "{shown}");
    let rates = |kind: &str| shown.lines().filter(|line| line.starts_with(kind)).count();
    assert_eq!((rates("prefill"), rates("decode")), (2, 2), "{shown}");
}

#[test]
fn what_was_changed_is_named_and_what_is_missing_is_asked_for() {
    let place = Place::new();
    let (text, model) = (place.path("text"), golden("llama-q4_0.gguf"));
    let args = ["eval", "perplexity", "--model", &model, "--ctx", "16", "--file", &text];
    let proof = place.measure("proof", &args);
    let (whole, with_text) = (read(&proof), ["--model", &model, "--file", &text]);
    let check = |change: &dyn Fn(&mut Value), args: &[&str], code: i32, expected: &str| {
        let mut changed = whole.clone();
        change(&mut changed);
        fs::write(proof.join("measurement.json"), changed.to_string()).unwrap();
        let done = verify(&proof, args);
        assert!(done.code == code && done.stderr.contains(expected), "{}: {}", done.code, done.stderr);
    };
    check(&|_| {}, &with_text[..2], 2, "expected --file with a file of SHA-256");
    check(&|_| {}, &["--file", &text], 2, "expected --model with a file of SHA-256");
    check(&|_| {}, &["--model", &model, "--file", &model], 11, "another --file \"llama-q4_0.gguf\"");
    let result = |v: &mut Value| v["result"]["scored_tokens"] = 7.into();
    check(&result, &with_text, 11, "different: result.scored_tokens: expected 7, found ");
    check(&|v| v["version"] = 2.into(), &with_text, 8, "version: expected 1, found 2");
    check(&|v| v["more"] = 1.into(), &with_text, 8, "unknown field `more`");
    check(&|v| v["command"] = "eval save".into(), &with_text, 8, "found \"eval save\"");
    // A stranger's folder may not choose what is written or run here.
    let written = place.path("written");
    let flag = format!("--proof={written}");
    check(&|v| v["flags"] = json!(["--kv-type=f16", flag]), &with_text, 8, "flags: expected ");
    check(&|v| v["flags"] = json!(["--frobnicate"]), &with_text, 8, "unexpected argument '--frobnicate'");
    let (svg, vs) = (format!("--svg={written}"), "--vs=/bin/true");
    for flag in [svg.as_str(), vs] {
        let change = |v: &mut Value| {
            v["command"] = "bench".into();
            v["inputs"] = json!([]);
            v["flags"] = json!([flag]);
        };
        check(&change, &["--model", &model], 8, "flags: expected ");
    }
    assert!(!Path::new(&written).exists());
}
