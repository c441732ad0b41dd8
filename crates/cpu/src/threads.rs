//! The threads that executors compute on.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::simd::pool::Pool;

/// Threads that several executors compute on in turn, one step at a time. With threads of its own each, those of one would spin for work while the other computes. Clones
/// are the same.
#[derive(Clone)]
pub struct Threads(Arc<Mutex<Pool>>);

impl Threads {
    /// So many, the calling one among them; at least one.
    #[must_use]
    pub fn new(n_thread: usize) -> Threads {
        Threads(Arc::new(Mutex::new(Pool::new(n_thread))))
    }

    /// For a step.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Pool> {
        // A panic in a task leaves the pool whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Threads").finish_non_exhaustive()
    }
}
