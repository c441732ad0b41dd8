//! Who owns which page of the KV cache?
//!
//! A [`Page`] is an owned value: dropping it gives it back, on every way out of a function and through every panic. Sequences hold
//! theirs as [`Held`], several of them one page of a common prompt; the prefix cache keeps pages without holding them, so that a page which
//! nobody holds counts as free whether it is kept or not. A sequence holds from its start every page that it can come to need, so how many are
//! held says nothing of how many have something in them: those are used.
//!
//! Pages of windows are a pool of their own. Of these a sequence holds the latest alone ([`WindowHeld`]): it takes one as it comes to it and gives it
//! back once it has left it behind.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use device::batch::{PageId, WindowPages};

/// The pages that nobody owns, and how many of the others are held and used.
#[derive(Clone, Debug)]
pub(crate) struct PagePool(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    free: Mutex<Vec<PageId>>,
    n_held: AtomicUsize,
    n_used: AtomicUsize,
    n_page: usize,
}

impl PagePool {
    /// All of `n_page` pages are free.
    pub(crate) fn new(n_page: usize) -> PagePool {
        // The lowest ids are taken first.
        let free: Vec<PageId> = (0..n_page).rev().filter_map(|id| PageId::try_from(id).ok()).collect();
        PagePool(Arc::new(Pool {
            n_page: free.len(),
            free: Mutex::new(free),
            n_held: AtomicUsize::new(0),
            n_used: AtomicUsize::new(0),
        }))
    }

    /// How many no sequence holds.
    pub(crate) fn n_free(&self) -> usize {
        self.0.n_page.saturating_sub(self.0.n_held.load(Ordering::Relaxed))
    }

    /// How many hold positions of a sequence.
    pub(crate) fn n_used(&self) -> usize {
        self.0.n_used.load(Ordering::Relaxed)
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
        let page = |id| {
            let (n_holder, n_user) = (AtomicUsize::new(0), AtomicUsize::new(0));
            Arc::new(Page { id, n_holder, n_user, pool: Arc::clone(&self.0) })
        };
        Some(ids.into_iter().map(|id| Held::new(&page(id))).collect())
    }
}

/// One page; dropping it frees it.
#[derive(Debug)]
pub(crate) struct Page {
    id: PageId,
    n_holder: AtomicUsize,
    /// Of the holders, those that have positions in it.
    n_user: AtomicUsize,
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
pub(crate) struct Held {
    page: Arc<Page>,
    is_used: bool,
}

impl Held {
    pub(crate) fn new(page: &Arc<Page>) -> Held {
        if page.n_holder.fetch_add(1, Ordering::Relaxed) == 0 {
            page.pool.n_held.fetch_add(1, Ordering::Relaxed);
        }
        Held { page: Arc::clone(page), is_used: false }
    }

    pub(crate) fn page(&self) -> &Arc<Page> {
        &self.page
    }

    /// The sequence has positions in it.
    fn use_it(&mut self) {
        if !self.is_used {
            self.is_used = true;
            if self.page.n_user.fetch_add(1, Ordering::Relaxed) == 0 {
                self.page.pool.n_used.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Page { n_holder, n_user, pool, .. } = &*self.page;
        if self.is_used && n_user.fetch_sub(1, Ordering::Relaxed) == 1 {
            pool.n_used.fetch_sub(1, Ordering::Relaxed);
        }
        if n_holder.fetch_sub(1, Ordering::Relaxed) == 1 {
            pool.n_held.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A sequence's pages in the order of its positions.
#[derive(Debug)]
pub(crate) struct Pages {
    held: Vec<Held>,
    ids: Arc<[PageId]>,
    /// The first pages, as many as have positions in them.
    n_used: usize,
}

impl Pages {
    pub(crate) fn new(held: Vec<Held>) -> Pages {
        Pages { ids: held.iter().map(|held| held.page.id).collect(), held, n_used: 0 }
    }

    /// Puts these in the place of as many first ones, which are given back.
    pub(crate) fn replace_first(&mut self, pages: Vec<Held>) {
        for (place, page) in self.held.iter_mut().zip(pages) {
            *place = page;
        }
        self.ids = self.held.iter().map(|held| held.page.id).collect();
        self.n_used = 0;
    }

    /// The first `n_page` have positions in them.
    pub(crate) fn use_first(&mut self, n_page: usize) {
        for page in self.held.iter_mut().take(n_page).skip(self.n_used) {
            page.use_it();
        }
        self.n_used = self.n_used.max(n_page);
    }

    pub(crate) fn get(&self, index: usize) -> Option<&Held> {
        self.held.get(index)
    }

    /// Their ids.
    pub(crate) fn ids(&self) -> Arc<[PageId]> {
        Arc::clone(&self.ids)
    }
}

/// Consecutive pages of the windows' pool that a sequence holds.
#[derive(Debug)]
pub(crate) struct WindowHeld {
    held: VecDeque<Held>,
    pages: WindowPages,
}

impl WindowHeld {
    /// These, the first of which has this number among the sequence's pages.
    pub(crate) fn new(first: usize, held: Vec<Held>) -> WindowHeld {
        let mut window = WindowHeld { held: held.into(), pages: WindowPages::default() };
        window.note(first);
        window
    }

    /// How many are lacking for the sequence's first `n_page` pages.
    pub(crate) fn n_missing(&self, n_page: usize) -> usize {
        n_page.saturating_sub(self.pages.first + self.held.len())
    }

    /// These follow.
    pub(crate) fn extend(&mut self, held: Vec<Held>) {
        if !held.is_empty() {
            self.held.extend(held);
            self.note(self.pages.first);
        }
    }

    /// Gives back those before the one with this number.
    pub(crate) fn leave_behind(&mut self, first: usize) {
        let n = first.saturating_sub(self.pages.first).min(self.held.len());
        if n > 0 {
            self.held.drain(..n);
            self.note(self.pages.first + n);
        }
    }

    /// Gives back those from the one with this number on.
    pub(crate) fn give_back(&mut self, end: usize) {
        let n = end.saturating_sub(self.pages.first);
        if n < self.held.len() {
            self.held.truncate(n);
            self.note(self.pages.first);
        }
    }

    fn note(&mut self, first: usize) {
        self.pages = WindowPages { first, ids: self.held.iter().map(|held| held.page.id).collect() };
    }

    /// The page with this number.
    pub(crate) fn get(&self, number: usize) -> Option<&Held> {
        self.held.get(number.checked_sub(self.pages.first)?)
    }

    /// As a span has them.
    pub(crate) fn pages(&self) -> WindowPages {
        self.pages.clone()
    }
}

/// The list is whole after every operation, so a panic elsewhere does not spoil it.
fn lock(free: &Mutex<Vec<PageId>>) -> MutexGuard<'_, Vec<PageId>> {
    free.lock().unwrap_or_else(PoisonError::into_inner)
}
