//! What goes wrong and is overcome.

use std::fs;

use crate::server::Fault::{Cut, NoRange, Stall, Status, Wrong};
use crate::server::{COMMIT, Client, Fault, Server, noise, sha256};

/// Fetches 5000 bytes through these faults: the ranges that were asked for.
#[track_caller]
fn ranges(faults: &[Fault], expected: &[&str]) {
    let bytes = noise(5000);
    let server = Server::start(&[("m.gguf", bytes.clone())]);
    server.fail(faults);
    let client = Client::of(&server);
    let (found, said) = client.fetch("main", "m.gguf");
    assert_eq!(found.unwrap(), bytes, "{said:?}");
    assert_eq!(server.ranges(), expected);
    assert_eq!(client.names("blobs"), [sha256(&bytes)]);
}

#[test]
fn a_cut_download_goes_on_where_it_was_cut() {
    ranges(&[Cut(1000), Cut(0), Cut(2500)], &["all", "bytes=1000-", "bytes=1000-", "bytes=3500-"]);
}

#[test]
fn a_connection_that_falls_silent_is_given_up() {
    ranges(&[Stall(4000)], &["all", "bytes=4000-"]);
}

#[test]
fn a_server_without_ranges_starts_over() {
    ranges(&[Cut(1000), NoRange], &["all", "bytes=1000-"]);
    ranges(&[Cut(1000), Status(416, "X: y")], &["all", "bytes=1000-", "all"]);
}

#[test]
fn a_server_that_is_out_of_order_is_asked_again() {
    ranges(&[Status(503, "X: y"), Status(500, "X: y")], &["all", "all", "all"]);
}

#[test]
fn what_an_earlier_process_left_is_continued_if_it_is_right() {
    let bytes = noise(5000);
    let incomplete = format!("{}.incomplete", sha256(&bytes));
    let mut spoilt = bytes[..3000].to_vec();
    spoilt[7] ^= 1;
    let too_long = vec![0; 6000];
    let cases = [
        (bytes[..3000].to_vec(), vec!["bytes=3000-"]),
        (spoilt, vec!["bytes=3000-", "all"]),
        (too_long, vec!["all"]),
        (bytes.clone(), vec![]),
    ];
    for (left, expected) in cases {
        let server = Server::start(&[("m.gguf", bytes.clone())]);
        let client = Client::of(&server);
        let blobs = client.folder.path().join("models--org--repo/blobs");
        fs::create_dir_all(&blobs).unwrap();
        fs::write(blobs.join(&incomplete), left).unwrap();
        assert_eq!(client.fetch("main", "m.gguf").0.unwrap(), bytes);
        assert_eq!(server.ranges(), expected);
    }
}

#[test]
fn a_server_that_wants_time_gets_it_up_to_a_bound() {
    let server = Server::start(&[("m.gguf", noise(5000))]);
    server.fail(&[Status(429, "Retry-After: 1")]);
    let (found, said) = Client::of(&server).fetch("main", "m.gguf");
    assert!(found.is_ok() && said.contains(&"again in 1000 ms".to_owned()), "{said:?}");
    server.fail(&[Status(429, "Retry-After: 3600")]);
    let line = Client::of(&server).refusal("main", "m.gguf");
    assert_eq!(line, "HUB: HTTP 429, to be tried again in 3600 s");
}

#[test]
fn bytes_with_the_wrong_hash_are_not_kept() {
    let bytes = noise(5000);
    let server = Server::start(&[("m.gguf", bytes.clone())]);
    server.fail(&[Wrong]);
    let client = Client::of(&server);
    let line = client.refusal("main", "m.gguf");
    let start = format!("hf:org/repo@{COMMIT}::file=m.gguf: expected SHA-256 {}, found ", sha256(&bytes));
    assert!(line.starts_with(&start) && line.ends_with("; the file was not kept"), "{line}");
    assert!(client.names("blobs").is_empty() && client.names("snapshots").is_empty());
    assert_eq!(client.fetch("main", "m.gguf").0.unwrap(), bytes);
}

#[test]
fn the_token_goes_to_the_hub_and_nowhere_else() {
    let bytes = noise(5000);
    let (server, content) =
        (Server::start(&[("m.gguf", bytes.clone())]), Server::start(&[("m.gguf", bytes.clone())]));
    server.state.lock().unwrap().content = Some(content.address.clone());
    // The signature in the first address is no longer good; the hub gives another.
    content.fail(&[Cut(1000), Status(403, "X: y")]);
    let client = Client::of(&server).with_token();
    assert_eq!(client.fetch("main", "m.gguf").0.unwrap(), bytes);
    assert!(server.seen().iter().all(|seen| seen.token.as_deref() == Some("Bearer hf_secret")));
    assert!(content.seen().iter().all(|seen| seen.token.is_none()));
    assert_eq!(content.ranges(), ["all", "bytes=1000-", "bytes=1000-"]);
    assert_eq!(server.ranges().len(), 3);
}
