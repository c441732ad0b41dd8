//! What is in the cache, what does it take, and what is left when a model is removed?

use std::fs;

use expect_test::expect;
use hub::{Cached, Hub, HubError, ModelRef, Room};

use crate::server::{COMMIT, Client, Server, noise, sha256};

const OTHER: &str = "89abcdef0123456789abcdef0123456789abcdef";

fn hub(client: &Client) -> Hub {
    Hub::new(client.settings.clone())
}

fn names(client: &Client) -> Vec<String> {
    let models = hub(client).inventory().unwrap();
    models.iter().map(|model| format!("{} {}", model.name(), model.n_bytes)).collect()
}

/// The model of a name.
fn find(client: &Client, name: &str) -> Cached {
    let name: ModelRef = name.parse().unwrap();
    let mut found: Vec<Cached> =
        hub(client).inventory().unwrap().into_iter().filter(|model| model.is(&name)).collect();
    assert_eq!(found.len(), 1, "{name}");
    found.remove(0)
}

#[test]
fn models_are_listed_and_removed_with_what_only_they_need() {
    let parts = ["m-Q8_0-00001-of-00002.gguf", "m-Q8_0-00002-of-00002.gguf"];
    let server = Server::start(&[
        (parts[0], noise(1000)),
        (parts[1], noise(2000)),
        ("q4/m-Q4_0.gguf", noise(500)),
        ("same-Q4_1.gguf", noise(500)),
        ("mmproj-F16.gguf", noise(70)),
    ]);
    let client = Client::of(&server);
    assert!(hub(&client).inventory().unwrap().is_empty());
    for path in [parts[1], "q4/m-Q4_0.gguf", "same-Q4_1.gguf", "mmproj-F16.gguf"] {
        client.fetch("main", path).0.unwrap();
    }
    let split = "hf:org/repo::file=m-Q8_0-00001-of-00002.gguf 3000".to_owned();
    let same = "hf:org/repo::file=same-Q4_1.gguf 500".to_owned();
    assert_eq!(
        names(&client),
        [&split, &"hf:org/repo::file=q4/m-Q4_0.gguf 500".to_owned(), &same].map(Clone::clone)
    );
    let model = find(&client, "hf:org/repo:q4_0");
    assert!(model.used.is_some() && model.commit == COMMIT, "{model:?}");
    // Its bytes are those of another file, too.
    assert_eq!(hub(&client).remove(&model).unwrap(), 0);
    assert_eq!(names(&client), [split, same.clone()]);
    assert!(!client.folder.path().join(format!("models--org--repo/snapshots/{COMMIT}/q4")).exists());
    // Any part means all of them.
    assert_eq!(
        hub(&client).remove(&find(&client, &format!("hf:org/repo::file={}", parts[1]))).unwrap(),
        3000
    );
    assert_eq!(names(&client), [same]);
    assert_eq!(client.names("blobs").len(), 2);
    assert_eq!(hub(&client).remove(&find(&client, "hf:org/repo")).unwrap(), 500);
    // The projector is no model, and stays.
    assert_eq!(client.names("blobs"), [sha256(&noise(70))]);
    assert_eq!(client.names("refs"), ["main"]);
}

#[test]
fn nothing_is_left_of_a_repository_without_files() {
    let server = Server::start(&[("m.gguf", noise(100))]);
    let client = Client::of(&server);
    client.fetch("main", "m.gguf").0.unwrap();
    assert_eq!(hub(&client).remove(&find(&client, "hf:org/repo")).unwrap(), 100);
    assert!(!client.folder.path().join("models--org--repo").exists());
    assert!(hub(&client).inventory().unwrap().is_empty());
}

#[test]
fn an_older_commit_is_named_by_it() {
    let server = Server::start(&[("m.gguf", noise(100))]);
    let client = Client::of(&server);
    client.fetch("main", "m.gguf").0.unwrap();
    let old = client.folder.path().join(format!("models--org--repo/snapshots/{OTHER}"));
    fs::create_dir_all(&old).unwrap();
    fs::write(old.join("m.gguf"), noise(30)).unwrap();
    assert_eq!(
        names(&client),
        ["hf:org/repo::file=m.gguf 100", &format!("hf:org/repo@{OTHER}::file=m.gguf 30")]
    );
    // A program without links puts the file itself there.
    assert_eq!(hub(&client).remove(&find(&client, &format!("hf:org/repo@{OTHER}"))).unwrap(), 30);
    assert_eq!(names(&client), ["hf:org/repo::file=m.gguf 100"]);
}

#[test]
fn what_a_link_leads_to_outside_the_cache_stays() {
    let folder = tempfile::tempdir().unwrap();
    let outside = folder.path().join("outside.gguf");
    fs::write(&outside, noise(40)).unwrap();
    let client = Client::of(&Server::start(&[]));
    let snapshot = client.folder.path().join(format!("models--org--repo/snapshots/{OTHER}"));
    fs::create_dir_all(&snapshot).unwrap();
    std::os::unix::fs::symlink(&outside, snapshot.join("m.gguf")).unwrap();
    assert_eq!(hub(&client).remove(&find(&client, &format!("hf:org/repo@{OTHER}"))).unwrap(), 0);
    assert!(outside.is_file() && !snapshot.exists());
}

#[test]
fn a_name_of_the_table_is_shown_where_it_means_the_file() {
    let client = Client::of(&Server::start(&[]));
    let snapshot = client.folder.path().join(format!("models--Qwen--Qwen3-4B-GGUF/snapshots/{OTHER}"));
    fs::create_dir_all(&snapshot).unwrap();
    let refs = client.folder.path().join("models--Qwen--Qwen3-4B-GGUF/refs");
    fs::create_dir_all(&refs).unwrap();
    fs::write(refs.join("main"), OTHER).unwrap();
    for name in ["Qwen3-4B-Q4_K_M.gguf", "Qwen3-4B-Q8_0.gguf"] {
        fs::write(snapshot.join(name), noise(10)).unwrap();
    }
    assert_eq!(names(&client), ["qwen3:4b 10", "hf:Qwen/Qwen3-4B-GGUF::file=Qwen3-4B-Q8_0.gguf 10"]);
    assert_eq!(find(&client, "qwen3:4b:Q8_0").file.path(), "Qwen3-4B-Q8_0.gguf");
}

#[test]
fn what_would_not_fit_where_it_is_used_is_not_fetched() {
    let server = Server::start(&[("m.gguf", noise(5000))]);
    let client = Client::of(&server);
    let file = hub::HubFile::new("org/repo", "main", "m.gguf").unwrap();
    let fetch = |free| {
        let room = Room { place: "cuda:0".to_owned(), free };
        let mut begun = 0;
        let found = hub(&client).fetch(&file, Some(&room), &mut |progress| {
            if let hub::Progress::Begin { needed: 5000, total: 5000, free: Some(_), .. } = progress {
                begun += 1;
            }
        });
        (found, begun)
    };
    let (refused, begun) = fetch(4999);
    let refused: HubError = refused.unwrap_err();
    expect!["hf:org/repo@0123456789abcdef0123456789abcdef01234567::file=m.gguf takes 5000 bytes, and cuda:0 has 4999 bytes free: it was not fetched"]
        .assert_eq(&refused.to_string());
    assert!(server.ranges().is_empty() && begun == 0);
    let (found, begun) = fetch(5000);
    assert_eq!((fs::read(found.unwrap()).unwrap().len(), begun), (5000, 1));
    // What is here is not asked about.
    assert_eq!((fetch(0).0.is_ok(), fetch(0).1), (true, 0));
}
