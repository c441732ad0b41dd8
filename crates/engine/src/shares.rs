//! How much of the device may a client hold, and who makes room for whom?
//!
//! Plain data and pure functions. What a client holds is the part of all slots plus the part of all pages, divided by its weight. Whoever is
//! next and finds no room gets it in two ways:
//!
//! - **By share.** A client that still holds at least as much after giving a sequence up, as the next one's then does, gives up the one that
//!   came last; for a next client that holds nothing, slots alone count, so that one is free for it as long as another client has two. Each such
//!   step lets one client more hold something or raises the least share, so steps come to an end and are not undone by themselves.
//! - **By turn.** Where the next client holds nothing at all, any sequence whose turn is over goes, the longest turn first. A turn is
//!   `turn` new tokens for each unit of weight, and at least as many as the sequence had to compute again: what it has at least doubles from one
//!   stop to the next, so for each token of an answer fewer than two are computed again.
//!
//! Who is stopped by share is its client's last, and who is stopped by turn has got on by a turn: so everyone gets on.

use std::cmp::Ordering;
use std::collections::HashMap;

use crate::EngineRequest;

/// What a running sequence holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holding {
    /// The sequence.
    pub(crate) id: u64,
    pub(crate) client: u64,
    pub(crate) weight: u32,
    /// Its place in the order of arrival.
    pub(crate) order: u64,
    pub(crate) n_page: usize,
    /// New tokens since it last started.
    pub(crate) n_new: usize,
    /// Tokens that it had to compute again when it last started.
    pub(crate) n_replay: usize,
}

/// What the next request lacks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lack {
    pub(crate) client: u64,
    pub(crate) weight: u32,
    /// Pages that it will hold.
    pub(crate) n_page: usize,
    pub(crate) no_slot: bool,
    /// Pages that are not free.
    pub(crate) n_missing: usize,
}

/// The device's sizes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) n_slot: usize,
    pub(crate) n_page: usize,
    /// New tokens of a turn.
    pub(crate) turn: usize,
}

impl Sizes {
    /// A part of all slots and pages, as a whole number.
    fn part(&self, n_slot: usize, n_page: usize) -> u128 {
        n_slot as u128 * self.n_page as u128 + n_page as u128 * self.n_slot as u128
    }

    fn is_turn_over(&self, holding: &Holding) -> bool {
        // One at least: two sequences of which none has got on could stop each other for ever.
        let turn = self.turn.saturating_mul(holding.weight as usize).max(1);
        holding.n_new >= turn.max(holding.n_replay)
    }
}

/// What each client holds.
#[derive(Debug)]
pub(crate) struct Usage {
    sizes: Sizes,
    /// Its part, and how many slots.
    parts: HashMap<u64, (u128, u128)>,
}

impl Usage {
    pub(crate) fn of(holdings: &[Holding], sizes: Sizes) -> Usage {
        let mut parts: HashMap<u64, (u128, u128)> = HashMap::new();
        for holding in holdings {
            let (part, n_slot) = parts.entry(holding.client).or_default();
            *part += sizes.part(1, holding.n_page);
            *n_slot += 1;
        }
        Usage { sizes, parts }
    }

    fn part(&self, client: u64) -> u128 {
        self.parts.get(&client).map_or(0, |&(part, _)| part)
    }

    /// Which of these two requests' clients holds less for its weight.
    pub(crate) fn compare(&self, a: &EngineRequest, b: &EngineRequest) -> Ordering {
        let part = |of: &EngineRequest, other: &EngineRequest| self.part(of.client) * weight(other.weight);
        part(a, b).cmp(&part(b, a))
    }

    fn give_up(&mut self, holding: &Holding) {
        if let Some((part, n_slot)) = self.parts.get_mut(&holding.client) {
            *part = part.saturating_sub(self.sizes.part(1, holding.n_page));
            *n_slot = n_slot.saturating_sub(1);
        }
    }

    /// Whether a sequence's client holds as much without it as the next one's will.
    fn is_over(&self, holding: &Holding, lack: &Lack) -> bool {
        let left = self.part(holding.client).saturating_sub(self.sizes.part(1, holding.n_page));
        let wanted = self.part(lack.client) + self.sizes.part(1, lack.n_page);
        let n_left = self.parts.get(&holding.client).map_or(0, |&(_, n_slot)| n_slot.saturating_sub(1));
        let holds_nothing = self.part(lack.client) == 0;
        let over = |left: u128, wanted: u128| left * weight(lack.weight) >= wanted * weight(holding.weight);
        over(left, wanted) || holds_nothing && over(n_left, 1)
    }
}

fn weight(weight: u32) -> u128 {
    u128::from(weight.max(1))
}

/// The sequences that give their slots and pages to the next request, so that it can start; none where that does not suffice.
pub(crate) fn make_room(holdings: &[Holding], lack: &Lack, sizes: Sizes) -> Vec<u64> {
    let mut usage = Usage::of(holdings, sizes);
    let may_end_turns = usage.part(lack.client) == 0;
    let mut rest: Vec<&Holding> = holdings.iter().filter(|held| held.client != lack.client).collect();
    let (mut no_slot, mut n_missing) = (lack.no_slot, lack.n_missing);
    let mut victims = Vec::new();
    while no_slot || n_missing > 0 {
        let victim =
            by_share(&rest, &usage, lack).or_else(|| may_end_turns.then(|| by_turn(&rest, sizes)).flatten());
        let Some(victim) = victim else { return Vec::new() };
        usage.give_up(victim);
        rest.retain(|held| held.id != victim.id);
        (no_slot, n_missing) = (false, n_missing.saturating_sub(victim.n_page));
        victims.push(victim.id);
    }
    victims
}

/// The last that came of the client that holds most for its weight, if that is over its share.
fn by_share<'a>(rest: &[&'a Holding], usage: &Usage, lack: &Lack) -> Option<&'a Holding> {
    let mut over: Vec<&Holding> = rest.iter().copied().filter(|held| usage.is_over(held, lack)).collect();
    // Only a client's last may go, however small the others are.
    over.retain(|held| rest.iter().all(|other| other.client != held.client || other.order <= held.order));
    let part = |held: &Holding, other: &Holding| usage.part(held.client) * weight(other.weight);
    over.into_iter().max_by(|a, b| part(a, b).cmp(&part(b, a)).then(a.order.cmp(&b.order)))
}

/// The one whose turn is over and longest for its weight.
fn by_turn<'a>(rest: &[&'a Holding], sizes: Sizes) -> Option<&'a Holding> {
    let over = rest.iter().copied().filter(|held| sizes.is_turn_over(held));
    let length = |held: &Holding, other: &Holding| held.n_new as u128 * weight(other.weight);
    over.max_by(|a, b| length(a, b).cmp(&length(b, a)).then(a.order.cmp(&b.order)))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    const SIZES: Sizes = Sizes { n_slot: 4, n_page: 16, turn: 8 };

    /// Who makes room for a request of client 9 of this weight and pages, among sequences of (client, weight, pages, new tokens, replayed ones).
    fn check(
        held: &[(u64, u32, usize, usize, usize)],
        (weight, n_page, no_slot): (u32, usize, bool),
        expected: &Expect,
    ) {
        let holdings: Vec<Holding> = (1..)
            .zip(held)
            .map(|(id, &(client, weight, n_page, n_new, n_replay))| Holding {
                id,
                client,
                weight,
                order: id,
                n_page,
                n_new,
                n_replay,
            })
            .collect();
        let n_free = SIZES.n_page - holdings.iter().map(|held| held.n_page).sum::<usize>();
        let lack = Lack { client: 9, weight, n_page, no_slot, n_missing: n_page.saturating_sub(n_free) };
        let found = make_room(&holdings, &lack, SIZES);
        expected.assert_eq(&found.iter().map(u64::to_string).collect::<Vec<_>>().join(" "));
    }

    #[test]
    fn who_holds_more_than_its_share_gives_up_what_came_last() {
        let a = (1, 1, 4, 0, 0);
        check(&[a, a, a, a], (1, 4, true), &expect!["4"]);
        // Half is a fair share between two.
        let mine = (9, 1, 4, 0, 0);
        check(&[a, a, a, mine], (1, 4, true), &expect!["3"]);
        check(&[a, a, mine, mine], (1, 4, true), &expect![""]);
        // A weight of 3 is worth three quarters.
        let heavy = (1, 3, 4, 0, 0);
        check(&[heavy, heavy, heavy, heavy], (1, 4, true), &expect!["4"]);
        check(&[heavy, heavy, heavy, mine], (1, 4, true), &expect![""]);
        check(&[a, a, mine, mine], (3, 4, true), &expect!["2"]);
        // Of two the one that holds more.
        check(
            &[(1, 1, 2, 0, 0), (2, 1, 2, 0, 0), (2, 1, 2, 0, 0), (1, 1, 4, 0, 0)],
            (1, 2, true),
            &expect!["4"],
        );
    }

    #[test]
    fn pages_count_like_slots_and_nobody_gives_up_what_does_not_suffice() {
        let (large, small) = ((1, 1, 8, 0, 0), (2, 1, 1, 0, 0));
        check(&[large, large], (1, 4, false), &expect!["2"]);
        check(&[large, small], (1, 8, false), &expect![""]);
        // Who holds nothing gets what another has twice, however small that is.
        check(&[small, small, (3, 1, 4, 0, 0), (4, 1, 4, 0, 0)], (1, 6, true), &expect!["2"]);
        check(&[small, (9, 1, 1, 0, 0), small, (4, 1, 4, 0, 0)], (1, 6, true), &expect![""]);
        // Both ways together: one by share, then the others by turn.
        check(&[(1, 1, 4, 9, 0); 4], (1, 16, true), &expect!["4 3 2 1"]);
        check(
            &[(1, 1, 4, 9, 0), (1, 1, 4, 9, 0), (1, 1, 4, 9, 0), (2, 1, 4, 7, 0)],
            (1, 16, true),
            &expect![""],
        );
    }

    #[test]
    fn where_nobody_holds_more_a_turn_that_is_over_ends() {
        let turn = |client, weight, n_new, n_replay| (client, weight, 4, n_new, n_replay);
        let others = [turn(1, 1, 8, 0), turn(2, 1, 9, 0), turn(3, 1, 7, 0), turn(4, 1, 99, 100)];
        check(&others, (1, 4, true), &expect!["2"]);
        check(&others[2..], (1, 4, true), &expect![""]);
        // A turn is longer by weight.
        check(&[turn(1, 2, 15, 0), turn(2, 2, 16, 0), turn(3, 1, 9, 0)], (1, 4, true), &expect!["3"]);
        // Only for a client that holds nothing.
        check(&[turn(1, 1, 50, 0), (9, 1, 4, 0, 0)], (1, 4, true), &expect![""]);
    }
}
