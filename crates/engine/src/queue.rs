//! Who waits, and who is next?
//!
//! Clients take turns, and a client's requests run in the order in which they came: whoever sends many at once makes its own wait
//! longer, not other people's. Who is next stays next until it can run, so that a large request is not starved by small ones.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use crate::sequence::Waiting;
use crate::stream::EndReason;

/// The requests that wait.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// Clients with requests that wait, each once; the first is next.
    turns: VecDeque<u64>,
    /// Never an empty one.
    lines: HashMap<u64, VecDeque<Waiting>>,
}

impl Queue {
    pub(crate) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    pub(crate) fn push(&mut self, waiting: Waiting) {
        let client = waiting.request.client;
        let line = self.lines.entry(client).or_default();
        if line.is_empty() {
            self.turns.push_back(client);
        }
        line.push_back(waiting);
    }

    /// Who is next.
    pub(crate) fn first(&self) -> Option<&Waiting> {
        self.lines.get(self.turns.front()?)?.front()
    }

    /// Takes who is next; its client's turn comes again after everyone else's.
    pub(crate) fn pop(&mut self) -> Option<Waiting> {
        let client = self.turns.pop_front()?;
        let line = self.lines.get_mut(&client)?;
        let waiting = line.pop_front();
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
