//! Who owns which page of the KV cache?
//!
//! A [`Page`] is an owned value: dropping it gives it back, on every way out of a function and through every panic. Sequences hold
//! theirs as [`Held`], several of them one page of a common prompt; the prefix cache keeps pages without holding them, so that a page which
//! nobody holds counts as free whether it is kept or not.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::batch::PageId;

/// The pages that nobody owns, and how many of the others are held.
#[derive(Clone, Debug)]
pub(crate) struct PagePool(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    free: Mutex<Vec<PageId>>,
    n_held: AtomicUsize,
    n_page: usize,
}

impl PagePool {
    /// All of `n_page` pages are free.
    pub(crate) fn new(n_page: usize) -> PagePool {
        // The lowest ids are taken first.
        let free: Vec<PageId> = (0..n_page).rev().filter_map(|id| PageId::try_from(id).ok()).collect();
        PagePool(Arc::new(Pool { n_page: free.len(), free: Mutex::new(free), n_held: AtomicUsize::new(0) }))
    }

    /// How many no sequence holds.
    pub(crate) fn n_free(&self) -> usize {
        self.0.n_page.saturating_sub(self.0.n_held.load(Ordering::Relaxed))
    }

    /// How many nobody owns: those that can be taken.
    pub(crate) fn n_unowned(&self) -> usize {
        lock(&self.0.free).len()
    }

    /// Takes `n` pages, or none where fewer are unowned.
    pub(crate) fn take(&self, n: usize) -> Option<Vec<Held>> {
        let mut free = lock(&self.0.free);
        let rest = free.len().checked_sub(n)?;
        let ids: Vec<PageId> = free.drain(rest..).rev().collect();
        drop(free);
        let page = |id| Arc::new(Page { id, n_holder: AtomicUsize::new(0), pool: Arc::clone(&self.0) });
        Some(ids.into_iter().map(|id| Held::new(&page(id))).collect())
    }
}

/// One page; dropping it frees it.
#[derive(Debug)]
pub(crate) struct Page {
    id: PageId,
    n_holder: AtomicUsize,
    pool: Arc<Pool>,
}

impl Page {
    /// Whether a sequence holds it.
    pub(crate) fn is_held(&self) -> bool {
        self.n_holder.load(Ordering::Relaxed) > 0
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        lock(&self.pool.free).push(self.id);
    }
}

/// A page that a sequence holds. Made and dropped on the engine's thread.
#[derive(Debug)]
pub(crate) struct Held(Arc<Page>);

impl Held {
    pub(crate) fn new(page: &Arc<Page>) -> Held {
        if page.n_holder.fetch_add(1, Ordering::Relaxed) == 0 {
            page.pool.n_held.fetch_add(1, Ordering::Relaxed);
        }
        Held(Arc::clone(page))
    }

    pub(crate) fn page(&self) -> &Arc<Page> {
        &self.0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.0.n_holder.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.pool.n_held.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A sequence's pages in the order of its positions.
#[derive(Debug)]
pub(crate) struct Pages {
    held: Vec<Held>,
    ids: Arc<[PageId]>,
}

impl Pages {
    pub(crate) fn new(held: Vec<Held>) -> Pages {
        Pages { ids: held.iter().map(|held| held.0.id).collect(), held }
    }

    /// Puts these in the place of as many first ones, which are given back.
    pub(crate) fn replace_first(&mut self, pages: Vec<Held>) {
        for (place, page) in self.held.iter_mut().zip(pages) {
            *place = page;
        }
        self.ids = self.held.iter().map(|held| held.0.id).collect();
    }

    pub(crate) fn get(&self, index: usize) -> Option<&Held> {
        self.held.get(index)
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
