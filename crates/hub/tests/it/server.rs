//! A hub on this machine, with faults on demand: one repository, `org/repo`, at one commit.
//!
//! `HEAD` and `GET` of `/org/repo/resolve/REVISION/PATH` are answered as the hub does it; with a second server as its content server,
//! `GET` is redirected there. Every request is noted down. A connection carries one request.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use hub::{Hub, HubError, HubFile, Patience, Progress, Settings, Token};
use sha2::{Digest, Sha256};

pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What goes wrong with one `GET`.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The connection ends after so many bytes of the body.
    Cut(usize),
    /// Nothing comes any more after so many bytes, and the connection stays.
    Stall(usize),
    /// This status and header instead.
    Status(u16, &'static str),
    /// The first byte of the body is another.
    Wrong,
    /// All bytes, whatever range was asked for.
    NoRange,
    /// More bytes are promised than there should be.
    TooLong,
}

/// A request that came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) range: Option<String>,
    pub(crate) token: Option<String>,
}

/// What the server knows.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) files: Vec<(&'static str, Vec<u8>)>,
    /// For the next `GET`s, in order.
    pub(crate) faults: VecDeque<Fault>,
    /// For every `HEAD`: status and header.
    pub(crate) head: Option<(u16, &'static str)>,
    /// The address of the content server.
    pub(crate) content: Option<String>,
    /// The size that `HEAD` names.
    pub(crate) claimed: Option<u64>,
    pub(crate) seen: Vec<Seen>,
}

#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) address: String,
    pub(crate) state: Arc<Mutex<State>>,
}

impl Server {
    /// A hub with these files.
    pub(crate) fn start(files: &[(&'static str, Vec<u8>)]) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State { files: files.to_vec(), ..State::default() }));
        let server = Server { address, state: Arc::clone(&state) };
        thread::spawn(move || {
            for stream in listener.incoming() {
                let state = Arc::clone(&state);
                // A client that hangs up is no failure of the server.
                thread::spawn(move || drop(serve(&stream.unwrap(), &state)));
            }
        });
        server
    }

    /// The next `GET`s go wrong like this.
    pub(crate) fn fail(&self, faults: &[Fault]) {
        self.state.lock().unwrap().faults.extend(faults.iter().cloned());
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.lock().unwrap().seen.clone()
    }

    /// The ranges of all `GET`s.
    pub(crate) fn ranges(&self) -> Vec<String> {
        let gets = self.seen().into_iter().filter(|seen| seen.method == "GET");
        gets.map(|seen| seen.range.unwrap_or_else(|| "all".to_owned())).collect()
    }
}

fn serve(stream: &TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let mut words = first.split(' ').map(str::to_owned);
    let mut seen = Seen {
        method: words.next().unwrap_or_default(),
        path: words.next().unwrap_or_default(),
        ..Seen::default()
    };
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "range" => seen.range = Some(value.to_owned()),
            "authorization" => seen.token = Some(value.to_owned()),
            _ => {}
        }
    }
    let reply = {
        let mut state = state.lock().unwrap();
        state.seen.push(seen.clone());
        reply(&seen, &mut state)
    };
    let mut out = stream;
    out.write_all(reply.head.as_bytes())?;
    out.write_all(&reply.body)?;
    thread::sleep(reply.stall);
    Ok(())
}

struct Reply {
    head: String,
    body: Vec<u8>,
    stall: Duration,
}

fn status(status: u16, header: &str) -> Reply {
    let head = format!("HTTP/1.1 {status} X\r\n{header}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    Reply { head, body: Vec::new(), stall: Duration::ZERO }
}

/// The hub's list of files, two to a page.
fn list(rest: &str, state: &mut State) -> Reply {
    if let Some(Fault::Status(code, header)) = state.faults.pop_front() {
        return status(code, header);
    }
    let page: usize = rest.split_once("cursor=").map_or(0, |(_, page)| page.parse().unwrap());
    let pages: Vec<_> = state.files.chunks(2).collect();
    let entry = |(path, bytes): &(&str, Vec<u8>)| {
        format!(r#"{{"type":"file","path":"{path}","size":{},"oid":"x"}}"#, bytes.len())
    };
    let entries: Vec<String> = pages[page].iter().map(entry).collect();
    let body = format!(r#"[{{"type":"directory","path":"q4","oid":"x"}},{}]"#, entries.join(","));
    let next = format!(
        "Link: </api/models/org/repo/tree/main?recursive=true&cursor={}>; rel=\"next\"\r\n",
        page + 1
    );
    let next = if page + 1 < pages.len() { &next } else { "" };
    let head =
        format!("HTTP/1.1 200 OK\r\n{next}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    Reply { head, body: body.into_bytes(), stall: Duration::ZERO }
}

fn reply(seen: &Seen, state: &mut State) -> Reply {
    if let Some(rest) = seen.path.strip_prefix("/api/models/org/repo/tree/main") {
        return list(rest, state);
    }
    let path = seen.path.strip_prefix("/org/repo/resolve/").and_then(|rest| rest.split_once('/'));
    let file = path.and_then(|(_, path)| state.files.iter().find(|(name, _)| *name == path));
    let Some((_, bytes)) = file else { return status(404, "X-Error-Code: EntryNotFound") };
    let facts = format!(
        "X-Repo-Commit: {COMMIT}\r\nX-Linked-Etag: \"{}\"\r\nX-Linked-Size: {}",
        sha256(bytes),
        state.claimed.unwrap_or(bytes.len() as u64)
    );
    let moved = state.content.as_ref().map(|address| format!("Location: {address}{}", seen.path));
    if seen.method == "HEAD" {
        return match (state.head, moved) {
            (Some((code, header)), _) => status(code, header),
            (None, Some(moved)) => status(302, &format!("{facts}\r\n{moved}")),
            (None, None) => status(200, &facts),
        };
    }
    if let Some(moved) = moved {
        return status(302, &moved);
    }
    let fault = state.faults.pop_front();
    let from = seen.range.as_ref().filter(|_| !matches!(fault, Some(Fault::NoRange)));
    let from: usize =
        from.map_or(0, |range| range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap());
    let mut body = bytes[from..].to_vec();
    let promised = body.len() + usize::from(matches!(fault, Some(Fault::TooLong)));
    let last = bytes.len() - 1;
    let range = match from {
        0 => "HTTP/1.1 200 OK".to_owned(),
        from => format!("HTTP/1.1 206 X\r\nContent-Range: bytes {from}-{last}/{}", bytes.len()),
    };
    let head = format!("{range}\r\nContent-Length: {promised}\r\nConnection: close\r\n\r\n");
    let mut stall = Duration::ZERO;
    match fault {
        Some(Fault::Status(code, header)) => return status(code, header),
        Some(Fault::Cut(n)) => body.truncate(n),
        Some(Fault::Stall(n)) => {
            body.truncate(n);
            stall = Duration::from_secs(60);
        }
        Some(Fault::Wrong) => body[0] ^= 1,
        Some(Fault::NoRange | Fault::TooLong) | None => {}
    }
    Reply { head, body, stall }
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes that differ from place to place.
pub(crate) fn noise(n: usize) -> Vec<u8> {
    (0..n as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// A cache in a folder of its own, and the hub behind it.
pub(crate) struct Client {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) settings: Settings,
}

impl Client {
    pub(crate) fn of(server: &Server) -> Client {
        let folder = tempfile::tempdir().unwrap();
        let patience = Patience {
            connect: Duration::from_secs(5),
            read: Duration::from_millis(300),
            first_wait: Duration::from_millis(1),
            longest_wait: Duration::from_secs(2),
            tries: 3,
            tries_in_all: 20,
        };
        let settings = Settings {
            cache: folder.path().to_owned(),
            endpoint: server.address.parse().unwrap(),
            token: None,
            offline: false,
            proxy: false,
            patience,
        };
        Client { folder, settings }
    }

    pub(crate) fn with_token(mut self) -> Client {
        self.settings.token = Some(Token::new("hf_secret", "HF_TOKEN").unwrap());
        self
    }

    /// Fetches a file: its bytes, and what was said meanwhile.
    pub(crate) fn fetch(&self, revision: &str, path: &str) -> (Result<Vec<u8>, HubError>, Vec<String>) {
        let file = HubFile::new("org/repo", revision, path).unwrap();
        let mut said = Vec::new();
        let found = Hub::new(self.settings.clone()).fetch(&file, None, &mut |progress| {
            said.push(match progress {
                Progress::Begin { needed, total, .. } => format!("begin {needed}/{total}"),
                Progress::Locked(_) => "locked".to_owned(),
                Progress::At { done, total } => format!("{done}/{total}"),
                Progress::Again { wait, .. } => format!("again in {} ms", wait.as_millis()),
                Progress::Stale(error) => format!("stale: {error}"),
            });
        });
        (found.map(|path| std::fs::read(path).unwrap()), said)
    }

    /// The file that a name means, or the error's text.
    pub(crate) fn choice(&self, name: &str) -> Result<(String, Option<u64>), String> {
        let Ok(hub::ModelRef::Repo(repo)) = name.parse() else { panic!("{name}") };
        let chosen =
            Hub::new(self.settings.clone()).choose(&repo, &mut |_| {}).map_err(|error| error.to_string())?;
        Ok((chosen.file.path().to_owned(), chosen.n_bytes))
    }

    /// The error line of a fetch that must fail, without this machine's addresses and folders.
    #[track_caller]
    pub(crate) fn refusal(&self, revision: &str, path: &str) -> String {
        let error = self.fetch(revision, path).0.unwrap_err().to_string();
        let folder = self.folder.path().to_str().unwrap();
        let host = self.settings.endpoint.authority().unwrap().as_str();
        error.replace(folder, "CACHE").replace(host, "HUB")
    }

    /// The files under a folder of the repository's cache.
    pub(crate) fn names(&self, folder: &str) -> Vec<String> {
        let folder = self.folder.path().join("models--org--repo").join(folder);
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned()).collect();
        names.sort();
        names
    }
}
