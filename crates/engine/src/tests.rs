//! The engine over [`testkit::fake::Fake`]: without its thread for everything that can be said exactly, with it for what only a thread shows.

mod cache;
mod constraints;
mod drafts;
mod embeddings;
mod fairness;
mod guesses;
mod hangs;
mod scores;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use device::{Limits, SamplingParams, Window};
use proptest::prelude::*;
use testkit::fake::{Fake, Fault, LIMITS};

use self::constraints::{Flaw, Picky};
use crate::engine::Core;
use crate::pages::PagePool;
use crate::places::Places;
use crate::stream::OpenRequests;
use crate::waiting::Waiting;
use crate::*;

/// Puts a request before an engine that has no thread.
fn enqueue(core: &mut Core, request: EngineRequest) -> Stream {
    let request = request.check(&core.executor().limits()).unwrap();
    let (outbox, stream) = OpenRequests::new(Places::new(1, 1)).open(0, 1).unwrap();
    core.enqueue(Waiting::new(request, outbox, &core.executor().limits()));
    stream
}

fn core(fake: Fake) -> Core {
    Core::new(Box::new(fake), EngineOptions::default()).unwrap()
}

fn run_until_idle(core: &mut Core) {
    let mut n = 0;
    while !core.is_idle() {
        core.step().unwrap();
        n += 1;
        assert!(n < 100_000, "the engine makes no progress");
    }
}

fn drain(mut stream: Stream) -> Vec<Event> {
    std::iter::from_fn(|| stream.try_next()).collect()
}

fn tokens(events: &[Event]) -> Vec<u32> {
    events.iter().filter_map(|e| if let Event::Token(t) = e { Some(t.token) } else { None }).collect()
}

/// The reason of the one terminal event, which is the last.
fn reason(events: &[Event]) -> Result<EndReason, EngineError> {
    assert_eq!(events.iter().filter(|e| e.is_terminal()).count(), 1, "{events:?}");
    match events.last() {
        Some(Event::End { reason, .. }) => Ok(*reason),
        Some(Event::Error(error)) => Err(error.clone()),
        other => panic!("the terminal event is not last but {other:?}"),
    }
}

/// How a request ends before its answer does.
#[derive(Clone, Copy)]
enum Early {
    Cancelled,
    Left,
    Overdue,
}

impl Early {
    const ALL: [Early; 3] = [Early::Cancelled, Early::Left, Early::Overdue];

    /// The request, with the deadline that this takes.
    fn request(self, request: EngineRequest) -> EngineRequest {
        let deadline = matches!(self, Early::Overdue).then(|| Instant::now() + Duration::from_millis(20));
        EngineRequest { deadline, ..request }
    }

    /// Ends it in the next step, with one terminal event that says why, where anybody still hears it.
    fn end(self, core: &mut Core, stream: Stream) {
        let mut kept = Some(stream);
        match self {
            Early::Cancelled => kept.iter().for_each(Stream::cancel),
            Early::Left => kept = None,
            Early::Overdue => std::thread::sleep(Duration::from_millis(30)),
        }
        core.step().unwrap();
        let expected =
            if matches!(self, Early::Overdue) { EndReason::Deadline } else { EndReason::Cancelled };
        kept.into_iter().for_each(|stream| assert_eq!(reason(&drain(stream)), Ok(expected)));
    }
}

/// What the request gives with nothing beside it, one step at a time, its prompt in one piece.
fn alone(request: &EngineRequest) -> Vec<Event> {
    let limits = Limits { n_row: 64, n_slot: 1, ..LIMITS };
    let mut core = core(Fake::new(limits));
    let stream = enqueue(&mut core, request.clone());
    run_until_idle(&mut core);
    drain(stream)
}

fn requests() -> impl Strategy<Value = EngineRequest> {
    let params = (0..3u32, 0..1000u64, 0..2u32).prop_map(|(t, seed, p)| SamplingParams {
        temperature: t as f32,
        seed,
        presence_penalty: p as f32,
        ..SamplingParams::default()
    });
    let end_ids = proptest::collection::vec(0..40u32, 0..4);
    // Prompts begin like others, for about as long as a few pages, or like none.
    let prompt =
        (0..4u32, 0..30usize, proptest::collection::vec(0..40u32, 1..20)).prop_map(|(stem, n, tail)| {
            let stem = (0..n as u32).map(|i| if i < 9 { i } else { (i + stem) % 40 });
            stem.chain(tail).collect::<Vec<u32>>()
        });
    let scope = proptest::option::of(0..2u64);
    let asked = (prompt, 1..30usize, 0..8usize, end_ids, params);
    (asked, (0..3u64, 1..4u32), scope, any::<bool>()).prop_map(
        |(asked, (client, weight), scope, constrained)| {
            let (prompt, max_tokens, min_tokens, end_ids, params) = asked;
            EngineRequest {
                min_tokens,
                end_ids: end_ids.into(),
                params,
                client,
                weight,
                cache_scope: scope,
                constraint: constrained.then(|| Box::new(Picky::new(Flaw::None)) as Box<dyn Constraint>),
                ..EngineRequest::greedy(prompt, max_tokens)
            }
        },
    )
}

#[derive(Clone, Copy, Debug)]
enum GiveUp {
    Never,
    Cancel(usize),
    Drop(usize),
}

fn plans() -> impl Strategy<Value = (usize, GiveUp)> {
    let give_up = prop_oneof![
        3 => Just(GiveUp::Never),
        1 => (0..40usize).prop_map(GiveUp::Cancel),
        1 => (0..40usize).prop_map(GiveUp::Drop),
    ];
    (0..30usize, give_up)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whatever shares the steps, whoever gives up or is stopped for another, whatever is guessed and whatever the limits: each request's tokens are those it gets alone, it ends once, and
    /// every page comes back. The fake holds the batches to the contract.
    #[test]
    fn a_request_is_alone_in_the_world(
        (page_size, n_slot, n_row, n_in_flight) in (1..9usize, 1..6usize, 1..20usize, 1..4usize),
        window in proptest::option::of((1..40usize, 0..20usize)),
        (spare, turn, n_snapshot) in (0..20usize, 0..9usize, proptest::option::of(0..5usize)),
        (n_guess, extent) in (0..7usize, prop_oneof![3 => Just(Extent::Most), 1 => Just(Extent::Paying)]),
        draft in proptest::option::of((0..9u64, 1..6usize, (1..9usize, 1..20usize), proptest::bool::ANY)),
        work in proptest::collection::vec((requests(), plans()), 1..12),
    ) {
        let n_page = 64usize.div_ceil(page_size) + spare;
        let window = window.map(|(n_position, spare)| {
            let window = Window { n_page: 0, n_position };
            Window { n_page: window.least(page_size, [n_slot, n_row]) + spare, n_position }
        });
        let n_guess = if n_snapshot.is_some() { 0 } else { n_guess };
        let limits = Limits { page_size, n_page, window, n_slot, n_row, n_in_flight, n_snapshot, n_guess, ..LIMITS };
        let speculation = match draft {
            Some((.., true)) => Speculation::draft(extent),
            _ => Speculation { extent, ..guesses::SEER },
        };
        let options = EngineOptions { turn, speculation: Some(speculation), ..EngineOptions::default() };
        let mut core = Core::new(Box::new(Fake::new(limits)), options).unwrap();
        if let Some((salt, n_slot, (page_size, n_row), _)) = draft {
            let limits = Limits { n_page: 20, page_size, n_slot, n_row, n_snapshot: None, window: None, n_guess, ..limits };
            core = core.with_draft(Box::new(Fake::new(limits).draft(salt)));
        }
        let mut streams: Vec<Option<Stream>> = work.iter().map(|_| None).collect();
        let mut dropped = vec![false; work.len()];
        for tick in 0..41 {
            for (i, (request, (submit_at, give_up))) in work.iter().enumerate() {
                if *submit_at == tick {
                    streams[i] = Some(enqueue(&mut core, request.clone()));
                }
                match give_up {
                    GiveUp::Cancel(at) if *at == tick => streams[i].iter().for_each(Stream::cancel),
                    GiveUp::Drop(at) if *at == tick => dropped[i] |= streams[i].take().is_some(),
                    _ => {}
                }
            }
            core.step().unwrap();
        }
        run_until_idle(&mut core);
        prop_assert_eq!(core.pool().n_free(), n_page);
        // It is there still, so it kept to the contract, and all of its pages are back.
        let n_draft_page = core.draft_pool().map(PagePool::n_unowned);
        prop_assert_eq!(n_draft_page, draft.filter(|_| n_guess > 0).map(|_| 20));
        let n_kept = core.counters().load().n_cached_page;
        prop_assert_eq!(core.pool().n_unowned() + n_kept, n_page);
        let n_window_page = window.map_or(0, |window| window.n_page);
        prop_assert_eq!(core.windows().n_free(), n_window_page);
        core.fail(&EngineError::Stopped);
        prop_assert_eq!((core.pool().n_unowned(), core.windows().n_unowned()), (n_page, n_window_page));
        for ((request, _), (stream, dropped)) in work.iter().zip(streams.into_iter().zip(dropped)) {
            let Some(stream) = stream else {
                prop_assert!(dropped);
                continue;
            };
            let (events, expected) = (drain(stream), alone(request));
            let (found, wanted) = (tokens(&events), tokens(&expected));
            if reason(&events) == Ok(EndReason::Cancelled) {
                prop_assert!(wanted.starts_with(&found));
            } else {
                prop_assert_eq!(found, wanted);
                prop_assert_eq!(reason(&events), reason(&expected));
            }
        }
    }
}

/// The order in which requests of these clients start, where one runs at a time and those marked ask for every page.
fn order_of(clients: &[(u64, bool)]) -> Vec<usize> {
    let mut core = core(Fake::new(Limits { n_page: 16, n_slot: 2, ..LIMITS }));
    let ask =
        |client, large| EngineRequest { client, ..EngineRequest::greedy([1], if large { 63 } else { 32 }) };
    let mut streams: Vec<Stream> =
        clients.iter().map(|&(client, large)| enqueue(&mut core, ask(client, large))).collect();
    let mut order = Vec::new();
    while !core.is_idle() {
        core.step().unwrap();
        for (i, stream) in streams.iter_mut().enumerate() {
            while let Some(event) = stream.try_next() {
                order.extend(matches!(event, Event::Started { .. }).then_some(i));
            }
        }
    }
    order
}

#[test]
fn clients_take_turns_and_nobody_overtakes_who_is_next() {
    assert_eq!(
        order_of(&[(1, true), (1, true), (1, true), (2, true), (3, true), (2, true)]),
        [0, 3, 4, 1, 5, 2]
    );
    // The large request is next; a small one that would fit beside the first does not start before it.
    assert_eq!(order_of(&[(1, false), (2, true), (3, false), (1, false)]), [0, 1, 2, 3]);
}

#[test]
fn a_cancelled_request_gives_its_pages_back_within_a_step() {
    for n_in_flight in [1, 2] {
        let limits = Limits { n_in_flight, n_page: 16, ..LIMITS };
        let mut core = core(Fake::new(limits));
        let stream = enqueue(&mut core, EngineRequest::greedy([1, 2, 3], 60));
        let waiting = enqueue(&mut core, EngineRequest::greedy([4], 60));
        (0..5).for_each(|_| core.step().unwrap());
        assert_eq!(core.pool().n_free(), 0);
        stream.cancel();
        core.step().unwrap();
        assert_eq!(reason(&drain(stream)), Ok(EndReason::Cancelled));
        drop(waiting);
        core.step().unwrap();
        assert_eq!(core.pool().n_free(), 16);
    }
}

#[test]
fn end_ids_end_the_answer_but_not_before_min_tokens() {
    let free = EngineRequest::greedy([7, 8], 20);
    let answer = tokens(&alone(&free));
    assert_eq!(answer.len(), 20);
    let stopped = alone(&EngineRequest { end_ids: Arc::new([answer[3]]), ..free.clone() });
    let first = answer.iter().position(|t| *t == answer[3]).unwrap();
    assert_eq!(tokens(&stopped), answer[..first]);
    assert_eq!(reason(&stopped), Ok(EndReason::Stop(answer[3])));
    let Some(Event::End { usage, .. }) = stopped.last() else { panic!("{stopped:?}") };
    assert_eq!(*usage, Usage { n_prompt: 2, n_cached: 0, n_generated: first + 1 });

    let spared = EngineRequest { end_ids: Arc::new([answer[3]]), min_tokens: first + 1, ..free.clone() };
    assert!(tokens(&alone(&spared)).len() > first);
    let longer = alone(&EngineRequest { end_ids: Arc::new([answer[3]]), min_tokens: 12, ..free });
    assert!(tokens(&longer).len() >= 12);
    assert!(!tokens(&longer).contains(&answer[3]));
}

#[test]
fn a_full_context_is_the_end_and_an_overdue_request_too() {
    let events = alone(&EngineRequest::greedy([1; 60], usize::MAX));
    assert_eq!((tokens(&events).len(), reason(&events)), (4, Ok(EndReason::Length)));

    let mut core = core(Fake::new(Limits { n_slot: 1, ..LIMITS }));
    let now = Some(Instant::now());
    let running = enqueue(&mut core, EngineRequest::greedy([1], 50));
    core.step().unwrap();
    let overdue = enqueue(&mut core, EngineRequest { deadline: now, ..EngineRequest::greedy([1], 50) });
    core.step().unwrap();
    assert_eq!(reason(&drain(overdue)), Ok(EndReason::Deadline));
    run_until_idle(&mut core);
    assert_eq!(reason(&drain(running)), Ok(EndReason::Length));
}

#[test]
fn a_row_that_allows_no_token_fails_its_request_alone() {
    let mut core = core(Fake::new(LIMITS).fault(Fault::Broken(3)));
    let first = enqueue(&mut core, EngineRequest::greedy([1], 20));
    (0..4).for_each(|_| core.step().unwrap());
    let second = enqueue(&mut core, EngineRequest::greedy([1], 20));
    run_until_idle(&mut core);
    assert_eq!(reason(&drain(first)), Err(EngineError::NotNumbers { position: 4 }));
    assert_eq!(reason(&drain(second)), Ok(EndReason::Length));
    // A request that bans every token has itself to blame, and one that bans some has not.
    for n_banned in [1, LIMITS.n_vocab] {
        let fake = Fake::new(LIMITS).fault(Fault::Broken(1));
        let mut core = Core::new(Box::new(fake), EngineOptions::default()).unwrap();
        let mut request = EngineRequest::greedy([1], 20);
        request.params.logit_bias = (0..n_banned as u32).map(|id| (id, f32::NEG_INFINITY)).collect();
        let banning = enqueue(&mut core, request);
        run_until_idle(&mut core);
        let error = reason(&drain(banning)).unwrap_err();
        let is_own_fault = matches!(error, EngineError::NothingAllowed { .. });
        assert_eq!(is_own_fault, n_banned == LIMITS.n_vocab, "{error}");
    }
}

#[test]
fn an_engine_that_is_dropped_leaves_no_client_waiting() {
    let mut core = core(Fake::new(Limits { n_slot: 1, ..LIMITS }));
    let streams = [0, 1].map(|_| enqueue(&mut core, EngineRequest::greedy([1], 20)));
    core.step().unwrap();
    let pool = core.pool();
    drop(core);
    for stream in streams {
        assert_eq!(reason(&drain(stream)), Err(EngineError::Stopped));
    }
    assert_eq!(pool.n_free(), LIMITS.n_page);
}

fn spawn(fake: Fake, n_waiting: usize) -> EngineHandle {
    Engine::spawn(Box::new(fake), EngineOptions { n_waiting, ..EngineOptions::default() }).unwrap()
}

fn wait(mut stream: Stream) -> Vec<Event> {
    std::iter::from_fn(|| stream.next_blocking()).collect()
}

#[test]
fn a_failing_device_ends_every_request_and_the_engine() {
    for (fault, error) in [
        (Fault::SubmitError(5), EngineError::Device("lost at submit".to_owned())),
        (Fault::CollectError(5), EngineError::Device("lost at collect".to_owned())),
        (
            Fault::TicketLost(5),
            EngineError::Failed("no step with ticket 5 is waiting to be collected".to_owned()),
        ),
        (Fault::Panic(5), EngineError::Failed("panic: the fake was told to".to_owned())),
    ] {
        for n_in_flight in [1, 2] {
            let limits = Limits { n_slot: 2, n_in_flight, ..LIMITS };
            let fake = Fake::new(limits).fault(fault);
            let gate = Arc::clone(&fake.gate);
            let held = gate.lock().unwrap();
            let engine = spawn(fake, 2);
            let streams: Vec<Stream> =
                (0..4).map(|_| engine.submit(EngineRequest::greedy([1], 50)).unwrap()).collect();
            drop(held);
            for stream in streams {
                assert_eq!(reason(&wait(stream)), Err(error.clone()));
            }
            assert_eq!(engine.health(), Health::Failed(error.clone()));
            assert_eq!(engine.submit(EngineRequest::greedy([1], 5)).unwrap_err(), error);
            assert_eq!((engine.load().n_unfinished, engine.load().n_free_page), (0, LIMITS.n_page));
        }
    }
}

#[test]
fn what_cannot_run_is_refused_at_once() {
    let engine = spawn(Fake::new(LIMITS), 1);
    let check = |request, expected: &str| {
        assert_eq!(engine.submit(request).map(|_| ()).unwrap_err().to_string(), expected);
    };
    check(EngineRequest::greedy([], 5), "prompt: expected 1 to 63 tokens, found 0");
    check(EngineRequest::greedy([1; 64], 5), "prompt: expected 1 to 63 tokens, found 64");
    check(EngineRequest::greedy([1, 40], 5), "prompt: expected ids below 40, found 40");
    let mut request = EngineRequest::greedy([1], 5);
    request.params.temperature = f32::NAN;
    check(request.clone(), "temperature: expected 0 to 100, found NaN");
    request.params = SamplingParams { logit_bias: vec![(1, 0.0); 1024], ..SamplingParams::default() };
    (request.min_tokens, request.end_ids) = (1, [2, 99].into());
    check(
        request,
        "logit_bias: expected at most 1024 entries, one an end id among them where min_tokens is set, found 1025",
    );
    assert_eq!(engine.load().n_unfinished, 0);

    let fake = Fake::new(Limits { n_slot: 1, ..LIMITS });
    let gate = Arc::clone(&fake.gate);
    let held = gate.lock().unwrap();
    let slow = spawn(fake, 1);
    let streams = [0, 1].map(|_| slow.submit(EngineRequest::greedy([1], 60)).unwrap());
    assert_eq!(slow.submit(EngineRequest::greedy([1], 60)).unwrap_err(), EngineError::Busy { limit: 2 });
    streams.iter().for_each(Stream::cancel);
    drop(held);
    for stream in streams {
        assert_eq!(reason(&wait(stream)), Ok(EndReason::Cancelled));
    }
    slow.submit(EngineRequest::greedy([1], 60)).unwrap();
}

#[test]
fn a_drain_finishes_what_was_accepted_and_an_abort_does_not() {
    for (how, expected) in
        [(Shutdown::Drain, Ok(EndReason::Length)), (Shutdown::Abort, Err(EngineError::Stopped))]
    {
        let latency = if how == Shutdown::Abort { Duration::from_millis(5) } else { Duration::ZERO };
        let fake = Fake::new(Limits { n_slot: 1, ..LIMITS }).latency(latency);
        let steps = Arc::clone(&fake.steps);
        let engine = spawn(fake, 3);
        let streams = [0, 1, 2].map(|_| engine.submit(EngineRequest::greedy([1], 30)).unwrap());
        engine.shutdown(how);
        for stream in streams {
            assert_eq!(reason(&wait(stream)), expected);
        }
        assert_eq!(steps.load(Ordering::Relaxed) >= 90, how == Shutdown::Drain);
        assert_eq!(engine.health(), Health::Stopping);
        assert_eq!(engine.submit(EngineRequest::greedy([1], 5)).unwrap_err(), EngineError::Stopped);
    }
    // Without a handle the engine finishes what it has.
    let engine = spawn(Fake::new(LIMITS), 3);
    let stream = engine.submit(EngineRequest::greedy([1], 30)).unwrap();
    drop(engine);
    assert_eq!(reason(&wait(stream)), Ok(EndReason::Length));
}
