//! Is a model found by its name on a hub, fetched once, and used by every command?
//!
//! The hub is a server of these tests; what can go wrong with hubs is tested in the `hub` crate.

use std::path::Path;

use expect_test::expect;

use crate::hub::{COMMIT, hub, run};
use crate::program::golden;

const NAME: &str = "hf:org/repo::file=llama-q4_0.gguf";

#[test]
fn a_model_on_a_hub_is_fetched_once_and_used_by_its_name() {
    let (hub, cache) = (hub(), tempfile::tempdir().unwrap());
    let path = run(&["pull", NAME, "-q"], &hub, cache.path()).ok();
    let expected = cache.path().join(format!("models--org--repo/snapshots/{COMMIT}/llama-q4_0.gguf\n"));
    assert_eq!(Path::new(&path), expected);
    assert_eq!(std::fs::read(path.trim_end()).unwrap(), std::fs::read(golden("llama-q4_0.gguf")).unwrap());
    let answer = |model: &str| {
        let args =
            ["run", "--model", model, "--raw", "--prompt", "the rain", "--json", "--seed", "3", "-n", "5"];
        run(&args, &hub, cache.path()).json()["tokens"].clone()
    };
    assert_eq!(answer(NAME), answer(&golden("llama-q4_0.gguf")));
    // Nothing is asked where it is here.
    let named = format!("hf:org/repo@{COMMIT}::file=llama-q4_0.gguf");
    assert_eq!(run(&["pull", &named, "-q"], "http://127.0.0.1:1", cache.path()).ok(), path);
    let found = run(&["inspect", NAME, "--json"], &hub, cache.path()).json();
    assert_eq!(found["architecture"], "llama");
}

#[test]
fn a_path_is_a_path() {
    let model = golden("llama-q4_0.gguf");
    let cache = tempfile::tempdir().unwrap();
    assert_eq!(run(&["pull", &model], "http://127.0.0.1:1", cache.path()).ok(), format!("{model}\n"));
    let file = format!("file:{model}");
    assert_eq!(run(&["pull", &file], "http://127.0.0.1:1", cache.path()).ok(), format!("{model}\n"));
}

#[test]
fn what_cannot_be_fetched_has_its_exit_code() {
    let (hub, cache) = (hub(), tempfile::tempdir().unwrap());
    let said = |args: &[&str], endpoint: &str| {
        let done = run(&[args, &["-qq"]].concat(), endpoint, cache.path());
        assert_eq!(done.stdout, "", "{args:?}");
        let folder = cache.path().to_str().unwrap();
        let line = done.stderr.lines().next().unwrap();
        format!("{}: {}", done.code, line.replace(folder, "CACHE").replace(endpoint, "HUB"))
    };
    expect![[r#"2: error: invalid value 'hf:repo::file=x' for '<MODEL>': model reference: expected a repository as ORG/NAME of letters, digits, '.', '_' and '-', found "repo""#]]
        .assert_eq(&said(&["pull", "hf:repo::file=x"], &hub));
    expect!["3: error: hf:org/repo@main::file=x.gguf: the hub has no such file"]
        .assert_eq(&said(&["pull", "hf:org/repo::file=x.gguf"], &hub));
    expect!["3: error: CACHE/x.gguf: No such file or directory (os error 2)"]
        .assert_eq(&said(&["pull", cache.path().join("x.gguf").to_str().unwrap()], &hub));
    expect!["2: error: HF_ENDPOINT: expected an address such as https://huggingface.co"]
        .assert_eq(&said(&["pull", NAME], "ftp://hub"));
    // This hub closes every connection: TLS is not what it speaks.
    let line = said(&["tokenize", "--model", NAME], &hub.replace("http:", "https:"));
    assert!(
        line.starts_with(
            "10: error: the model is not in the cache, and the hub cannot be reached: 127.0.0.1:"
        ),
        "{line}"
    );
    // A device that is not there is said before anything is fetched.
    let line =
        said(&["run", "--model", "hf:org/repo::file=x.gguf", "--gpu-device", "63", "--prompt", "x"], &hub);
    assert!(line.starts_with("7: "), "{line}");
}
