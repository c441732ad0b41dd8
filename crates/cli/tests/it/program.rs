//! Runs the binary and shows what it did.
//!
//! Output is text or the test fails: the binary never writes half a character.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use gguf::{Gguf, Value, Writer};

/// What a finished process left.
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Done {
    /// The stdout of a process that must have succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "stderr: {}", self.stderr);
        self.stdout
    }

    /// The JSON on the stdout of a process that must have succeeded.
    #[track_caller]
    pub(crate) fn json(self) -> serde_json::Value {
        serde_json::from_str(&self.ok()).unwrap()
    }
}

/// Runs the binary with nothing on stdin.
pub(crate) fn worker(args: &[&str]) -> Done {
    worker_reading(args, b"")
}

/// Runs the binary with these bytes on stdin.
pub(crate) fn worker_reading(args: &[&str], stdin: &[u8]) -> Done {
    let mut child = command(args).spawn().unwrap();
    // A process that ends without reading closes the pipe; its exit code tells more than the broken pipe here.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    done(child.wait_with_output().unwrap())
}

/// The binary, not yet started, with pipes: this build's, or `$WORKER_ORCD` where the tests run on another machine.
pub(crate) fn command(args: &[&str]) -> Command {
    let program = std::env::var_os("WORKER_ORCD").unwrap_or_else(|| env!("CARGO_BIN_EXE_worker-orcd").into());
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub(crate) fn done(output: Output) -> Done {
    Done {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A golden file by its name.
pub(crate) fn golden(name: &str) -> String {
    testkit::golden_folder().join(name).to_str().unwrap().to_owned()
}

/// The JSON beside a golden model.
pub(crate) fn golden_json(name: &str) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(golden(name)).unwrap()).unwrap()
}

/// A golden model under other keys: those for which `keep` says no are left out, and `set` follows.
pub(crate) fn rewritten(
    folder: &Path,
    name: &str,
    keep: impl Fn(&str) -> bool,
    set: &[(&str, Value)],
) -> String {
    let gguf = Gguf::open(&PathBuf::from(golden(name))).unwrap();
    let mut writer = Writer::new();
    let changed = |key: &str| set.iter().any(|(other, _)| *other == key);
    for (key, value) in gguf.metadata().iter().filter(|(key, _)| keep(key) && !changed(key)) {
        writer.set(key, value.clone());
    }
    for (key, value) in set {
        writer.set(*key, value.clone());
    }
    for info in gguf.tensors() {
        writer.tensor(&info.name, info.format, &info.shape, gguf.tensor(&info.name).unwrap().bytes.to_vec());
    }
    let path = folder.join("rewritten.gguf");
    writer.write(&mut File::create(&path).unwrap()).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A downloaded fixture; `None`, with a word about it, where it was not downloaded.
pub(crate) fn fixture(name: &str) -> Option<String> {
    testkit::fixture(name).map(|path| path.to_str().unwrap().to_owned())
}
