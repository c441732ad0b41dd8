//! What is here already: caches, commits, other processes.

use std::fs::{self, File};
use std::thread;

use expect_test::expect;

use crate::server::{COMMIT, Client, Fault, Server, noise, sha256};

#[test]
fn a_file_is_fetched_once_and_lies_where_other_programs_look() {
    let bytes = noise(5000);
    let server = Server::start(&[("q4/m.gguf", bytes.clone())]);
    let client = Client::of(&server);
    assert_eq!(client.fetch("main", "q4/m.gguf").0.unwrap(), bytes);
    assert_eq!(client.names("blobs"), [sha256(&bytes)]);
    assert_eq!(client.names(&format!("snapshots/{COMMIT}/q4")), ["m.gguf"]);
    let main = client.folder.path().join("models--org--repo/refs/main");
    assert_eq!(fs::read_to_string(main).unwrap(), COMMIT);

    assert_eq!(client.fetch("main", "q4/m.gguf").0.unwrap(), bytes);
    let methods: Vec<String> = server.seen().into_iter().map(|seen| seen.method).collect();
    assert_eq!(methods, ["HEAD", "GET", "HEAD"]);
    // A commit cannot have changed.
    assert_eq!(client.fetch(COMMIT, "q4/m.gguf").0.unwrap(), bytes);
    assert_eq!(server.seen().len(), 3);
}

#[test]
fn what_is_here_needs_no_network() {
    let bytes = noise(5000);
    let server = Server::start(&[("m.gguf", bytes.clone())]);
    let mut client = Client::of(&server);
    client.settings.offline = true;
    expect![
        "hf:org/repo@main::file=m.gguf is not in the cache CACHE, and nothing may be fetched (--offline or HF_HUB_OFFLINE)"
    ]
    .assert_eq(&client.refusal("main", "m.gguf"));
    assert!(server.seen().is_empty());
    client.settings.offline = false;
    client.fetch("main", "m.gguf").0.unwrap();

    client.settings.offline = true;
    assert_eq!(client.fetch("main", "m.gguf").0.unwrap(), bytes);
    assert_eq!(server.seen().len(), 2);
    // A hub that is out of order is no reason either, but is said.
    client.settings.offline = false;
    server.state.lock().unwrap().head = Some((503, "X: y"));
    let (found, said) = client.fetch("main", "m.gguf");
    assert_eq!(found.unwrap(), bytes);
    assert!(said[1].starts_with("stale: ") && said[1].ends_with("HTTP 503"), "{said:?}");
    // What the hub refuses is not taken from the cache.
    server.state.lock().unwrap().head = Some((401, "X: y"));
    assert!(client.fetch("main", "m.gguf").0.is_err());
}

#[test]
fn all_parts_of_a_split_model_come_from_one_commit() {
    let names = ["m-00001-of-00003.gguf", "m-00002-of-00003.gguf", "m-00003-of-00003.gguf"];
    let parts = [noise(1000), noise(2000), noise(500)];
    let server = Server::start(&[0, 1, 2].map(|i| (names[i], parts[i].clone())));
    let client = Client::of(&server);
    let (found, said) = client.fetch("main", names[1]);
    assert_eq!(found.unwrap(), parts[1]);
    assert_eq!(client.names(&format!("snapshots/{COMMIT}")), names);
    assert_eq!(said.last().unwrap(), "3500/3500");
    let asked: Vec<String> = server.seen().into_iter().map(|seen| seen.path).collect();
    assert!(asked[0].contains("/main/") && asked[1..].iter().all(|path| path.contains(COMMIT)), "{asked:?}");
    // With a part missing, the others are not enough.
    fs::remove_file(client.folder.path().join("models--org--repo/blobs").join(sha256(&parts[2]))).unwrap();
    client.fetch(COMMIT, names[0]).0.unwrap();
    assert_eq!(server.ranges().len(), 4);
}

#[test]
fn several_at_once_fetch_it_once() {
    let bytes = noise(300_000);
    let server = Server::start(&[("m.gguf", bytes.clone())]);
    let client = Client::of(&server);
    // They all wait for the one that has the lock, and then link the same file at about the same time.
    thread::scope(|scope| {
        let all = [0; 8].map(|_| scope.spawn(|| client.fetch("main", "m.gguf").0.unwrap()));
        all.into_iter().for_each(|one| assert_eq!(one.join().unwrap(), bytes));
    });
    assert_eq!(server.ranges(), ["all"]);
    assert_eq!(client.names(&format!("snapshots/{COMMIT}")), ["m.gguf"]);
    assert_eq!(client.names("refs"), ["main"]);
}

#[test]
fn another_process_that_fetches_it_is_waited_for() {
    let bytes = noise(5000);
    let server = Server::start(&[("m.gguf", bytes.clone())]);
    let client = Client::of(&server);
    let etag = sha256(&bytes);
    let locks = client.folder.path().join(".locks/models--org--repo");
    fs::create_dir_all(&locks).unwrap();
    let lock = File::create(locks.join(format!("{etag}.lock"))).unwrap();
    lock.lock().unwrap();
    let blobs = client.folder.path().join("models--org--repo/blobs");
    let file = hub::HubFile::new("org/repo", "main", "m.gguf").unwrap();
    let mut lock = Some(lock);
    let found = hub::Hub::new(client.settings.clone()).fetch(&file, None, &mut |progress| {
        // The other is done and lets go as soon as it is waited for.
        if matches!(progress, hub::Progress::Locked(_)) {
            fs::create_dir_all(&blobs).unwrap();
            fs::write(blobs.join(&etag), &bytes).unwrap();
            drop(lock.take());
        }
    });
    assert_eq!(fs::read(found.unwrap()).unwrap(), bytes);
    assert!(lock.is_none() && server.ranges().is_empty());
}

#[test]
fn a_repository_and_a_quantization_are_a_file() {
    let files = ["README.md", "q4/m-Q4_K_M.gguf", "m-Q8_0.gguf", "mmproj-Q8_0.gguf", "m-F16.gguf"];
    let server = Server::start(&files.map(|name| (name, noise(name.len()))));
    let mut client = Client::of(&server);
    assert_eq!(client.choice("hf:org/repo").unwrap(), ("q4/m-Q4_K_M.gguf".to_owned(), Some(16)));
    assert_eq!(client.choice("hf:org/repo:f16").unwrap().0, "m-F16.gguf");
    assert_eq!(server.seen().len(), 6);
    let none = client.choice("hf:org/repo:Q2_K").unwrap_err();
    assert!(none.contains("expected one GGUF file of Q2_K, found m-F16.gguf"), "{none}");
    assert!(client.choice("hf:org/other").unwrap_err().contains("no such"));

    // Offline, or while the hub is out of order, it is what was fetched before.
    client.fetch("main", "m-Q8_0.gguf").0.unwrap();
    server.fail(&[0; 3].map(|_| Fault::Status(503, "X: y")));
    assert_eq!(client.choice("hf:org/repo").unwrap().0, "m-Q8_0.gguf");
    client.settings.offline = true;
    assert_eq!(client.choice("hf:org/repo:q8_0").unwrap().0, "m-Q8_0.gguf");
    assert!(client.choice("hf:org/repo:f16").is_err());
    // Of a repository that was never asked for, offline is the reason.
    let said = client.choice("hf:org/never:Q8_0").unwrap_err();
    assert!(said.contains("hf:org/never@main:Q8_0 is not in the cache"), "{said}");
}
