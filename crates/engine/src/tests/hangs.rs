//! What happens when a call does not return, when the device's memory is taken away, and when steps are slow.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use device::Limits;
use device::sampling::TokenMask;
use testkit::fake::{Fake, Fault, LIMITS};

use super::constraints::{Flaw, Picky};
use super::{drain, enqueue, reason, run_until_idle, wait};
use crate::engine::Core;
use crate::masks::N_THREAD;
use crate::{
    Constraint, EndReason, Engine, EngineError, EngineHandle, EngineOptions, EngineRequest, Health,
    Interrupt, Shutdown, Stream,
};

const AFTER: Duration = Duration::from_millis(50);

fn spawn(fake: Fake) -> EngineHandle {
    let options = EngineOptions {
        stall_after: Some(AFTER),
        memory_every: Duration::from_millis(1),
        ..EngineOptions::default()
    };
    Engine::spawn(Box::new(fake), options).unwrap()
}

/// Every request has its one end and none is accepted any more, though the engine's thread is not back.
fn is_given_up(engine: &EngineHandle, streams: Vec<Stream>, call: &'static str) -> Vec<Stream> {
    let error = EngineError::Stalled { call, after: AFTER };
    let ended = streams.into_iter().map(|mut stream| {
        let events: Vec<_> = std::iter::from_fn(|| stream.next_blocking()).collect();
        assert_eq!(reason(&events), Err(error.clone()));
        stream
    });
    let ended = ended.collect();
    assert_eq!(engine.health(), Health::Failed(error.clone()));
    assert_eq!(engine.submit(EngineRequest::greedy([1], 5)).unwrap_err(), error);
    let load = engine.load();
    assert_eq!((load.n_unfinished, load.n_running, load.n_waiting), (0, 0, 0));
    engine.shutdown(Shutdown::Drain);
    ended
}

#[test]
fn a_call_that_does_not_return_ends_every_request_once() {
    for n_in_flight in [1, 2] {
        let fake = Fake::new(Limits { n_slot: 2, n_in_flight, ..LIMITS });
        let gate = Arc::clone(&fake.gate);
        let engine = spawn(fake);
        let held = gate.lock().unwrap();
        let streams = (0..4).map(|_| engine.submit(EngineRequest::greedy([1], 50)).unwrap()).collect();
        let streams = is_given_up(&engine, streams, "submission of a step");
        // The call returns after all: nothing more is sent, and what the thread held comes back.
        drop(held);
        while engine.load().n_free_page < LIMITS.n_page {
            thread::sleep(Duration::from_millis(1));
        }
        for mut stream in streams {
            assert_eq!((stream.try_next(), stream.next_blocking()), (None, None));
        }
        assert!(matches!(engine.health(), Health::Failed(EngineError::Stalled { .. })));
    }
    // One that never returns keeps nobody who drops or shuts down.
    let engine = spawn(Fake::new(LIMITS).fault(Fault::Hang(3)));
    let streams = vec![engine.submit(EngineRequest::greedy([1], 50)).unwrap()];
    drop(is_given_up(&engine, streams, "submission of a step"));
}

/// Waits for a lock before it allows anything.
#[derive(Clone, Debug)]
struct Slow(Arc<Mutex<()>>);

impl Constraint for Slow {
    fn boxed_clone(&self) -> Box<dyn Constraint> {
        Box::new(self.clone())
    }

    fn mask(&mut self) -> Result<Arc<TokenMask>, String> {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(Arc::new(TokenMask::none(LIMITS.n_vocab)))
    }

    fn accept(&mut self, _: u32) -> Result<(), String> {
        Ok(())
    }
}

fn held_by(gate: &Arc<Mutex<()>>) -> EngineRequest {
    let slow: Box<dyn Constraint> = Box::new(Slow(Arc::clone(gate)));
    EngineRequest { constraint: Some(slow), ..EngineRequest::greedy([1], 5) }
}

fn picky() -> EngineRequest {
    let picky: Box<dyn Constraint> = Box::new(Picky::new(Flaw::None));
    EngineRequest { constraint: Some(picky), ..EngineRequest::greedy([1, 2], 12) }
}

#[test]
fn a_slow_mask_holds_no_other_request_up() {
    let gate = Arc::new(Mutex::new(()));
    let held = gate.lock().unwrap();
    let engine = Engine::spawn(Box::new(Fake::new(LIMITS)), EngineOptions::default()).unwrap();
    let slow = engine.submit(held_by(&gate)).unwrap();
    for request in [picky(), EngineRequest::greedy([3], 30)] {
        assert_eq!(reason(&wait(engine.submit(request).unwrap())), Ok(EndReason::Length));
    }
    drop(held);
    assert_eq!(reason(&wait(slow)), Err(EngineError::NothingAllowed { position: 1 }));
}

#[test]
fn a_mask_that_takes_too_long_ends_its_own_request_alone() {
    let gate = Arc::new(Mutex::new(()));
    let held = gate.lock().unwrap();
    let options = EngineOptions { mask_within: AFTER, ..EngineOptions::default() };
    let engine = Engine::spawn(Box::new(Fake::new(LIMITS)), options).unwrap();
    let slow = engine.submit(held_by(&gate)).unwrap();
    assert_eq!(reason(&wait(slow)), Err(EngineError::SlowConstraint { after: AFTER }));
    assert_eq!(reason(&wait(engine.submit(picky()).unwrap())), Ok(EndReason::Length));
    assert_eq!(engine.load().n_free_page, LIMITS.n_page);
    drop(held);
}

#[test]
fn constraints_that_hold_every_thread_for_masks_are_a_stall() {
    let gate = Arc::new(Mutex::new(()));
    let held = gate.lock().unwrap();
    let engine = spawn(Fake::new(LIMITS));
    let streams = (0..=N_THREAD).map(|_| engine.submit(held_by(&gate)).unwrap()).collect();
    is_given_up(&engine, streams, "computation of a mask on each thread for masks");
    drop(held);
}

/// Waits until it is interrupted.
#[derive(Clone, Debug)]
struct Interruptible(Arc<AtomicBool>);

impl Constraint for Interruptible {
    fn boxed_clone(&self) -> Box<dyn Constraint> {
        Box::new(self.clone())
    }

    fn mask(&mut self) -> Result<Arc<TokenMask>, String> {
        while !self.0.load(Ordering::Relaxed) {
            thread::yield_now();
        }
        Err("interrupted".to_owned())
    }

    fn accept(&mut self, _: u32) -> Result<(), String> {
        Ok(())
    }

    fn interrupt(&self) -> Option<Interrupt> {
        let flag = Arc::clone(&self.0);
        Some(Arc::new(move || flag.store(true, Ordering::Relaxed)))
    }
}

#[test]
fn a_mask_that_nobody_wants_any_more_is_interrupted() {
    let engine = Engine::spawn(Box::new(Fake::new(LIMITS)), EngineOptions::default()).unwrap();
    // More than there are threads, so that the last has its mask only if those before it are ended.
    for _ in 0..3 * N_THREAD {
        let endless: Box<dyn Constraint> = Box::new(Interruptible(Arc::default()));
        let request = EngineRequest { constraint: Some(endless), ..EngineRequest::greedy([1], 5) };
        let stream = engine.submit(request).unwrap();
        while engine.load().n_running == 0 {
            thread::yield_now();
        }
        stream.canceller().cancel();
        assert_eq!(reason(&wait(stream)), Ok(EndReason::Cancelled));
    }
    assert_eq!(reason(&wait(engine.submit(picky()).unwrap())), Ok(EndReason::Length));
}

#[test]
fn an_engine_whose_memory_is_taken_away_ends() {
    let check = |engine: &EngineHandle| {
        assert_eq!(engine.health(), Health::Failed(EngineError::NotResident));
        assert!(!engine.memory().resident);
        assert_eq!(engine.submit(EngineRequest::greedy([1], 5)).unwrap_err(), EngineError::NotResident);
    };
    let fake = Fake::new(Limits { n_slot: 1, ..LIMITS }).latency(Duration::from_millis(2));
    let engine = spawn(fake.fault(Fault::NotResident(4)));
    let streams = [0, 1].map(|_| engine.submit(EngineRequest::greedy([1], 60)).unwrap());
    for stream in streams {
        assert_eq!(reason(&wait(stream)), Err(EngineError::NotResident));
    }
    check(&engine);
    // Also where nobody asks for anything.
    let engine = spawn(Fake::new(LIMITS).fault(Fault::NotResident(0)));
    while engine.health() == Health::Running {
        thread::sleep(Duration::from_millis(1));
    }
    check(&engine);
}

#[test]
fn slow_steps_have_fewer_rows_but_not_below_a_bound() {
    for (step_target, n_step) in [(None, 1), (Some(Duration::ZERO), 2)] {
        let options = EngineOptions { step_target, ..EngineOptions::default() };
        let mut core = Core::new(Box::new(Fake::new(Limits { n_row: 64, ..LIMITS })), options).unwrap();
        let stream = enqueue(&mut core, EngineRequest::greedy([1; 60], 1));
        run_until_idle(&mut core);
        assert_eq!(reason(&drain(stream)), Ok(EndReason::Length));
        assert_eq!(core.counters().load().n_step, n_step);
    }
}

#[test]
fn steps_with_prompts_are_longer_where_nobody_reads_along() {
    for (has_stream, n_step) in [(false, 5), (true, 17)] {
        let options = EngineOptions { step_target: Some(Duration::ZERO), ..EngineOptions::default() };
        let limits = Limits { n_row: 512, n_page: 1000, n_ctx: 2000, ..LIMITS };
        let mut core = Core::new(Box::new(Fake::new(limits)), options).unwrap();
        let reader = has_stream.then(|| enqueue(&mut core, EngineRequest::greedy([1; 1], 100)));
        // The reader's prompt is computed, and its first token.
        (0..2 * usize::from(has_stream)).for_each(|_| core.step().unwrap());
        let before = core.counters().load().n_step;
        // 32 rows of a step that nothing is known about yet, then 256, or 64 beside a stream.
        let mut stream = enqueue(&mut core, EngineRequest::greedy([1; 1000], 1));
        let mut is_answered = false;
        while !is_answered {
            core.step().unwrap();
            is_answered =
                std::iter::from_fn(|| stream.try_next()).any(|event| matches!(event, crate::Event::Token(_)));
        }
        assert_eq!(core.counters().load().n_step - before, n_step);
        drop(reader);
    }
}

#[test]
fn steps_count_the_requests_that_run_during_them() {
    for n_request in [1, 3] {
        let mut core = Core::new(Box::new(Fake::new(LIMITS)), EngineOptions::default()).unwrap();
        let streams: Vec<_> =
            (0..n_request).map(|_| enqueue(&mut core, EngineRequest::greedy([1; 4], 5))).collect();
        run_until_idle(&mut core);
        for stream in streams {
            assert_eq!(reason(&drain(stream)), Ok(EndReason::Length));
        }
        let load = core.counters().load();
        assert!(load.n_step >= 5, "{}", load.n_step);
        assert_eq!(load.n_step_running, n_request * load.n_step);
    }
}
