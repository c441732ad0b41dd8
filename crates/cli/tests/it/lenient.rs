//! `serve --compat lenient`: what a request has that the server does not know is in the response's header and in the log, by its name alone.

use std::io::Read;

use serde_json::json;

use crate::program::{golden, worker};
use crate::serve::{ENDLESS, Server};

#[test]
fn what_was_ignored_is_in_the_header_and_in_the_log() {
    let server = Server::ready(&golden(ENDLESS), &["--compat", "lenient"]);
    let body =
        json!({"prompt": "a", "max_tokens": 3, "model": "llama3", "keep_alive": "a value", "user": "me"});
    let mut answer = String::new();
    server.open("POST", "/v1/completions", Some(&body)).read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("x-ignored-fields: model, keep_alive, user\r\n"), "{answer}");
    server.signal("-TERM");
    let (code, log) = server.end();
    assert_eq!(code, Some(0), "{log}");
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("model, keep_alive, user")).collect();
    let [line] = lines[..] else { panic!("{log}") };
    assert!(
        line.contains("ignored") && line.contains("/v1/completions") && line.contains("correlation"),
        "{line}"
    );
    assert!(!log.contains("a value"), "{log}");
}

#[test]
fn another_mode_is_refused_by_name() {
    let ended = worker(&["serve", "--compat", "loose", "--model", &golden(ENDLESS)]);
    assert_eq!(ended.code, 2, "{}", ended.stderr);
    assert!(ended.stderr.contains("strict") && ended.stderr.contains("lenient"), "{}", ended.stderr);
}
