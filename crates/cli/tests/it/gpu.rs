//! Does the binary use a GPU as it says? Choice, plan, answers, refusals.
//!
//! Skipped, with the reason printed, where this build has no kernels or the machine no GPU.

use serde_json::Value;

use crate::eval;
use crate::program::{Done, golden, golden_json, worker, worker_reading};

/// Whether there is a GPU; says why not.
#[allow(clippy::print_stderr, reason = "the reason for skipping")]
fn gpu() -> bool {
    let done = worker(&["inspect", &golden("llama-q4_0.gguf"), "--plan", "--device", "cuda:0", "-q"]);
    match done.code {
        0 => true,
        7 => {
            eprintln!("skipped: {}", done.stderr.trim_end().trim_start_matches("error: "));
            false
        }
        code => panic!("exit code {code}: {}", done.stderr),
    }
}

fn on_gpu(args: &[&str]) -> Done {
    worker(&[args, &["--device", "cuda:0"]].concat())
}

#[test]
fn auto_chooses_it_and_says_so_first() {
    if !gpu() {
        return;
    }
    let model = golden("llama-q4_0.gguf");
    let done = worker(&["run", "--model", &model, "--raw", "--prompt", "the rain", "--max-tokens", "4"]);
    let first = done.stderr.lines().next().unwrap();
    assert!(
        first.contains("device cuda:0, chosen by auto: ") && first.contains(" MiB, driver CUDA "),
        "{first}"
    );
    assert!(done.stderr.contains(" of weights in "), "{}", done.stderr);
    done.ok();
}

#[test]
fn a_plan_is_what_loading_takes_and_what_does_not_fit_is_6() {
    if !gpu() {
        return;
    }
    let model = golden("llama-q4_k_m.gguf");
    let plan = on_gpu(&["inspect", &model, "--plan", "--json", "--ctx", "64"]).json();
    assert_eq!((&plan["device"], &plan["fits"]), (&Value::from("cuda:0"), &Value::from(true)));
    let report =
        on_gpu(&["bench", "--model", &model, "-p", "0", "-n", "8", "--ctx", "64", "--reps", "1", "--json"]);
    let report = report.json();
    assert_eq!((&report["device"], &report["device_bytes"]), (&plan["device"], &plan["total"]));
    assert_eq!((&report["resident"], &report["roofline"]["source"]), (&true.into(), &"copy".into()));
    let large = ["--model", &model, "--raw", "--prompt", "x", "--ctx", "2000000000"];
    let refused = on_gpu(&[&["run"][..], &large].concat());
    let line = refused.stderr.lines().last().unwrap();
    assert_eq!((refused.code, refused.stdout.as_str()), (6, ""), "{line}");
    assert!(line.starts_with("error: INSUFFICIENT_VRAM: insufficient memory on cuda:0: "), "{line}");
    assert!(line.contains(" bytes needed (") && line.contains(" bytes free"), "{line}");
}

#[test]
fn the_seed_decides_the_answer() {
    if !gpu() {
        return;
    }
    for model in ["llama-q4_k_m.gguf", "qwen2-q4_k_m.gguf", "gpt-oss-mxfp4_moe.gguf"] {
        let model = golden(model);
        let args =
            ["run", "--model", &model, "--raw", "--prompt", "the rain", "--json", "--max-tokens", "12"];
        let answer = |seed| on_gpu(&[&args[..], &["--ignore-eos", "--seed", seed]].concat()).json();
        let (one, same) = (answer("7"), answer("7"));
        assert_eq!((&one["text"], &one["tokens"]), (&same["text"], &same["tokens"]), "{model}");
        assert_eq!(one["tokens"].as_array().unwrap().len(), 12);
    }
}

#[test]
fn greedy_ids_are_the_references() {
    if !gpu() {
        return;
    }
    let (model, case) = (golden("llama-f16.gguf"), golden_json("llama-f16.json"));
    let ids = case["greedy_prompt"].to_string();
    let prompt = worker_reading(&["detokenize", "--special", "--model", &model], ids.as_bytes()).ok();
    let args =
        ["run", "--model", &model, "--raw", "--temperature", "0", "--ignore-eos", "--max-tokens", "24"];
    let args = [&args[..], &["--json", "--device", "cuda:0"]].concat();
    assert_eq!(worker_reading(&args, prompt.as_bytes()).json()["tokens"], case["greedy"]);
}

#[test]
fn perplexity_is_the_cpus() {
    if !gpu() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.txt");
    std::fs::write(&text, "The rain in Spain stays mainly in the plain. ".repeat(40)).unwrap();
    let model = golden("llama-q8_0.gguf");
    let file = text.to_str().unwrap();
    let args = ["eval", "perplexity", "--model", &model, "--file", file, "--ctx", "128", "--json"];
    let perplexity = |flags: &[&str]| {
        let report = worker(&[&args[..], flags].concat()).json();
        report["perplexity"].as_f64().unwrap()
    };
    let (gpu, cpu) = (perplexity(&["--device", "cuda:0"]), perplexity(&["--exact"]));
    assert!((gpu / cpu - 1.0).abs() < 0.01, "{gpu} on the GPU, {cpu} exactly");
}

#[test]
fn logits_are_within_the_rounding_of_activations() {
    if !gpu() {
        return;
    }
    let golden = eval::golden();
    for case in [
        "llama-f16",
        "llama-q4_k_m",
        "qwen2-q4_k_m",
        "phi3-longrope-q8_0",
        "gpt2-q4_k_m",
        "gpt-oss-mxfp4_moe",
    ] {
        let error = eval::error_of(&golden[case], "tokens.random", &["--device", "cuda:0"]);
        assert!(error < 3e-3, "{case}: {error:e}");
    }
}
