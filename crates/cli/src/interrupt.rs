//! What does Ctrl-C stop? The answer being written, if there is one; otherwise the program, with exit code 130.
//!
//! While a [`Watch`] lives, each Ctrl-C calls the next thing that the watch was given, and what comes after the last of them ends the process
//! at once, so that nothing can make the program deaf.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{exit, log};

type Stop = Box<dyn Fn() + Send>;

/// What the next Ctrl-C calls is the last; nothing means that it ends the process.
static STOPS: Mutex<Vec<Stop>> = Mutex::new(Vec::new());

/// Takes over Ctrl-C for this process.
pub(crate) fn install() -> anyhow::Result<()> {
    let handler = || {
        // The lock is free again before anything is called.
        let next = stops().pop();
        match next {
            Some(stop) => stop(),
            None => end(),
        }
    };
    Ok(ctrlc::set_handler(handler)?)
}

/// Ends the process with the exit code of Ctrl-C.
pub(crate) fn end() {
    log::flush();
    std::process::exit(exit::INTERRUPTED.into())
}

/// Catches Ctrl-C while it lives. There is one at a time.
pub(crate) struct Watch {
    n_stop: usize,
}

impl Watch {
    /// Calls `on_interrupt`, on another thread, at the first Ctrl-C.
    pub(crate) fn start(on_interrupt: impl Fn() + Send + 'static) -> Watch {
        Watch::of(vec![Box::new(on_interrupt)])
    }

    /// Calls one thing at the first Ctrl-C, and another at the second.
    pub(crate) fn start_twice(
        first: impl Fn() + Send + 'static,
        second: impl Fn() + Send + 'static,
    ) -> Watch {
        Watch::of(vec![Box::new(second), Box::new(first)])
    }

    fn of(stops_now: Vec<Stop>) -> Watch {
        let n_stop = stops_now.len();
        *stops() = stops_now;
        Watch { n_stop }
    }

    /// Whether Ctrl-C came since the start.
    pub(crate) fn raised(&self) -> bool {
        stops().len() < self.n_stop
    }

    /// Whether it came as often as there is something to call.
    pub(crate) fn exhausted(&self) -> bool {
        stops().is_empty()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        stops().clear();
    }
}

/// The value behind the lock is replaced whole, so a panic elsewhere does not spoil it.
fn stops() -> MutexGuard<'static, Vec<Stop>> {
    STOPS.lock().unwrap_or_else(PoisonError::into_inner)
}
