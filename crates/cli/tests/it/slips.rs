//! Is a slip told as what it is? Words in each other's place, values that nobody can mean, and help that goes nowhere.

use expect_test::expect;

use crate::program::{command, done, golden};
use crate::refusals::check;

#[test]
fn a_prompt_and_a_model_in_each_others_place_are_told_apart() {
    check(
        &["run", "Why?", &golden("llama-q4_0.gguf")],
        "",
        &expect![[
            r#"2: error: "Why?" is no model, and "llama-q4_0.gguf" behind it looks like one: the order is worker-orcd run MODEL PROMPT"#
        ]],
    );
    check(
        &["embed", "Why is the sky blue, and why is the grass green? Both are colours.", "qwen3:0.6b"],
        "",
        &expect![[
            r#"2: error: "Why is the sky blue, and why is the grass green? Both are co"... is no model, and "qwen3:0.6b" behind it looks like one: the order is worker-orcd embed MODEL TEXT"#
        ]],
    );
    // What is meant to be a model is looked for.
    check(
        &["run", "missing.gguf", "other.gguf"],
        "",
        &expect!["3: error: missing.gguf: No such file or directory (os error 2)"],
    );
}

#[test]
fn what_a_server_could_not_mean_is_refused() {
    check(
        &["serve", "m.gguf", "--served-model-name", ""],
        "",
        &expect![
            "2: error: invalid value '' for '--served-model-name <NAME>': expected a name, found nothing but white space"
        ],
    );
    check(
        &["serve", "m.gguf", "--served-model-name", "a\nb"],
        "",
        &expect![[
            r#"2: error: invalid value 'a b' for '--served-model-name <NAME>': expected a name without control characters, found '\n'"#
        ]],
    );
    check(
        &["inspect", &golden("llama-q4_0.gguf"), "--ctx", "18446744073709551615"],
        "",
        &expect![
            "2: error: --ctx: expected a context whose bytes 64 bits can count, found 18446744073709551615 tokens"
        ],
    );
    check(
        &["run", "m.gguf", "-n", "-2"],
        "",
        &expect![
            "2: error: invalid value '-2' for '--max-tokens <N>': expected a whole number, or -1 for what the context holds"
        ],
    );
    check(
        &["serve", "m.gguf", "--seed", "soon"],
        "",
        &expect![
            "2: error: invalid value 'soon' for '--seed <N>': expected a whole number from -9223372036854775808 to 18446744073709551615; -1 draws one"
        ],
    );
    check(
        &["serve", "m.gguf", "--temperature", "100.5"],
        "",
        &expect!["2: error: temperature: expected 0 to 100, found 100.5"],
    );
}

#[test]
fn help_that_cannot_be_written_is_an_error() {
    for args in [&["--help"][..], &["run", "-h"], &["--version"], &["completions", "bash"]] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let done = done(command(args).stdout(full).output().unwrap());
        let expected = "error: stdout: No space left on device (os error 28)\n";
        assert_eq!((done.code, done.stderr.as_str()), (3, expected), "{args:?}");
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        assert_eq!(command(args).stdout(writer).output().unwrap().status.code(), Some(0), "{args:?}");
    }
}
