//! A hub on this machine: the golden file under two repositories' names.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::thread;

use crate::program::{Done, command, done, golden};

pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// Repositories and the files that each has; all have the golden file's bytes.
const FILES: [(&str, &str); 4] = [
    ("org/repo", "llama-q4_0.gguf"),
    ("Qwen/Qwen3-0.6B-GGUF", "Qwen3-0.6B-Q8_0.gguf"),
    ("org/many", "m-Q4_K_M.gguf"),
    ("org/many", "m-Q8_0.gguf"),
];

/// Starts it; its address.
pub(crate) fn hub() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || listener.incoming().for_each(|stream| serve(&stream.unwrap())));
    address
}

fn serve(mut stream: &TcpStream) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    // A client that speaks TLS sends no lines, and is not waited for.
    let Some(first) = lines.next() else { return };
    lines.find(String::is_empty);
    // A client that hangs up is no failure of the server.
    let _ = stream.write_all(&reply(&first).unwrap_or_else(|| {
        b"HTTP/1.1 404 X\r\nX-Error-Code: EntryNotFound\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            .to_vec()
    }));
}

fn reply(first: &str) -> Option<Vec<u8>> {
    let (method, path) = first.strip_suffix(" HTTP/1.1")?.split_once(' ')?;
    let bytes = std::fs::read(golden("llama-q4_0.gguf")).unwrap();
    if let Some(rest) = path.strip_prefix("/api/models/") {
        let (repo, _) = rest.split_once("/tree/main")?;
        let of_repo = FILES.iter().filter(|(of, _)| *of == repo);
        let entries: Vec<String> = of_repo
            .map(|(_, name)| format!(r#"{{"type":"file","path":"{name}","size":{}}}"#, bytes.len()))
            .collect();
        return (!entries.is_empty()).then(|| ok("", format!("[{}]", entries.join(",")).into_bytes(), true));
    }
    let (_, name) = FILES.iter().find(|(repo, name)| {
        path.strip_prefix(&format!("/{repo}/resolve/"))
            .is_some_and(|rest| rest.ends_with(&format!("/{name}")))
    })?;
    Some(ok(&format!("X-Repo-Commit: {COMMIT}\r\nETag: \"{name}\"\r\n"), bytes, method == "GET"))
}

fn ok(headers: &str, body: Vec<u8>, with_body: bool) -> Vec<u8> {
    let head =
        format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    [head.into_bytes(), if with_body { body } else { Vec::new() }].concat()
}

/// Runs the binary with this hub and a cache in this folder.
pub(crate) fn run(args: &[&str], endpoint: &str, cache: &Path) -> Done {
    let mut command = command(args);
    for name in
        ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy", "HF_TOKEN"]
    {
        command.env_remove(name);
    }
    command.env("HF_ENDPOINT", endpoint).env("HF_HUB_CACHE", cache).env("HF_HOME", cache);
    done(command.stdin(Stdio::null()).output().unwrap())
}
