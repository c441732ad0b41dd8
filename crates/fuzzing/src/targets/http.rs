//! Any bytes on a connection to the server: answers of HTTP/1.1 without a server's fault, or none. The server has a vocabulary and an executor
//! that is fast and without a model.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use engine::{Engine, EngineOptions};
use server::{App, ModelInfo, Phase, Served, Server, ServerOptions};
use testkit::fake::{Fake, LIMITS};
use tokenizer::Tokenizer;
use tokio::runtime::Runtime;
use worker::receipt::{FileHashes, Origin};
use worker::{Worker, WorkerOptions};

pub(crate) const WORDS: &[&str] = &[
    "GET ",
    "POST ",
    "DELETE ",
    "OPTIONS ",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1/embeddings",
    "/v1/rerank",
    "/infill",
    "/execute",
    "/cancel",
    "/tokenize",
    "/detokenize",
    "/apply-template",
    "/v1/models",
    "/metrics",
    "/health",
    " HTTP/1.1\r\n",
    "\r\n\r\n",
    "Host: localhost\r\n",
    "Content-Length: 0\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Expect: 100-continue\r\n",
    "Authorization: Bearer k\r\n",
    "Origin: null\r\n",
    "0\r\n\r\n",
    "\"messages\":",
    "\"role\":\"user\"",
    "\"content\":",
    "\"n\":",
    "\"stream\":true",
    "\"logit_bias\":",
    "\"stop\":",
    "\"seed\":",
    "\"tools\":",
    "\"response_format\":",
    "\"json_schema\"",
    "null",
    "-1",
    "1e309",
];

/// Longer than any answer of the executor takes.
const WAIT: Duration = Duration::from_secs(10);

struct Running {
    address: SocketAddr,
    app: App,
    _runtime: Runtime,
}

/// A worker with the vocabulary of a golden model.
pub(crate) fn worker() -> &'static Worker {
    static WORKER: OnceLock<Worker> = OnceLock::new();
    WORKER.get_or_init(|| {
        let path = testkit::root().join("tests/golden/llama-q4_0.gguf");
        let file = gguf::Gguf::open(&path).expect("a golden model");
        let tokenizer = Tokenizer::from_gguf(file.metadata(), None).expect("its vocabulary");
        let limits = device::Limits { n_ctx: 256, n_vocab: tokenizer.n_vocab(), n_page: 512, ..LIMITS };
        let engine = Engine::spawn(Box::new(Fake::new(limits)), EngineOptions::default()).expect("an engine");
        Worker::new(
            engine,
            Arc::new(tokenizer),
            WorkerOptions { default_max_tokens: Some(8), ..WorkerOptions::default() },
        )
    })
}

impl Running {
    fn start() -> Running {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("threads");
        let options = ServerOptions { bind: ([127, 0, 0, 1], 0).into(), ..ServerOptions::default() };
        let server = runtime.block_on(Server::bind(options)).expect("a free port");
        let (app, address) = (server.app(), server.address());
        let files = FileHashes::open(&[testkit::root().join("tests/golden/SHA256SUMS")]);
        let kind = ("fuzzing".to_owned(), model::KvType::F16);
        let worker = worker().clone();
        let origin = Origin::new("0.0.0".to_owned(), kind, files, worker.tokenizer());
        let info = ModelInfo { id: "tiny".to_owned(), ..ModelInfo::default() };
        app.set_ready(Served { worker, info, origin });
        runtime.spawn(server.run());
        Running { address, app, _runtime: runtime }
    }
}

pub(crate) fn run(input: &[u8]) {
    static RUNNING: OnceLock<Running> = OnceLock::new();
    // A server that drains is not worth asking, so nothing may tell this one to.
    if input.windows(9).any(|piece| piece.eq_ignore_ascii_case(b"/shutdown")) {
        return;
    }
    let server = RUNNING.get_or_init(Running::start);
    let answer = ask(server.address, input).unwrap_or_default();
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "what answers is HTTP");
    let status = String::from_utf8_lossy(answer.get(9..12).unwrap_or_default()).into_owned();
    assert!(
        !status.starts_with('5') || status == "501",
        "status {status}: {}",
        String::from_utf8_lossy(&answer)
    );
    assert_eq!(server.app.phase(), Phase::Ready, "the server still serves");
}

/// What comes back until the server closes; a connection that it resets has no answer.
fn ask(address: SocketAddr, input: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(WAIT))?;
    stream.write_all(input)?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            panic!("the server keeps the connection")
        }
        _ => Ok(answer),
    }
}
