//! What does a service manager hear of the server? systemd's protocol: readiness, the end, and signs of life, as datagrams to `NOTIFY_SOCKET`.
//!
//! Signs of life are sent by the threads that answer HTTP, so they stay away where those hang, and while the engine has failed.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use server::{App, Phase};
use tokio::time::{MissedTickBehavior, interval};

/// Between two looks at the phase.
const LOOK: Duration = Duration::from_millis(50);

/// Tells the manager, if there is one, for as long as it is polled.
pub(crate) async fn tell(app: App) {
    let Some(manager) = Manager::of_environment() else { return std::future::pending().await };
    let mut look = interval(LOOK.min(manager.sign.unwrap_or(LOOK)));
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut told, mut signed) = (Phase::Loading, tokio::time::Instant::now());
    loop {
        let now = look.tick().await;
        let phase = app.phase();
        if phase != told {
            match phase {
                Phase::Ready => manager.send("READY=1\n"),
                Phase::Draining => manager.send("STOPPING=1\n"),
                Phase::Loading | Phase::Failed(_) => {}
            }
        }
        let is_due = manager.sign.is_some_and(|sign| now.duration_since(signed) >= sign);
        if is_due && !matches!(phase, Phase::Failed(_)) {
            manager.send("WATCHDOG=1\n");
            signed = now;
        }
        told = phase;
    }
}

/// Tells the manager that the server ends, as an idle one does sooner than the next look; to hear it twice does no harm.
pub(crate) fn stopping() {
    if let Some(manager) = Manager::of_environment() {
        manager.send("STOPPING=1\n");
    }
}

struct Manager {
    socket: UnixDatagram,
    /// Between two signs of life; a manager that wants none names no time.
    sign: Option<Duration>,
}

impl Manager {
    fn of_environment() -> Option<Manager> {
        let address = std::env::var_os("NOTIFY_SOCKET")?;
        let socket = match connected(&address) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!(%error, "NOTIFY_SOCKET: the service manager cannot be notified");
                return None;
            }
        };
        let [usec, pid] = ["WATCHDOG_USEC", "WATCHDOG_PID"].map(|name| std::env::var(name).ok());
        Some(Manager { socket, sign: sign(usec.as_deref(), pid.as_deref(), std::process::id()) })
    }

    /// A manager that does not take it at once is not waited for.
    fn send(&self, text: &str) {
        if let Err(error) = self.socket.send(text.as_bytes()) {
            tracing::debug!(%error, "the service manager was not notified");
        }
    }
}

fn connected(address: &OsStr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    match address.as_bytes() {
        #[cfg(target_os = "linux")]
        [b'@', name @ ..] => {
            use std::os::linux::net::SocketAddrExt;
            socket.connect_addr(&std::os::unix::net::SocketAddr::from_abstract_name(name)?)?;
        }
        [b'/', ..] => socket.connect(address)?,
        _ => return Err(io::Error::other("expected an absolute path, or @ and a name")),
    }
    Ok(socket)
}

/// Half of the time that the manager waits for a sign, where it waits for this process.
fn sign(usec: Option<&str>, pid: Option<&str>, own: u32) -> Option<Duration> {
    if pid.is_some_and(|pid| pid.parse() != Ok(own)) {
        return None;
    }
    let usec: u64 = usec?.parse().ok().filter(|&usec| usec > 0)?;
    Some(Duration::from_micros(usec / 2).max(Duration::from_millis(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_come_twice_in_the_time_that_this_process_is_given() {
        let half = Some(Duration::from_secs(15));
        assert_eq!(sign(Some("30000000"), None, 7), half);
        assert_eq!(sign(Some("30000000"), Some("7"), 7), half);
        assert_eq!(sign(Some("30000000"), Some("8"), 7), None);
        assert_eq!(sign(Some("0"), None, 7), None);
        assert_eq!(sign(Some("soon"), None, 7), None);
        assert_eq!(sign(None, None, 7), None);
    }

    #[test]
    fn an_address_is_a_path_or_a_name() {
        assert!(connected(OsStr::new("relative")).is_err());
        assert!(connected(OsStr::new("/no/such/socket")).is_err());
        assert!(connected(OsStr::new("vsock:2:1234")).is_err());
    }
}
