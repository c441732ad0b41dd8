//! How do connections come in? As fast as they can, so that a probe does not wait behind others in the system's queue.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use hyper_util::service::TowerToHyperService;
use rustix::process::{Resource, getrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::connection::{N_TURN, Shared, serve};
use super::places::{Closed, Places};
use crate::state::App;
use crate::tls::Tls;

/// Between two looks at who has been idle for too long.
const SWEEP: Duration = Duration::from_millis(100);
/// After a failure, before the next try.
const PAUSE: Duration = Duration::from_millis(20);
/// At most one warning in this time.
const QUIET: Duration = Duration::from_secs(10);
/// For connections to write what is left, at the end.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Where connections come in, and what they are served.
pub(crate) struct Door {
    pub(crate) app: App,
    pub(crate) listeners: Listeners,
    pub(crate) router: Router,
    pub(crate) places: Places,
    /// The most connections that are ending without a place.
    pub(crate) n_ending: usize,
    pub(crate) tls: Option<Tls>,
}

/// The sockets: one or two.
#[derive(Debug)]
pub(crate) struct Listeners {
    pub(crate) first: TcpListener,
    pub(crate) second: Option<TcpListener>,
}

impl Listeners {
    /// The next connection of either.
    pub(crate) async fn next(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let Some(second) = &self.second else { return self.first.accept().await };
        tokio::select! {
            stream = self.first.accept() => stream,
            stream = second.accept() => stream,
        }
    }

    /// The same sockets for the runtime that this is called in.
    pub(crate) fn moved(self) -> io::Result<Listeners> {
        let moved = |listener: TcpListener| TcpListener::from_std(listener.into_std()?);
        Ok(Listeners { first: moved(self.first)?, second: self.second.map(moved).transpose()? })
    }
}

/// Files that this process may have open; `None` where there is no limit.
pub(crate) fn open_files() -> Option<usize> {
    getrlimit(Resource::Nofile).current.map(|n| usize::try_from(n).unwrap_or(usize::MAX))
}

/// Takes connections until told to close, then lets the open ones finish.
pub(crate) async fn accept(door: Door, mut closed: watch::Receiver<bool>) {
    let Door { app, listeners, router, places, n_ending, tls } = door;
    let [turns, ending] = [N_TURN, n_ending].map(|n| Arc::new(Semaphore::new(n.min(Semaphore::MAX_PERMITS))));
    let shared = Shared { app: app.clone(), service: TowerToHyperService::new(router), tls, turns, ending };
    let mut connections = JoinSet::new();
    let mut warnings = Warnings::default();
    let mut sweep = interval(SWEEP);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let stream = tokio::select! {
            biased;
            _ = closed.changed() => break,
            _ = sweep.tick() => {
                places.sweep().into_iter().for_each(|why| app.metrics().closed(why));
                continue;
            }
            stream = listeners.next() => stream,
        };
        while connections.try_join_next().is_some() {}
        match stream {
            Ok((stream, peer)) => {
                let (place, why) = places.enter(peer.ip());
                why.into_iter().for_each(|why| app.metrics().closed(why));
                if let Some(place) = place {
                    connections.spawn(serve(shared.clone(), stream, Arc::new(place), closed.clone()));
                }
            }
            Err(error) => {
                // Out of file descriptors, or a client that is already gone: neither is for ever.
                if places.make_room() {
                    app.metrics().closed(Closed::Room);
                }
                warnings.warn(&error);
                sleep(PAUSE).await;
            }
        }
    }
    drop(listeners);
    let _late = timeout(LAST_WORDS, async { while connections.join_next().await.is_some() {} }).await;
}

/// Failures to accept come by the thousand; they are told of now and then, with their number.
#[derive(Default)]
struct Warnings {
    last: Option<Instant>,
    n_since: u64,
}

impl Warnings {
    fn warn(&mut self, error: &io::Error) {
        self.n_since += 1;
        if self.is_due(Instant::now()) {
            let n = std::mem::take(&mut self.n_since);
            tracing::warn!(%error, n, "connections could not be accepted");
        }
    }

    fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.last.is_none_or(|last| now.duration_since(last) >= QUIET);
        if is_due {
            self.last = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_come_now_and_then() {
        let (mut warnings, now) = (Warnings::default(), Instant::now());
        let due = [0, 1, 9, 10, 11, 30].map(|s| warnings.is_due(now + Duration::from_secs(s)));
        assert_eq!(due, [true, false, false, true, false, true]);
    }
}
