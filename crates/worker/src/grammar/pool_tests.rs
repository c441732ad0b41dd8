//! Is a grammar compiled once, within bounds, and shared so that nobody can tell?

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use device::TokenMask;
use engine::Constraint;
use serde_json::json;
use tokenizer::Stopped;

use super::pool::{MAX_COMPILING, MAX_WAITING, Pool};
use super::tests::grammars;
use super::{Compiled, GrammarConstraint, Grammars, Source, Spent};
use crate::{Format, Work, WorkerError};

fn regex(text: &str) -> Source {
    Source::of_format(&Format::Regex(text.to_owned())).unwrap()
}

fn schema(schema: serde_json::Value) -> Source {
    Source::of_format(&Format::JsonSchema(schema)).unwrap()
}

/// Compilations that end with an error once they are told to.
struct Slow {
    pool: Arc<Pool>,
    release: Sender<()>,
    released: Arc<Mutex<Receiver<()>>>,
}

impl Slow {
    fn new() -> Slow {
        let (release, released) = mpsc::channel();
        Slow { pool: Arc::default(), release, released: Arc::new(Mutex::new(released)) }
    }

    fn get(&self, name: &str, work: &Work) -> Result<Arc<Compiled>, WorkerError> {
        let released = Arc::clone(&self.released);
        self.pool.get(&regex(name), work, move |_, _| {
            let _told = released.lock().unwrap().recv();
            Err("on purpose".to_owned())
        })
    }

    fn until_waiting(&self, n: usize) {
        while self.pool.load().n_waiting != n {
            thread::yield_now();
        }
    }
}

#[test]
fn who_asks_for_the_same_grammar_waits_for_one_compilation() {
    let slow = Slow::new();
    let errors: Vec<String> = thread::scope(|scope| {
        let one = || slow.get("a", &Work::default()).map(drop).unwrap_err().to_string();
        let all: Vec<_> = (0..8).map(|_| scope.spawn(one)).collect();
        slow.until_waiting(8);
        slow.release.send(()).unwrap();
        all.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(errors.iter().all(|error| error.contains("on purpose")), "{errors:?}");
    let load = slow.pool.load();
    assert_eq!((load.n_compiled, load.n_hit, load.n_waiting, load.bytes), (1, 0, 0, 0));
}

#[test]
fn those_that_wait_are_bounded_and_leave_when_they_are_not_wanted() {
    let slow = Slow::new();
    let works: Vec<Work> = (0..MAX_WAITING).map(|_| Work::default()).collect();
    thread::scope(|scope| {
        let all: Vec<_> = works
            .iter()
            .enumerate()
            .map(|(i, work)| {
                let slow = &slow;
                scope.spawn(move || slow.get(&i.to_string(), work).map(drop).unwrap_err())
            })
            .collect();
        slow.until_waiting(MAX_WAITING);
        assert_eq!(slow.pool.load().n_compiled, MAX_COMPILING as u64);
        let refused = slow.get("one more", &Work::default()).map(drop);
        assert!(matches!(refused, Err(WorkerError::Overloaded { .. })), "{refused:?}");
        // All clients leave while both compilations go on.
        works.iter().for_each(|work| drop(work.waiter()));
        for thread in all {
            let ended = thread.join().unwrap();
            assert!(matches!(ended, WorkerError::Stopped(Stopped::Cancelled)), "{ended:?}");
        }
    });
    assert_eq!((slow.pool.load().n_waiting, slow.pool.load().n_compiled), (0, MAX_COMPILING as u64));
    // They end, and there is room again.
    (0..=MAX_COMPILING).for_each(|_| slow.release.send(()).unwrap());
    let later = slow.get("later", &Work::default()).map(drop).unwrap_err();
    assert!(later.to_string().contains("on purpose"), "{later}");
    let late = Work::until(Instant::now());
    let ended = slow.get("late", &late).map(drop);
    assert!(matches!(ended, Err(WorkerError::Stopped(Stopped::Deadline))), "{ended:?}");
}

#[test]
fn a_request_s_time_runs_while_its_grammar_is_compiled() {
    let slow = Slow::new();
    // The compilation is not released before the time is up.
    let work = Work::until(Instant::now() + Duration::from_secs(1));
    let ended = slow.get("a", &work).map(drop);
    assert!(matches!(ended, Err(WorkerError::Stopped(Stopped::Deadline))), "{ended:?}");
    assert_eq!((slow.pool.load().n_waiting, slow.pool.load().n_compiled), (0, 1));
    slow.release.send(()).unwrap();
}

#[test]
fn grammars_are_kept_until_others_need_their_memory() {
    let grammars = grammars();
    let compile = |text: &str| grammars.compile(&regex(text), &Work::default()).map(drop).unwrap();
    compile("a+");
    let one = grammars.load().bytes;
    assert!(one > 0);
    compile("a+");
    let load = grammars.load();
    assert_eq!((load.n_compiled, load.n_hit, load.bytes), (1, 1, one));
    grammars.pool.keep(one + one / 2);
    compile("b+");
    compile("b+");
    compile("a+");
    let load = grammars.load();
    assert_eq!((load.n_compiled, load.n_hit), (3, 2));
    assert!(load.bytes <= one + one / 2, "{load:?}");
}

#[test]
fn grammars_that_are_not_used_any_more_give_their_memory_back() {
    let grammars = grammars();
    let compile = |text: &str| grammars.compile(&regex(text), &Work::default()).map(drop).unwrap();
    compile("a+");
    let one = grammars.load().bytes;
    // Those that were used just now may take more than may rest.
    grammars.pool.rest(one + one / 2, Duration::from_secs(600));
    ["b+", "c+", "a+"].into_iter().for_each(compile);
    thread::sleep(Duration::from_millis(1200));
    assert!(grammars.load().bytes > 2 * one);
    // What was used last rests.
    grammars.pool.rest(one + one / 2, Duration::ZERO);
    let until = Instant::now() + Duration::from_secs(60);
    while grammars.load().bytes > one + one / 2 && Instant::now() < until {
        thread::sleep(Duration::from_millis(20));
    }
    compile("a+");
    let load = grammars.load();
    assert_eq!((load.n_compiled, load.n_hit), (3, 2));
    assert!(load.bytes <= one + one / 2, "{load:?}");
}

#[test]
fn a_compilation_that_nobody_waits_for_ends_between_its_parts() {
    let pool = Arc::new(Pool::default());
    let (begun, has_begun) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let (ended, has_ended) = mpsc::channel();
    let work = Work::default();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            pool.get(&regex("a"), &work, move |_, wanted| {
                begun.send(wanted.check()).unwrap();
                released.recv().unwrap();
                let over = wanted.check();
                ended.send(over.clone()).unwrap();
                Err(over.unwrap_err())
            })
        });
        assert_eq!(has_begun.recv().unwrap(), Ok(()));
        drop(work.waiter());
        assert!(waiting.join().unwrap().is_err());
        // Who asks in the meantime waits for it, and has one of its own once it was given up.
        release.send(()).unwrap();
        assert!(has_ended.recv().unwrap().is_err());
        let next = pool.get(&regex("a"), &Work::default(), |_, wanted| {
            wanted.check()?;
            Err("on purpose".to_owned())
        });
        assert!(next.map(drop).unwrap_err().to_string().contains("on purpose"));
    });
}

/// What an answer's steps give, as one of the allowed tokens is chosen by a number.
struct Walk {
    constraint: GrammarConstraint,
    state: u64,
    found: Vec<Result<Arc<TokenMask>, String>>,
}

impl Walk {
    fn new(constraint: GrammarConstraint, seed: u64) -> Walk {
        Walk { constraint, state: seed, found: Vec::new() }
    }

    fn step(&mut self, grammars: &Grammars) {
        if self.found.last().is_some_and(Result::is_err) {
            return;
        }
        let mask = self.constraint.mask();
        self.found.push(mask.clone());
        let Ok(mask) = mask else { return };
        let n_vocab = grammars.compiler.tokenizer.n_vocab() as u32;
        let allowed = (0..n_vocab).filter(|&id| mask.allows(id) && !grammars.compiler.tokenizer.is_end(id));
        let allowed: Vec<u32> = allowed.collect();
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let Some(&id) = allowed.get((self.state >> 33) as usize % allowed.len().max(1)) else { return };
        self.constraint.accept(id).unwrap();
    }
}

#[test]
fn masks_are_those_of_an_answer_alone() {
    const N_ANSWER: u64 = 4;
    const N_STEP: usize = 25;
    const ALL: usize = 1 << 30;
    // Each position of such a text is a state of its own.
    let pattern = json!({ "type": "string", "pattern": "^([a-z]{1,20} ?){1,50}$" });
    let words = json!({ "type": "array", "items": pattern, "uniqueItems": true });
    let object = json!({ "type": "object", "properties": { "a": pattern, "b": { "type": "number" } } });
    for (source, fuel) in
        [(&words, 0), (&words, 2000), (&object, 1000), (&object, 4000), (&object, 16_000), (&object, ALL)]
    {
        let mut grammars = grammars();
        let bounds = Spent { fuel, n_state: ALL };
        Arc::get_mut(&mut grammars.compiler).unwrap().shared = bounds;
        let source = schema(source.clone());
        let one = || grammars.compile(&source, &Work::default()).unwrap();
        let mut together: Vec<Walk> = (0..N_ANSWER).map(|seed| Walk::new(one(), seed)).collect();
        for _ in 0..N_STEP {
            together.iter_mut().for_each(|walk| walk.step(&grammars));
        }
        let n_alone = together.iter().filter(|walk| walk.constraint.is_alone()).count() as u64;
        match fuel {
            0 => assert_eq!(n_alone, N_ANSWER),
            ALL => assert_eq!(n_alone, 0),
            _ => {}
        }
        for (seed, shared) in together.iter().enumerate() {
            let mut alone = Walk::new(one().parted().unwrap(), seed as u64);
            (0..N_STEP).for_each(|_| alone.step(&grammars));
            assert_eq!(alone.found, shared.found, "answer {seed}, shared up to {fuel}");
        }
    }
}

#[test]
fn an_answer_that_is_interrupted_has_no_more_masks_and_others_have_theirs() {
    let grammars = grammars();
    let one = || grammars.compile(&regex("([a-z]{1,20} ?){1,50}"), &Work::default()).unwrap();
    let (mut first, mut second) = (Walk::new(one(), 1), Walk::new(one(), 2));
    (0..3).for_each(|_| [&mut first, &mut second].into_iter().for_each(|walk| walk.step(&grammars)));
    first.constraint.interrupt().unwrap()();
    (0..3).for_each(|_| [&mut first, &mut second].into_iter().for_each(|walk| walk.step(&grammars)));
    assert_eq!(first.found.last(), Some(&Err("the answer is not wanted any more".to_owned())));
    let mut alone = Walk::new(one().parted().unwrap(), 2);
    (0..6).for_each(|_| alone.step(&grammars));
    assert_eq!(second.found, alone.found);
}
