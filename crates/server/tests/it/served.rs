//! A server in this process, and raw HTTP/1.1 to it: what is tested is the bytes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use engine::{Engine, EngineHandle, EngineOptions};
use gguf::Metadata;
use serde_json::Value;
use server::{Ending, ModelInfo, Served, Server, ServerOptions};
use tokenizer::{EncodeOptions, Tokenizer};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use worker::receipt::{FileHashes, Origin};
use worker::{Defaults, Worker, WorkerOptions};

use testkit::scripted::Scripted;

/// A template that shows what it was given, of a model that reasons and calls tools in tags.
const TEMPLATE: &str = "{% for m in messages %}[{{ m.role }}]{% if m.reasoning_content %}({{ m.reasoning_content }}){% endif %}{{ m.content }}\
    {% for call in m.tool_calls %}<tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}{% endfor %}\
    {% if tools %}[tools {{ tools | map(attribute='function.name') | join(' ') }}]{% endif %}{% if mood %}[{{ mood }}]{% endif %}\
    {% if whole %}{{ messages | tojson }}{% endif %}\
    {# <think> #}{% if add_generation_prompt %}[assistant]{% endif %}";

/// What the model's file advises.
const DEFAULTS: Defaults =
    Defaults { temperature: 0.6, top_k: 20, top_p: 0.9, min_p: 0.0, repetition_penalty: 1.05 };

/// A running server; it ends with the value.
pub(crate) struct Running {
    address: SocketAddr,
    app: server::App,
    health: Option<SocketAddr>,
    kv_events: Option<SocketAddr>,
    kv_replay: Option<SocketAddr>,
    ending: JoinHandle<Ending>,
    runtime: Runtime,
}

/// Byte-level BPE with 320 tokens, and a chat template.
pub(crate) fn tokenizer() -> Arc<Tokenizer> {
    tokenizer_with(&[])
}

/// The same, with ids for further roles.
pub(crate) fn tokenizer_with(roles: &[(&str, u32)]) -> Arc<Tokenizer> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/llama-q4_0.gguf");
    let file = gguf::Gguf::open(&path).unwrap();
    let mut pairs: Vec<(String, gguf::Value)> =
        file.metadata().iter().map(|(key, value)| (key.to_owned(), value.clone())).collect();
    pairs.push(("tokenizer.chat_template".to_owned(), TEMPLATE.into()));
    pairs.extend(roles.iter().map(|&(role, id)| (format!("tokenizer.ggml.{role}_token_id"), id.into())));
    Arc::new(Tokenizer::from_gguf(&Metadata::from_pairs(pairs).unwrap(), None).unwrap())
}

/// The ids of a text.
pub(crate) fn ids(text: &str) -> Vec<u32> {
    tokenizer().encode(text, EncodeOptions::default()).unwrap()
}

/// A server whose model answers with this text, then with an end token.
pub(crate) fn says(text: &str) -> Running {
    let mut answer = ids(text);
    answer.push(tokenizer().ends()[0]);
    Running::start(Scripted::new(answer))
}

impl Running {
    pub(crate) fn start(executor: Scripted) -> Running {
        Running::with(executor, ServerOptions::default())
    }

    /// A server that is set up like this, on a port of its own.
    pub(crate) fn with(executor: Scripted, options: ServerOptions) -> Running {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/SHA256SUMS");
        Running::of_file(executor, options, &file)
    }

    /// A server of a model that is said to be in this file.
    pub(crate) fn of_file(executor: Scripted, options: ServerOptions, file: &Path) -> Running {
        let engine = Engine::spawn(Box::new(executor), EngineOptions::default()).unwrap();
        Running::over(engine, options, file)
    }

    /// A server over this engine.
    pub(crate) fn over(engine: EngineHandle, options: ServerOptions, file: &Path) -> Running {
        Running::of_vocabulary((engine, tokenizer()), options, file)
    }

    /// A server over this engine, with a vocabulary of its own.
    pub(crate) fn of_vocabulary(
        (engine, tokenizer): (EngineHandle, Arc<Tokenizer>),
        options: ServerOptions,
        file: &Path,
    ) -> Running {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let options = ServerOptions { bind: ([127, 0, 0, 1], 0).into(), ..options };
        let server = runtime.block_on(Server::bind(options)).unwrap();
        let (app, address, health) = (server.app(), server.address(), server.health_address());
        let kv_events = server.kv_events_address();
        let kv_replay = server.kv_replay_address();
        let worker = Worker::new(
            engine,
            tokenizer,
            WorkerOptions { default_max_tokens: Some(64), defaults: DEFAULTS },
        );
        let info = ModelInfo {
            id: "org/tiny".to_owned(),
            aliases: vec!["gpt-4o".to_owned()],
            created: 7,
            n_params: 1000,
            n_bytes: 600,
            n_ctx_train: 1000,
            ..ModelInfo::default()
        };
        let kind = ("scripted".to_owned(), model::KvType::F16);
        let files = FileHashes::open(&[file.to_owned()]);
        let origin = Origin::new("0.0.0".to_owned(), kind, files, worker.tokenizer());
        app.set_ready(Served { worker, info, origin });
        let ending = runtime.spawn(server.run());
        Running { address, app, health, kv_events, kv_replay, ending, runtime }
    }

    /// How it ended, once it has.
    pub(crate) fn ending(self) -> Ending {
        self.runtime.block_on(self.ending).unwrap()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn health_address(&self) -> Option<SocketAddr> {
        self.health
    }

    pub(crate) fn kv_events_address(&self) -> Option<SocketAddr> {
        self.kv_events
    }

    pub(crate) fn kv_replay_address(&self) -> Option<SocketAddr> {
        self.kv_replay
    }

    pub(crate) fn app(&self) -> &server::App {
        &self.app
    }

    /// The status, the headers in lower case and the body of an answer to a request with these further headers.
    pub(crate) fn ask(&self, method: &str, path: &str, headers: &[&str]) -> (u16, String, String) {
        self.ask_with(method, path, headers, "")
    }

    /// The same, with a body after the headers.
    pub(crate) fn ask_with(
        &self,
        method: &str,
        path: &str,
        headers: &[&str],
        body: &str,
    ) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let more: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
        let host = if more.to_ascii_lowercase().contains("host:") { "" } else { "Host: localhost\r\n" };
        write!(stream, "{method} {path} HTTP/1.1\r\n{host}{more}Connection: close\r\n\r\n{body}").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), head.to_ascii_lowercase(), body.to_owned())
    }

    /// Requests that the engine has not finished.
    pub(crate) fn n_unfinished(&self) -> usize {
        self.app.served().unwrap().worker.engine().load().n_unfinished
    }

    pub(crate) fn open(&self, method: &str, path: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body.as_bytes()).unwrap();
        stream
    }

    /// The status and the body of an answer, what differs from run to run made equal.
    pub(crate) fn call(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let (status, body) = self.raw(method, path, body);
        (status, settled(&body))
    }

    /// The status and the body of an answer.
    pub(crate) fn raw(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut answer = Vec::new();
        self.open(method, path, body).read_to_end(&mut answer).unwrap();
        let split = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(answer[..split].to_vec()).unwrap();
        let status = head[9..12].parse().unwrap();
        let body = &answer[split + 4..];
        let is_chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
        let body = if is_chunked { joined(body) } else { body.to_vec() };
        (status, String::from_utf8(body).unwrap())
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> (u16, String) {
        self.call("POST", path, &body.to_string())
    }

    /// The answer to a request that is accepted, as JSON.
    pub(crate) fn json(&self, path: &str, body: &Value) -> Value {
        let (status, text) = self.raw("POST", path, &body.to_string());
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// The events of a stream as JSON, without the last, which says that it is over.
    pub(crate) fn events(&self, path: &str, body: &Value) -> Vec<Value> {
        let (status, text) = self.raw("POST", path, &body.to_string());
        assert_eq!(status, 200, "{text}");
        let mut events: Vec<&str> = text.split_terminator("\n\n").collect();
        assert_eq!(events.pop(), Some("data: [DONE]"));
        events.iter().map(|e| serde_json::from_str(e.strip_prefix("data: ").unwrap()).unwrap()).collect()
    }

    /// The events of a stream whose events have names, as JSON, which says the same name.
    pub(crate) fn named_events(&self, path: &str, body: &Value) -> Vec<Value> {
        let (status, text) = self.raw("POST", path, &body.to_string());
        assert_eq!(status, 200, "{text}");
        let event = |text: &str| {
            let (name, data) = text.split_once('\n').unwrap();
            let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
            assert_eq!(data["type"], name.strip_prefix("event: ").unwrap());
            data
        };
        text.split_terminator("\n\n").map(event).collect()
    }
}

/// The chunks of a body, joined.
fn joined(mut body: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let line = body.windows(2).position(|w| w == b"\r\n").unwrap();
        let n = usize::from_str_radix(std::str::from_utf8(&body[..line]).unwrap(), 16).unwrap();
        if n == 0 {
            return all;
        }
        all.extend(&body[line + 2..line + 2 + n]);
        body = &body[line + 4 + n..];
    }
}

/// Ids, times and the program's version are not the same twice.
fn settled(body: &str) -> String {
    let mut text = body.replace(env!("CARGO_PKG_VERSION"), "VERSION");
    for (before, after, instead) in [
        ("\"id\":\"chatcmpl-", "\"", "ID"),
        ("\"id\":\"cmpl-", "\"", "ID"),
        ("\"created\":", ",", "TIME"),
        ("\"seed\":", ",\"finish_reason", "SEED"),
        ("\"prompt_ms\":", ",", "N"),
        ("\"prompt_per_token_ms\":", ",", "N"),
        ("\"prompt_per_second\":", ",", "N"),
        ("\"predicted_per_token_ms\":", ",", "N"),
        ("\"predicted_ms\":", ",", "N"),
        ("\"predicted_per_second\":", "}", "N"),
    ] {
        let parts: Vec<&str> = text.split(before).collect();
        let rest = |part: &&str| part.find(after).map_or(String::new(), |at| part[at..].to_owned());
        let rests: Vec<String> = parts[1..].iter().map(rest).collect();
        text = parts[0].to_owned()
            + &rests.iter().map(|rest| format!("{before}{instead}{rest}")).collect::<String>();
    }
    text
}
