//! Until when is a request worked on? To its deadline, and as long as somebody waits for it.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokenizer::Stop;

/// The end of the work on one request before it reaches the engine. The default has none.
#[derive(Clone, Debug, Default)]
pub struct Work {
    deadline: Option<Instant>,
    left: Arc<AtomicBool>,
    idle: Option<Arc<dyn Idle>>,
}

/// Whoever's thread the work is done on.
pub trait Idle: Send + Sync + Debug {
    /// The thread waits from here on for what another does, or no longer does.
    fn idles(&self, does: bool);
}

impl Work {
    /// Work that ends at a time.
    #[must_use]
    pub fn until(deadline: Instant) -> Work {
        Work { deadline: Some(deadline), ..Work::default() }
    }

    /// The same work, ended after `timeout` from now at the latest.
    #[must_use]
    pub fn within(&self, timeout: Option<Duration>) -> Work {
        let end = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let deadline = self.deadline.into_iter().chain(end).min();
        Work { deadline, ..self.clone() }
    }

    /// The same work on a thread that has other work while this waits.
    #[must_use]
    pub fn with_idle(self, idle: Arc<dyn Idle>) -> Work {
        Work { idle: Some(idle), ..self }
    }

    /// While this lives, the work's thread does nothing.
    pub(crate) fn pause(&self) -> Pause<'_> {
        self.idle.iter().for_each(|idle| idle.idles(true));
        Pause(self)
    }

    /// For the one who waits: dropping it ends the work.
    #[must_use]
    pub fn waiter(&self) -> Waiter {
        Waiter(Arc::clone(&self.left))
    }

    /// When it ends, if it does.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// What to ask while working.
    #[must_use]
    pub fn stop(&self) -> Stop<'_> {
        Stop { deadline: self.deadline, cancelled: Some(&self.left) }
    }
}

pub(crate) struct Pause<'a>(&'a Work);

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        self.0.idle.iter().for_each(|idle| idle.idles(false));
    }
}

/// Somebody waits for the work.
#[derive(Debug)]
pub struct Waiter(Arc<AtomicBool>);

impl Drop for Waiter {
    fn drop(&mut self) {
        // Relaxed: the flag is the whole message.
        self.0.store(true, Ordering::Relaxed);
    }
}
