//! Serves the model over HTTP until it is told to end.
//!
//! The port is open before the model is loaded, so that probes are answered from the start. SIGTERM, the first Ctrl-C and POST /shutdown let
//! running requests finish; a second Ctrl-C cuts them off, each with its last event, and ends the process soon whatever clients do. An engine or a device that has failed ends the process with the exit code
//! of its failure.

mod callback;
mod files;
mod info;
mod otlp;
mod security;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use clap::ValueEnum;
use engine::EngineOptions;
use serde_json::{Map, Value};
use server::{App, Ending, KvEventOptions, Limits, Served, Server, ServerOptions, Unsaid};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use worker::receipt::FileHashes;
use worker::{Worker, WorkerOptions};

use crate::cmd::embed::PoolingArgs;
use crate::cmd::{at_least_one, verify};
use crate::config::ConfigArgs;
use crate::device::{self, ModelArgs, Shape};
use crate::exit::Failure;
use crate::interrupt::{self, Watch};
use crate::log::{self, LogArgs};
use crate::machine;
use crate::numbers::Seed;
use crate::sampling::DefaultArgs;
use crate::speculate::{self, SpeculateArgs};
use crate::{notify, progress};

/// For answers to be cut off and their last events to be sent, at a second Ctrl-C.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// For the last spans to be exported, at the end.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// Tokens of an answer whose request names no number, where the operator names none either: enough for most, and an end for a model that finds
/// none.
const DEFAULT_TOKENS: usize = 2048;

/// `worker-orcd serve`.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "Examples:\n  worker-orcd serve m.gguf\n  \
    worker-orcd serve m.gguf --device cuda:0 --port 9000 --slots 32 --ctx 8192\n  \
    curl http://127.0.0.1:8080/v1/chat/completions -H 'Content-Type: application/json' \\\n       \
    -d '{\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]}'\n\n\
    Without a command, --model starts serve: worker-orcd --worker-id ID --model PATH --gpu-device N --port PORT")]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    #[command(flatten)]
    model: ModelArgs,
    /// Address to listen on, or localhost (127.0.0.1 and ::1); other machines can connect only if it is not a loopback address
    #[arg(long, value_name = "IP", value_parser = host, default_value = "127.0.0.1", help_heading = "Server")]
    host: Host,
    /// Port to listen on; 0 picks a free one
    #[arg(long, value_name = "N", default_value_t = 8080, help_heading = "Server")]
    port: u16,
    /// Model name for clients (repeatable: further names are aliases) [default: the file's name]
    #[arg(long, value_name = "NAME", value_parser = model_name, help_heading = "Server")]
    served_model_name: Vec<String>,
    /// Maximum batch size: sequences that are computed at once [default: 8 on the CPU, 64 on a GPU]
    #[arg(long, visible_alias = "parallel", value_name = "N", value_parser = at_least_one, help_heading = "Server")]
    slots: Option<NonZeroUsize>,
    /// Requests that may wait for a slot; further requests get 429
    #[arg(long, value_name = "N", default_value_t = 256, help_heading = "Server")]
    queue: usize,
    /// Let clients that ask for more than their share of the slots slow down the streams of others: more tokens a second in all
    #[arg(long, help_heading = "Server")]
    no_stream_protection: bool,
    #[command(flatten)]
    speculate: SpeculateArgs,
    /// Size of the KV cache in MiB [default: a full context for each slot, or what fits]
    #[arg(long, value_name = "MB", value_parser = at_least_one, help_heading = "Server")]
    kv_cache_size_mb: Option<NonZeroUsize>,
    /// Maximum tokens of a prompt [default: what the context holds]
    #[arg(long, value_name = "N", help_heading = "Server")]
    max_tokens_in: Option<usize>,
    /// Maximum tokens of an answer, whether its request names a number or not [default: what the context holds, and 2048 where the
    /// request names none]
    #[arg(long, value_name = "N", value_parser = at_least_one, help_heading = "Server")]
    max_tokens_out: Option<NonZeroUsize>,
    /// Tokens of an answer whose request names no number [default: 2048, or --max-tokens-out]
    #[arg(long, value_name = "N", value_parser = at_least_one, help_heading = "Server")]
    default_max_tokens: Option<NonZeroUsize>,
    /// Timeout of a request in seconds, from its arrival
    #[arg(long, value_name = "S", default_value_t = 300, help_heading = "Server")]
    inference_timeout_sec: u64,
    /// Maximum size of a request's body in MiB
    #[arg(long, value_name = "MB", value_parser = at_least_one, default_value = "4", help_heading = "Server")]
    max_body_mb: NonZeroUsize,
    /// MiB for the bodies of all requests that have not reached the engine; further requests get 429
    #[arg(long, value_name = "MB", value_parser = at_least_one, default_value = "64", help_heading = "Server")]
    max_bodies_mb: NonZeroUsize,
    /// Maximum open connections; a further one closes the connection that has been idle longest
    #[arg(long, value_name = "N", value_parser = at_least_one, default_value = "1024", help_heading = "Server")]
    max_connections: NonZeroUsize,
    /// Maximum open connections of one address (IPv6: one /64); at most three quarters of all [default: three quarters of all]
    #[arg(long, value_name = "N", value_parser = at_least_one, help_heading = "Server")]
    max_connections_per_address: Option<NonZeroUsize>,
    /// Additional port that serves only GET /health, without TLS, from its own thread; 0 picks a free one
    #[arg(long, value_name = "N", help_heading = "Server")]
    health_port: Option<u16>,
    /// Seconds that a client may leave data unread before its requests are cancelled
    #[arg(long, value_name = "S", default_value_t = 30, help_heading = "Server")]
    write_timeout_sec: u64,
    /// Seconds that running requests may take to finish during a shutdown
    #[arg(long, value_name = "S", default_value_t = 30, help_heading = "Server")]
    drain_timeout_sec: u64,
    /// Id of this worker, in the log and for --callback-url: 1 to 128 letters, digits, `-`, `_`, `.` or `:`
    #[arg(long, value_name = "ID", help_heading = "Server", value_parser = worker_id)]
    worker_id: Option<String>,
    /// URL that gets one POST when this worker is ready
    #[arg(long, value_name = "URL", help_heading = "Server", requires = "worker_id")]
    callback_url: Option<String>,
    /// Publish vLLM's KV cache events over ZeroMQ at tcp://IP:PORT (* for all addresses), for routers that follow the prefix cache; whoever
    /// connects reads token ids of prompts
    #[arg(long, value_name = "URL", value_parser = kv_events, help_heading = "Server")]
    kv_events: Option<SocketAddr>,
    /// Send the last 10,000 batches of KV cache events (of 64 MiB at most) again to who asks at tcp://IP:PORT, as vLLM does
    #[arg(long, value_name = "URL", value_parser = kv_events, requires = "kv_events", help_heading = "Server")]
    kv_events_replay: Option<SocketAddr>,
    /// Topic of the KV cache events, such as kv@POD@MODEL for llm-d [default: empty]
    #[arg(long, value_name = "TEXT", requires = "kv_events", help_heading = "Server")]
    kv_events_topic: Option<String>,
    /// Export a span for each answer to this OpenTelemetry collector, as OTLP over HTTP with JSON, such as http://127.0.0.1:4318
    #[arg(long, value_name = "URL", value_parser = otlp::endpoint, help_heading = "Server")]
    otlp_endpoint: Option<String>,
    /// Variables of the chat template where a request does not name them, as a JSON object such as {"enable_thinking": false}
    #[arg(long, value_name = "JSON", value_parser = template_kwargs, help_heading = "Server")]
    chat_template_kwargs: Option<Variables>,
    /// Fields that this server does not know, and names of other models: refused, or accepted and listed in `x-ignored-fields`
    #[arg(long, value_enum, value_name = "MODE", default_value = "strict", help_heading = "Server")]
    compat: Compat,
    #[command(flatten, next_help_heading = "Server")]
    pooling: PoolingArgs,
    #[command(flatten, next_help_heading = "Sampling where a request does not say")]
    sampling: DefaultArgs,
    /// Seed, where a request names none; -1, here or in a request, draws one [default: drawn for each request]
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        help_heading = "Sampling where a request does not say"
    )]
    seed: Option<Seed>,
    #[command(flatten)]
    security: security::SecurityArgs,
}

/// How requests of clients that were written for other servers are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Compat {
    /// What is not known is refused by name.
    Strict,
    /// What is not known is ignored, and listed.
    Lenient,
    /// The same, and prompts and answers are as llama-server's where there is a choice.
    LlamaServer,
}

/// Variables of a chat template.
#[derive(Clone, Debug)]
struct Variables(Map<String, Value>);

/// Reads variables of a chat template.
fn template_kwargs(text: &str) -> Result<Variables, String> {
    let found = match serde_json::from_str(text) {
        Ok(Value::Object(variables)) => return Unsaid::check(&variables).map(|()| Variables(variables)),
        Ok(_) => "another value".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(format!("expected a JSON object, found {found}"))
}

/// An address, or both of localhost.
#[derive(Clone, Copy, Debug)]
struct Host {
    ip: IpAddr,
    also: Option<IpAddr>,
}

/// Reads an address for a flag. No name is looked up: localhost is the loopback addresses by definition, of which clients try either first.
fn host(text: &str) -> Result<Host, String> {
    if text.eq_ignore_ascii_case("localhost") {
        let (ip, also) = (IpAddr::V4(Ipv4Addr::LOCALHOST), Some(IpAddr::V6(Ipv6Addr::LOCALHOST)));
        return Ok(Host { ip, also });
    }
    let ip = text.parse().map_err(|_| "expected an IP address or localhost".to_owned())?;
    Ok(Host { ip, also: None })
}

/// Reads where events are published.
fn kv_events(text: &str) -> Result<SocketAddr, String> {
    let address = text.strip_prefix("tcp://").and_then(|address| address.rsplit_once(':'));
    let read = |(ip, port): (&str, &str)| {
        let ip = match ip {
            "*" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            ip => host(ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip)).ok()?.ip,
        };
        Some(SocketAddr::new(ip, port.parse().ok()?))
    };
    address.and_then(read).ok_or_else(|| {
        "expected tcp://IP:PORT, such as tcp://127.0.0.1:5557 or tcp://*:5557 for all addresses".to_owned()
    })
}

/// Reads a name that clients know the model by. The empty one is any model's, where a server takes it at all.
fn model_name(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("expected a name, found nothing but white space".to_owned());
    }
    match text.chars().find(|c| c.is_control()) {
        Some(other) => Err(format!("expected a name without control characters, found {other:?}")),
        None => Ok(text.to_owned()),
    }
}

/// Reads the id of a worker: UUIDs and host names are, what could forge a line of a log or a path is not.
fn worker_id(text: &str) -> Result<String, String> {
    let found = match text.chars().find(|c| !(c.is_ascii_alphanumeric() || "-_.:".contains(*c))) {
        Some(other) => format!("{other:?}"),
        None if (1..=128).contains(&text.len()) => return Ok(text.to_owned()),
        None => format!("{} characters", text.len()),
    };
    Err(format!("expected 1 to 128 ASCII letters, digits, -, _, . or :, found {found}"))
}

/// Runs the command.
pub(crate) fn run(args: &Args, log: &LogArgs) -> anyhow::Result<()> {
    args.sampling.check()?;
    args.speculate.check()?;
    log::identify(args.worker_id.as_deref());
    tracing::info!(event = "startup", version = crate::version::line(), worker_id = args.worker_id);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("http")
        .enable_all()
        .build()
        .context("starting the server's threads")?;
    let ending = runtime.block_on(serve(args, log));
    // A loader or a hung device may still hold a thread: the process need not wait for it.
    runtime.shutdown_background();
    match ending? {
        Ending::Drained { n_cut: 0 } => tracing::info!(event = "shutdown", "all requests are finished"),
        Ending::Drained { n_cut } => {
            tracing::warn!(event = "shutdown", n_cut, "requests were cut off: the drain timed out");
        }
        Ending::Failed(error) => return Err(error.into()),
    }
    Ok(())
}

async fn serve(args: &Args, log: &LogArgs) -> anyhow::Result<Ending> {
    machine::raise_open_files();
    let server = Server::bind(args.options()?).await?;
    if let Some(health) = server.health_address() {
        tracing::info!("probes are answered on http://{health}/health");
    }
    let (app, address) = (server.app(), server.address());
    let scheme = if args.security.is_tls() { "https" } else { "http" };
    let mut sigterm = signal(SignalKind::terminate()).context("SIGTERM")?;
    let (first, second) = (app.clone(), app.clone());
    let watch = Watch::start_twice(
        move || first.drain(),
        move || {
            second.cut();
            thread::sleep(LAST_WORDS);
            interrupt::end();
        },
    );
    if args.security.is_open() && !address.ip().to_canonical().is_loopback() {
        tracing::warn!("no API keys are set: anyone who can reach {address} can use this server");
    }
    let reloading = args.security.clone().reload_on_hangup(app.clone())?;
    tracing::info!("listening on {scheme}://{address}");
    let loading = load(args.clone(), *log, app.clone())?;
    let loaded = async {
        match loading.await {
            Ok(Ok(())) => {
                tracing::info!(event = "ready", "ready on {scheme}://{address}");
                callback::tell(args, &app, address);
            }
            Ok(Err(error)) => return error,
            Err(_gone) => return anyhow::anyhow!("loading ended without a result"),
        }
        std::future::pending().await
    };
    let terminated = async {
        while sigterm.recv().await.is_some() {
            tracing::info!(event = "shutdown", "SIGTERM: running requests finish");
            app.drain();
        }
        std::future::pending::<()>().await;
    };
    let ending = tokio::select! {
        ending = server.run() => Ok(ending),
        error = loaded => Err(error),
        () = terminated => unreachable_end(),
        () = reloading => unreachable_end(),
        () = notify::tell(app.clone()) => unreachable_end(),
    };
    notify::stopping();
    if let Some(spans) = &app.options().spans {
        spans.flush(LAST_SPANS);
    }
    if watch.exhausted() { Err(Failure::Interrupted.into()) } else { ending }
}

/// A future that is pending for ever has no value.
fn unreachable_end() -> anyhow::Result<Ending> {
    Err(anyhow::anyhow!("the wait for signals ended"))
}

/// Loads the model on a thread of its own, and tells the app.
fn load(args: Args, log: LogArgs, app: App) -> anyhow::Result<oneshot::Receiver<anyhow::Result<()>>> {
    let (sender, receiver) = oneshot::channel();
    thread::Builder::new().name("loader".to_owned()).spawn(move || {
        let result = load_now(&args, &log, &app);
        // Where the server is already gone, nobody waits.
        let _gone = sender.send(result);
    })?;
    Ok(receiver)
}

fn load_now(args: &Args, log: &LogArgs, app: &App) -> anyhow::Result<()> {
    tracing::info!(event = "model_load_start");
    let (opened, tokenizer) = device::open_with_tokenizer(&args.model, log)?;
    let opened = opened.with_draft(args.speculate.open_draft(&args.model, &tokenizer, log)?);
    log::on_device(opened.device());
    let defaults = args.sampling.of(&opened.gguf);
    tracing::info!("sampling where a request does not say: {defaults}");
    // The files are those that are loaded now, whatever the paths lead to when a receipt is wanted.
    let hashes = FileHashes::open(opened.gguf.paths());
    let is_on_gpu = opened.is_on_gpu();
    let n_slot = args.slots.map_or(if is_on_gpu { 64 } else { 8 }, NonZeroUsize::get);
    let kv_bytes = args.kv_cache_size_mb.map(|mb| (mb.get() as u64).saturating_mul(1 << 20));
    let shape = opened.fit(Shape { n_slot, ..args.model.shape() }, kv_bytes)?;
    let loaded = opened.load(shape, log)?;
    let info = info::of(&loaded, &tokenizer, &args.served_model_name, &args.model.model.0);
    let origin = verify::origin(&loaded, &tokenizer, hashes, shape.kv_type);
    let speculation = args.speculate.speculation(&loaded.executor.limits())?;
    let options = EngineOptions {
        n_waiting: args.queue,
        protect_streams: !args.no_stream_protection,
        bound_prompts: !is_on_gpu,
        speculation,
        ..EngineOptions::default()
    };
    let engine = speculate::start(loaded.executor, loaded.draft, options).context("starting the engine")?;
    let default_max_tokens =
        Some(args.default_max_tokens.or(args.max_tokens_out).map_or(DEFAULT_TOKENS, NonZeroUsize::get));
    let options = WorkerOptions { default_max_tokens, defaults };
    let worker =
        Worker::new(engine, Arc::new(tokenizer), options).with_embedder(args.pooling.embedder(&loaded.model));
    tracing::info!(event = "model_load_complete", model = info.id, seconds = loaded.load_time.as_secs_f64());
    app.set_ready(Served { worker, info, origin });
    files::watch(loaded.files, app.clone()).context("watching the model's file")?;
    Ok(())
}

impl Args {
    fn options(&self) -> anyhow::Result<ServerOptions> {
        let limits = Limits {
            prompt_tokens: self.max_tokens_in,
            max_tokens: self.max_tokens_out.map_or(usize::MAX, NonZeroUsize::get),
            inference_time: Duration::from_secs(self.inference_timeout_sec),
            body_bytes: self.max_body_mb.get().saturating_mul(1 << 20),
            budget_bytes: self.max_bodies_mb.get().saturating_mul(1 << 20),
            n_connection: self.max_connections.get(),
            n_connection_of_address: self.max_connections_per_address.map_or(usize::MAX, NonZeroUsize::get),
            write_time: Duration::from_secs(self.write_timeout_sec.max(1)),
            ..Limits::default()
        };
        Ok(ServerOptions {
            bind: SocketAddr::new(self.host.ip, self.port),
            also: self.host.also,
            spans: match &self.otlp_endpoint {
                Some(url) => Some(otlp::start(url, self.worker_id.as_deref())?),
                None => None,
            },
            kv_events: self.kv_events.map(|bind| KvEventOptions {
                bind,
                replay: self.kv_events_replay,
                topic: self.kv_events_topic.clone().unwrap_or_default(),
            }),
            health: self.health_port.map(|port| SocketAddr::new(self.host.ip, port)),
            limits,
            security: self.security.open()?,
            compat: match self.compat {
                Compat::Strict => server::Compat::Strict,
                Compat::Lenient => server::Compat::Lenient,
                Compat::LlamaServer => server::Compat::LlamaServer,
            },
            unsaid: Arc::new(Unsaid {
                seed: self.seed.and_then(|Seed(seed)| seed),
                template: self.chat_template_kwargs.clone().map(|Variables(map)| map).unwrap_or_default(),
            }),
            drain_timeout: Duration::from_secs(self.drain_timeout_sec),
            lost_log_lines: log::n_lost(),
            percent_loaded: progress::percent_loaded(),
            ..ServerOptions::default()
        })
    }
}
