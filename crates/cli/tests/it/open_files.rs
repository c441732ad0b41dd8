//! How many files may a server have open? As many as the system lets it, whatever the shell that started it has.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::program::{command, golden};

#[test]
fn the_soft_limit_on_open_files_is_raised_at_the_start() {
    let model = golden("llama-q4_0.gguf");
    let mut server = Command::new("sh")
        .args(["-c", "ulimit -S -n 64; exec \"$@\"", "sh"])
        .arg(command(&[]).get_program())
        .args(["serve", "--device", "cpu", "--threads", "1", "--port", "0", "--model", &model])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stderr.take().unwrap()).lines().map(Result::unwrap);
    let has_started = lines.any(|line| line.contains("listening on http://"));
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.id()));
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(has_started);
    let limits = limits.unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let [soft, hard, _unit] = line.split_whitespace().collect::<Vec<_>>().try_into().unwrap();
    assert_eq!(soft, hard, "{line}");
    assert_ne!(hard, "64", "the machine gives no more: nothing can be seen here");
}
