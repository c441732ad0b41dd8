//! When does work have to end, whatever it has used?

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::error::Stopped;

/// When a rendering has to end. The default is never.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stop<'a> {
    /// Its time is over from here on.
    pub deadline: Option<Instant>,
    /// Nobody waits for it once this is set.
    pub cancelled: Option<&'a AtomicBool>,
}

impl Stop<'_> {
    /// Why it has to end now, if it has to.
    #[must_use]
    pub fn reason(&self) -> Option<Stopped> {
        // Relaxed: the flag is the whole message.
        if self.cancelled.is_some_and(|flag| flag.load(Ordering::Relaxed)) {
            return Some(Stopped::Cancelled);
        }
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline).then_some(Stopped::Deadline)
    }
}
