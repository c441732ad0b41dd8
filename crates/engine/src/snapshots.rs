//! Who owns which copy of a sequence's state?
//!
//! On a device with recurrent layers a page says nothing of what came before it: whoever goes on after pages that are there needs the state at
//! that position too. A [`Snapshot`] is an owned value as a page is; dropping it frees it.

use std::sync::{Arc, Mutex, PoisonError};

use device::batch::SnapshotId;

/// The copies that nobody owns.
#[derive(Clone, Debug)]
pub(crate) struct SnapshotPool(Arc<Mutex<Vec<SnapshotId>>>);

/// A copy's place on the device.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) id: SnapshotId,
    pool: SnapshotPool,
}

impl SnapshotPool {
    /// All of `n` are free.
    pub(crate) fn new(n: usize) -> SnapshotPool {
        let ids = (0..n).rev().filter_map(|id| SnapshotId::try_from(id).ok());
        SnapshotPool(Arc::new(Mutex::new(ids.collect())))
    }

    /// One of the free ones.
    pub(crate) fn take(&self) -> Option<Arc<Snapshot>> {
        let id = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
        Some(Arc::new(Snapshot { id, pool: self.clone() }))
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        self.pool.0.lock().unwrap_or_else(PoisonError::into_inner).push(self.id);
    }
}
