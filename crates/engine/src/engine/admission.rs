//! Who starts, who makes room for it, and who waits for another's pages.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Core;
use crate::pages::Pages;
use crate::prefix_cache::Prefix;
use crate::sequence::Sequence;
use crate::shares::{self, Holding, Lack, Sizes, Usage};

/// That a request did not fit, and when: until one of these changes it lacks as much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Blocked {
    /// The request.
    order: u64,
    n_free: usize,
    /// Pages that the cache has made.
    n_made: u64,
    /// Whether there was no slot.
    no_slot: bool,
}

impl Core {
    fn sizes(&self) -> Sizes {
        Sizes { n_slot: self.limits.n_slot, n_page: self.limits.n_page, turn: self.options.turn }
    }

    pub(crate) fn holdings(&self) -> Vec<Holding> {
        self.running.iter().map(|(&id, sequence)| sequence.holding(id)).collect()
    }

    /// Each client's unfinished requests, and its weight.
    pub(super) fn asked(&self) -> BTreeMap<u64, (usize, u32)> {
        let running = self.running.values().map(|sequence| (sequence.client(), 1, sequence.weight()));
        let mut asked: BTreeMap<u64, (usize, u32)> = BTreeMap::new();
        for (client, n, weight) in self.waiting.counts().chain(running) {
            let (all, heaviest) = asked.entry(client).or_default();
            *all += n;
            *heaviest = weight.max(*heaviest);
        }
        asked
    }

    /// Starts waiting requests while there is a slot and every page that the next of them can need, or others make room for it.
    pub(super) fn admit(&mut self) {
        while !self.waiting.is_empty() {
            let holdings = self.holdings();
            let Some(lack) = self.start_next(&holdings) else { continue };
            let victims = shares::make_room(&holdings, &lack, self.sizes());
            if victims.is_empty() {
                return;
            }
            for id in victims {
                self.preempt(id);
            }
        }
    }

    /// Starts the request that is next, or says what it lacks.
    fn start_next(&mut self, holdings: &[Holding]) -> Option<Lack> {
        let usage = Usage::of(holdings, self.sizes());
        let first = self.waiting.first(&usage)?;
        let (client, weight) = (first.request.client, first.request.weight);
        let n_page = first.request.n_page(&self.limits);
        let lack = |no_slot, n_missing| Some(Lack { client, weight, n_page, no_slot, n_missing });
        let slot = self.free_slots.last().copied();
        let now = Blocked {
            order: first.order,
            n_free: self.pool.n_free(),
            n_made: self.cache.n_made(),
            no_slot: slot.is_none(),
        };
        if let Some((_, n_missing)) = self.blocked.filter(|(then, _)| *then == now) {
            return lack(now.no_slot, n_missing);
        }
        let share = self.options.prefix_cache;
        let scope = first.request.cache_scope.filter(|_| share);
        let prefix = scope.map(|scope| self.cache.find(scope, &first.request.prompt));
        let n_found = prefix.as_ref().map_or(0, |prefix| prefix.pages.len());
        let n_more = n_page.saturating_sub(n_found);
        // Now, as what was found may have been free.
        let n_missing = n_more.saturating_sub(self.pool.n_free());
        let Some(slot) = slot.filter(|_| n_missing == 0) else {
            self.blocked = Some((now, n_missing));
            return lack(now.no_slot, n_missing);
        };
        self.blocked = None;
        self.cache.evict(n_more.saturating_sub(self.pool.n_unowned()));
        // There are as many, so neither fails; if one did, nothing would make room for it.
        let Some(more) = self.pool.take(n_more) else { return lack(false, 0) };
        let Some(waiting) = self.waiting.pop(client) else { return lack(false, 0) };
        self.free_slots.pop();
        self.n_admitted += 1;
        let mut prefix = prefix.unwrap_or_else(Prefix::none);
        let mut held = std::mem::take(&mut prefix.pages);
        held.extend(more);
        let mut sequence = Sequence::start(waiting, slot, Pages::new(held), share, self.limits.n_vocab);
        if let Some(draft) = &self.draft {
            sequence.calibrate(draft.calibration());
        }
        let (n_kept, page_size) = (prefix.n_kept, self.limits.page_size);
        sequence.skip(n_found, prefix, page_size);
        if self.cache.takes_snapshots() && scope.is_some() {
            // For the next turn of a conversation, and for others that begin as this prompt and an earlier one do.
            let n_body = sequence.n_prompt().saturating_sub(1);
            sequence.save_at(n_body - n_body % page_size);
            sequence.save_at(n_kept * page_size);
        }
        self.running.insert(self.n_admitted, sequence);
        self.counters.n_running.store(self.running.len(), Ordering::Relaxed);
        None
    }

    /// Takes slot and pages from a sequence, which waits from now on. What is under way of it is dropped when it is collected.
    fn preempt(&mut self, id: u64) {
        let Some(sequence) = self.remove(id) else { return };
        self.waiting.put_back(sequence.suspend());
        self.counters.n_preempted.fetch_add(1, Ordering::Relaxed);
    }

    /// Lets a sequence that has not begun wait for one that came before it and is computing more of the same prompt than is there. Else
    /// requests with one prompt that arrive together would each compute all of it.
    pub(super) fn follow(&mut self) {
        let fresh = self.running.iter().filter(|(_, s)| s.is_fresh() && s.shared_prompt().is_some());
        let fresh: Vec<u64> = fresh.map(|(&id, _)| id).collect();
        for id in fresh {
            let Some(sequence) = self.running.get(&id) else { continue };
            if let Some((leader, n_token)) = sequence.follows {
                if self.running.get(&leader).is_some_and(|leader| leader.progress().0 < n_token) {
                    continue;
                }
                let Some((scope, prompt)) = sequence.shared_prompt() else { continue };
                let prefix = self.cache.find(scope, &Arc::clone(prompt));
                if let Some(sequence) = self.running.get_mut(&id) {
                    sequence.adopt(prefix, self.limits.page_size);
                }
            }
            let leader = self.leader(id);
            if let Some((leader, n_token)) = leader.filter(|_| self.cache.takes_snapshots())
                && let Some(leader) = self.running.get_mut(&leader)
            {
                leader.save_at(n_token);
            }
            if let Some(sequence) = self.running.get_mut(&id) {
                sequence.follows = leader;
            }
        }
    }

    /// The sequence that came before this one and is computing most of the same prompt beyond what this one has, and how much that is.
    fn leader(&self, id: u64) -> Option<(u64, usize)> {
        let sequence = self.running.get(&id)?;
        let (scope, prompt) = sequence.shared_prompt()?;
        let body = &prompt[..prompt.len() - 1];
        let common = |other: &Sequence| {
            let (_, theirs) = other.shared_prompt().filter(|(theirs, _)| *theirs == scope)?;
            let n_token = body.iter().zip(&**theirs).take_while(|(a, b)| a == b).count();
            let n_token = n_token - n_token % self.limits.page_size;
            (n_token > sequence.progress().1 && n_token > other.progress().0).then_some(n_token)
        };
        let before = self.running.range(..id);
        before
            .filter_map(|(&id, other)| Some((id, common(other)?)))
            .min_by_key(|&(_, n_token)| Reverse(n_token))
    }
}
