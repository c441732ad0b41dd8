//! What goes wrong for good: each has its own error, and no message repeats a token.

use expect_test::{Expect, expect};

use crate::server::{Client, Fault, Server, noise};

#[track_caller]
fn check(client: &Client, expected: &Expect) {
    let line = client.refusal("main", "m.gguf");
    assert!(!line.contains("hf_secret"), "{line}");
    assert!(client.names("snapshots").is_empty());
    expected.assert_eq(&line);
}

#[test]
fn the_hub_says_no() {
    let server = Server::start(&[("m.gguf", noise(5000))]);
    let client = Client::of(&server);
    let head = |status, header| server.state.lock().unwrap().head = Some((status, header));
    head(404, "X-Error-Code: EntryNotFound");
    check(&client, &expect!["hf:org/repo@main::file=m.gguf: the hub has no such file"]);
    head(404, "X-Error-Code: RevisionNotFound");
    check(&client, &expect!["hf:org/repo@main::file=m.gguf: the hub has no such revision"]);
    head(401, "X-Error-Code: RepoNotFound");
    check(
        &client,
        &expect![
            "hf:org/repo@main::file=m.gguf: the hub refuses it (HTTP 401): it does not exist, or needs a token in HF_TOKEN"
        ],
    );
    head(403, "X-Error-Code: GatedRepo");
    check(
        &Client::of(&server).with_token(),
        &expect![
            "hf:org/repo@main::file=m.gguf: the hub refuses it (HTTP 403): the token gives no access to it, or its licence is not accepted yet"
        ],
    );
    assert!(server.ranges().is_empty());
}

#[test]
fn nobody_answers() {
    let server = Server::start(&[("m.gguf", noise(5000))]);
    let mut client = Client::of(&server);
    server.state.lock().unwrap().head = Some((503, "X: y"));
    check(&client, &expect!["HUB: HTTP 503"]);
    // A port on which nobody listens.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    client.settings.endpoint = format!("http://{nobody}").parse().unwrap();
    let line = client.refusal("main", "m.gguf");
    assert!(line.starts_with("HUB: ") && line.ends_with(" (tried 3 times)"), "{line}");
}

#[test]
fn a_download_that_never_gets_on_ends() {
    let server = Server::start(&[("m.gguf", noise(5000))]);
    server.fail(&vec![Fault::Cut(0); 100]);
    let client = Client::of(&server);
    let line = client.refusal("main", "m.gguf");
    assert!(line.starts_with("HUB: ") && line.ends_with(" (tried 3 times)"), "{line}");
    // Nor one that gets on by a byte at a time.
    let server = Server::start(&[("m.gguf", noise(5000))]);
    server.fail(&vec![Fault::Cut(1); 100]);
    let line = Client::of(&server).refusal("main", "m.gguf");
    assert!(line.ends_with(" (tried 20 times)"), "{line}");
}

#[test]
fn a_server_that_is_no_hub() {
    let server = Server::start(&[("m.gguf", noise(5000))]);
    let client = Client::of(&server);
    let head = |header| server.state.lock().unwrap().head = Some((200, header));
    head("ETag: \"abc\"");
    check(&client, &expect!["HUB: expected X-Repo-Commit, as a hub sends it, found none"]);
    head("ETag: \"../../x\"\r\nX-Repo-Commit: abc");
    check(&client, &expect!["HUB: expected X-Linked-ETag or ETag, as a hub sends it, found none"]);
    head("ETag: \"abc\"\r\nX-Repo-Commit: ..");
    check(&client, &expect!["HUB: expected X-Repo-Commit, as a hub sends it, found none"]);
    server.state.lock().unwrap().head = Some((302, "Location: /org/repo/resolve/main/m.gguf"));
    check(&client, &expect!["HUB: expected at most 8 redirects, found more"]);
    server.state.lock().unwrap().head = None;
    server.fail(&[Fault::TooLong]);
    check(&client, &expect!["HUB: expected 5000 bytes, found 5001"]);
}

#[test]
fn a_file_that_has_no_room_is_refused_before_its_first_byte() {
    let server = Server::start(&[("m.gguf", noise(5000))]);
    server.state.lock().unwrap().claimed = Some(1 << 60);
    let line = Client::of(&server).refusal("main", "m.gguf");
    let start = "CACHE/models--org--repo/blobs: no space: 1152921504606846976 bytes to fetch, ";
    assert!(line.starts_with(start), "{line}");
    assert!(server.ranges().is_empty());
}
