//! What does `serve` say of secrets that are none?

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use crate::program::{command, done};

/// What `serve` logs before it finds no model.
fn said(args: &[&str], key: Option<&str>) -> String {
    let mut serve =
        command(&[&["serve", "--model", "none.gguf", "--device", "cpu", "--port", "0"], args].concat());
    if let Some(key) = key {
        serve.env("WORKER_ORCD_API_KEY", key);
    }
    done(serve.stdin(Stdio::null()).output().unwrap()).stderr
}

#[test]
fn an_empty_key_in_the_environment_is_said() {
    let warning = "WORKER_ORCD_API_KEY is empty, so it sets no key";
    assert!(said(&[], Some("")).contains(warning));
    for silent in [
        said(&[], None),
        said(&[], Some("a-key-that-nobody-guesses")),
        said(&["--api-key", "a-key-that-nobody-guesses"], Some("")),
    ] {
        assert!(!silent.contains(warning), "{silent}");
    }
}

#[test]
fn a_file_of_keys_that_all_can_read_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    std::fs::write(&path, "me:a-key-that-nobody-guesses\n").unwrap();
    let with_mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        said(&["--api-key-file", path.to_str().unwrap()], None)
    };
    let open = with_mode(&path, 0o644);
    assert!(open.contains("all users can read or write") && open.contains("mode=0644"), "{open}");
    for mode in [0o600, 0o640] {
        let closed = with_mode(&path, mode);
        assert!(!closed.contains("all users can read or write"), "{closed}");
    }
}
