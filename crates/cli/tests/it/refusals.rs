//! Does every refusal have its exit code, one clear line on stderr, and nothing on stdout?
//!
//! Codes are those of `src/exit.rs`. With `-q` the log is silent, so that the one line is all there is.

use expect_test::{Expect, expect};

use crate::program::{golden, rewritten, worker, worker_reading};

/// Runs a command that must fail: `code: the error line`, with folders cut out. What clap refuses has its usage or a pointer to the help below.
pub(crate) fn check(args: &[&str], stdin: &str, expected: &Expect) {
    let done = worker_reading(&[args, &["-q"]].concat(), stdin.as_bytes());
    assert_eq!(done.stdout, "", "{args:?}");
    let (reason, rest) = done.stderr.split_once("\n\n").unwrap_or((&done.stderr, ""));
    assert!(rest.is_empty() || rest.ends_with("For more information, try '--help'.\n"), "{args:?}: {rest}");
    let lines: Vec<&str> = reason.lines().map(str::trim).collect();
    assert!(lines.len() == 1 || !rest.is_empty(), "one line for {args:?}, found {:?}", done.stderr);
    let line = lines.join(" ");
    let folder = golden("");
    expected.assert_eq(&format!("{}: {}", done.code, line.replace(&folder, "")));
}

#[test]
fn wrong_usage_is_2() {
    check(
        &["run"],
        "",
        &expect!["2: error: the following required arguments were not provided: <MODEL|--model <MODEL>>"],
    );
    check(
        &["run", "--model", "m", "--temperature", "hot"],
        "",
        &expect!["2: error: invalid value 'hot' for '--temperature <T>': invalid float literal"],
    );
    check(
        &["run", "--model", "m", "--logit-bias", "5"],
        "",
        &expect![
            "2: error: invalid value '5' for '--logit-bias <ID=BIAS>': expected ID=BIAS, such as 42=-1.5"
        ],
    );
    check(
        &["bench", "--model", "m", "--threads", "0"],
        "",
        &expect!["2: error: invalid value '0' for '--threads <N>': expected a whole number from 1 to 4096"],
    );
    check(
        &["run", "m", "-t", "4097"],
        "",
        &expect![
            "2: error: invalid value '4097' for '--threads <N>': expected a whole number from 1 to 4096"
        ],
    );
    check(
        &["inspect", "m", "--log", "xml"],
        "",
        &expect!["2: error: invalid value 'xml' for '--log <FORMAT>' [possible values: text, json]"],
    );
    check(
        &["bench", "--model", "m", "-p", "0", "-n", "0"],
        "",
        &expect!["2: error: nothing to time: -p and -n are both 0"],
    );
}

#[test]
fn no_command_is_2_with_usage_and_examples() {
    for (args, usage, example) in [
        (&[][..], "Usage: worker-orcd [OPTIONS] <COMMAND>\n", "\n  worker-orcd run m.gguf "),
        (
            &["eval"],
            "Usage: worker-orcd eval [OPTIONS] <COMMAND>\n",
            "\n  worker-orcd eval perplexity m.gguf ",
        ),
    ] {
        let done = worker(args);
        assert_eq!((done.code, done.stdout.as_str()), (2, ""));
        assert!(done.stderr.contains(usage) && done.stderr.contains(example), "{}", done.stderr);
    }
    check(&["bench"], "", &expect!["2: error: expected a model, --shape, or serve; --help says more"]);
}

#[test]
fn a_model_is_a_word_or_a_flag_and_not_both() {
    let model = golden("llama-q4_0.gguf");
    let commands = [
        (&["tokenize"][..], "the rain"),
        (&["run", "--raw", "--prompt", "a", "-n", "1", "--seed", "1"], ""),
        (&["eval", "tokenizer"], ""),
        (&["inspect"], ""),
    ];
    for (command, stdin) in commands {
        let said = |model: &[&str]| worker_reading(&[command, &["-q"], model].concat(), stdin.as_bytes());
        let by_word = said(&[&model]);
        assert_eq!(by_word.code, 0, "{}", by_word.stderr);
        assert_eq!(by_word.stdout, said(&["--model", &model]).stdout);
        let both = said(&["m.gguf", "--model", "m.gguf"]);
        assert_eq!((both.code, both.stdout.as_str()), (2, ""));
        let reason = "error: the argument '[MODEL]' cannot be used with '--model <MODEL>'\n";
        assert!(both.stderr.starts_with(reason), "{}", both.stderr);
    }
    let both = worker(&["bench", "m.gguf", "--shape", "llama-3-8b:q4_k_m"]);
    assert!(both.code == 2 && both.stderr.contains("cannot be used with"), "{}", both.stderr);
}

#[test]
fn a_word_beside_the_flag_of_the_model_is_a_prompt_or_a_text() {
    let model = golden("llama-q4_0.gguf");
    let rest = ["--raw", "-n", "8", "--seed", "1", "--device", "cpu", "-q"];
    let said = |args: &[&str]| worker(&[&["run"], &rest[..], args].concat()).ok();
    let expected = said(&[&model, "the rain"]);
    let glued = format!("--model={model}");
    for args in
        [&["-m", &model, "the rain"][..], &["the rain", "--model", &model], &[&glued, "--", "the rain"]]
    {
        assert_eq!(said(args), expected, "{args:?}");
    }
    let embedder = golden("vectors/qwen3-embedding.gguf");
    let texts = worker(&["embed", &embedder, "Snow.", "Ice."]).ok();
    assert_eq!(worker(&["embed", "-m", &embedder, "Snow.", "Ice."]).ok(), texts);
    // Two models are not one model and a prompt.
    for second in ["m.gguf", "hf:a/b"] {
        let both = worker(&["run", second, "-m", &model]);
        assert_eq!((both.code, both.stdout.as_str()), (2, ""));
        assert!(
            both.stderr.contains("tip: --model names the model already: leave one of the two out\n"),
            "{}",
            both.stderr
        );
    }
}

#[test]
fn a_refused_command_line_says_what_would_be_right() {
    for (line, tip) in [
        ("m.gguf", "a command comes first: worker-orcd run m.gguf, or worker-orcd serve m.gguf"),
        ("chat m.gguf", "the command is called run: worker-orcd run --help"),
        ("-m m.gguf -p Hello", "flags follow a command, as in worker-orcd run --model m.gguf --prompt Hello"),
        ("run", "a model is a GGUF file, a name such as qwen3:0.6b, or hf:ORG/REPO of a hub"),
        ("run m.gguf Why not", "a prompt of several words is put in quotes"),
        ("run m.gguf -f p.txt", "a prompt is read from a file through stdin: worker-orcd run MODEL < FILE"),
        ("run m.gguf -p a --min-tokens many", "a whole number is expected, such as 64"),
        ("run m.gguf -p a --min-tokens=-1", "a whole number of at least 0 is expected"),
        ("run m.gguf -p a --temperature hot", "a number is expected, such as 0.8"),
        ("serve m.gguf 8080", "a port is given as --port 8080"),
        ("serve m.gguf 0.0.0.0", "an address is given as --host ADDRESS --port PORT"),
        ("serve m.gguf -p Hello", "a prompt is answered by worker-orcd run; a server gets prompts over HTTP"),
        ("tokenize m.gguf Hello", "the text is read from stdin: printf 'Hello' | worker-orcd tokenize MODEL"),
        (
            "tokenize -m m.gguf Hello",
            "the text is read from stdin: printf 'Hello' | worker-orcd tokenize MODEL",
        ),
        ("detokenize m.gguf 1", "the ids are read from stdin: echo '[9707]' | worker-orcd detokenize MODEL"),
        ("pull -m qwen3:0.6b", "the model is a word: worker-orcd pull MODEL"),
        ("verify", "a receipt is a file that run --receipt wrote, or a folder that --proof wrote"),
        ("verify r.json m.gguf m.gguf", "the order is RECEIPT MODEL, one of each"),
        ("eval perplexity m.gguf t.txt -f t.txt", "a text is given by its file, as --file t.txt"),
        ("eval divergence a.gguf b.gguf -f t.txt", "the model to compare with is given as --base b.gguf"),
        ("bench serve", "the server must run already, as --url http://127.0.0.1:8080"),
        (
            "bench serve m.gguf --url http://127.0.0.1:1",
            "bench serve measures a server that runs already, as --url http://127.0.0.1:8080",
        ),
        ("eval all m.gguf -f t.txt --zzz", "worker-orcd eval all --help lists the flags that there are"),
    ] {
        let done = worker(&line.split(' ').collect::<Vec<_>>());
        assert_eq!((done.code, done.stdout.as_str()), (2, ""), "{line}: {}", done.stderr);
        let tips: Vec<&str> = done.stderr.lines().filter_map(|line| line.strip_prefix("  tip: ")).collect();
        assert_eq!(tips, [tip], "{line}: {}", done.stderr);
    }
    check(
        &["bench", "serve", "--url", "localhost:8080"],
        "",
        &expect![
            "2: error: invalid value 'localhost:8080' for '--url <URL>': expected a URL, such as http://127.0.0.1:8080"
        ],
    );
}

#[test]
fn own_flags_stand_before_those_that_all_commands_have() {
    let help = worker(&["run", "-h"]).ok();
    let at = |text: &str| help.find(text).unwrap_or_else(|| panic!("{text}: {help}"));
    let order = [
        "\nUsage:",
        "\nOptions:",
        "-p, --prompt",
        "\nModel and device:",
        "--threads",
        "\nSampling:",
        "\nMessages:",
        "--quiet",
    ];
    assert!(order.map(at).is_sorted(), "{help}");
}

#[test]
fn a_port_in_use_is_named_with_what_to_do() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let done = worker(&["serve", "m.gguf", "--port", &port, "-q"]);
    let line = format!(
        "error: cannot listen on 127.0.0.1:{port}: Address already in use (os error 98); another process has this port: \
         give another --port, or --port 0 for a free one\n"
    );
    assert_eq!((done.code, done.stderr), (3, line));
}

#[test]
fn a_parameter_out_of_range_is_2_before_anything_is_opened() {
    let refused = |flag: &str, value: &str| {
        let done = worker(&["run", "--model", "/nowhere.gguf", "--prompt", "x", flag, value]);
        format!("{}: {}", done.code, done.stderr.trim_end())
    };
    for (flag, value, line) in [
        ("--temperature", "-1", "temperature: expected 0 to 100, found -1"),
        ("--temperature", "nan", "temperature: expected 0 to 100, found NaN"),
        ("--top-p", "1.5", "top_p: expected 0 to 1, found 1.5"),
        ("--min-p", "-0.1", "min_p: expected 0 to 1, found -0.1"),
        ("--typical-p", "2", "typical_p: expected 0 to 1, found 2"),
        ("--repetition-penalty", "0", "repetition_penalty: expected 0.01 to 100, found 0"),
        ("--presence-penalty", "101", "presence_penalty: expected -100 to 100, found 101"),
        ("--frequency-penalty", "-101", "frequency_penalty: expected -100 to 100, found -101"),
        ("--logit-bias", "1=200", "logit_bias: expected -100 to 100, found 200"),
        ("--max-tokens", "0", "max_tokens: expected at least 1, found 0"),
        ("--stop", "", "stop: expected strings of 1 to 256 bytes, found 0"),
    ] {
        assert_eq!(refused(flag, value), format!("2: error: {line}"));
    }
    let done = worker(&["run", "/nowhere.gguf", "x", "--max-tokens", "2", "--min-tokens", "3"]);
    let line = "error: min_tokens: expected at most max_tokens, 2, found 3";
    assert_eq!((done.code, done.stderr.trim_end()), (2, line));
}

#[test]
fn an_empty_pipe_is_no_prompt() {
    let model = golden("llama-q4_0.gguf");
    for stdin in ["", "\n", " \t\r\n\n"] {
        for args in [&["--raw"][..], &["--system", "s"], &["--prompt", "-", "--raw"]] {
            let args = [&["run", "--model", &model][..], args].concat();
            check(
                &args,
                stdin,
                &expect!["2: error: stdin: expected a prompt, found nothing but white space"],
            );
        }
    }
}

#[test]
fn an_empty_prompt_is_none_wherever_it_stands() {
    for prompt in ["", " \n"] {
        for args in [&["--prompt", prompt][..], &[prompt], &["--raw", "-p", prompt]] {
            let args = [&["run", "/nowhere.gguf"][..], args].concat();
            check(
                &args,
                "",
                &expect!["2: error: --prompt: expected a prompt, found nothing but white space"],
            );
        }
    }
}

#[test]
fn an_unreadable_file_is_3() {
    check(
        &["inspect", &golden("none.gguf")],
        "",
        &expect!["3: error: none.gguf: No such file or directory (os error 2)"],
    );
    check(&["inspect", "."], "", &expect![["3: error: .: expected a regular file"]]);
    let model = golden("llama-q4_0.gguf");
    check(
        &["eval", "logits", "--model", &model, "--tokens", &golden("none.json"), "--out", "x"],
        "",
        &expect!["3: error: cannot read none.json: No such file or directory (os error 2)"],
    );
}

#[test]
fn an_invalid_file_is_4() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.gguf");
    let whole = std::fs::read(golden("llama-q4_0.gguf")).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    for command in ["inspect", "tokenize"] {
        let model = path.to_str().unwrap();
        let args = if command == "inspect" { vec![command, model] } else { vec![command, "--model", model] };
        let done = worker(&args);
        assert_eq!(
            (done.code, done.stdout.as_str(), done.stderr.lines().count()),
            (4, "", 1),
            "{}",
            done.stderr
        );
        assert!(done.stderr.starts_with("error: ") && done.stderr.contains("truncated"), "{}", done.stderr);
    }
    check(
        &["inspect", &golden("README.md")],
        "",
        &expect![[
            r##"4: error: README.md: not a GGUF file: expected the bytes "GGUF" at byte 0, found "# Go""##
        ]],
    );
}

#[test]
fn a_device_that_is_not_there_is_7_and_never_replaced() {
    let model = golden("llama-q4_0.gguf");
    let commands = [["run", "--raw", "--prompt", "x"], ["bench", "-n", "1", "-q"]];
    for command in commands {
        // Why it is not there depends on the build and the machine.
        for device in [["--device", "cuda:63"], ["--gpu-device", "63"]] {
            let done = worker(&[&command[..], &["--model", &model, "-q"], &device].concat());
            let said = (done.code, done.stdout.as_str(), done.stderr.lines().count());
            assert_eq!(said, (7, "", 1), "{}", done.stderr);
            assert!(done.stderr.starts_with("error: device cuda:63 is not available: "), "{}", done.stderr);
        }
    }
}

#[test]
fn a_model_that_the_gpus_kernels_cannot_compute_is_5_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let heads = [
        ("llama.attention.head_count", 32u32),
        ("llama.attention.head_count_kv", 16),
        ("llama.attention.key_length", 8),
        ("llama.attention.value_length", 8),
        ("llama.rope.dimension_count", 8),
    ];
    let heads = heads.map(|(key, value)| (key, value.into()));
    let model = rewritten(folder.path(), "llama-q4_0.gguf", |_| true, &heads);
    let refused = worker(&["inspect", &model, "--plan", "--device", "cuda:63", "-q"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (5, ""), "{}", refused.stderr);
    // Which sizes there are is the kernels' affair.
    assert!(
        refused.stderr.starts_with("error: not supported on a GPU: head size: expected ")
            && refused.stderr.ends_with(", found 8; --device cpu can run it\n"),
        "{}",
        refused.stderr
    );
    let plan = ["inspect", &golden("llama-q4_0.gguf"), "--plan", "--gpu-device", "63", "--slots", "257"];
    check(&plan, "", &expect!["2: error: expected at most 256 sequences at once on a GPU, found 257"]);
    let on_cpu = worker(&["inspect", &model, "--plan", "--device", "cpu"]);
    assert_eq!(on_cpu.code, 0, "{}", on_cpu.stderr);
}

#[test]
fn devices_that_contradict_each_other_are_2() {
    let model = golden("llama-q4_0.gguf");
    let run = |flags: &[&'static str]| {
        let mut args = vec!["run", "--raw", "--prompt", "x", "--model", "m"];
        args.extend(flags);
        args
    };
    check(
        &run(&["--device", "gpu"]),
        "",
        &expect!["2: error: invalid value 'gpu' for '--device <DEVICE>': expected auto, cpu or cuda:N"],
    );
    check(
        &run(&["--device", "cpu", "--gpu-device", "0"]),
        "",
        &expect!["2: error: the argument '--device <DEVICE>' cannot be used with '--gpu-device <N>'"],
    );
    check(
        &run(&["--load-chunk-mb", "4"]),
        "",
        &expect!["2: error: invalid value '4' for '--load-chunk-mb <MB>': 4 is not in 8..=1024"],
    );
    check(
        &[
            "eval",
            "logits",
            "--model",
            &model,
            "--gpu-device",
            "1",
            "--exact",
            "--tokens",
            &golden("llama-q4_0.json"),
        ]
        .into_iter()
        .chain(["--key", "tokens.text", "--out", "x"])
        .collect::<Vec<_>>(),
        "",
        &expect!["2: error: --exact runs only on the CPU, not on cuda:1"],
    );
    check(
        &["inspect", &model, "--device", "cpu"],
        "",
        &expect!["2: error: --device, --gpu-device, --exact, --cpu-features and --kv-type need --plan"],
    );
    check(
        &["inspect", &model, "--slots", "2"],
        "",
        &expect!["2: error: the following required arguments were not provided: --plan"],
    );
    check(
        &["bench", "--model", "m", "--roofline", "0"],
        "",
        &expect!["2: error: invalid value '0' for '--roofline <GB/S>': expected a number above 0"],
    );
}

#[test]
fn a_model_that_does_not_fit_is_6_before_anything_is_allocated() {
    let model = golden("llama-q4_0.gguf");
    let args =
        ["run", "--model", &model, "--raw", "--prompt", "x", "--device", "cpu", "--ctx", "100000000000"];
    let done = worker(&args);
    assert_eq!((done.code, done.stdout.as_str()), (6, ""), "{}", done.stderr);
    let line = done.stderr.lines().last().unwrap();
    assert!(
        line.starts_with("error: insufficient memory on cpu: ") && line.contains(" bytes free"),
        "{line}"
    );
}

#[test]
fn an_invalid_request_is_8() {
    let model = golden("llama-q4_0.gguf");
    check(
        &["run", "--model", &model, "--prompt", "x"],
        "",
        &expect![
            "8: error: the file has no chat template that can be used; --raw continues the prompt as plain text"
        ],
    );
    let long = "the rain ".repeat(300);
    check(
        &["run", "--model", &model, "--raw"],
        &long,
        &expect![
            "8: error: prompt: expected at most 255 tokens, found 1502, 1247 too many: shorten it, or start with a --ctx of at least 1503"
        ],
    );
    check(
        &["detokenize", "--model", &model],
        "[320]",
        &expect!["8: error: stdin: expected ids below 320, found 320"],
    );
    check(
        &["detokenize", "--model", &model, "--jsonl"],
        "{}\n",
        &expect![
            "8: error: stdin, line 1: expected a JSON array of ids: invalid type: map, expected a sequence at line 1 column 0"
        ],
    );
    check(
        &["tokenize", "--model", &model, "--jsonl"],
        "hello\n",
        &expect!["8: error: stdin, line 1: expected a JSON string: expected value at line 1 column 1"],
    );
    check(
        &["eval", "logits", "--model", &model, "--tokens", &golden("llama-q4_0.json"), "--out", "x"],
        "",
        &expect![
            "8: error: llama-q4_0.json: expected an array of token ids, found an object; name one with --key"
        ],
    );
}

#[test]
fn an_error_is_a_json_line_where_the_log_is_json() {
    let done = worker(&["inspect", &golden("none.gguf"), "--log", "json"]);
    let line: serde_json::Value = serde_json::from_str(done.stderr.trim_end()).unwrap();
    assert_eq!((done.code, &line["level"], &line["exit_code"]), (3, &"ERROR".into(), &3.into()), "{line}");
}

#[test]
fn a_draft_model_that_cannot_guess_is_refused_before_anything_is_loaded() {
    let model = golden("qwen2-q4_k_m.gguf");
    let run = |args: &[&str], expected: &Expect| {
        check(&[&["run", &model, "-p", "a", "--raw", "--device", "cpu"], args].concat(), "", expected);
    };
    run(&["--speculate", "draft"], &expect!["2: error: --speculate draft needs a --draft-model"]);
    run(&["--draft-model", &model], &expect!["2: error: --draft-model needs --speculate draft or auto"]);
    let draft = |name: &str, expected: &Expect| {
        run(&["--speculate", "draft", "--draft-model", &golden(name)], expected);
    };
    draft(
        "no.gguf",
        &expect!["3: error: --draft-model no.gguf: no.gguf: No such file or directory (os error 2)"],
    );
    draft(
        "smollm2.json",
        &expect![[
            r#"4: error: --draft-model smollm2.json: smollm2.json: not a GGUF file: expected the bytes "GGUF" at byte 0, found "{\n\"m""#
        ]],
    );
    draft(
        "lfm2-q4_0.gguf",
        &expect![
            "5: error: --draft-model lfm2-q4_0.gguf: its recurrent layers keep a state that a wrong guess would change"
        ],
    );
    // Another end of the answer.
    let folder = tempfile::tempdir().unwrap();
    let end = [("tokenizer.ggml.eos_token_id", gguf::Value::from(70u32))];
    let other = rewritten(folder.path(), "llama-q4_0.gguf", |_| true, &end);
    let done =
        worker(&["run", &model, "-p", "a", "--raw", "-q", "--speculate", "auto", "--draft-model", &other]);
    let why = format!("error: --draft-model {other}: its vocabulary is not the model's: token ");
    assert!(done.code == 5 && done.stdout.is_empty() && done.stderr.starts_with(&why), "{}", done.stderr);
    // A model that takes no guesses itself.
    let recurrent = golden("lfm2-q4_0.gguf");
    check(
        &[
            "run",
            &recurrent,
            "-p",
            "a",
            "--raw",
            "--device",
            "cpu",
            "--speculate",
            "draft",
            "--draft-model",
            &golden("llama-q4_0.gguf"),
        ],
        "",
        &expect![
            "2: error: --speculate draft: no token can be guessed here: the model's recurrent layers keep a state that a wrong guess would change"
        ],
    );
}
