//! Clients beside each other: who starts when, who is stopped for whom, and that nobody's answer changes by it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use device::{Limits, SamplingParams};
use proptest::prelude::*;
use testkit::fake::{Fake, LIMITS};

use super::constraints::{Flaw, Picky};
use super::{alone, drain, enqueue, reason, run_until_idle, spawn, tokens, wait};
use crate::engine::Core;
use crate::{
    Constraint, EndReason, EngineError, EngineOptions, EngineRequest, Event, Shutdown, Stream, Usage,
};

/// A request whose answer depends on everything that a stop could lose: the history, the position and the seed.
fn ask(client: u64, prompt: &[u32], max_tokens: usize) -> EngineRequest {
    let params =
        SamplingParams { frequency_penalty: 1.0, temperature: 1.0, seed: client, ..Default::default() };
    EngineRequest { client, params, ..EngineRequest::greedy(prompt, max_tokens) }
}

fn core(limits: Limits, turn: usize) -> Core {
    Core::new(Box::new(Fake::new(limits)), EngineOptions { turn, ..EngineOptions::default() }).unwrap()
}

/// Steps until this one's next event that is a token; a stream that ends without is an error.
fn steps_to_token(core: &mut Core, stream: &mut Stream) -> usize {
    for n in 0..1000 {
        while let Some(event) = stream.try_next() {
            match event {
                Event::Token(_) => return n,
                event => assert!(!event.is_terminal(), "{event:?}"),
            }
        }
        core.step().unwrap();
    }
    panic!("no token in 1000 steps");
}

#[test]
fn a_request_that_is_stopped_goes_on_as_if_it_had_not_been() {
    for n_in_flight in [1, 2, 3] {
        for (constrained, scope) in [(false, None), (false, Some(1)), (true, Some(1))] {
            let mut core = core(Limits { n_slot: 2, n_in_flight, ..LIMITS }, 4);
            let constraint = || constrained.then(|| Box::new(Picky::new(Flaw::None)) as Box<dyn Constraint>);
            let long = |prompt: &[u32]| EngineRequest {
                cache_scope: scope,
                constraint: constraint(),
                min_tokens: 30,
                end_ids: [3].into(),
                ..ask(1, prompt, 40)
            };
            let asked = [long(&[1, 2, 3, 4, 5, 6]), long(&[1, 2, 3, 4, 5, 7])];
            let streams = asked.clone().map(|request| enqueue(&mut core, request));
            for _ in 0..9 {
                core.step().unwrap();
            }
            // The first stops the second one of client 1; one whose client has a slot waits, and others come by turn.
            for client in [2, 2, 3, 4] {
                let request = ask(client, &[9, 8], 7);
                let other = enqueue(&mut core, request.clone());
                for _ in 0..9 {
                    core.step().unwrap();
                }
                for _ in 0..12 {
                    if !core.is_idle() {
                        core.step().unwrap();
                    }
                }
                let events = drain(other);
                assert!(tokens(&alone(&request)).starts_with(&tokens(&events)));
            }
            run_until_idle(&mut core);
            let load = core.counters().load();
            assert!(load.n_preempted >= 2 && load.n_replayed_token >= 10, "{load:?}");
            for (request, stream) in asked.iter().zip(streams) {
                let (events, expected) = (drain(stream), alone(request));
                let started = events.iter().filter(|event| matches!(event, Event::Started { .. })).count();
                let told = |events: &[Event]| -> Vec<Event> {
                    events.iter().filter(|event| matches!(event, Event::Token(_))).cloned().collect()
                };
                // Tokens with their log probabilities.
                assert_eq!((started, told(&events)), (1, told(&expected)));
                assert_eq!(reason(&events), reason(&expected));
                let usage = |events: &[Event]| match events.last() {
                    Some(Event::End { usage, .. }) => Usage { n_cached: 0, ..*usage },
                    other => panic!("{other:?}"),
                };
                assert_eq!(usage(&events), usage(&expected));
            }
            assert_eq!(core.pool().n_free(), LIMITS.n_page);
        }
    }
}

#[test]
fn a_flood_holds_a_stream_up_in_few_steps() {
    for protect_streams in [true, false] {
        let options = EngineOptions { protect_streams, ..EngineOptions::default() };
        let mut core = Core::new(Box::new(Fake::new(LIMITS)), options).unwrap();
        let asked = ask(1, &[5], 40);
        let mut stream = enqueue(&mut core, asked.clone());
        let flood: Vec<EngineRequest> = (0..40).map(|i| ask(2, &[1 + i % 9, 2], 4)).collect();
        let mut streams: Vec<Stream> =
            flood.iter().map(|request| enqueue(&mut core, request.clone())).collect();
        let mut events = Vec::new();
        while !events.iter().any(Event::is_terminal) {
            core.step().unwrap();
            events.extend(std::iter::from_fn(|| stream.try_next()));
        }
        assert_eq!(tokens(&events), tokens(&alone(&asked)));
        let drained = |streams: &mut [Stream]| -> Vec<Vec<Event>> {
            streams.iter_mut().map(|stream| std::iter::from_fn(|| stream.try_next()).collect()).collect()
        };
        let mut answers = drained(&mut streams);
        let n_begun = answers.iter().filter(|events| !tokens(events).is_empty()).count();
        assert_eq!(n_begun <= 7, protect_streams, "{n_begun}");
        // Nobody is forgotten, and no byte changes.
        run_until_idle(&mut core);
        for ((begun, rest), request) in answers.iter_mut().zip(drained(&mut streams)).zip(&flood) {
            begun.extend(rest);
            assert_eq!(tokens(begun), tokens(&alone(request)));
        }
    }
}

#[test]
fn prompts_within_a_share_hold_a_stream_up_for_a_part_of_the_time_where_they_take_long() {
    for bound_prompts in [true, false] {
        let milliseconds = Duration::from_millis;
        let fake = Fake::new(LIMITS).latency(milliseconds(2)).prompt_latency(milliseconds(20));
        let options = EngineOptions { bound_prompts, ..EngineOptions::default() };
        let mut core = Core::new(Box::new(fake), options).unwrap();
        let mut stream = enqueue(&mut core, ask(1, &[5], 40));
        steps_to_token(&mut core, &mut stream);
        // One at a time, so always within its share.
        let (mut n_begun, mut asked, mut events) = (0, Vec::new(), Vec::new());
        let mut other = enqueue(&mut core, ask(2, &[1, 8], 1));
        while !events.iter().any(Event::is_terminal) {
            core.step().unwrap();
            events.extend(std::iter::from_fn(|| stream.try_next()));
            let others: Vec<Event> = std::iter::from_fn(|| other.try_next()).collect();
            if others.iter().any(Event::is_terminal) {
                n_begun += 1;
                other = enqueue(&mut core, ask(2, &[1 + n_begun % 9, 8], 1));
                asked.push(tokens(&others));
            }
        }
        assert_eq!(n_begun < 10, bound_prompts, "{n_begun}");
        // It waits, but not for ever, and its answers are the same.
        assert!(n_begun >= 1);
        for (i, found) in (0..).zip(asked) {
            assert_eq!(found, tokens(&alone(&ask(2, &[1 + i % 9, 8], 1))));
        }
    }
}

#[test]
fn a_request_that_is_stopped_can_be_cancelled_and_says_what_it_had() {
    let mut core = core(Limits { n_slot: 1, ..LIMITS }, 4);
    let mut long = enqueue(&mut core, ask(1, &[1], 50));
    for _ in 0..8 {
        core.step().unwrap();
    }
    let other = enqueue(&mut core, ask(2, &[1], 50));
    core.step().unwrap();
    assert_eq!(core.counters().load().n_preempted, 1);
    long.cancel();
    core.step().unwrap();
    let events: Vec<Event> = std::iter::from_fn(|| long.try_next()).collect();
    assert_eq!(reason(&events), Ok(EndReason::Cancelled));
    let n_generated = tokens(&events).len();
    assert!(n_generated >= 7);
    assert!(
        matches!(events.last(), Some(Event::End { usage, .. }) if *usage == Usage { n_prompt: 1, n_cached: 0, n_generated })
    );
    core.fail(&EngineError::Stopped);
    assert_eq!(reason(&drain(other)), Err(EngineError::Stopped));
}

#[test]
fn a_flood_of_one_client_does_not_keep_another_from_its_next_step() {
    let mut core = core(LIMITS, 64);
    let flood: Vec<Stream> = (0..40).map(|_| enqueue(&mut core, ask(1, &[1, 2, 3], 60))).collect();
    for _ in 0..5 {
        core.step().unwrap();
    }
    // Two of the four slots are the other's: both of these run beside the flood.
    let mut others = [5, 6].map(|token| enqueue(&mut core, ask(2, &[token], 20)));
    let mut third = enqueue(&mut core, ask(2, &[7], 20));
    for other in &mut others {
        assert!(steps_to_token(&mut core, other) <= 1);
    }
    // A third client takes one of them, as the flood holds no more than it.
    let mut newcomer = enqueue(&mut core, ask(3, &[8], 20));
    assert_eq!(steps_to_token(&mut core, &mut newcomer), 1);
    assert!(steps_to_token(&mut core, &mut third) >= 15);
    drop(flood);
    run_until_idle(&mut core);
}

#[test]
fn with_more_clients_than_slots_each_has_a_turn_within_a_round() {
    let mut core = core(Limits { n_slot: 2, ..LIMITS }, 4);
    let mut streams: Vec<Stream> = (0..6).map(|client| enqueue(&mut core, ask(client, &[1], 55))).collect();
    // Three rounds of two clients: a step for the prompt, four tokens, and one step to see that they are there.
    let first = streams.iter_mut().map(|stream| steps_to_token(&mut core, stream)).sum::<usize>();
    assert!(first <= 3 * 6, "{first}");
    run_until_idle(&mut core);
    for (client, stream) in (0..).zip(streams) {
        let events = drain(stream);
        let expected = tokens(&alone(&ask(client, &[1], 55)));
        assert_eq!(reason(&events), Ok(EndReason::Length));
        // Its first token was taken above.
        assert_eq!(tokens(&events), expected[1..]);
    }
    let load = core.counters().load();
    assert!(load.n_replayed_token > 0 && load.n_replayed_token < 2 * 6 * 55, "{load:?}");
}

#[test]
fn slots_are_shared_by_weight() {
    let mut core = core(Limits { n_slot: 4, ..LIMITS }, 64);
    let weigh = |client, weight| EngineRequest { weight, ..ask(client, &[1], 30) };
    let streams: Vec<Stream> =
        (0..40).map(|i| enqueue(&mut core, if i % 2 == 0 { weigh(1, 3) } else { weigh(2, 1) })).collect();
    for _ in 0..40 {
        core.step().unwrap();
    }
    let n_running = |client| core.holdings().iter().filter(|held| held.client == client).count();
    assert_eq!((n_running(1), n_running(2)), (3, 1));
    drop(streams);
}

/// When which client sends how many requests of which prompt and answer.
fn arrivals() -> impl Strategy<Value = Vec<(usize, u64, usize, (usize, usize))>> {
    proptest::collection::vec((0..60usize, 0..4u64, 1..6usize, (1..20usize, 1..30usize)), 1..14)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// With no more clients than slots, a page for all that each can need and equal weights: after every step, each client that has
    /// requests has one that runs, whatever the others sent before. Every request ends as it does alone.
    #[test]
    fn whoever_has_requests_has_one_that_runs(arrivals in arrivals(), n_in_flight in 1..3usize) {
        let mut core = core(Limits { n_in_flight, ..LIMITS }, 4);
        let mut open: Vec<(EngineRequest, Stream, Vec<u32>)> = Vec::new();
        for step in 0..2000 {
            for &(at, client, n, (n_prompt, max_tokens)) in &arrivals {
                for i in 0..n {
                    if at == step {
                        let prompt: Vec<u32> = (0..n_prompt as u32).map(|t| (t + i as u32) % 40).collect();
                        let request = ask(client, &prompt, max_tokens);
                        let stream = enqueue(&mut core, request.clone());
                        open.push((request, stream, Vec::new()));
                    }
                }
            }
            if step > 60 && core.is_idle() {
                break;
            }
            let sent: HashMap<u64, usize> = open.iter().fold(HashMap::new(), |mut all, (request, ..)| {
                *all.entry(request.client).or_default() += 1;
                all
            });
            core.step().unwrap();
            // What ended in this step ran in it.
            let mut ran: HashMap<u64, usize> = HashMap::new();
            for held in core.holdings() {
                *ran.entry(held.client).or_default() += 1;
            }
            let mut ended = Vec::new();
            for (i, (request, stream, found)) in open.iter_mut().enumerate() {
                while let Some(event) = stream.try_next() {
                    match event {
                        Event::Token(sampled) => found.push(sampled.token),
                        Event::End { .. } => {
                            *ran.entry(request.client).or_default() += 1;
                            ended.push(i);
                        }
                        _ => {}
                    }
                }
            }
            for client in sent.keys() {
                prop_assert!(ran.contains_key(client), "client {client} waits at step {step}");
            }
            for i in ended.into_iter().rev() {
                let (request, _, found) = open.swap_remove(i);
                prop_assert_eq!(found, tokens(&alone(&request)));
            }
        }
        prop_assert!(open.is_empty());
        prop_assert_eq!(core.pool().n_free(), LIMITS.n_page);
    }
}

#[test]
fn a_client_that_comes_is_accepted_though_another_has_every_place() {
    let fake = Fake::new(Limits { n_slot: 2, ..LIMITS });
    let gate = Arc::clone(&fake.gate);
    let held = gate.lock().unwrap();
    let engine = spawn(fake, 3);
    let flood: Vec<Stream> = (0..5).map(|_| engine.submit(ask(1, &[1], 60)).unwrap()).collect();
    assert_eq!(engine.submit(ask(1, &[1], 60)).unwrap_err(), EngineError::Busy { limit: 5 });
    assert_eq!((engine.n_own_place(1), engine.n_own_place(2)), (0, 2));
    let others: Vec<Stream> = (0..2).map(|_| engine.submit(ask(2, &[1], 3)).unwrap()).collect();
    assert_eq!(engine.submit(ask(2, &[1], 3)).unwrap_err(), EngineError::Busy { limit: 2 });
    let load = engine.load();
    assert_eq!((load.n_unfinished, load.max_unfinished, load.n_client), (7, 5, 2));
    drop(held);
    for stream in others {
        assert_eq!(reason(&wait(stream)), Ok(EndReason::Length));
    }
    drop(flood);
    engine.shutdown(Shutdown::Drain);
    assert_eq!((engine.load().n_client, engine.load().n_unfinished), (0, 0));
}
