//! How much may requests hold before the engine has them? Places and bytes, of all and of each client.
//!
//! A request takes a place before its body is read, and its body's bytes before they are. What is not there is refused at once: a client that is told
//! to come later holds nothing meanwhile. Large bodies get no more than three quarters of the bytes, so that small ones pass beside them; where there
//! are several clients, neither does any one of them get more than that, of places or bytes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::ApiError;

/// A body of more bytes than this is large.
pub(super) const LARGE: usize = 256 << 10;

/// What is held.
#[derive(Debug)]
pub(crate) struct Budget {
    n_byte: usize,
    state: Mutex<Held>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Share {
    n: usize,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Held {
    all: Share,
    clients: HashMap<u64, Share>,
}

/// Who wants a place, and how many there are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) client: u64,
    /// Whether there are others whom this client must leave something.
    pub(super) has_others: bool,
    /// Places of all.
    pub(super) limit: usize,
    /// Places that are taken beyond those of this table.
    pub(super) n_elsewhere: usize,
    /// Places that this client may have whatever the others have, in this table and elsewhere.
    pub(super) n_own: usize,
}

/// A request's place and bytes; dropping it gives them back.
#[derive(Debug)]
pub(super) struct Permit {
    budget: Arc<Budget>,
    client: u64,
    has_others: bool,
    bytes: usize,
}

impl Budget {
    /// So many bytes for all bodies together.
    pub(crate) fn new(n_byte: usize) -> Budget {
        Budget { n_byte, state: Mutex::default() }
    }

    /// Requests under preparation, and the bytes of their bodies.
    pub(crate) fn held(&self) -> (usize, usize) {
        let Share { n, bytes } = self.lock().all;
        (n, bytes)
    }

    /// A place.
    pub(super) fn enter(self: &Arc<Self>, asked: Asked) -> Result<Permit, ApiError> {
        let Asked { client, has_others, limit, n_elsewhere, n_own } = asked;
        let mut held = self.lock();
        let own = held.clients.get(&client).map_or(0, |share| share.n);
        let is_over = has_others && own >= most(limit) || held.all.n.saturating_add(n_elsewhere) >= limit;
        if is_over && own >= n_own {
            return Err(ApiError::Busy { limit });
        }
        held.all.n += 1;
        held.clients.entry(client).or_default().n += 1;
        Ok(Permit { budget: Arc::clone(self), client, has_others, bytes: 0 })
    }

    /// The table is whole after every operation, so a panic elsewhere does not spoil it.
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// More bytes.
    pub(super) fn reserve(&mut self, bytes: usize) -> Result<(), ApiError> {
        let mut held = self.budget.lock();
        let of_request = self.bytes.saturating_add(bytes);
        let n_byte = self.budget.n_byte;
        let limit = if of_request > LARGE { most(n_byte) } else { n_byte };
        let own = held.clients.get(&self.client).map_or(0, |share| share.bytes);
        let is_over = self.has_others && own.saturating_add(bytes) > most(n_byte);
        if is_over || held.all.bytes.saturating_add(bytes) > limit {
            return Err(ApiError::Full);
        }
        held.all.bytes += bytes;
        held.clients.entry(self.client).or_default().bytes += bytes;
        self.bytes = of_request;
        Ok(())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut held = self.budget.lock();
        held.all.n -= 1;
        held.all.bytes -= self.bytes;
        if let Some(share) = held.clients.get_mut(&self.client) {
            share.n -= 1;
            share.bytes -= self.bytes;
            if *share == Share::default() {
                held.clients.remove(&self.client);
            }
        }
    }
}

/// Three quarters.
fn most(all: usize) -> usize {
    all - all / 4
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(client: u64, has_others: bool) -> Asked {
        Asked { client, has_others, limit: 8, n_elsewhere: 0, n_own: 0 }
    }

    #[test]
    fn places_are_counted_with_those_elsewhere() {
        let budget = Arc::new(Budget::new(100));
        let full = Asked { n_elsewhere: 7, ..asked(1, false) };
        let permit = budget.enter(full).unwrap();
        assert_eq!(budget.enter(full).unwrap_err(), ApiError::Busy { limit: 8 });
        drop(permit);
        assert!(budget.enter(full).is_ok());
        assert_eq!(budget.held(), (0, 0));
    }

    #[test]
    fn a_client_has_its_own_places_though_others_have_taken_all() {
        let budget = Arc::new(Budget::new(100));
        let full = Asked { n_elsewhere: 8, n_own: 2, ..asked(1, true) };
        let permits: Vec<Permit> = (0..2).map(|_| budget.enter(full).unwrap()).collect();
        assert_eq!(budget.enter(full).unwrap_err(), ApiError::Busy { limit: 8 });
        assert!(budget.enter(Asked { client: 2, ..full }).is_ok());
        drop(permits);
        assert_eq!(budget.enter(Asked { n_own: 0, ..full }).unwrap_err(), ApiError::Busy { limit: 8 });
    }

    #[test]
    fn one_of_several_clients_leaves_a_quarter_to_the_others() {
        let budget = Arc::new(Budget::new(1000));
        let permits: Vec<Permit> = (0..6).map(|_| budget.enter(asked(1, true)).unwrap()).collect();
        assert_eq!(budget.enter(asked(1, true)).unwrap_err(), ApiError::Busy { limit: 8 });
        let mut other = budget.enter(asked(2, true)).unwrap();
        drop(permits);
        let mut one = budget.enter(asked(1, true)).unwrap();
        one.reserve(750).unwrap();
        assert_eq!(one.reserve(1), Err(ApiError::Full));
        other.reserve(250).unwrap();
        assert_eq!(other.reserve(1), Err(ApiError::Full));
        drop((one, other));
        // The only client has all of them.
        let mut alone = budget.enter(asked(0, false)).unwrap();
        assert_eq!((alone.reserve(1000), alone.reserve(1)), (Ok(()), Err(ApiError::Full)));
    }

    #[test]
    fn small_bodies_pass_beside_large_ones() {
        let budget = Arc::new(Budget::new(4 * LARGE));
        let mut permits: Vec<Permit> = (0..4).map(|_| budget.enter(asked(0, false)).unwrap()).collect();
        permits[0].reserve(2 * LARGE).unwrap();
        assert_eq!(permits[1].reserve(LARGE + 1), Err(ApiError::Full));
        permits[1].reserve(LARGE).unwrap();
        permits[2].reserve(LARGE).unwrap();
        assert_eq!(permits[3].reserve(1), Err(ApiError::Full));
        assert_eq!(budget.held(), (4, 4 * LARGE));
        drop(permits);
        assert_eq!(budget.held(), (0, 0));
    }
}
