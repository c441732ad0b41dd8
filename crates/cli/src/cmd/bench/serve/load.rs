//! How is a server loaded? By so many clients that each ask again when they are answered, or by requests that come at a rate.
//!
//! Closed loop: `n` clients. Open loop: arrivals of a Poisson process, whether or not the server keeps up, as many users behave. Prompts are
//! random words, no two of which begin alike, so no cache helps; the same in every run.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::super::random::Random;
use super::ask::{Seen, Target};

const WORDS: [&str; 24] = [
    "time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child", "world", "school",
    "state", "family", "student", "group", "country", "problem", "hand", "part", "place", "case", "week",
    "company",
];
/// A request's thread needs little.
const STACK: usize = 512 << 10;

/// One way of asking.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Level {
    /// Clients that wait for their answers.
    Closed {
        /// How many.
        clients: usize,
    },
    /// Requests a second.
    Open {
        /// On average.
        rate: f64,
    },
}

impl Level {
    /// Its place on an axis.
    pub(super) fn value(self) -> f64 {
        match self {
            Level::Closed { clients } => clients as f64,
            Level::Open { rate } => rate,
        }
    }
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) n_request: usize,
    pub(super) n_word: usize,
    pub(super) n_token: usize,
    /// Tells this round's prompts from all others.
    pub(super) seed: u64,
}

/// What a round came to.
#[derive(Debug, Default)]
pub(super) struct Round {
    pub(super) seen: Vec<Seen>,
    pub(super) errors: Vec<String>,
    /// From the first request to the last answer.
    pub(super) seconds: f64,
}

/// Asks until all requests are answered.
pub(super) fn round(target: &Target, level: Level, asked: Asked) -> Round {
    let (results, began) = (Mutex::new(Round::default()), Instant::now());
    let one = |n: usize| {
        let result = target.ask(&prompt(asked.seed, n, asked.n_word), asked.n_token);
        let mut round = results.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match result {
            Ok(seen) => round.seen.push(seen),
            Err(error) => round.errors.push(error),
        }
    };
    match level {
        Level::Closed { clients } => closed(clients, asked.n_request, &one),
        Level::Open { rate } => open(rate, asked, &one),
    }
    let mut round = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    round.seconds = began.elapsed().as_secs_f64();
    round
}

fn closed(clients: usize, n_request: usize, one: &(impl Fn(usize) + Sync)) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..clients {
            let client = || {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= n_request {
                        break;
                    }
                    one(n);
                }
            };
            spawn(scope, client);
        }
    });
}

fn open(rate: f64, asked: Asked, one: &(impl Fn(usize) + Sync)) {
    let mut random = Random(asked.seed);
    thread::scope(|scope| {
        let (began, mut at) = (Instant::now(), 0.0);
        for n in 0..asked.n_request {
            let due = Duration::from_secs_f64(at);
            thread::sleep(due.saturating_sub(began.elapsed()));
            spawn(scope, move || one(n));
            // The gaps of a Poisson process are exponential; the draw is above 0 and at most 1.
            let draw = (random.next() >> 11) as f64 + 1.0;
            at -= (draw / (1u64 << 53) as f64).ln() / rate;
        }
    });
}

/// A thread that cannot be had is a client less: its requests are the others'.
fn spawn<'scope>(scope: &'scope thread::Scope<'scope, '_>, run: impl FnOnce() + Send + 'scope) {
    let spawned = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, run);
    if let Err(error) = spawned {
        tracing::warn!("a client could not be started: {error}");
    }
}

/// The numbers of request `n` in a round.
fn random(seed: u64, n: usize) -> Random {
    Random(Random(seed).next() ^ n as u64)
}

/// Words of the prompt of request `n`, after a number that no other has.
fn prompt(seed: u64, n: usize, n_word: usize) -> String {
    let mut random = random(seed, n);
    let first = format!("{:x}", random.next() >> 32);
    let words = (1..n_word).map(|_| WORDS[random.below(WORDS.len())]);
    std::iter::once(first.as_str()).chain(words).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_are_the_same_every_time_and_begin_differently() {
        assert_eq!(prompt(1, 2, 30), prompt(1, 2, 30));
        assert_eq!(prompt(1, 2, 30).split(' ').count(), 30);
        let mut first: Vec<String> = (0..200).map(|n| prompt(7, n, 1)).collect();
        first.sort();
        first.dedup();
        assert_eq!(first.len(), 200);
    }

    #[test]
    fn every_request_is_made_once() {
        let counts: Vec<AtomicUsize> = (0..50).map(|_| AtomicUsize::new(0)).collect();
        let one = |n: usize| {
            counts[n].fetch_add(1, Ordering::Relaxed);
        };
        closed(7, 50, &one);
        open(1e6, Asked { n_request: 50, n_word: 1, n_token: 1, seed: 3 }, &one);
        assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 2));
    }
}
