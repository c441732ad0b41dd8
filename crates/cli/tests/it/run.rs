//! Does `run` give the same answer for the same seed, on a clean stdout, and stop as it was told?
//!
//! The golden models are random, so their answers are noise; what counts is that the noise is the reference's own.

use std::fs::File;
use std::io::Read;
use std::process::Stdio;

use gguf::Value;

use crate::program::{command, done, golden, golden_json, rewritten, worker, worker_reading};

#[test]
fn the_seed_decides_the_answer() {
    let model = golden("llama-q4_0.gguf");
    let answer = |seed: &str, threads: &str| {
        let args =
            ["run", "--model", &model, "--raw", "--prompt", "the rain", "--json", "--max-tokens", "12"];
        worker(&[&args[..], &["--ignore-eos", "--seed", seed, "--threads", threads]].concat()).json()
    };
    let (one, same, other) = (answer("7", "1"), answer("7", "2"), answer("8", "1"));
    assert_eq!((&one["text"], &one["tokens"]), (&same["text"], &same["tokens"]));
    assert_ne!(one["tokens"], other["tokens"]);
    assert_eq!((&one["seed"], &one["stop_reason"]), (&7.into(), &"length".into()));
    assert_eq!(one["tokens"].as_array().unwrap().len(), 12);
}

#[test]
fn greedy_ids_are_the_references_and_stdout_carries_the_text_alone() {
    let (model, case) = (golden("llama-f16.gguf"), golden_json("llama-f16.json"));
    let ids = case["greedy_prompt"].to_string();
    let prompt = worker_reading(&["detokenize", "--special", "--model", &model], ids.as_bytes()).ok();
    let args = [
        "run",
        "--model",
        &model,
        "--raw",
        "--exact",
        "--temperature",
        "0",
        "--ignore-eos",
        "--max-tokens",
        "24",
    ];
    let answer = worker_reading(&[&args[..], &["--json"]].concat(), prompt.as_bytes()).json();
    assert_eq!(answer["prompt_tokens"], case["greedy_prompt"].as_array().unwrap().len());
    assert_eq!(answer["tokens"], case["greedy"]);
    let plain = worker_reading(&args, prompt.as_bytes());
    assert!(plain.stderr.lines().next().unwrap().contains("device cpu, chosen by auto"), "{}", plain.stderr);
    assert_eq!(plain.ok().trim_end_matches('\n'), answer["text"].as_str().unwrap().trim_end_matches('\n'));
}

#[test]
fn a_reader_that_leaves_ends_it_quietly() {
    let model = golden("llama-q4_0.gguf");
    let args =
        ["run", "--model", &model, "--raw", "--prompt", "the rain", "--ignore-eos", "-q", "--ctx", "200"];
    let mut child = command(&args).stdin(Stdio::null()).spawn().unwrap();
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(0), ""));
}

#[test]
fn stdin_beside_a_prompt_is_not_read_and_said_to_be_there() {
    let model = golden("llama-q4_0.gguf");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("text");
    std::fs::write(&file, "text").unwrap();
    let args = ["run", &model, "the rain", "--raw", "-n", "2", "--seed", "1", "-q"];
    let said = |stdin: Stdio| done(command(&args).stdin(stdin).output().unwrap());
    let (open, writer) = std::io::pipe().unwrap();
    let alone = [said(Stdio::null()), said(open.into())];
    drop(writer);
    let mut full = File::open(&file).unwrap();
    let beside = said(full.try_clone().unwrap().into());
    let warning =
        " WARN stdin has text that is not read: there is a prompt already, in whose place - reads stdin\n";
    assert_eq!(beside.stderr, warning);
    let answer = beside.ok();
    for alone in alone {
        assert_eq!((alone.stderr.as_str(), alone.stdout.as_str()), ("", answer.as_str()));
    }
    // It is all there for whoever reads on.
    let mut left = String::new();
    full.read_to_string(&mut left).unwrap();
    assert_eq!(left, "text");
    let embedder = golden("vectors/qwen3-embedding.gguf");
    let beside =
        command(&["embed", &embedder, "Snow.", "-q"]).stdin(File::open(&file).unwrap()).output().unwrap();
    assert!(
        String::from_utf8(beside.stderr)
            .unwrap()
            .contains("WARN stdin has text that is not read: there are texts")
    );
}

#[test]
fn a_receipt_that_cannot_be_written_is_refused_before_the_model_is_loaded() {
    let model = golden("llama-q4_0.gguf");
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("no/x");
    let run = ["run", &model, "the rain", "--raw", "-n", "1"];
    let ids = folder.path().join("ids");
    std::fs::write(&ids, "[1]").unwrap();
    let missing = missing.to_str().unwrap();
    let logits = ["eval", "logits", &model, "--tokens", ids.to_str().unwrap(), "--out", missing];
    let save = ["eval", "save", &model, "--file", ids.to_str().unwrap(), "--out", missing];
    let bench = ["bench", &model, "-p", "1", "-n", "1", "--svg", missing];
    for args in [&[&run[..], &["--receipt", missing]].concat()[..], &logits, &save, &bench] {
        let done = worker(args);
        let expected = format!("error: {missing}: the folder {}/no is not there\n", folder.path().display());
        assert_eq!((done.code, done.stdout.as_str(), done.stderr), (3, "", expected), "{args:?}");
    }
    let file = ids.to_str().unwrap();
    let done = worker(&[&run[..], &["--proof", file]].concat());
    assert_eq!((done.code, done.stderr), (3, format!("error: {file}: File exists (os error 17)\n")));
}

#[test]
fn minus_one_is_read_as_in_the_api() {
    let model = golden("llama-q4_0.gguf");
    let ask = |more: &[&str]| {
        let args = ["run", &model, "the rain", "--raw", "--json", "--ctx", "40", "--device", "cpu", "-q"];
        worker(&[&args[..], more].concat()).json()
    };
    let plain = ask(&["-s", "3", "--top-k", "0", "--repetition-penalty", "1.3"]);
    let theirs = ask(&["-s", "3", "--top-k", "-1", "--repeat-penalty", "1.3", "-n", "-1"]);
    assert_eq!((&plain["tokens"], &plain["text"]), (&theirs["tokens"], &theirs["text"]));
    let drawn =
        [ask(&["-s", "-1", "-n", "1"]), ask(&["--seed=-1", "-n", "1"])].map(|answer| answer["seed"].as_u64());
    assert!(drawn[0] != drawn[1] && drawn[0].is_some(), "{drawn:?}");
    assert_eq!(ask(&["--seed", "-2", "-n", "1"])["seed"].as_u64(), Some(u64::MAX - 1));
}

#[test]
fn a_chat_needs_a_template_and_the_refusal_names_the_way_out() {
    let done = worker(&["run", "--model", &golden("llama-q4_0.gguf"), "--prompt", "hello"]);
    assert!(done.code != 0 && done.stderr.contains("--raw"), "{}", done.stderr);
}

#[test]
fn a_context_beyond_training_is_warned_of_unless_the_scaling_covers_it() {
    let folder = tempfile::tempdir().unwrap();
    let yarn = [
        ("llama.rope.scaling.type", "yarn".into()),
        ("llama.rope.scaling.factor", Value::F32(4.0)),
        ("llama.rope.scaling.original_context_length", Value::U32(256)),
    ];
    let scaled = rewritten(folder.path(), "llama-q4_0.gguf", |_| true, &yarn);
    let warns = |model: &str, ctx: &str| {
        let args = ["run", "--model", model, "--raw", "--prompt", "a", "--max-tokens", "1", "--ctx", ctx];
        let done = worker(&args);
        assert_eq!(done.code, 0, "{}", done.stderr);
        let trained = if model == scaled { 1024 } else { 256 };
        done.stderr
            .contains(&format!("the context of {ctx} tokens is longer than the {trained} that the model"))
    };
    let plain = golden("llama-q4_0.gguf");
    assert_eq!([warns(&plain, "256"), warns(&plain, "257")], [false, true]);
    assert_eq!([warns(&scaled, "1024"), warns(&scaled, "1025")], [false, true]);
}

#[test]
fn a_draft_model_changes_no_byte() {
    let (model, draft) = (golden("llama-q8_0.gguf"), golden("llama-q2_k.gguf"));
    let ask = |more: &[&str]| {
        let ask = [
            "run",
            &model,
            "-p",
            "the",
            "--raw",
            "--device",
            "cpu",
            "--max-tokens",
            "40",
            "--seed",
            "3",
            "--json",
        ];
        let mut answer = worker(&[&ask[..], more].concat()).json();
        answer["timings"].take();
        answer
    };
    let plain = ask(&[]);
    for how in ["draft", "auto"] {
        assert_eq!(ask(&["--speculate", how, "--draft-model", &draft]), plain, "{how}");
    }
}
