//! How do connections come in, and how does the server end?
//!
//! It listens before the model is there, and while it drains, so that everybody gets an answer. It ends when it was told to drain and no request is
//! unfinished (or the time for that is over, or cut short), or when the engine has failed; then open connections finish what they are writing.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use worker::{EngineError, Shutdown};

use crate::options::{Limits, ServerOptions};
use crate::routes;
use crate::slow::WriteTimeout;
use crate::state::{App, Phase};

/// Between two looks at what the engine does.
const LOOK: Duration = Duration::from_millis(20);
/// For connections to write what is left, at the end.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Why there is no server.
#[derive(Debug, Error)]
pub enum ServerError {
    /// Other machines reach the address, and there are no keys.
    #[error(
        "{address} can be reached from other machines, and there are no API keys: give --api-key-file, or --insecure-no-auth if \
        whoever reaches it may use it"
    )]
    Open {
        /// Where.
        address: SocketAddr,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
}

/// How a server ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It was told to; so many requests were cut off because the time was over.
    Drained {
        /// Requests that did not finish.
        n_cut: usize,
    },
    /// The engine failed.
    Failed(EngineError),
}

/// A server that listens.
#[derive(Debug)]
pub struct Server {
    app: App,
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Listens, and answers nothing yet.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn bind(options: ServerOptions) -> Result<Server, ServerError> {
        let address = options.bind;
        let is_open = options.security.keys.is_empty() && !options.security.no_auth;
        if is_open && !address.ip().to_canonical().is_loopback() {
            return Err(ServerError::Open { address });
        }
        let fail = |source| ServerError::Bind { address, source };
        let listener = listen(address, options.limits.send_buffer).map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        Ok(Server { app: App::new(options), listener, address })
    }

    /// What the routes share.
    #[must_use]
    pub fn app(&self) -> App {
        self.app.clone()
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the end.
    pub async fn run(self) -> Ending {
        let Server { app, listener, .. } = self;
        let (closing, closed) = watch::channel(false);
        let mut accepting = tokio::spawn(accept(app.clone(), listener, closed));
        let ending = tokio::select! {
            ending = supervise(&app) => ending,
            // The loop ends only with a panic.
            _ = &mut accepting => Ending::Failed(EngineError::Failed("the server's own loop ended".to_owned())),
        };
        if let Some(served) = app.served() {
            // However it ended: an answer that still waits for its receipt gets to say so.
            served.origin.model.give_up();
        }
        closing.send_replace(true);
        let _late = timeout(LAST_WORDS + LOOK, accepting).await;
        ending
    }
}

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// A socket whose connections keep at most so many bytes for a client that does not read.
fn listen(address: SocketAddr, send_buffer: u32) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.set_send_buffer_size(send_buffer)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Waits for the end and prepares it: when this returns, no stream is open at the engine.
async fn supervise(app: &App) -> Ending {
    let mut phases = app.watch();
    loop {
        match app.phase() {
            Phase::Failed(error) => {
                tracing::error!(event = "error", %error, "the engine has failed");
                app.fail(error.clone());
                sleep(app.options().linger).await;
                return Ending::Failed(error);
            }
            Phase::Draining => return drain(app).await,
            Phase::Loading | Phase::Ready => {
                // A change of phase wakes at once; the engine's health is looked at.
                let _timeout = timeout(LOOK * 5, phases.changed()).await;
            }
        }
    }
}

async fn drain(app: &App) -> Ending {
    let Some(served) = app.served() else { return Ending::Drained { n_cut: 0 } };
    let engine = served.worker.engine().clone();
    let until = Instant::now() + app.options().drain_timeout;
    loop {
        if let Phase::Failed(error) = app.phase() {
            return Ending::Failed(error);
        }
        // An answer may be complete and still wait for its receipt.
        let n_cut = engine.load().n_unfinished + served.origin.model.n_waiting();
        let is_late = app.is_cut() || Instant::now() >= until;
        if n_cut == 0 || is_late {
            let how = if n_cut == 0 { Shutdown::Drain } else { Shutdown::Abort };
            let engine = engine.clone();
            let stopping = tokio::task::spawn_blocking(move || engine.shutdown(how));
            let _late = timeout(LAST_WORDS, stopping).await;
            return Ending::Drained { n_cut };
        }
        sleep(LOOK).await;
    }
}

/// Takes connections until told to close, then lets the open ones finish.
async fn accept(app: App, listener: TcpListener, mut closed: watch::Receiver<bool>) {
    let service = TowerToHyperService::new(routes::router(app.clone()));
    let places = Arc::new(Semaphore::new(app.options().limits.n_connection));
    let mut connections = JoinSet::new();
    loop {
        // One connection too many waits in the system's queue.
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place,
            _ = closed.changed() => break,
        };
        let stream = tokio::select! {
            stream = listener.accept() => stream,
            _ = closed.changed() => break,
        };
        while connections.try_join_next().is_some() {}
        match stream {
            Ok((stream, _peer)) => {
                let connection = connection(app.clone(), service.clone(), stream, closed.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            Err(error) => {
                // Out of file descriptors, or a client that is already gone: neither is for ever.
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(LOOK).await;
            }
        }
    }
    drop(listener);
    let _late = timeout(LAST_WORDS, async { while connections.join_next().await.is_some() {} }).await;
}

async fn connection(
    app: App,
    service: TowerToHyperService<Router>,
    stream: TcpStream,
    closed: watch::Receiver<bool>,
) {
    let _counted = app.metrics().connected();
    let limits = app.options().limits;
    // Tokens are small and should leave at once.
    let _slower = stream.set_nodelay(true);
    let stream = WriteTimeout::new(stream, limits.write_time);
    let Some(tls) = &app.options().security.tls else {
        return speak(service, limits, stream, closed).await;
    };
    match timeout(limits.header_time, tls.acceptor().accept(stream)).await {
        Ok(Ok(stream)) => speak(service, limits, stream, closed).await,
        Ok(Err(error)) => tracing::debug!(%error, "a client does not get to speak TLS"),
        Err(_) => tracing::debug!("a client takes too long to speak TLS"),
    }
}

/// Speaks HTTP until either side ends it.
async fn speak(
    service: TowerToHyperService<Router>,
    limits: Limits,
    stream: impl AsyncRead + AsyncWrite + Unpin,
    mut closed: watch::Receiver<bool>,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.header_time)
        .max_buf_size(limits.header_bytes.max(8 << 10));
    let connection = http.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // What a client does to its own connection is nobody else's concern.
        _ = connection.as_mut() => {}
        _ = closed.changed() => {
            connection.as_mut().graceful_shutdown();
            let _broken = connection.await;
        }
    }
}
