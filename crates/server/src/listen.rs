//! How do connections come in, and how does the server end?
//!
//! It listens before the model is there, and while it drains, so that everybody gets an answer. It ends when it was told to drain and no request is
//! unfinished (or the time for that is over, or cut short), or when the engine has failed; then open connections finish what they are writing.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use worker::{EngineError, Shutdown};

use crate::connections::{Bounds, Door, Listeners, Places, accept, open_files};
use crate::options::{Limits, ServerOptions};
use crate::routes;
use crate::state::{App, Phase};

/// Between two looks at what the engine does.
const LOOK: Duration = Duration::from_millis(20);
/// For connections to write what is left, at the end.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Places for probes, beside all others.
const N_RESERVED: usize = 32;
/// Places on the port for probes, and connections there that are ending.
const N_HEALTH: usize = 64;
/// Files that the process has open beside its connections: the model's, the log, those of the system's libraries.
const N_FILE: usize = 64;

/// Why there is no server.
#[derive(Debug, Error)]
pub enum ServerError {
    /// Other machines reach the address, and there are no keys.
    #[error(
        "{address} can be reached from other machines, and there are no API keys: give --api-key-file, or --insecure-no-auth if \
        anyone who can reach it may use it"
    )]
    Open {
        /// Where.
        address: SocketAddr,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}{}", advice(source, flag))]
    Bind {
        /// Where.
        address: SocketAddr,
        /// The flag that says so.
        flag: &'static str,
        /// Why not.
        source: io::Error,
    },
}

/// What to do about an address that cannot be had.
fn advice(error: &io::Error, flag: &str) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("; another process has this port: give another {flag}, or {flag} 0 for a free one")
        }
        io::ErrorKind::PermissionDenied => format!("; ports below 1024 are reserved: give another {flag}"),
        _ => String::new(),
    }
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
    listeners: Listeners,
    /// The most connections that are ending without a place.
    n_ending: usize,
    address: SocketAddr,
    health: Option<Listeners>,
    kv_events: Option<TcpListener>,
    kv_replays: Option<TcpListener>,
}

impl Server {
    /// Listens, and answers nothing yet.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn bind(mut options: ServerOptions) -> Result<Server, ServerError> {
        let address = options.bind;
        let is_open = options.security.keys.is_empty() && !options.security.no_auth;
        if is_open && !address.ip().to_canonical().is_loopback() {
            return Err(ServerError::Open { address });
        }
        let n_ending = fit(&mut options.limits, open_files());
        let listeners = listen_at(address, options.also, (options.limits.send_buffer, "--port"))?;
        let health = options
            .health
            .map(|address| listen_at(address, options.also, (options.limits.send_buffer, "--health-port")));
        let fail = |source| ServerError::Bind { address, flag: "--port", source };
        let listen_for = |address: Option<SocketAddr>, flag| {
            let fail = |address| move |source| ServerError::Bind { address, flag, source };
            address.map(|address| listen(address, options.limits.send_buffer).map_err(fail(address)))
        };
        let events = options.kv_events.as_ref();
        let kv_events = listen_for(events.map(|events| events.bind), "--kv-events");
        let kv_replays = listen_for(events.and_then(|events| events.replay), "--kv-events-replay");
        let (health, kv_events) = (health.transpose()?, kv_events.transpose()?);
        let kv_replays = kv_replays.transpose()?;
        let address = listeners.first.local_addr().map_err(fail)?;
        Ok(Server { app: App::new(options), listeners, n_ending, address, health, kv_events, kv_replays })
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

    /// Where /health alone is answered, if it is.
    #[must_use]
    pub fn health_address(&self) -> Option<SocketAddr> {
        self.health.as_ref().and_then(|listeners| listeners.first.local_addr().ok())
    }

    /// Where the prefix cache's events are published, if they are.
    #[must_use]
    pub fn kv_events_address(&self) -> Option<SocketAddr> {
        self.kv_events.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Where its last batches can be asked for, if they can.
    #[must_use]
    pub fn kv_replay_address(&self) -> Option<SocketAddr> {
        self.kv_replays.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Serves until the end.
    pub async fn run(self) -> Ending {
        let Server { app, listeners, n_ending, health, kv_events, kv_replays, .. } = self;
        if let (Some(events), Some(listener)) = (app.kv_events(), kv_events) {
            events.serve(listener, kv_replays);
        }
        let (closing, closed) = watch::channel(false);
        if let Some(listeners) = health {
            serve_health(app.clone(), listeners, closed.clone());
        }
        let limits = app.options().limits;
        let door = Door {
            router: routes::router(app.clone()),
            listeners,
            places: places(&limits, (limits.n_connection, limits.n_connection_of_address, N_RESERVED)),
            n_ending,
            tls: app.options().security.tls.clone(),
            app: app.clone(),
        };
        let mut accepting = tokio::spawn(accept(door, closed));
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

/// Leaves no more places than files can be open, a quarter for connections that are ending. How many of these there may be at a time: as
/// many as places, if there is room.
fn fit(limits: &mut Limits, n_file: Option<usize>) -> usize {
    let room = n_file.map_or(usize::MAX, |n| n.saturating_sub(N_RESERVED + 2 * N_HEALTH + N_FILE).max(1));
    let most = room - room / 4;
    if limits.n_connection > most {
        tracing::warn!(
            wanted = limits.n_connection,
            connections = most,
            "the limit on open files allows fewer connections"
        );
        limits.n_connection = most;
    }
    // One address never has all.
    let share = limits.n_connection - limits.n_connection / 4;
    limits.n_connection_of_address = limits.n_connection_of_address.min(share);
    limits.n_connection.min(room - limits.n_connection)
}

fn places(limits: &Limits, (all, of_address, reserved): (usize, usize, usize)) -> Places {
    let Limits { header_time: head_time, idle_time, .. } = *limits;
    Places::new(Bounds { all, of_address, reserved, head_time, idle_time })
}

/// Answers probes on a thread of its own: whatever the others do, it has nothing else to do.
fn serve_health(app: App, listeners: Listeners, closed: watch::Receiver<bool>) {
    let places = places(&app.options().limits, (N_HEALTH, N_HEALTH, 0));
    let serve = move || -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let listeners = listeners.moved()?;
            let router = routes::health_router(app.clone());
            accept(Door { app, listeners, router, places, n_ending: N_HEALTH, tls: None }, closed).await;
            Ok(())
        })
    };
    let told = |error| tracing::error!(event = "error", %error, "no thread for the probes' port");
    let started =
        thread::Builder::new().name("health".to_owned()).spawn(move || serve().unwrap_or_else(told));
    if let Err(error) = started {
        told(error);
    }
}

/// Connections that wait to be accepted; the system may have a lower limit.
const BACKLOG: u32 = 4096;

/// Sockets at an address and, with the same port, at another that this machine may have.
fn listen_at(
    address: SocketAddr,
    also: Option<IpAddr>,
    (send_buffer, flag): (u32, &'static str),
) -> Result<Listeners, ServerError> {
    let bind =
        |address| listen(address, send_buffer).map_err(|source| ServerError::Bind { address, flag, source });
    let first = bind(address)?;
    let port = first.local_addr().map_or(address.port(), |address| address.port());
    let second = match also.map(|ip| bind(SocketAddr::new(ip, port))) {
        Some(Ok(listener)) => Some(listener),
        // Of a machine without that family, or a free port that is free at one address only.
        Some(Err(ServerError::Bind { source, .. })) if address.port() == 0 || is_absent(&source) => {
            tracing::debug!(error = %source, "listening at one address only");
            None
        }
        Some(Err(error)) => return Err(error),
        None => None,
    };
    Ok(Listeners { first, second })
}

/// Whether an error says that this machine has no such address.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported)
        || error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_addresses_of_localhost_have_the_port() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let here = IpAddr::from(std::net::Ipv6Addr::LOCALHOST);
            let has_both = std::net::TcpListener::bind((here, 0)).is_ok();
            let bind = SocketAddr::from(([127, 0, 0, 1], 0));
            let server =
                Server::bind(ServerOptions { bind, also: Some(here), ..Default::default() }).await.unwrap();
            let addresses = [bind.ip(), here].map(|ip| SocketAddr::new(ip, server.address().port()));
            let [first, second] = addresses.map(|address| std::net::TcpStream::connect(address).is_ok());
            assert_eq!((first, second), (true, has_both));
            let _clients: Vec<_> =
                std::net::TcpStream::connect(addresses[usize::from(has_both)]).into_iter().collect();
            assert_eq!(
                server.listeners.next().await.unwrap().0.local_addr().unwrap().port(),
                addresses[0].port()
            );
        });
    }

    #[test]
    fn there_are_no_more_places_than_open_files() {
        let fitted = |n_connection, n_connection_of_address, n_file| {
            let mut limits = Limits { n_connection, n_connection_of_address, ..Limits::default() };
            let n_ending = fit(&mut limits, n_file);
            (limits.n_connection, limits.n_connection_of_address, n_ending)
        };
        assert_eq!(fitted(1024, 768, None), (1024, 768, 1024));
        assert_eq!(fitted(1024, 768, Some(20_000)), (1024, 768, 1024));
        assert_eq!(fitted(1024, 768, Some(2000)), (1024, 768, 752));
        assert_eq!(fitted(1024, 768, Some(1024)), (600, 450, 200));
        assert_eq!(fitted(1024, 10, Some(8)), (1, 1, 0));
    }
}
