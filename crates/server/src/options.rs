//! How is the server set up? Addresses, limits and times; every limit has a default that a stranger can live with.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64};
use std::time::Duration;

use crate::auth::{CacheScope, Keys};
use crate::compat::Compat;
use crate::cors::Origin;
use crate::kv_events::KvEventOptions;
use crate::spans::Spans;
use crate::tls::Tls;
use crate::unsaid::Unsaid;

/// How the server is set up.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Where to listen; port 0 takes a free one.
    pub bind: SocketAddr,
    /// The same ports at another address too, where this machine has it.
    pub also: Option<IpAddr>,
    /// Where /health alone is answered, by a thread of its own.
    pub health: Option<SocketAddr>,
    /// Where the prefix cache's events are published.
    pub kv_events: Option<KvEventOptions>,
    /// Where spans of requests go.
    pub spans: Option<Spans>,
    /// What a client may ask for.
    pub limits: Limits,
    /// Who is let in.
    pub security: Security,
    /// How what other servers know is taken, and in whose form answers are where there is a choice.
    pub compat: Compat,
    /// What holds where a request does not say.
    pub unsaid: Arc<Unsaid>,
    /// How long a drain waits for running requests before it ends them.
    pub drain_timeout: Duration,
    /// How long the server still answers after the engine has failed, so that probes and clients hear of it.
    pub linger: Duration,
    /// Lines of the log that were lost because nothing could write them, for the metrics.
    pub lost_log_lines: Arc<AtomicU64>,
    /// How much of the model is in the device's memory, in percent, for /health.
    pub percent_loaded: Arc<AtomicU8>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        ServerOptions {
            bind: SocketAddr::from(([127, 0, 0, 1], 8080)),
            also: None,
            health: None,
            kv_events: None,
            spans: None,
            limits: Limits::default(),
            security: Security::default(),
            compat: Compat::default(),
            unsaid: Arc::default(),
            drain_timeout: Duration::from_secs(30),
            linger: Duration::from_secs(2),
            lost_log_lines: Arc::default(),
            percent_loaded: Arc::default(),
        }
    }
}

/// Who is let in, and how.
#[derive(Clone, Debug, Default)]
pub struct Security {
    /// The keys that are accepted at first; without any, everybody is.
    pub keys: Keys,
    /// Listen on an address that other machines reach although there are no keys.
    pub no_auth: bool,
    /// Whether every key that is a user's may end the process, not only an admin's.
    pub allow_shutdown: bool,
    /// Whether the metrics are for the keys of admins and monitors alone.
    pub metrics_for_admin: bool,
    /// Whose cached prompts a client shares.
    pub cache_scope: CacheScope,
    /// Names that the server answers to, beside those of a loopback address; `*` for any.
    pub allowed_hosts: Vec<String>,
    /// Pages of these may talk to the server, beside its own.
    pub cors_origins: Vec<Origin>,
    /// Speak TLS.
    pub tls: Option<Tls>,
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
    /// Bytes of all bodies that are not yet with the engine.
    pub budget_bytes: usize,
    /// Time for a request's body to arrive.
    pub body_time: Duration,
    /// Bytes of a body in a second, at least, once the time below is over.
    pub body_rate: usize,
    /// Time for which a body may come at any rate.
    pub body_grace: Duration,
    /// Time that a connection may rest between two requests.
    pub idle_time: Duration,
    /// Time for which a client may leave what was sent to it unread; then its connection is closed.
    pub write_time: Duration,
    /// Bytes that the system keeps for a client that does not read.
    pub send_buffer: u32,
    /// Open connections; beside them a few places are reserved for probes.
    pub n_connection: usize,
    /// Open connections of one address.
    pub n_connection_of_address: usize,
    /// Characters of a job's prompt.
    pub prompt_chars: usize,
    /// Tokens of a prompt; the context where `None`.
    pub prompt_tokens: Option<usize>,
    /// Tokens of an answer that a request may ask for.
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
            budget_bytes: 64 << 20,
            body_time: Duration::from_secs(30),
            body_rate: 32 << 10,
            body_grace: Duration::from_secs(5),
            idle_time: Duration::from_secs(75),
            write_time: Duration::from_secs(30),
            send_buffer: 256 << 10,
            n_connection: 1024,
            n_connection_of_address: 768,
            prompt_chars: 32_768,
            prompt_tokens: None,
            max_tokens: 2048,
            inference_time: Duration::from_secs(300),
        }
    }
}
