//! What does Ctrl-C stop? The answer being written, if there is one; otherwise the program, with exit code 130.
//!
//! While a [`Watch`] lives, the first Ctrl-C calls what the watch was given; a second one ends the process at once, so that
//! nothing can make the program deaf.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::exit;

type Stop = Box<dyn Fn() + Send>;

/// What the next Ctrl-C calls; nothing means that it ends the process.
static STOP: Mutex<Option<Stop>> = Mutex::new(None);

/// Takes over Ctrl-C for this process.
pub(crate) fn install() -> anyhow::Result<()> {
    let handler = || match stop().take() {
        Some(stop) => stop(),
        None => std::process::exit(exit::INTERRUPTED.into()),
    };
    Ok(ctrlc::set_handler(handler)?)
}

/// Catches one Ctrl-C while it lives. There is one at a time.
pub(crate) struct Watch(());

impl Watch {
    /// Calls `on_interrupt`, on another thread, at the first Ctrl-C.
    pub(crate) fn start(on_interrupt: impl Fn() + Send + 'static) -> Watch {
        *stop() = Some(Box::new(on_interrupt));
        Watch(())
    }

    /// Whether Ctrl-C came since the start.
    pub(crate) fn raised(&self) -> bool {
        stop().is_none()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        *stop() = None;
    }
}

/// The value behind the lock is replaced whole, so a panic elsewhere does not spoil it.
fn stop() -> MutexGuard<'static, Option<Stop>> {
    STOP.lock().unwrap_or_else(PoisonError::into_inner)
}
