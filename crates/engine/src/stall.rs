//! Does the engine's thread still move?
//!
//! Before each call into code that may hang, a device's or a constraint's, the thread writes down that it begins; a watchdog thread looks whether
//! one lasts too long. What a hung call holds cannot be had back from it, so the watchdog says what is to be said without the engine's
//! thread, and if the call returns after all that thread finds the engine given up. Time is in nanoseconds since the clock was made.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::EngineError;

/// A call that may hang.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Submit,
    Collect,
    Memory,
    Constraint,
    Drop,
    /// Not on the engine's thread.
    Mask,
}

impl Call {
    const ALL: [Call; 5] = [Call::Submit, Call::Collect, Call::Memory, Call::Constraint, Call::Drop];

    fn name(self) -> &'static str {
        match self {
            Call::Submit => "submission of a step",
            Call::Collect => "collection of a step",
            Call::Memory => "look at the device's memory",
            Call::Constraint => "call of a constraint",
            Call::Mask => "computation of a mask on each thread for masks",
            Call::Drop => "release of the device",
        }
    }
}

/// When the call that the engine's thread is in began.
#[derive(Debug)]
pub(crate) struct CallClock {
    start: Instant,
    /// How long a call may last.
    after: Option<Duration>,
    /// [`IDLE`], [`GIVEN_UP`], or the time of the call's beginning times 8, plus its index in [`Call::ALL`] plus 1.
    state: AtomicU64,
    /// For how long the process was stopped, as far as the watchdog noticed. In nanoseconds.
    frozen: AtomicU64,
}

/// The watchdog wakes at least this often, so that it notices when the process was stopped.
const TICK: Duration = Duration::from_secs(1);

/// Waking later than this is not the system's load: the process did not run.
const OVERSLEPT: Duration = Duration::from_secs(2);

const IDLE: u64 = 0;
/// Stays.
const GIVEN_UP: u64 = u64::MAX;

impl CallClock {
    pub(crate) fn new(after: Option<Duration>) -> CallClock {
        CallClock { start: Instant::now(), after, state: AtomicU64::new(IDLE), frozen: AtomicU64::new(0) }
    }

    /// Makes a call; an error where it lasted so long that the engine was given up meanwhile, or had been before.
    pub(crate) fn call<T>(&self, call: Call, f: impl FnOnce() -> T) -> Result<T, EngineError> {
        let nanos = u64::try_from(self.now().as_nanos()).unwrap_or(u64::MAX / 16);
        let mine = nanos.min(u64::MAX / 16) * 8 + call as u64 + 1;
        let swap = |from, to| self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
        let began = swap(IDLE, mine);
        let value = f();
        match began.and_then(|_| swap(mine, IDLE)) {
            Ok(_) => Ok(value),
            Err(_) => Err(self.error(call)),
        }
    }

    /// After a panic: no call is under way.
    pub(crate) fn reset(&self) {
        let still_there = |state| (state != GIVEN_UP).then_some(IDLE);
        let _given_up = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, still_there);
    }

    /// Time since the clock was made in which the process ran.
    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed().saturating_sub(Duration::from_nanos(self.frozen.load(Ordering::Acquire)))
    }

    /// The watchdog meant to sleep for `wait` and slept for `slept`: what is far beyond that, nobody ran.
    fn woke(&self, wait: Duration, slept: Duration) {
        let beyond = slept.saturating_sub(wait);
        if beyond > OVERSLEPT {
            tracing::warn!(
                seconds = beyond.as_secs_f64(),
                "the process was stopped; calls are given that time"
            );
            let nanos = u64::try_from(beyond.as_nanos()).unwrap_or(u64::MAX);
            let sum = |frozen: u64| Some(frozen.saturating_add(nanos));
            let _always = self.frozen.fetch_update(Ordering::AcqRel, Ordering::Acquire, sum);
        }
    }

    pub(crate) fn error(&self, call: Call) -> EngineError {
        EngineError::Stalled { call: call.name(), after: self.after.unwrap_or_default() }
    }

    /// Gives the engine up if a call has lasted longer than `after`; how long to wait before looking again if not.
    fn look(&self, after: Duration) -> Result<Duration, EngineError> {
        let state = self.state.load(Ordering::Acquire);
        let index = usize::try_from(state % 8).ok().and_then(|n| n.checked_sub(1));
        let Some(&call) = index.and_then(|index| Call::ALL.get(index)) else { return Ok(after / 4) };
        let lasts = self.now().saturating_sub(Duration::from_nanos(state / 8));
        if lasts < after {
            return Ok(after - lasts);
        }
        match self.state.compare_exchange(state, GIVEN_UP, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Err(self.error(call)),
            Err(_) => Ok(Duration::ZERO),
        }
    }
}

/// Starts the watchdog, if there is a bound to watch. It ends with the sender of `alive`, or after it has given the engine up.
pub(crate) fn watch(
    clock: Arc<CallClock>,
    alive: Receiver<()>,
    give_up: impl FnOnce(EngineError) + Send + 'static,
) -> io::Result<()> {
    let Some(after) = clock.after else { return Ok(()) };
    let watch = move || {
        loop {
            let wait = match clock.look(after) {
                Ok(wait) => wait.clamp(Duration::from_millis(1), TICK),
                Err(error) => return give_up(error),
            };
            let began = Instant::now();
            match alive.recv_timeout(wait) {
                Err(RecvTimeoutError::Timeout) => clock.woke(wait, began.elapsed()),
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    };
    thread::Builder::new().name("watchdog".to_owned()).spawn(watch).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_lasts_too_long_is_given_up_once_and_for_all() {
        let (short, long) = (Duration::ZERO, Duration::from_secs(1_000_000));
        let clock = CallClock::new(Some(short));
        assert_eq!(clock.look(long), Ok(long / 4));
        assert_eq!(clock.call(Call::Submit, || clock.look(long).is_ok_and(|wait| wait > long / 2)), Ok(true));
        assert_eq!(clock.look(short), Ok(short));

        let given_up = |call| Err(EngineError::Stalled { call, after: short });
        let collect = clock.call(Call::Collect, || {
            assert_eq!(clock.look(short), given_up("collection of a step").map(|()| short));
        });
        assert_eq!(collect, given_up("collection of a step"));
        clock.reset();
        assert_eq!(clock.call(Call::Drop, || ()), given_up("release of the device"));
        assert_eq!(clock.look(short), Ok(short));
    }

    #[test]
    fn time_in_which_the_process_was_stopped_does_not_count() {
        let second = Duration::from_secs(1);
        // A submission that began 66 seconds ago.
        let clock = CallClock {
            start: Instant::now().checked_sub(66 * second).unwrap(),
            after: Some(60 * second),
            state: AtomicU64::new(Call::Submit as u64 + 1),
            frozen: AtomicU64::new(0),
        };
        clock.woke(second, 2 * second);
        assert!(clock.now() >= 66 * second);
        clock.woke(second, 67 * second);
        assert!(clock.look(60 * second).is_ok_and(|wait| wait > 30 * second));
        assert!(clock.look(Duration::ZERO).is_err());
    }
}
