//! Does `bench` report what it promises, for every shape of work that it was asked for?
//!
//! No rate is compared with a number: a test machine has other things to do.

use serde_json::{Value, json};

use crate::program::{golden, rewritten, worker};
use crate::serve::Server;

#[test]
fn every_test_has_a_rate_between_its_bounds() {
    let model = golden("llama-q4_0.gguf");
    let args = ["-p", "8,33", "-n", "4", "--batch", "1,3", "--depth", "20", "--reps", "2", "--threads", "2"];
    let flags = ["--device", "cpu", "--roofline", "100", "--json"];
    let report = worker(&[&["bench", "--model", &model][..], &args, &flags].concat()).json();
    let tests = report["tests"].as_array().unwrap();
    let shapes: Vec<String> = tests
        .iter()
        .map(|t| {
            let kind = t["kind"].as_str().unwrap();
            format!("{kind} {} {} {} {}", t["n_prompt"], t["n_gen"], t["batch"], t["depth"])
        })
        .collect();
    assert_eq!(
        shapes,
        ["prefill 8 null null null", "prefill 33 null null null", "decode null 4 1 20", "decode null 4 3 20"]
    );
    for test in tests {
        let rate = |key: &str| test["tokens_per_second"][key].as_f64().unwrap();
        assert!(
            0.0 < rate("min") && rate("min") <= rate("median") && rate("median") <= rate("max"),
            "{test}"
        );
        assert_eq!(test["tokens_per_second"]["samples"].as_array().unwrap().len(), 2);
    }
    let bytes = |key: &str| report[key].as_u64().unwrap();
    assert!(
        0 < bytes("weights_bytes_per_token") && bytes("weights_bytes_per_token") <= bytes("weights_bytes")
    );
    let number = |value: &Value| value.as_f64().unwrap();
    // Two layers of 2 KV heads of 64 values, two bytes each, for keys and for values.
    let kv_row = 2 * 2 * 64 * 2 * 2;
    let decode = &tests[2];
    let kv = (21..25).sum::<u64>() * kv_row / 4;
    assert_eq!(decode["bytes_per_step"].as_u64().unwrap(), bytes("weights_bytes_per_token") + kv);
    assert_eq!(number(&report["gigabytes_per_second"]), number(&decode["gigabytes_per_second"]));
    let share = number(&decode["gigabytes_per_second"]) / 100.0;
    assert!((number(&report["roofline_share"]) - share).abs() < 1e-12 && share > 0.0);
    assert_eq!(report["roofline"]["source"], "given");
    assert!(tests[0]["bytes_per_step"].is_null() && tests[3]["roofline_share"].is_number());
    assert!(number(&report["load_gigabytes_per_second"]) > 0.0 && bytes("load_bytes") > 0);
    assert_eq!(report["resident"], true);
}

#[test]
fn the_kv_cache_is_planned_for_what_is_measured() {
    let model = golden("llama-q4_0.gguf");
    let args = ["-p", "300", "-n", "8", "--batch", "24", "--reps", "1", "--threads", "1", "--roofline", "1"];
    let run = worker(&[&["bench", "--model", &model, "--device", "cpu"][..], &args].concat());
    // Pages of 32: one for each of 24 sequences, of which only one at a time would be as long as the prompt, ten pages.
    assert!(run.stderr.contains("; 768 positions in the KV cache"), "{}", run.stderr);
}

#[test]
fn the_stages_of_a_step_are_timed() {
    let args = ["-p", "40", "-n", "3", "--batch", "2", "--reps", "1", "--threads", "1", "--roofline", "1"];
    let model = golden("qwen3moe-q4_0.gguf");
    let all = [&["bench", "--model", &model, "--device", "cpu", "--stages", "-q"][..], &args].concat();
    let names = ["embed", "qkv", "attend", "attn_out", "ffn_in", "ffn_out", "head", "sample"];
    let report = worker(&[&all[..], &["--json"]].concat()).json();
    for test in report["tests"].as_array().unwrap() {
        let stages = test["stages"].as_array().unwrap();
        let found: Vec<&str> = stages.iter().map(|stage| stage["name"].as_str().unwrap()).collect();
        assert_eq!(found, names);
        let sum = |key: &str| stages.iter().map(|stage| stage[key].as_f64().unwrap()).sum::<f64>();
        assert!((sum("share") - 1.0).abs() < 1e-9 && sum("milliseconds") > 0.0, "{stages:?}");
    }
    let table = worker(&all).stdout;
    assert!(table.contains("prefill 40: stages") && table.contains("ms of a step"), "{table}");
}

/// A stand-in for llama-bench: writes its arguments down, and claims 100 tokens/s for prompts, 50 for generation.
#[cfg(unix)]
#[test]
fn the_peer_is_run_in_turn_and_compared() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempfile::tempdir().unwrap();
    let (program, seen) = (folder.path().join("llama-bench"), folder.path().join("seen"));
    let script = format!(
        "#!/bin/sh\necho \"$@\" >>{}\ncat <<E\n[{{\"n_prompt\": 8, \"n_gen\": 0, \"avg_ts\": 100}},\n\
         {{\"n_prompt\": 0, \"n_gen\": 4, \"n_depth\": 20, \"avg_ts\": 50}}]\nE\n",
        seen.display()
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let (model, program) = (golden("llama-q4_0.gguf"), program.to_str().unwrap());
    let args = ["bench", "--model", &model, "--device", "cpu", "--threads", "2", "--vs", program, "-q"];
    let flags =
        ["-p", "8", "-n", "4", "--batch", "1,2", "--depth", "20", "--reps", "2", "--roofline", "1", "--json"];
    let report = worker(&[&args[..], &flags].concat()).json();
    let peer = |test: usize| report["tests"][test]["peer_tokens_per_second"]["median"].as_f64();
    assert_eq!([peer(0), peer(1), peer(2)], [Some(100.0), Some(50.0), None]);
    let ratio = report["tests"][0]["ratio"].as_f64().unwrap();
    let ours = report["tests"][0]["tokens_per_second"]["median"].as_f64().unwrap();
    assert!((ratio - ours / 100.0).abs() < 1e-9);
    let seen = std::fs::read_to_string(seen).unwrap().replace(&model, "M");
    let once = "-m M -r 1 -o json -ngl 0 -t 2 -p 8 -n 0\n-m M -r 1 -o json -ngl 0 -t 2 -p 0 -n 4 -d 20\n";
    assert_eq!(seen, once.repeat(2));
}

#[test]
fn a_file_without_a_vocabulary_can_be_measured() {
    let folder = tempfile::tempdir().unwrap();
    // As files that are made for measuring have it.
    let no_vocab = [("tokenizer.ggml.model", "no_vocab".into())];
    let model = rewritten(folder.path(), "llama-q4_0.gguf", |key| !key.starts_with("tokenizer."), &no_vocab);
    let args = ["-p", "8", "-n", "2", "--reps", "1", "--threads", "1", "-q", "--json"];
    let report = worker(&[&["bench", "--model", &model][..], &args].concat()).json();
    assert_eq!(report["tests"].as_array().unwrap().len(), 2);
    let roofline = &report["roofline"];
    assert!(roofline["gigabytes_per_second"].as_f64().unwrap() > 0.0, "{roofline}");
}

#[test]
fn a_test_longer_than_the_model_can_be_is_refused() {
    let args = ["bench", "--device", "cpu", "-p", "0", "-n", "4", "--depth", "126", "-q", "--roofline", "1"];
    let done = worker(&[&args[..], &["--model", &golden("gpt2-q4_k_m.gguf")]].concat());
    assert_eq!(done.code, 8, "{}", done.stderr);
    assert_eq!(done.stderr, "error: expected at most 128 tokens (the context), found 130\n");
}

#[test]
fn a_server_under_load_is_measured_and_drawn() {
    let server = Server::ready(&golden("qwen3-q4_0.gguf"), &[]);
    let folder = tempfile::tempdir().unwrap();
    let svg = folder.path().join("load.svg").to_str().unwrap().to_owned();
    let url = format!("http://{}", server.address);
    let common = ["bench", "serve", "--url", &url, "--words", "3", "--tokens", "5", "--requests", "6"];
    let report =
        worker(&[&common[..], &["--clients", "1,3", "--vs", &url, "--json", "--svg", &svg]].concat()).json();
    let levels = report["levels"].as_array().unwrap();
    assert_eq!(levels.len(), 2);
    for figures in levels.iter().flat_map(|level| [&level["ours"], &level["peer"]]) {
        assert_eq!(
            (&figures["requests"], &figures["errors"], &figures["tokens"]),
            (&json!(6), &json!(0), &json!(30))
        );
        assert!(figures["first_token_ms"]["p50"].as_f64() <= figures["first_token_ms"]["p99"].as_f64());
        assert!(figures["goodput"].as_f64() > Some(0.0), "{figures}");
    }
    assert_eq!(std::fs::read_to_string(svg).unwrap().matches("<circle").count(), 4);

    let table = worker(&[&common[..], &["--rate", "200"]].concat()).ok();
    assert!(table.contains("200 requests/s"), "{table}");
    let nobody = worker(&["bench", "serve", "--url", "http://127.0.0.1:1"]);
    assert_eq!(nobody.code, 8, "{}", nobody.stderr);
    let nothing = worker(&["bench"]);
    assert_eq!(nothing.code, 2, "{}", nothing.stderr);
}

#[test]
fn a_published_shape_is_measured_without_a_file() {
    let args = [
        "bench",
        "--shape",
        "smollm2-135m:q4_0",
        "--device",
        "cpu",
        "--threads",
        "2",
        "-p",
        "4",
        "-n",
        "2",
        "--reps",
        "1",
        "--json",
    ];
    let report = worker(&args).json();
    assert_eq!(report["model"], "random smollm2-135m:q4_0");
    // 30 layers and a tied vocabulary of 49,152 tokens of 576 values.
    assert_eq!(report["parameters"], 134_515_008);
    let both = worker(&["bench", "--shape", "gpt-2", "--model", &golden("llama-q4_0.gguf")]);
    assert_eq!(both.code, 2, "{}", both.stderr);
}

#[test]
fn guesses_are_measured_against_none_and_change_no_token() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("loop.txt");
    std::fs::write(&text, "the door, the roof, the door, the roof, the door, the").unwrap();
    let model = golden("llama-q4_0.gguf");
    let common = [
        "bench",
        "speculation",
        &model,
        "--device",
        "cpu",
        "--threads",
        "2",
        "--text",
        text.to_str().unwrap(),
    ];
    let flags = ["-n", "24", "--batch", "1,3", "--reps", "2", "--speculate", "lookup", "--json"];
    let report = worker(&[&common[..], &flags].concat()).json();
    let tests = report["tests"].as_array().unwrap();
    assert_eq!(tests.iter().map(|test| &test["batch"]).collect::<Vec<_>>(), [1, 3]);
    for test in tests {
        assert_eq!(
            (&test["same_tokens"], &test["tokens"]),
            (&json!(true), &json!(24 * test["batch"].as_u64().unwrap()))
        );
        let rate = |key: &str| test[key]["median"].as_f64().unwrap();
        assert!(
            (test["ratio"].as_f64().unwrap() - rate("tokens_per_second") / rate("off_tokens_per_second"))
                .abs()
                < 1e-12
        );
        assert_eq!(test["tokens_per_second"]["samples"].as_array().unwrap().len(), 2);
        assert!(test["accepted"].as_u64() <= test["guessed"].as_u64(), "{test}");
    }
    assert_eq!((&report["speculate"], &report["draft_model"]), (&json!("lookup"), &Value::Null));

    let draft = ["-n", "8", "--reps", "1", "--speculate", "draft", "--draft-model", &model];
    let table = worker(&[&common[..], &draft].concat()).ok();
    assert!(table.contains("--speculate draft --draft-model") && table.contains("loop.txt"), "{table}");
    for (flags, code, text) in [
        (&["--speculate", "off"][..], 2, "nothing to compare with"),
        (&["--speculate", "draft"][..], 2, "needs a --draft-model"),
        (&["-n", "1"][..], 2, "at least 2"),
        (&["--ctx", "24"][..], 8, "(the context)"),
    ] {
        let refused = worker(&[&common[..], flags].concat());
        assert_eq!(refused.code, code, "{}", refused.stderr);
        assert!(refused.stderr.contains(text), "{}", refused.stderr);
    }
}
