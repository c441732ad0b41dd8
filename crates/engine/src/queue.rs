//! Who waits, and who is next?
//!
//! Next is a client that holds least of the device for its weight; among equals, clients take turns. A client's own requests run in the order
//! in which they came: whoever sends many at once makes its own wait longer, not other people's. Who is next stays next until it can run, so
//! that a large request is not starved by small ones.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use crate::shares::Usage;
use crate::stream::EndReason;
use crate::waiting::Waiting;

/// The requests that wait.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// Clients with requests that wait, each once; the first has waited longest for its turn.
    turns: VecDeque<u64>,
    /// Never an empty one.
    lines: HashMap<u64, VecDeque<Waiting>>,
    n_arrived: u64,
}

impl Queue {
    pub(crate) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    pub(crate) fn push(&mut self, mut waiting: Waiting) {
        self.n_arrived += 1;
        waiting.order = self.n_arrived;
        let client = waiting.request.client;
        let line = self.lines.entry(client).or_default();
        if line.is_empty() {
            self.turns.push_back(client);
        }
        line.push_back(waiting);
    }

    /// Puts one back that ran: before those of its client that came later. Its client has had its turn.
    pub(crate) fn put_back(&mut self, waiting: Waiting) {
        let client = waiting.request.client;
        let line = self.lines.entry(client).or_default();
        let at = line.partition_point(|other| other.order < waiting.order);
        line.insert(at, waiting);
        self.turns.retain(|other| *other != client);
        self.turns.push_back(client);
    }

    /// How many requests of each client wait, and its weight.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (u64, usize, u32)> {
        self.lines
            .iter()
            .filter_map(|(&client, line)| Some((client, line.len(), line.front()?.request.weight)))
    }

    /// Who is next, where clients hold so much.
    pub(crate) fn first(&self, usage: &Usage) -> Option<&Waiting> {
        let heads = self.turns.iter().filter_map(|client| self.lines.get(client)?.front());
        // Of equals the first.
        heads.min_by(|a, b| usage.compare(&a.request, &b.request))
    }

    /// Takes a client's first; its turn comes again after everyone else's.
    pub(crate) fn pop(&mut self, client: u64) -> Option<Waiting> {
        let line = self.lines.get_mut(&client)?;
        let waiting = line.pop_front();
        self.turns.retain(|other| *other != client);
        if line.is_empty() {
            self.lines.remove(&client);
        } else {
            self.turns.push_back(client);
        }
        waiting
    }

    /// Takes out what is cancelled or overdue.
    pub(crate) fn sweep(&mut self, now: Instant) -> Vec<(Waiting, EndReason)> {
        let mut over = Vec::new();
        for line in self.lines.values_mut() {
            for _ in 0..line.len() {
                let Some(waiting) = line.pop_front() else { break };
                match waiting.verdict(now) {
                    Some(reason) => over.push((waiting, reason)),
                    None => line.push_back(waiting),
                }
            }
        }
        if !over.is_empty() {
            self.lines.retain(|_, line| !line.is_empty());
            self.turns.retain(|client| self.lines.contains_key(client));
        }
        over
    }

    /// Takes out everything.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Waiting> {
        self.turns.clear();
        std::mem::take(&mut self.lines).into_values().flatten()
    }
}
