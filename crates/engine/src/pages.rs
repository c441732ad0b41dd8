//! Who owns which page of the KV cache?
//!
//! A [`Page`] is an owned value: dropping it gives it back, on every way out of a function and through every panic. Sequences hold
//! theirs behind `Arc`, so that several may read one page of a common prompt and the last of them frees it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::batch::PageId;

/// The pages that nobody owns.
#[derive(Clone, Debug)]
pub(crate) struct PagePool {
    free: Arc<Mutex<Vec<PageId>>>,
}

impl PagePool {
    /// All of `n_page` pages are free.
    pub(crate) fn new(n_page: usize) -> PagePool {
        // The lowest ids are taken first.
        let free = (0..n_page).rev().filter_map(|id| PageId::try_from(id).ok()).collect();
        PagePool { free: Arc::new(Mutex::new(free)) }
    }

    /// How many are free.
    pub(crate) fn n_free(&self) -> usize {
        lock(&self.free).len()
    }

    /// Takes `n` pages, or none where fewer are free.
    pub(crate) fn take(&self, n: usize) -> Option<Pages> {
        let mut free = lock(&self.free);
        let rest = free.len().checked_sub(n)?;
        let pages =
            free.drain(rest..).rev().map(|id| Arc::new(Page { id, free: Arc::clone(&self.free) })).collect();
        drop(free);
        Some(Pages::new(pages))
    }
}

/// One page; dropping it frees it.
#[derive(Debug)]
struct Page {
    id: PageId,
    free: Arc<Mutex<Vec<PageId>>>,
}

impl Drop for Page {
    fn drop(&mut self) {
        lock(&self.free).push(self.id);
    }
}

/// A sequence's pages in the order of its positions.
#[derive(Debug)]
pub(crate) struct Pages {
    /// Held, never read: their drop is what matters.
    _pages: Vec<Arc<Page>>,
    ids: Arc<[PageId]>,
}

impl Pages {
    fn new(pages: Vec<Arc<Page>>) -> Pages {
        Pages { ids: pages.iter().map(|p| p.id).collect(), _pages: pages }
    }

    /// Their ids.
    pub(crate) fn ids(&self) -> Arc<[PageId]> {
        Arc::clone(&self.ids)
    }
}

/// The list is whole after every operation, so a panic elsewhere does not spoil it.
fn lock(free: &Mutex<Vec<PageId>>) -> MutexGuard<'_, Vec<PageId>> {
    free.lock().unwrap_or_else(PoisonError::into_inner)
}
