//! What if a flag names no proper file? A directory, a pipe that nobody writes to, a device without an end, an empty file or one that cannot
//! be read: each ends the command at once, with an error that says what was found, and in little memory.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::program::{Done, command, done, golden, worker, worker_reading};
use crate::serve::Server;

/// For a command that should end at once, on a machine that is busy with other tests.
const SOON: Duration = Duration::from_secs(20);

/// The address space that a command has, in KiB: an endless file would not fit.
const ADDRESS_SPACE: u64 = 4 << 20;

/// Runs the binary in a bounded address space, and fails the test if it waits.
#[track_caller]
fn soon(args: &[&str]) -> Done {
    let bounded = format!("ulimit -v {ADDRESS_SPACE}; exec \"$@\"");
    let mut child = Command::new("sh")
        .args(["-c", &bounded, "sh"])
        .arg(command(&[]).get_program())
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > SOON {
            child.kill().unwrap();
            panic!("it waits: {args:?}");
        }
        thread::sleep(Duration::from_millis(5));
    }
    done(child.wait_with_output().unwrap())
}

/// Enough for three chunks of 8 tokens.
const TEXT: &str = "a b c d e f g h i j k l m n o p q r s t u v w x y z";

/// A folder with a pipe, an empty file, a file of 5 MiB, a folder and a text.
struct Oddities(TempDir);

impl Oddities {
    fn new() -> Oddities {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        make_pipe(&path("pipe"));
        std::fs::create_dir(path("folder")).unwrap();
        std::fs::write(path("empty"), "").unwrap();
        std::fs::File::create(path("large")).unwrap().set_len(5 << 20).unwrap();
        std::fs::write(path("text"), TEXT).unwrap();
        // No warning is to stand beside an error.
        for name in ["empty", "large", "text"] {
            std::fs::set_permissions(path(name), std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        Oddities(folder)
    }

    fn path(&self, name: &str) -> String {
        // An absolute name stands for itself.
        self.0.path().join(name).to_str().unwrap().to_owned()
    }
}

fn make_pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// What is no regular file, and what an error calls it.
const KINDS: [(&str, &str); 4] =
    [("folder", "a directory"), ("pipe", "a pipe"), ("/dev/zero", "a device"), ("/dev/null", "a device")];

/// Under Linux a regular file that can be opened and not be read, by nobody.
const UNREADABLE: &str = "/proc/self/mem";

#[test]
fn a_server_reads_regular_files_alone_and_says_what_else_it_found() {
    let odd = Oddities::new();
    let (text, model) = (odd.path("text"), golden("llama-q4_0.gguf"));
    let serve = |flags: &[&str]| {
        soon(&[&["serve", "--model", "none.gguf", "--device", "cpu", "--port", "0", "-q"], flags].concat())
    };
    // The certificate is read first; what is in it is looked at together with the key.
    let certificate = odd.path("certificate");
    std::fs::write(&certificate, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    let flags = |flag: &'static str, path: &str| -> Vec<String> {
        let pair = match flag {
            "--tls-cert" => [flag, path, "--tls-key", &text],
            "--tls-key" => [flag, path, "--tls-cert", &certificate],
            _ => return vec![flag.to_owned(), path.to_owned()],
        };
        pair.map(str::to_owned).into()
    };
    let check = |flag: &'static str, name: &str, code: i32, expected: &str| {
        let path = odd.path(name);
        let flags = flags(flag, &path);
        let found = serve(&flags.iter().map(String::as_str).collect::<Vec<_>>());
        let line = format!("error: {}\n", expected.replace("PATH", &path));
        assert_eq!((found.code, found.stderr), (code, line), "{flag} {name}");
    };
    for flag in ["--config", "--api-key-file", "--tls-cert", "--tls-key"] {
        for (name, kind) in KINDS {
            check(flag, name, 3, &format!("PATH: expected a regular file, found {kind}"));
        }
        let most = if flag == "--api-key-file" { 4 << 20 } else { 1 << 20 };
        check(flag, "large", 2, &format!("PATH: expected at most {most} bytes, found more"));
        check(flag, "none", 3, "cannot read PATH: No such file or directory (os error 2)");
        check(flag, UNREADABLE, 3, "cannot read PATH: Input/output error (os error 5)");
    }
    check("--api-key-file", "empty", 2, "PATH: expected at least one key, found none");
    check("--tls-cert", "empty", 2, "PATH: expected a certificate in PEM, found none");
    check("--tls-key", "empty", 2, "PATH: expected a private key in PEM without a password, found none");
    // An empty configuration is one: what is refused is the model.
    assert_eq!(serve(&["--config", &odd.path("empty")]).stderr, serve(&[]).stderr);
    // The models, too.
    for (name, _) in KINDS {
        let path = odd.path(name);
        let expected = format!("{path}: expected a regular file\n");
        let run = soon(&["run", "--model", &path, "--device", "cpu", "--raw", "-p", "a", "-q"]);
        assert_eq!((run.code, run.stderr), (3, format!("error: {expected}")));
        let draft = ["--speculate", "draft", "--draft-model", &path];
        let run = soon(
            &[&["run", "--model", &model, "--device", "cpu", "--raw", "-p", "a", "-q"], &draft[..]].concat(),
        );
        assert_eq!((run.code, run.stderr), (3, format!("error: --draft-model {path}: {expected}")));
    }
}

#[test]
fn texts_to_measure_with_are_regular_files_as_well() {
    let odd = Oddities::new();
    let (text, model) = (odd.path("text"), golden("llama-q4_0.gguf"));
    let out = odd.path("x.npy");
    let common = ["--model", &model, "--device", "cpu", "--threads", "1", "-q"];
    let no_device = ["--model", &model, "-q"];
    let refused = |command: &[&str], path: &str, code: i32, reason: &str| {
        let rest: &[&str] = if command.contains(&"tokenizer") { &no_device } else { &common };
        let found = soon(&[command, &[path], rest].concat());
        assert_eq!((found.code, found.stderr), (code, format!("error: {path}: {reason}\n")), "{command:?}");
    };
    let commands: [&[&str]; 6] = [
        &["eval", "perplexity", "--ctx", "8", "--file"],
        &["eval", "logits", "--out", &out, "--tokens"],
        &["eval", "reproducibility", "--prompts"],
        &["eval", "tokenizer", "--vectors"],
        &["eval", "divergence", "--ctx", "8", "--file", &text, "--saved"],
        &["bench", "speculation", "--text"],
    ];
    for command in commands {
        for (name, kind) in KINDS {
            let reason = format!("expected a regular file, found {kind}");
            refused(command, &odd.path(name), 3, &reason);
        }
    }
    // The texts that a tokenizer takes at once have 16 MiB at most.
    std::fs::File::create(odd.path("large")).unwrap().set_len((16 << 20) + 1).unwrap();
    refused(commands[0], &odd.path("large"), 8, "expected at most 16777216 bytes, found more");
    std::fs::write(odd.path("latin"), b"caf\xe9").unwrap();
    refused(
        commands[0],
        &odd.path("latin"),
        8,
        "expected UTF-8: incomplete utf-8 byte sequence from index 3",
    );
    // A reference's files lie beside each other.
    let json = odd.path("reference.json");
    std::os::unix::fs::symlink("/dev/zero", &json).unwrap();
    let found = soon(&[&["eval", "golden", "--reference", &json][..], &common].concat());
    let line = format!("error: {json}: expected a regular file, found another kind\n");
    assert_eq!((found.code, found.stderr), (8, line));
}

#[test]
fn a_file_on_stdin_is_one_and_a_pipe_is_none() {
    let odd = Oddities::new();
    let model = golden("llama-q4_0.gguf");
    let path = odd.path("text");
    let first = ["eval", "perplexity", "--model", &model, "--device", "cpu", "--ctx", "8", "-q", "--file"];
    let from_stdin = [&first[..], &["/dev/stdin"]].concat();
    let text = std::fs::File::open(&path).unwrap();
    let from_file = done(command(&from_stdin).stdin(text).output().unwrap()).ok();
    assert_eq!(from_file, worker(&[&first[..], &[path.as_str()]].concat()).ok());
    let from_pipe = worker_reading(&from_stdin, TEXT.as_bytes());
    let line = "error: /dev/stdin: expected a regular file, found a pipe\n";
    assert_eq!((from_pipe.code, from_pipe.stderr.as_str()), (3, line));
}

#[test]
fn a_pipe_in_the_place_of_the_keys_changes_nothing_at_a_hangup() {
    let odd = Oddities::new();
    let keys = odd.path("keys");
    std::fs::write(&keys, "me:a-key-that-nobody-guesses\n").unwrap();
    let server = Server::ready(&golden("llama-q4_0.gguf"), &["--api-key-file", &keys]);
    std::fs::remove_file(&keys).unwrap();
    make_pipe(Path::new(&keys));
    server.signal("-HUP");
    server.says(&format!("nothing has changed: {keys}: expected a regular file, found a pipe"));
    assert_eq!(server.status_with("a-key-that-nobody-guesses"), 200);
    server.signal("-TERM");
    assert_eq!(server.end().0, Some(0));
}
