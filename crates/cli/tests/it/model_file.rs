//! What happens when the model's file changes while it is served?

use std::fs::File;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::program::{golden, worker};
use crate::serve::{ENDLESS, Server};

/// A copy of a golden model that may be spoilt.
fn copy(name: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    std::fs::copy(golden(name), &path).unwrap();
    (folder, path)
}

fn cut(path: &PathBuf) {
    File::options().write(true).open(path).unwrap().set_len(4096).unwrap();
}

/// A stream of a server whose model's file is spoilt while it runs: how it ended, and how the server did.
fn spoil(spoil: fn(&PathBuf)) -> (String, Option<i32>, String) {
    let (_folder, path) = copy(ENDLESS);
    let server = Server::ready(path.to_str().unwrap(), &["--ctx", "4096"]);
    let body =
        json!({"prompt": "a", "max_tokens": 4000, "temperature": 0, "stream": true, "ignore_eos": true});
    let stream = server.open("POST", "/v1/completions", Some(&body));
    let reading = thread::spawn(move || crate::serve::finish(stream).1);
    thread::sleep(Duration::from_millis(100));
    spoil(&path);
    let (code, log) = server.end();
    (reading.join().unwrap(), code, log)
}

#[test]
fn a_model_that_is_cut_short_ends_streams_with_model_lost_and_the_process_with_12() {
    let (stream, code, log) = spoil(cut);
    assert_eq!(code, Some(12), "{log}");
    assert!(log.contains("error: MODEL_LOST: "), "{log}");
    assert!(stream.contains("\"code\":\"model_lost\""), "{stream}");
}

#[test]
fn a_model_that_is_written_to_ends_the_process_with_12() {
    let (_, code, log) = spoil(|path| {
        let later = SystemTime::now() + Duration::from_secs(5);
        File::options().write(true).open(path).unwrap().set_modified(later).unwrap();
    });
    assert_eq!(code, Some(12), "{log}");
    assert!(log.contains("found that it was written to"), "{log}");
}

#[test]
fn a_request_on_a_lost_model_is_told_so() {
    let (_folder, path) = copy("llama-q4_0.gguf");
    let server = Server::ready(path.to_str().unwrap(), &[]);
    let body = json!({"prompt": "a", "max_tokens": 4, "temperature": 0});
    assert_eq!(server.call("POST", "/v1/completions", Some(&body)).0, 200);
    cut(&path);
    let (status, text) = server.call("POST", "/v1/completions", Some(&body));
    let error: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &error["error"]["code"]), (500, &json!("model_lost")), "{text}");
    let (status, health) = server.call("GET", "/health", None);
    assert_eq!((status, health.contains("model_lost")), (503, true), "{health}");
    let health: Value = serde_json::from_str(&health).unwrap();
    assert_eq!((&health["model_file"], &health["resident"]), (&json!("lost"), &json!(false)));
    assert_eq!(server.end().0, Some(12));
}

#[test]
fn a_model_that_is_replaced_is_served_on() {
    for flags in [&[][..], &["--no-mmap"]] {
        let (folder, path) = copy("llama-q4_0.gguf");
        let server = Server::ready(path.to_str().unwrap(), flags);
        let body = json!({"prompt": "a", "max_tokens": 4, "temperature": 0});
        let ask =
            || serde_json::from_str::<Value>(&server.call("POST", "/v1/completions", Some(&body)).1).unwrap();
        let health = || serde_json::from_str::<Value>(&server.call("GET", "/health", None).1).unwrap();
        let before = ask();
        assert_eq!(health()["model_file"], "unchanged");
        if flags.is_empty() {
            let other = folder.path().join("other");
            std::fs::write(&other, "another").unwrap();
            std::fs::rename(&other, &path).unwrap();
        } else {
            cut(&path);
        }
        while health()["model_file"] != "replaced" {
            thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(ask()["choices"][0]["text"], before["choices"][0]["text"]);
        server.says("the server goes on with the model that it loaded");
        server.signal("-TERM");
        assert_eq!(server.end().0, Some(0));
    }
}

#[test]
fn the_same_answer_comes_from_memory_and_locked() {
    let model = golden("llama-q4_0.gguf");
    let run = |flags: &[&str]| {
        let first = [
            "run",
            "--model",
            &model,
            "--device",
            "cpu",
            "--raw",
            "-p",
            "a",
            "-n",
            "8",
            "--temperature",
            "0",
        ];
        worker(&[&first[..], flags].concat()).ok()
    };
    assert_eq!(run(&["--no-mmap", "--mlock"]), run(&[]));
    assert_eq!(run(&["--mlock"]), run(&[]));
}

#[test]
fn a_bus_error_that_is_not_of_the_file_ends_the_process() {
    let server = Server::ready(&golden("llama-q4_0.gguf"), &[]);
    server.signal("-BUS");
    assert_eq!(server.end().0, None);
}
