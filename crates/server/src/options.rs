//! How is the server set up? Addresses, limits and times; every limit has a default that a stranger can live with.

use std::net::SocketAddr;
use std::time::Duration;

/// How the server is set up.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Where to listen; port 0 takes a free one.
    pub bind: SocketAddr,
    /// What a client may ask for.
    pub limits: Limits,
    /// How long a drain waits for running requests before it ends them.
    pub drain_timeout: Duration,
    /// How long the server still answers after the engine has failed, so that probes and clients hear of it.
    pub linger: Duration,
}

impl Default for ServerOptions {
    fn default() -> Self {
        ServerOptions {
            bind: SocketAddr::from(([127, 0, 0, 1], 8080)),
            limits: Limits::default(),
            drain_timeout: Duration::from_secs(30),
            linger: Duration::from_secs(2),
        }
    }
}

/// What a client may ask for.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a request's body.
    pub body_bytes: usize,
    /// Bytes of a request's line and headers.
    pub header_bytes: usize,
    /// Time for a request's line and headers to arrive.
    pub header_time: Duration,
    /// Time for a request's body to arrive.
    pub body_time: Duration,
    /// Open connections.
    pub n_connection: usize,
    /// Characters of a job's prompt.
    pub prompt_chars: usize,
    /// Tokens of a prompt; the context where `None`.
    pub prompt_tokens: Option<usize>,
    /// Tokens of an answer, and what a request gets that names no number.
    pub max_tokens: usize,
    /// Time of a request, waiting included.
    pub inference_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            body_bytes: 4 << 20,
            header_bytes: 32 << 10,
            header_time: Duration::from_secs(10),
            body_time: Duration::from_secs(30),
            n_connection: 1024,
            prompt_chars: 32_768,
            prompt_tokens: None,
            max_tokens: 2048,
            inference_time: Duration::from_secs(300),
        }
    }
}
