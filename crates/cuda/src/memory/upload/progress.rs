//! How far is each chunk on its way? Shared by the threads that fill, the one that queues and the one that waits for the copies.
//!
//! A chunk is filled, then queued, then copied; chunks are queued and copied in their order. A buffer of the ring is free for a chunk when
//! the chunk that had it before is copied.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::CudaError;

pub(super) struct Progress {
    state: Mutex<State>,
    changed: Condvar,
    n_slot: usize,
}

struct State {
    /// Tasks of each chunk that are not done.
    to_fill: Vec<usize>,
    n_queued: usize,
    n_copied: usize,
    /// Set when any thread gives up, and at the end.
    stopped: bool,
    error: Option<CudaError>,
}

impl Progress {
    /// Of chunks with these numbers of tasks, through a ring of `n_slot` buffers.
    pub(super) fn new(to_fill: Vec<usize>, n_slot: usize) -> Progress {
        let state = State { to_fill, n_queued: 0, n_copied: 0, stopped: false, error: None };
        Progress { state: Mutex::new(state), changed: Condvar::new(), n_slot }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for something; false if it will not come.
    fn wait(&self, until: impl Fn(&State) -> bool) -> bool {
        let state = self.lock();
        let state = self.changed.wait_while(state, |state| !state.stopped && !until(state));
        !state.unwrap_or_else(PoisonError::into_inner).stopped
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// Waits until a chunk's buffer is free; false if nobody wants it any more.
    pub(super) fn wait_free(&self, chunk: usize) -> bool {
        self.wait(|state| chunk < state.n_copied + self.n_slot)
    }

    /// Waits until a chunk is in its buffer.
    pub(super) fn wait_filled(&self, chunk: usize) -> bool {
        self.wait(|state| state.to_fill[chunk] == 0)
    }

    /// Waits until a chunk's copy is queued.
    pub(super) fn wait_queued(&self, chunk: usize) -> bool {
        self.wait(|state| chunk < state.n_queued)
    }

    /// One task of the chunk is done.
    pub(super) fn filled(&self, chunk: usize) {
        let mut state = self.lock();
        state.to_fill[chunk] -= 1;
        if state.to_fill[chunk] == 0 {
            drop(state);
            self.changed.notify_all();
        }
    }

    /// One more chunk is queued.
    pub(super) fn queued(&self) {
        self.change(|state| state.n_queued += 1);
    }

    /// One more chunk is on the device.
    pub(super) fn copied(&self) {
        self.change(|state| state.n_copied += 1);
    }

    /// How many chunks are on the device.
    pub(super) fn n_copied(&self) -> usize {
        self.lock().n_copied
    }

    /// Ends all waiting; the first reason is kept.
    pub(super) fn stop(&self, error: Option<CudaError>) {
        self.change(|state| {
            state.stopped = true;
            if state.error.is_none() {
                state.error = error;
            }
        });
    }

    /// Why a thread gave up, if one did.
    pub(super) fn into_error(self) -> Option<CudaError> {
        self.state.into_inner().unwrap_or_else(PoisonError::into_inner).error
    }
}

/// Ends all waiting when it is dropped: no other thread can go on when the one that queues has left, by an error or a panic.
pub(super) struct StopOnDrop<'a>(pub(super) &'a Progress);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop(None);
    }
}

/// Ends all waiting when it is dropped by a panic.
pub(super) struct StopOnPanic<'a>(pub(super) &'a Progress);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_free_when_the_chunk_before_is_copied() {
        let progress = Progress::new(vec![2, 1, 1], 2);
        assert!(progress.wait_free(0) && progress.wait_free(1));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| progress.wait_free(2));
            let filled = scope.spawn(|| progress.wait_filled(0));
            progress.filled(0);
            progress.filled(0);
            assert!(filled.join().unwrap());
            progress.queued();
            assert!(progress.wait_queued(0));
            progress.copied();
            assert!(waiting.join().unwrap());
        });
        assert_eq!(progress.n_copied(), 1);
    }

    #[test]
    fn stopping_wakes_everyone_and_keeps_the_first_reason() {
        let progress = Progress::new(vec![1], 1);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| progress.wait_filled(0));
            progress.stop(Some(CudaError::NotBuilt));
            assert!(!waiting.join().unwrap());
        });
        progress.stop(Some(CudaError::NoDriver));
        drop(StopOnDrop(&progress));
        assert_eq!(progress.into_error(), Some(CudaError::NotBuilt));
    }
}
