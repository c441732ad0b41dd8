//! Which pages of prompts came into the prefix cache, and which left it? Told to whoever asked, so that a router can follow what is kept.
//!
//! A page is named by a hash of its scope, its tokens and the page before it: the same prompt has the same names in every worker. The engine never
//! waits for a listener: a batch that finds no room is lost, and the numbers of those that follow show it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvError, SyncSender, TrySendError, sync_channel};
use std::time::SystemTime;

/// What happened to pages of the prefix cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CacheEvent {
    /// Pages are kept, one after the other.
    Stored {
        /// The page before the first; `None` where a prompt begins.
        parent: Option<u64>,
        /// Their names.
        pages: Vec<u64>,
        /// The tokens of all of them.
        tokens: Vec<u32>,
    },
    /// Pages are kept no more.
    Removed {
        /// Their names.
        pages: Vec<u64>,
    },
    /// No page is kept any more.
    Cleared,
}

/// What happened in a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheBatch {
    /// Counts batches from 0, lost ones too.
    pub number: u64,
    /// When.
    pub at: SystemTime,
    /// In order.
    pub events: Vec<CacheEvent>,
}

/// Hears of every batch that there was room for. Dropping it ends the telling.
#[derive(Debug)]
pub struct CacheListener {
    inbox: Receiver<CacheBatch>,
    n_lost: Arc<AtomicU64>,
}

impl CacheListener {
    /// Waits for the next batch.
    ///
    /// # Errors
    /// When the engine has ended.
    pub fn next(&self) -> Result<CacheBatch, RecvError> {
        self.inbox.recv()
    }

    /// How many batches were lost for want of room.
    #[must_use]
    pub fn n_lost(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.n_lost)
    }
}

/// Collects what happens in a step, where anybody listens.
#[derive(Debug, Default)]
pub(crate) struct Told {
    to: Option<Listening>,
    events: Vec<CacheEvent>,
}

#[derive(Debug)]
pub(crate) struct Listening {
    outbox: SyncSender<CacheBatch>,
    n_lost: Arc<AtomicU64>,
    next: u64,
}

/// A listener with room for so many batches, and the engine's side of it.
pub(crate) fn listen(n_batch: usize) -> (Listening, CacheListener) {
    let (outbox, inbox) = sync_channel(n_batch);
    let n_lost = Arc::new(AtomicU64::new(0));
    (Listening { outbox, n_lost: Arc::clone(&n_lost), next: 0 }, CacheListener { inbox, n_lost })
}

impl Told {
    /// Tells this one from now on, and nobody else any more.
    pub(crate) fn tell(&mut self, to: Listening) {
        self.events.clear();
        self.to = Some(to);
    }

    /// A page is kept after `parent`.
    pub(crate) fn stored(&mut self, parent: Option<u64>, page: u64, of: &[u32]) {
        if self.to.is_none() {
            return;
        }
        match self.events.last_mut() {
            Some(CacheEvent::Stored { pages, tokens, .. })
                if parent.is_some() && pages.last().copied() == parent =>
            {
                pages.push(page);
                tokens.extend_from_slice(of);
            }
            _ => self.events.push(CacheEvent::Stored { parent, pages: vec![page], tokens: of.to_vec() }),
        }
    }

    /// A page is kept no more.
    pub(crate) fn removed(&mut self, page: u64) {
        if self.to.is_none() {
            return;
        }
        match self.events.last_mut() {
            Some(CacheEvent::Removed { pages }) => pages.push(page),
            _ => self.events.push(CacheEvent::Removed { pages: vec![page] }),
        }
    }

    /// No page is kept any more.
    pub(crate) fn cleared(&mut self) {
        if self.to.is_some() {
            self.events.push(CacheEvent::Cleared);
        }
    }

    /// Sends what has come together, if there is room for it.
    pub(crate) fn send(&mut self) {
        let Some(to) = self.to.as_mut().filter(|_| !self.events.is_empty()) else { return };
        let events = std::mem::take(&mut self.events);
        let batch = CacheBatch { number: to.next, at: SystemTime::now(), events };
        to.next += 1;
        match to.outbox.try_send(batch) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                to.n_lost.fetch_add(1, Ordering::Relaxed);
            }
            Err(TrySendError::Disconnected(_)) => self.to = None,
        }
    }
}

/// The name of the page with these tokens after `parent`. FNV-1a over words, each step mixed as SplitMix64 does, so that every bit of a
/// token reaches every bit of the name. Not for secrets: who knows a name and guesses the tokens can check the guess.
pub(crate) fn name(scope: u64, parent: Option<u64>, tokens: &[u32]) -> u64 {
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    let words = [scope, parent.unwrap_or(0), tokens.len() as u64].into_iter();
    words.chain(tokens.iter().map(|&token| u64::from(token))).fold(BASIS, |hash, word| {
        let mut mixed = (hash ^ word).wrapping_mul(PRIME);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(parent: Option<u64>, pages: &[u64], tokens: &[u32]) -> CacheEvent {
        CacheEvent::Stored { parent, pages: pages.to_vec(), tokens: tokens.to_vec() }
    }

    #[test]
    fn pages_that_follow_each_other_are_one_event() {
        let (to, listener) = listen(4);
        let mut told = Told::default();
        told.stored(None, 9, &[1]);
        told.tell(to);
        told.send();
        told.stored(None, 1, &[1, 2]);
        told.stored(Some(1), 2, &[3, 4]);
        told.stored(Some(1), 3, &[5, 6]);
        told.removed(2);
        told.removed(3);
        told.stored(None, 4, &[7, 8]);
        told.stored(None, 5, &[9, 9]);
        told.cleared();
        told.send();
        told.send();
        let CacheBatch { number, events, .. } = listener.next().unwrap();
        assert_eq!(number, 0);
        assert_eq!(
            events,
            [
                stored(None, &[1, 2], &[1, 2, 3, 4]),
                stored(Some(1), &[3], &[5, 6]),
                CacheEvent::Removed { pages: vec![2, 3] },
                stored(None, &[4], &[7, 8]),
                stored(None, &[5], &[9, 9]),
                CacheEvent::Cleared,
            ]
        );
        drop(told);
        assert!(listener.next().is_err(), "no batch without events");
    }

    #[test]
    fn what_finds_no_room_is_lost_and_numbers_show_it() {
        let (to, listener) = listen(1);
        let mut told = Told::default();
        told.tell(to);
        for page in 0..3 {
            told.removed(page);
            told.send();
        }
        assert_eq!((listener.next().unwrap().number, listener.n_lost().load(Ordering::Relaxed)), (0, 2));
        told.removed(3);
        told.send();
        assert_eq!(listener.next().unwrap().number, 3);
        drop(listener);
        told.removed(4);
        told.send();
        told.removed(5);
        assert_eq!(told.events, []);
    }

    #[test]
    fn a_name_depends_on_scope_parent_and_every_token() {
        let base = name(0, None, &[1, 2]);
        let others =
            [name(1, None, &[1, 2]), name(0, Some(1), &[1, 2]), name(0, None, &[2, 1]), name(0, None, &[1])];
        assert_eq!(base, name(0, None, &[1, 2]));
        assert!(others.iter().all(|other| *other != base), "{others:?}");
        // Pinned: routers of a fleet compare names of workers of different versions.
        assert_eq!(format!("{base:016x}"), "4ae35d6135167ccc");
    }
}
