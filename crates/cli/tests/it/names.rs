//! Is a model run by a short name, listed, shown and removed, and is a wrong name told what would be right?

use expect_test::expect;

use crate::hub::{COMMIT, hub, run};
use crate::program::{golden, worker};

#[test]
fn a_short_name_is_fetched_run_listed_shown_and_removed() {
    let (hub, cache) = (hub(), tempfile::tempdir().unwrap());
    let call = |args: &[&str]| run(args, &hub, cache.path());
    let absent = call(&["show", "qwen3:0.6b"]).ok();
    let size = "770.7 KiB";
    assert_eq!(
        absent,
        format!(
            "repository     Qwen/Qwen3-0.6B-GGUF\nlicence        Apache-2.0\n\
             file           Qwen3-0.6B-Q8_0.gguf, {size}: not in the cache, `worker-orcd pull` fetches it\n"
        )
    );
    let args = ["--raw", "--prompt", "the rain", "--seed", "3", "-n", "5", "--device", "cpu"];
    let named = call(&[&["run", "--model", "qwen3:0.6b"], &args[..]].concat());
    // What is fetched is said before it is, with its size and the room for it.
    let line = named.stderr.lines().find(|line| line.contains("fetching Qwen3-0.6B-Q8_0.gguf")).unwrap();
    let expected = format!("from Qwen/Qwen3-0.6B-GGUF: {size}, ");
    assert!(line.contains(&expected) && line.contains(" free on the disk, "), "{line}");
    assert!(line.ends_with(" free on cpu"), "{line}");
    let golden = golden("llama-q4_0.gguf");
    assert_eq!(named.ok(), worker(&[&["run", "--model", &golden], &args[..]].concat()).ok());

    // Offline it is still there, by any name.
    for name in ["qwen3:0.6b", "QWEN3:0.6B:q8_0", "hf:Qwen/Qwen3-0.6B-GGUF"] {
        let path = call(&["pull", "--offline", "-q", name]).ok();
        assert!(path.ends_with(&format!("snapshots/{COMMIT}/Qwen3-0.6B-Q8_0.gguf\n")), "{path}");
    }
    let listed = call(&["models"]).ok();
    let words: Vec<&str> = listed.split_whitespace().collect();
    assert_eq!(words, ["qwen3:0.6b", "770.7", "KiB", "just", "now", "Qwen3-0.6B-Q8_0.gguf"]);
    let json = call(&["models", "--json"]).json();
    assert_eq!(json[0]["repository"], "Qwen/Qwen3-0.6B-GGUF");
    let shown = call(&["show", "qwen3:0.6b", "--offline", "-q"]).ok();
    assert!(
        shown.contains("licence        Apache-2.0\nfile ") && shown.contains("architecture   llama"),
        "{shown}"
    );

    let refused = call(&["rm", "qwen3:0.6b"]);
    assert_eq!(
        (refused.code, refused.stderr.as_str()),
        (2, "error: without a terminal to ask at, rm needs --yes\n")
    );
    let removed = call(&["rm", "qwen3:0.6b", "--yes"]).ok();
    assert_eq!(removed, format!("removed qwen3:0.6b (Qwen3-0.6B-Q8_0.gguf, {size}): {size} given back\n"));
    assert!(call(&["models"]).ok().starts_with("no models in the cache"));
}

#[test]
fn a_wrong_name_is_told_what_would_be_right() {
    let (hub, cache) = (hub(), tempfile::tempdir().unwrap());
    let said = |args: &[&str]| {
        let done = run(&[args, &["-qq"]].concat(), &hub, cache.path());
        let folder = cache.path().to_str().unwrap();
        format!("{}: {}", done.code, done.stderr.trim_end().replace(folder, "CACHE"))
    };
    expect!["3: error: smollm2: neither a file here nor the name of a model; did you mean smollm2:360m, smollm2:1.7b?"]
        .assert_eq(&said(&["run", "--model", "smollm2", "--prompt", "x"]));
    expect!["3: error: qwen3:9b: neither a file here nor the name of a model; did you mean qwen3:0.6b, qwen3:1.7b, qwen3:4b, qwen3:8b, qwen3:14b, qwen3:32b, qwen3:30b-a3b?"]
        .assert_eq(&said(&["pull", "qwen3:9b"]));
    expect!["3: error: org/many: neither a file here nor the name of a model; did you mean hf:org/many?"]
        .assert_eq(&said(&["inspect", "org/many"]));
    expect!["3: error: hf.co/org/many:Q8_0: neither a file here nor the name of a model; did you mean hf:org/many:Q8_0?"]
        .assert_eq(&said(&["run", "hf.co/org/many:Q8_0", "x"]));
    expect!["3: error: https://huggingface.co/org/many/blob/main/m-Q8_0.gguf: neither a file here nor the name of a model; did you mean hf:org/many::file=m-Q8_0.gguf?"]
        .assert_eq(&said(&["inspect", "https://huggingface.co/org/many/blob/main/m-Q8_0.gguf"]));
    expect!["3: error: xyz: neither a file here nor the name of a model"].assert_eq(&said(&["show", "xyz"]));
    expect!["3: error: hf:org/many@main:Q6_K: expected one GGUF file of Q6_K, found m-Q4_K_M.gguf (0.0 GB), m-Q8_0.gguf (0.0 GB)"]
        .assert_eq(&said(&["pull", "hf:org/many:Q6_K"]));
    expect!["3: error: hf:Qwen/Qwen3-4B-GGUF@main:Q4_K_M is not in the cache CACHE, and nothing may be fetched (--offline or HF_HUB_OFFLINE)"]
        .assert_eq(&said(&["run", "--model", "qwen3:4b", "--offline", "--prompt", "x"]));
    expect!["3: error: hf:org/many@main: expected one model in the cache, found none"].assert_eq(&said(&[
        "rm",
        "hf:org/many",
        "--yes",
    ]));
    for tag in ["Q4_K_M", "Q8_0"] {
        run(&["pull", &format!("hf:org/many:{tag}")], &hub, cache.path()).ok();
    }
    expect!["3: error: hf:org/many@main: expected one model in the cache, found hf:org/many::file=m-Q4_K_M.gguf, hf:org/many::file=m-Q8_0.gguf"]
        .assert_eq(&said(&["rm", "hf:org/many", "--yes"]));
    let file = cache.path().join("m.gguf");
    std::fs::write(&file, "x").unwrap();
    expect!["2: error: CACHE/m.gguf: rm removes models of the cache, not files"].assert_eq(&said(&[
        "rm",
        file.to_str().unwrap(),
        "--yes",
    ]));
}

#[test]
fn the_book_has_the_names_that_the_program_has() {
    let listed = worker(&["models", "--names"]).ok();
    let book = testkit::golden_folder().join("../../docs/src/which-model.md");
    let book = std::fs::read_to_string(book).unwrap();
    let table = book.split("<!-- names: begin -->").nth(1).unwrap();
    let table = table.split("<!-- names: end -->").next().unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let names: Vec<&str> = rows.map(|row| row.split('`').nth(1).unwrap()).collect();
    assert_eq!(names, listed.lines().map(|line| line.split(' ').next().unwrap()).collect::<Vec<_>>());
}
