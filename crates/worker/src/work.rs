//! Until when is a request worked on? To its deadline, and as long as somebody waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokenizer::Stop;

/// The end of the work on one request before it reaches the engine. The default has none.
#[derive(Clone, Debug, Default)]
pub struct Work {
    deadline: Option<Instant>,
    left: Arc<AtomicBool>,
}

impl Work {
    /// Work that ends at a time.
    #[must_use]
    pub fn until(deadline: Instant) -> Work {
        Work { deadline: Some(deadline), left: Arc::default() }
    }

    /// The same work, ended after `timeout` from now at the latest.
    #[must_use]
    pub fn within(&self, timeout: Option<Duration>) -> Work {
        let end = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let deadline = self.deadline.into_iter().chain(end).min();
        Work { deadline, left: Arc::clone(&self.left) }
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

/// Somebody waits for the work.
#[derive(Debug)]
pub struct Waiter(Arc<AtomicBool>);

impl Drop for Waiter {
    fn drop(&mut self) {
        // Relaxed: the flag is the whole message.
        self.0.store(true, Ordering::Relaxed);
    }
}
