//! Who may have another of the places for unfinished requests?
//!
//! A client that is alone may have all of them. Where several are there, each has a share by its weight; one that holds more when others come
//! keeps what it holds and gets no more until it is below. So that nobody need wait for that, the first few places of each client are its own,
//! beyond all others: at most `limit` and `own` for each client are taken.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long a client that was refused counts as there: longer than clients wait before they try again.
const STAYS: Duration = Duration::from_secs(10);

/// The places that are taken.
#[derive(Debug)]
pub(crate) struct Places {
    limit: usize,
    /// Places that every client has to itself.
    own: usize,
    n_taken: usize,
    /// Those that are there.
    clients: HashMap<u64, Held>,
}

#[derive(Debug)]
struct Held {
    n: usize,
    weight: u32,
    refused: Option<Instant>,
}

impl Places {
    pub(crate) fn new(limit: usize, own: usize) -> Places {
        Places { limit, own: own.min(limit), n_taken: 0, clients: HashMap::new() }
    }

    /// Takes a place for a client of this weight; otherwise how many it may have now.
    pub(crate) fn take(&mut self, client: u64, weight: u32, now: Instant) -> Result<(), usize> {
        let stays = |held: &Held| held.refused.is_some_and(|at| now.saturating_duration_since(at) < STAYS);
        self.clients.retain(|_, held| held.n > 0 || stays(held));
        let held = self.clients.entry(client).or_insert(Held { n: 0, weight: 1, refused: None });
        held.weight = weight.max(1);
        let n = held.n;
        let all: u64 = self.clients.values().map(|held| u64::from(held.weight)).sum();
        let share = self.limit as u128 * u128::from(weight.max(1)) / u128::from(all.max(1));
        let share = usize::try_from(share).unwrap_or(self.limit).max(self.own);
        let is_free = n < self.own || n < share && self.n_taken < self.limit;
        let Some(held) = self.clients.get_mut(&client) else { return Err(0) };
        if is_free {
            held.n += 1;
            held.refused = None;
            self.n_taken += 1;
            Ok(())
        } else {
            held.refused = Some(now);
            Err(share.min(n.max(self.own)))
        }
    }

    /// A client's place is free again.
    pub(crate) fn give_back(&mut self, client: u64) {
        let Some(held) = self.clients.get_mut(&client).filter(|held| held.n > 0) else { return };
        held.n -= 1;
        self.n_taken -= 1;
        if held.n == 0 && held.refused.is_none() {
            self.clients.remove(&client);
        }
    }

    /// How many a client has to itself.
    pub(crate) fn n_own(&self) -> usize {
        self.own
    }

    /// How many this client holds.
    pub(crate) fn n_of(&self, client: u64) -> usize {
        self.clients.get(&client).map_or(0, |held| held.n)
    }

    /// How many clients hold one.
    pub(crate) fn n_client(&self) -> usize {
        self.clients.values().filter(|held| held.n > 0).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client takes as many as it gets.
    fn fill(places: &mut Places, client: u64, weight: u32, now: Instant) -> usize {
        let mut n = 0;
        while places.take(client, weight, now).is_ok() {
            n += 1;
        }
        n
    }

    #[test]
    fn who_is_alone_has_all_and_who_comes_has_its_own_and_then_its_share() {
        let now = Instant::now();
        let mut places = Places::new(264, 8);
        assert_eq!(fill(&mut places, 1, 1, now), 264);
        assert_eq!(places.take(1, 1, now), Err(264));
        // The newcomer does not wait for the other to end.
        assert_eq!(fill(&mut places, 2, 1, now), 8);
        assert_eq!(places.n_client(), 2);
        // What the other gives back is the newcomer's, up to half of all.
        (0..200).for_each(|_| places.give_back(1));
        assert_eq!(fill(&mut places, 1, 1, now), 132 - 64);
        assert_eq!(fill(&mut places, 2, 1, now), 132 - 8);
        assert_eq!((places.take(1, 1, now), places.take(2, 1, now)), (Err(132), Err(132)));
        // A third has its own, and by its weight a half once there is room.
        assert_eq!(fill(&mut places, 3, 2, now), 8);
        (0..132).for_each(|_| places.give_back(2));
        assert_eq!(fill(&mut places, 3, 2, now), 132 - 8);
    }

    #[test]
    fn who_was_refused_is_there_until_it_no_longer_tries() {
        let now = Instant::now();
        let mut places = Places::new(10, 0);
        assert_eq!(fill(&mut places, 1, 1, now), 10);
        assert_eq!(fill(&mut places, 2, 1, now), 0);
        (0..10).for_each(|_| places.give_back(1));
        assert_eq!(fill(&mut places, 1, 1, now), 5);
        assert_eq!(fill(&mut places, 1, 1, now + STAYS), 5);
        assert_eq!(places.n_client(), 1);
    }
}
