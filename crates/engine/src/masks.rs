//! Who computes masks? A few threads beside the engine's, so that a slow constraint delays its own answer and no other.
//!
//! Next is the client whose masks have taken the least time for its weight, so that one client's slow masks do not hold another's up. The threads
//! yield to those that compute steps. Time is that of the [`CallClock`], in which a stopped process does not age.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use device::sampling::TokenMask;

use crate::EngineError;
use crate::constraint::{Guarded, Interrupt};
use crate::priority;
use crate::stall::CallClock;

/// The threads of each kind.
pub(crate) const N_THREAD: usize = 2;

/// How much those of the first kind yield (a nice value): about a thirtieth of a core that computes steps. Those of the second, for clients
/// that ask for too much beside another's stream, take what is left.
const NICE: i32 = 15;

/// A mask, or why there is none.
pub(crate) type Mask = Result<Arc<TokenMask>, EngineError>;

/// A mask, and what may come after it.
#[derive(Debug)]
pub(crate) struct Masked {
    pub(crate) mask: Mask,
    /// Guesses of the next tokens, one after the other, each allowed by the mask before it, and the mask after each.
    pub(crate) ahead: Vec<(u32, Arc<TokenMask>)>,
}

/// The threads; they end when this is dropped.
#[derive(Debug)]
pub(crate) struct Masks(Arc<Shared>);

struct Shared {
    clock: Arc<CallClock>,
    state: Mutex<State>,
    /// There is something to compute, for the threads of each kind.
    asked: [Condvar; 2],
    /// Something is computed.
    computed: Condvar,
}

#[derive(Default)]
struct State {
    /// Clients that have asked for masks, by the kind of threads that compute them; none that has nothing to be computed or under way.
    lines: [HashMap<u64, Line>; 2],
    /// When each thread began what it computes.
    began: [[Option<Duration>; N_THREAD]; 2],
    /// Whether something was computed since the engine looked last.
    is_news: bool,
    is_closed: bool,
}

#[derive(Default)]
struct Line {
    /// How long its masks took, divided by its weight, and as much as others had had when it came.
    spent: Duration,
    jobs: VecDeque<Job>,
    n_running: usize,
}

/// Whose mask it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker {
    pub(crate) client: u64,
    pub(crate) weight: u32,
    /// Whether others' streams go first.
    pub(crate) yields: bool,
}

struct Job {
    constraint: Guarded,
    /// Of the tokens after the mask.
    guesses: Vec<u32>,
    weight: u32,
    place: Arc<Place>,
}

/// Where a mask is put once it is there.
struct Place {
    progress: Mutex<Progress>,
    interrupt: Option<Interrupt>,
}

enum Progress {
    Waits,
    /// Since when.
    Runs(Duration),
    Done {
        constraint: Guarded,
        masked: Masked,
        /// What ends the look ahead that is still under way.
        looking: Option<Interrupt>,
    },
    /// Taken, or not wanted any more.
    Over,
}

/// A mask that is being computed. Dropping it ends that, if the constraint can be interrupted.
pub(crate) struct Pending(Arc<Place>);

impl Masks {
    pub(crate) fn new(clock: Arc<CallClock>) -> io::Result<Masks> {
        let (state, asked, computed) = (Mutex::default(), Default::default(), Condvar::new());
        let masks = Masks(Arc::new(Shared { clock, state, asked, computed }));
        for index in 0..2 * N_THREAD {
            let shared = Arc::clone(&masks.0);
            let (kind, index) = (index / N_THREAD, index % N_THREAD);
            let run = move || {
                match kind {
                    0 => priority::yields(None, NICE),
                    _ => priority::takes_what_is_left(None),
                }
                shared.run(kind, index);
            };
            thread::Builder::new().name("mask".to_owned()).spawn(run)?;
        }
        Ok(masks)
    }

    /// Has a constraint's next mask computed, and then those after guesses of the next tokens, until the mask is taken.
    pub(crate) fn ask(&self, (constraint, guesses): (Guarded, Vec<u32>), asker: Asker) -> Pending {
        let interrupt = constraint.interrupt();
        let place = Arc::new(Place { progress: Mutex::new(Progress::Waits), interrupt });
        let (kind, weight) = (usize::from(asker.yields), asker.weight);
        let job = Job { constraint, guesses, weight, place: Arc::clone(&place) };
        lock(&self.0.state).push((kind, asker.client), job);
        self.0.asked[kind].notify_one();
        Pending(place)
    }

    /// Waits until something is computed that was not when this was called last; whether that is so.
    pub(crate) fn wait(&self, timeout: Duration) -> bool {
        let state = lock(&self.0.state);
        let waited = self.0.computed.wait_timeout_while(state, timeout, |state| !state.is_news);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut state.is_news)
    }

    /// Whether each thread of a kind has been at one mask for longer than that, so that there will be no more.
    pub(crate) fn are_stuck(&self, after: Duration) -> bool {
        let now = self.0.clock.now();
        let lasts = |began: &Option<Duration>| began.is_some_and(|began| now.saturating_sub(began) > after);
        lock(&self.0.state).began.iter().any(|kind| kind.iter().all(lasts))
    }
}

impl Drop for Masks {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.is_closed = true;
        let lines = std::mem::take(&mut state.lines);
        drop(state);
        self.0.asked.iter().for_each(Condvar::notify_all);
        drop(lines);
    }
}

impl Pending {
    /// The constraint and its mask, once that is computed.
    pub(crate) fn take(&self) -> Option<(Guarded, Masked)> {
        let mut progress = lock(&self.0.progress);
        match std::mem::replace(&mut *progress, Progress::Over) {
            Progress::Done { constraint, masked, looking } => {
                drop(progress);
                looking.iter().for_each(|interrupt| interrupt());
                Some((constraint, masked))
            }
            other => {
                *progress = other;
                None
            }
        }
    }

    /// For how long it has been computed.
    pub(crate) fn lasts(&self, clock: &CallClock) -> Duration {
        match *lock(&self.0.progress) {
            Progress::Runs(since) => clock.now().saturating_sub(since),
            _ => Duration::ZERO,
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let last = std::mem::replace(&mut *lock(&self.0.progress), Progress::Over);
        match (last, &self.0.interrupt) {
            (Progress::Runs(_), Some(interrupt)) => interrupt(),
            (Progress::Done { looking: Some(interrupt), .. }, _) => interrupt(),
            _ => {}
        }
    }
}

impl Shared {
    fn run(&self, kind: usize, index: usize) {
        let mut state = lock(&self.state);
        while !state.is_closed {
            let Some((client, job)) = state.next(kind) else {
                state = self.asked[kind].wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let began = self.clock.now();
            state.began[kind][index] = Some(began);
            drop(state);
            let weight = job.weight.max(1);
            job.compute(began);
            let took = self.clock.now().saturating_sub(began);
            state = lock(&self.state);
            state.began[kind][index] = None;
            state.is_news = true;
            state.done((kind, client), took / weight);
            self.computed.notify_all();
        }
    }
}

impl State {
    fn push(&mut self, (kind, client): (usize, u64), job: Job) {
        let lines = &mut self.lines[kind];
        let least = lines.values().map(|line| line.spent).min().unwrap_or_default();
        let line = lines.entry(client).or_insert_with(|| Line { spent: least, ..Line::default() });
        line.jobs.push_back(job);
    }

    fn done(&mut self, (kind, client): (usize, u64), took: Duration) {
        let Some(line) = self.lines[kind].get_mut(&client) else { return };
        line.spent += took;
        line.n_running -= 1;
        if line.n_running == 0 && line.jobs.is_empty() {
            self.lines[kind].remove(&client);
        }
    }

    fn next(&mut self, kind: usize) -> Option<(u64, Job)> {
        let waiting = self.lines[kind].iter_mut().filter(|(_, line)| !line.jobs.is_empty());
        let (&client, line) = waiting.min_by_key(|(client, line)| (line.spent, **client))?;
        let job = line.jobs.pop_front()?;
        line.n_running += 1;
        Some((client, job))
    }
}

impl Job {
    fn compute(self, now: Duration) {
        let Job { mut constraint, guesses, place, .. } = self;
        {
            let mut progress = lock(&place.progress);
            if matches!(*progress, Progress::Over) {
                return;
            }
            *progress = Progress::Runs(now);
        }
        let mask = constraint.mask();
        let looker = match (&mask, guesses.first()) {
            (Ok(mask), Some(&id)) if mask.allows(id) => constraint.ahead().zip(Some(Arc::clone(mask))),
            _ => None,
        };
        {
            let mut progress = lock(&place.progress);
            if !matches!(*progress, Progress::Runs(_)) {
                return;
            }
            let looking = looker.as_ref().and_then(|(looker, _)| looker.interrupt());
            *progress = Progress::Done { constraint, masked: Masked { mask, ahead: Vec::new() }, looking };
        }
        if let Some((looker, mask)) = looker {
            place.look_ahead(looker, mask, guesses);
        }
    }
}

impl Place {
    /// Adds the masks after guesses to the mask that is there, as long as each allows the next guess and that mask is not taken.
    fn look_ahead(&self, mut looker: Guarded, mut mask: Arc<TokenMask>, guesses: Vec<u32>) {
        for id in guesses {
            if !mask.allows(id) {
                break;
            }
            let Ok(next) = looker.accept(id).and_then(|()| looker.mask()) else { break };
            match &mut *lock(&self.progress) {
                Progress::Done { masked, .. } => masked.ahead.push((id, Arc::clone(&next))),
                _ => return,
            }
            mask = next;
        }
        if let Progress::Done { looking, .. } = &mut *lock(&self.progress) {
            *looking = None;
        }
    }
}

/// Without the constraint.
impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pending")
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shared({:?} clients)", lock(&self.state).lines.each_ref().map(HashMap::len))
    }
}

/// No code of others runs while these are held, so a panic does not spoil them.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Constraint;

    #[derive(Clone, Debug)]
    struct Free;

    impl Constraint for Free {
        fn boxed_clone(&self) -> Box<dyn Constraint> {
            Box::new(self.clone())
        }

        fn mask(&mut self) -> Result<Arc<TokenMask>, String> {
            Ok(Arc::new(TokenMask::none(64)))
        }

        fn accept(&mut self, _: u32) -> Result<(), String> {
            Ok(())
        }
    }

    #[test]
    fn clients_take_turns_by_the_time_of_their_masks() {
        const YIELDS: u64 = 3;
        let mut state = State::default();
        let push = |state: &mut State, client| {
            let place = Arc::new(Place { progress: Mutex::new(Progress::Waits), interrupt: None });
            let constraint = Guarded::new(Box::new(Free), 64);
            let job = Job { constraint, guesses: Vec::new(), weight: 1, place };
            state.push((usize::from(client == YIELDS), client), job);
        };
        let mut order = Vec::new();
        let mut run = |state: &mut State, n: usize| {
            for _ in 0..n {
                let (client, _) = state.next(0).unwrap();
                order.push(client);
                state.done((0, client), Duration::from_millis(if client == 1 { 100 } else { 10 }));
            }
        };
        (0..5).for_each(|_| push(&mut state, 1));
        run(&mut state, 1);
        // One that comes later has had as much as the others, and is as quick as its masks are.
        (0..4).for_each(|_| push(&mut state, 2));
        run(&mut state, 8);
        assert_eq!(order, [1, 1, 2, 2, 2, 2, 1, 1, 1]);
        assert!(state.next(0).is_none() && state.lines[0].is_empty());
        // Those that yield have threads of their own, and wait for nobody's turn on the others.
        (0..2).for_each(|_| push(&mut state, YIELDS));
        assert!(state.next(0).is_none());
        assert_eq!(state.next(1).map(|(client, _)| client), Some(YIELDS));
    }
}
