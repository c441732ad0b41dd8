//! Which grammar is compiled when? Each once for all that ask for it, a few at a time, and the last ones are kept.
//!
//! The library cannot be interrupted while it compiles, so a compilation has a thread of its own, which its bounds end, and who asked for it
//! waits no longer than wanted. Between its parts it ends where nobody waits any more. Compiling recurses: the thread has a stack that the bounds on
//! the input cannot exhaust.
//!
//! What is kept has two bounds: grammars that were used just now may take more than those that only might be used again.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use super::constraint::Compiled;
use super::{Source, bounded};
use crate::{Work, WorkerError, priority};

/// The most compilations at a time.
pub(super) const MAX_COMPILING: usize = 2;

/// The most requests that wait for a compilation, their own or another's.
pub(super) const MAX_WAITING: usize = 32 + MAX_COMPILING;

/// The most bytes of grammars that are kept for requests to come.
const MAX_KEPT_BYTES: usize = 256 << 20;

/// The most bytes of those that were not used for [`RECENT`].
const MAX_RESTING_BYTES: usize = 32 << 20;

/// For how long after its last use a grammar is kept whatever its size.
const RECENT: Duration = Duration::from_secs(5);

/// Between two looks at what was not used, while there is more than may rest.
const LOOK: Duration = Duration::from_secs(1);

/// Virtual size of a compiling thread's stack, bytes; only what is used becomes memory.
const STACK_BYTES: usize = 256 << 20;

/// How much a compiling thread yields until what all grammars share is there (a nice value): about a fifth of a core that computes steps.
const NICE: i32 = 6;

/// How often one who waits looks whether its client is still there.
const TICK: Duration = Duration::from_millis(20);

/// What compiling grammars takes, and what is kept of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct GrammarLoad {
    /// Compilations that were begun.
    pub n_compiled: u64,
    /// Requests for a grammar that was there already.
    pub n_hit: u64,
    /// How long requests waited for compilations, all together.
    pub waited: Duration,
    /// Requests that wait for one now.
    pub n_waiting: usize,
    /// Bytes of the grammars that are kept, as the library estimates them.
    pub bytes: usize,
}

/// The grammars of a worker.
#[derive(Default)]
pub(super) struct Pool {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// The most bytes that are kept.
    limit: usize,
    /// The most bytes that are kept unused, and after how long.
    resting: (usize, Duration),
    /// Whether a thread looks after that.
    is_looked_after: bool,
    /// By the grammar's text.
    entries: HashMap<Arc<str>, Entry>,
    n_compiling: usize,
    /// Counts uses, to tell which was the last.
    clock: u64,
    load: GrammarLoad,
}

enum Entry {
    Compiling(Arc<Flight>),
    Ready { compiled: Arc<Compiled>, used: u64, at: Instant },
}

/// A compilation, for all who wait for it.
#[derive(Default)]
struct Flight {
    outcome: OnceLock<Result<Arc<Compiled>, String>>,
    n_waiting: AtomicUsize,
}

/// What a compilation is asked between its parts.
#[derive(Clone)]
pub(super) struct Wanted(Arc<Flight>);

impl Wanted {
    /// The error is for nobody: it ends a compilation that nobody waits for.
    pub(super) fn check(&self) -> Result<(), String> {
        match self.0.n_waiting.load(Ordering::Relaxed) {
            0 => Err(UNWANTED.to_owned()),
            _ => Ok(()),
        }
    }
}

/// Why a compilation that nobody waited for has no outcome.
const UNWANTED: &str = "nobody waits for the grammar any more";

impl Pool {
    /// The grammar of a source, as soon as it is there.
    pub(super) fn get<F>(
        self: &Arc<Self>,
        source: &Source,
        work: &Work,
        compile: F,
    ) -> Result<Arc<Compiled>, WorkerError>
    where
        F: FnOnce(&Source, &Wanted) -> Result<Compiled, String> + Send + 'static,
    {
        let key: Arc<str> = source.key().into();
        let mut state = self.lock();
        if let Some(compiled) = state.ready(&key) {
            state.load.n_hit += 1;
            return Ok(compiled);
        }
        if state.load.n_waiting >= MAX_WAITING {
            return Err(WorkerError::Overloaded { what: "grammars are compiled for other requests" });
        }
        state.load.n_waiting += 1;
        let began = Instant::now();
        let _thread_is_free = work.pause();
        let mut flight = None;
        let (mut state, found) = self.wait(state, (&key, source), (work, &mut flight), compile);
        if let Some(flight) = flight {
            flight.n_waiting.fetch_sub(1, Ordering::Relaxed);
        }
        state.load.n_waiting -= 1;
        state.load.waited += began.elapsed();
        found
    }

    fn wait<'a, F>(
        self: &'a Arc<Self>,
        mut state: MutexGuard<'a, State>,
        (key, source): (&Arc<str>, &Source),
        (work, flight): (&Work, &mut Option<Arc<Flight>>),
        compile: F,
    ) -> (MutexGuard<'a, State>, Result<Arc<Compiled>, WorkerError>)
    where
        F: FnOnce(&Source, &Wanted) -> Result<Compiled, String> + Send + 'static,
    {
        let mut compile = Some(compile);
        loop {
            // One that was given up just before this request asked for it.
            if flight.as_ref().is_some_and(|flight| flight.is_given_up()) {
                *flight = None;
            }
            if let Some(done) = flight.as_ref().and_then(|flight| flight.outcome.get()) {
                let found = done.clone().map_err(|reason| source.refused(&bounded(&reason)));
                return (state, found);
            }
            if let Some(why) = work.stop().reason() {
                return (state, Err(WorkerError::Stopped(why)));
            }
            if flight.is_none() {
                match state.entries.get(key) {
                    Some(Entry::Ready { compiled, .. }) => {
                        let compiled = Arc::clone(compiled);
                        return (state, Ok(compiled));
                    }
                    Some(Entry::Compiling(other)) => *flight = Some(other.joined()),
                    None if state.n_compiling < MAX_COMPILING => {
                        let Some(compile) = compile.take() else { continue };
                        match self.start(&mut state, key, source, compile) {
                            Ok(started) => *flight = Some(started),
                            Err(error) => return (state, Err(error)),
                        }
                    }
                    None => {}
                }
            }
            let left =
                work.deadline().map_or(TICK, |end| end.saturating_duration_since(Instant::now()).min(TICK));
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn start<F>(
        self: &Arc<Self>,
        state: &mut State,
        key: &Arc<str>,
        source: &Source,
        compile: F,
    ) -> Result<Arc<Flight>, WorkerError>
    where
        F: FnOnce(&Source, &Wanted) -> Result<Compiled, String> + Send + 'static,
    {
        let flight = Arc::<Flight>::default().joined();
        let (pool, its_key, its_flight, source) =
            (Arc::clone(self), Arc::clone(key), Arc::clone(&flight), source.clone());
        let run = move || {
            priority::yields(None, NICE);
            let wanted = Wanted(Arc::clone(&its_flight));
            let done = catch_unwind(AssertUnwindSafe(|| compile(&source, &wanted)))
                .unwrap_or_else(|_| Err("the grammar's compiler failed".to_owned()));
            pool.finish(&its_key, &its_flight, done.map(Arc::new));
        };
        let thread = thread::Builder::new().name("grammar".to_owned()).stack_size(STACK_BYTES);
        thread
            .spawn(run)
            .map_err(|_| WorkerError::Overloaded { what: "there is no thread for another grammar" })?;
        state.entries.insert(Arc::clone(key), Entry::Compiling(Arc::clone(&flight)));
        state.n_compiling += 1;
        state.load.n_compiled += 1;
        Ok(flight)
    }

    fn finish(self: &Arc<Self>, key: &Arc<str>, flight: &Flight, done: Result<Arc<Compiled>, String>) {
        let mut state = self.lock();
        state.n_compiling -= 1;
        match &done {
            Ok(compiled) => {
                state.clock += 1;
                let (compiled, used, at) = (Arc::clone(compiled), state.clock, Instant::now());
                let entry = Entry::Ready { compiled, used, at };
                state.entries.insert(Arc::clone(key), entry);
                state.evict();
                self.look_after(&mut state);
            }
            Err(_) => drop(state.entries.remove(key)),
        }
        let _first = flight.outcome.set(done);
        drop(state);
        self.changed.notify_all();
    }

    /// Sees to it that what is not used is not kept for long, if it is too much.
    fn look_after(self: &Arc<Self>, state: &mut State) {
        if state.is_looked_after || state.bytes() <= state.resting.0 {
            return;
        }
        let pool = Arc::downgrade(self);
        let thread = thread::Builder::new().name("grammars".to_owned());
        // Without one the next grammar tries again.
        state.is_looked_after = thread.spawn(move || while rest(&pool) {}).is_ok();
    }

    pub(super) fn load(&self) -> GrammarLoad {
        let state = self.lock();
        GrammarLoad { bytes: state.bytes(), ..state.load }
    }

    /// Whole after every operation, so a panic elsewhere does not spoil it.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks once; whether there is more to look after.
fn rest(pool: &Weak<Pool>) -> bool {
    thread::sleep(LOOK);
    let Some(pool) = pool.upgrade() else { return false };
    let mut state = pool.lock();
    let dropped = state.rest(Instant::now());
    state.is_looked_after = state.bytes() > state.resting.0;
    let goes_on = state.is_looked_after;
    drop(state);
    // A large grammar's memory takes a while to give back, for which nobody should wait.
    drop(dropped);
    goes_on
}

impl Flight {
    fn is_given_up(&self) -> bool {
        self.outcome.get().is_some_and(|outcome| outcome.as_ref().is_err_and(|reason| reason == UNWANTED))
    }

    /// With one more who waits. Under the pool's lock, as is leaving.
    fn joined(self: &Arc<Self>) -> Arc<Flight> {
        self.n_waiting.fetch_add(1, Ordering::Relaxed);
        Arc::clone(self)
    }
}

impl Default for State {
    fn default() -> State {
        State {
            limit: MAX_KEPT_BYTES,
            resting: (MAX_RESTING_BYTES, RECENT),
            is_looked_after: false,
            entries: HashMap::new(),
            n_compiling: 0,
            clock: 0,
            load: GrammarLoad::default(),
        }
    }
}

#[cfg(test)]
impl Pool {
    pub(super) fn keep(&self, limit: usize) {
        self.lock().limit = limit;
    }

    pub(super) fn rest(&self, bytes: usize, after: Duration) {
        self.lock().resting = (bytes, after);
    }
}

impl State {
    fn ready(&mut self, key: &str) -> Option<Arc<Compiled>> {
        self.clock += 1;
        match self.entries.get_mut(key)? {
            Entry::Ready { compiled, used, at } => {
                (*used, *at) = (self.clock, Instant::now());
                Some(Arc::clone(compiled))
            }
            Entry::Compiling(_) => None,
        }
    }

    fn bytes(&self) -> usize {
        let of = |(key, entry): (&Arc<str>, &Entry)| match entry {
            Entry::Ready { compiled, .. } => key.len() + compiled.bytes(),
            Entry::Compiling(_) => key.len(),
        };
        self.entries.iter().map(of).sum()
    }

    /// Lets go of those that were used longest ago, until the others are within the bounds.
    fn evict(&mut self) {
        while self.bytes() > self.limit
            && let Some((_, key)) = self.oldest()
        {
            self.entries.remove(&key);
        }
    }

    /// Takes out those that were not used for a while, until the others may rest.
    fn rest(&mut self, now: Instant) -> Vec<Entry> {
        let (limit, after) = self.resting;
        let mut dropped = Vec::new();
        while self.bytes() > limit
            && let Some((at, key)) = self.oldest()
            && now.saturating_duration_since(at) >= after
        {
            dropped.extend(self.entries.remove(&key));
        }
        dropped
    }

    /// When the one that was used longest ago was used, and its text.
    fn oldest(&self) -> Option<(Instant, Arc<str>)> {
        let ready = self.entries.iter().filter_map(|(key, entry)| match entry {
            Entry::Ready { used, at, .. } => Some((*used, *at, key)),
            Entry::Compiling(_) => None,
        });
        ready.min_by_key(|&(used, ..)| used).map(|(_, at, key)| (at, Arc::clone(key)))
    }
}
