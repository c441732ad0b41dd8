//! The prefix cache as requests see it: who finds what, and what that changes of an answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use device::{Limits, SamplingParams, Window};
use testkit::fake::{Fake, LIMITS};

use super::guesses::SEER;
use super::{alone, drain, enqueue, reason, run_until_idle, tokens};
use crate::engine::Core;
use crate::{EndReason, EngineOptions, EngineRequest, Event, Stream};

fn scoped(scope: u64, prompt: &[u32]) -> EngineRequest {
    let params = SamplingParams { frequency_penalty: 1.0, temperature: 1.0, seed: 3, ..Default::default() };
    EngineRequest { cache_scope: Some(scope), params, ..EngineRequest::greedy(prompt, 9) }
}

/// A fake with these limits, and how many rows it computes.
fn counted(limits: Limits, options: EngineOptions) -> (Core, Arc<AtomicUsize>) {
    let fake = Fake::new(limits);
    let rows = Arc::clone(&fake.rows);
    (Core::new(Box::new(fake), options).unwrap(), rows)
}

/// How many tokens of its prompt were there already, of an answer that is as it is alone.
fn n_cached(stream: Stream, request: &EngineRequest) -> usize {
    let (events, expected) = (drain(stream), alone(request));
    assert_eq!((tokens(&events), reason(&events)), (tokens(&expected), Ok(EndReason::Length)));
    match events.last() {
        Some(Event::End { usage, .. }) => usage.n_cached,
        other => panic!("{other:?}"),
    }
}

/// Runs one after the other.
fn one_by_one(core: &mut Core, requests: &[EngineRequest]) -> Vec<usize> {
    let one = |request: &EngineRequest| {
        let stream = enqueue(core, request.clone());
        run_until_idle(core);
        n_cached(stream, request)
    };
    requests.iter().map(one).collect()
}

#[test]
fn without_an_answer_a_prompt_is_computed_and_kept() {
    let prompt: Vec<u32> = (0..18).collect();
    for speculation in [None, Some(SEER)] {
        let limits = Limits { n_guess: 4, ..LIMITS };
        let (mut core, rows) = counted(limits, EngineOptions { speculation, ..EngineOptions::default() });
        let stream = enqueue(&mut core, EngineRequest { max_tokens: 0, ..scoped(1, &prompt) });
        run_until_idle(&mut core);
        match &drain(stream)[..] {
            [Event::Started { .. }, Event::End { reason: EndReason::Length, usage, .. }] => {
                assert_eq!((usage.n_prompt, usage.n_generated, usage.n_cached), (18, 0, 0));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(rows.load(Ordering::Relaxed), 18);
        assert_eq!(one_by_one(&mut core, &[scoped(1, &prompt), scoped(2, &prompt)]), [16, 0]);
    }
}

#[test]
fn a_prompt_is_shared_within_its_scope_alone() {
    let prompt: Vec<u32> = (0..18).collect();
    let unscoped = EngineRequest { cache_scope: None, ..scoped(0, &prompt) };
    let requests = [
        scoped(1, &prompt),
        scoped(1, &prompt),
        scoped(2, &prompt),
        unscoped.clone(),
        scoped(2, &prompt[..16]),
        scoped(1, &[&prompt[..9], &[30; 9]].concat()),
        unscoped,
    ];
    let (mut core, _) = counted(LIMITS, EngineOptions::default());
    assert_eq!(one_by_one(&mut core, &requests), [0, 16, 0, 0, 12, 8, 0]);
    let load = core.counters().load();
    assert_eq!((load.n_prefix_query_token, load.n_prefix_hit_token), (4 * 18 + 16, 36));
    // 4 of each of the two scopes, and 2 of the prompt that goes on otherwise.
    assert_eq!((load.n_cached_page, core.pool().n_free(), core.pool().n_unowned()), (10, 64, 54));

    let (mut core, _) = counted(LIMITS, EngineOptions { prefix_cache: false, ..EngineOptions::default() });
    assert_eq!(one_by_one(&mut core, &requests), [0; 7]);
    assert_eq!(core.pool().n_unowned(), 64);
}

#[test]
fn requests_that_arrive_together_compute_a_common_prompt_once() {
    for n_in_flight in [1, 2] {
        let prompt: Vec<u32> = (0..34).collect();
        let requests: Vec<EngineRequest> =
            (0..4).map(|i| scoped(1, &[&prompt[..30 + i], &[35]].concat())).collect();
        let (mut core, rows) = counted(Limits { n_in_flight, ..LIMITS }, EngineOptions::default());
        let streams: Vec<Stream> =
            requests.iter().map(|request| enqueue(&mut core, request.clone())).collect();
        run_until_idle(&mut core);
        let found: Vec<usize> =
            streams.into_iter().zip(&requests).map(|(stream, request)| n_cached(stream, request)).collect();
        assert_eq!(found, [0, 28, 28, 32]);
        let n_prompt: usize = requests.iter().map(|request| request.prompt.len()).sum();
        // The ninth token of an answer is not computed.
        assert_eq!(rows.load(Ordering::Relaxed), n_prompt - (28 + 28 + 32) + 4 * 8);
    }
}

#[test]
fn who_follows_goes_on_when_the_one_ahead_gives_up() {
    let prompt: Vec<u32> = (0..38).collect();
    let (mut core, _) = counted(LIMITS, EngineOptions::default());
    let first = enqueue(&mut core, scoped(1, &prompt));
    let requests = [scoped(1, &prompt), scoped(1, &prompt)];
    let others = requests.clone().map(|request| enqueue(&mut core, request));
    core.step().unwrap();
    first.cancel();
    run_until_idle(&mut core);
    assert_eq!(reason(&drain(first)), Ok(EndReason::Cancelled));
    // The first had computed a step's 16 rows.
    let [second, third] = others;
    assert_eq!((n_cached(second, &requests[0]), n_cached(third, &requests[1])), (16, 36));
}

#[test]
fn pages_that_nobody_holds_make_room() {
    // 12 pages of 4: each request takes 5 for its 12 tokens of prompt and 8 of answer.
    let prompts: Vec<Vec<u32>> = (0..8).map(|i| (0..12).map(|t| t + i).collect()).collect();
    let requests: Vec<EngineRequest> = prompts.iter().map(|prompt| scoped(1, prompt)).collect();
    let order = [0, 1, 0, 2, 3, 0, 1];
    let asked: Vec<EngineRequest> = order.iter().map(|&i| requests[i].clone()).collect();
    let (mut core, _) = counted(Limits { n_page: 12, n_slot: 1, ..LIMITS }, EngineOptions::default());
    // Request 0 stays, as it is used again; of 1 only the first page is left when it comes back.
    assert_eq!(one_by_one(&mut core, &asked), [0, 0, 8, 0, 0, 8, 4]);
    assert_eq!(core.pool().n_free(), 12);
}

#[test]
fn a_page_is_used_from_its_first_position_on_and_reserved_from_the_start() {
    let prompt: Vec<u32> = (0..9).collect();
    let (mut core, _) = counted(LIMITS, EngineOptions::default());
    let request = EngineRequest { max_tokens: 30, ..scoped(1, &prompt) };
    let reserved = request.n_page(&LIMITS);
    let pages = |core: &Core| (core.pool().n_used(), LIMITS.n_page - core.pool().n_free());
    let first = enqueue(&mut core, request.clone());
    core.step().unwrap();
    // Pages have 4 positions: 9 of the prompt and at most one for each step under way.
    assert_eq!(pages(&core), (3, reserved));
    assert!(reserved > 8);
    // Of the second's three pages the first has two.
    let second = enqueue(&mut core, request);
    core.step().unwrap();
    core.step().unwrap();
    let (used, held) = pages(&core);
    assert_eq!(held, 2 * reserved - 2);
    assert!((4..=5).contains(&used), "{used}");
    let before = used;
    for _ in 0..8 {
        core.step().unwrap();
    }
    assert!(pages(&core).0 >= before + 3, "{:?}", pages(&core));
    run_until_idle(&mut core);
    assert_eq!(pages(&core), (0, 0));
    drop((first, second));
}

/// Prompts of 18 tokens in pages of 4 that have these many tokens in common with the first.
fn in_common(n: &[usize]) -> Vec<EngineRequest> {
    let prompt = |(i, &n): (usize, &usize)| {
        let own = 20 + i as u32;
        scoped(1, &(0..18).map(|t| if (t as usize) < n { t } else { own }).collect::<Vec<_>>())
    };
    n.iter().enumerate().map(prompt).collect()
}

#[test]
fn a_prompt_goes_on_after_the_last_state_that_was_kept() {
    let limits = Limits { n_snapshot: Some(8), ..LIMITS };
    let (mut core, _) = counted(limits, EngineOptions::default());
    // The same again; one that parts from it, which keeps the state where it does; others that part there or before.
    assert_eq!(one_by_one(&mut core, &in_common(&[18, 18, 9, 9, 10, 5])), [0, 16, 0, 8, 8, 0]);
    assert_eq!(one_by_one(&mut core, &in_common(&[18, 7, 13])), [16, 4, 8]);
    core.fail(&crate::EngineError::Stopped);
    assert_eq!(core.pool().n_unowned(), limits.n_page);

    let (mut core, _) = counted(Limits { n_snapshot: Some(0), ..LIMITS }, EngineOptions::default());
    assert_eq!(one_by_one(&mut core, &in_common(&[18, 18, 9, 9])), [0; 4]);
    assert_eq!(core.pool().n_unowned(), LIMITS.n_page);
}

#[test]
fn the_state_that_was_not_used_for_longest_makes_room() {
    let (mut core, _) = counted(Limits { n_snapshot: Some(2), ..LIMITS }, EngineOptions::default());
    let [a, b, c] = [1, 2, 3].map(|first| scoped(1, &[first; 18]));
    let asked = [&a, &b, &a, &c, &a, &b, &c, &c].map(Clone::clone);
    assert_eq!(one_by_one(&mut core, &asked), [0, 0, 16, 0, 16, 0, 0, 16]);
}

#[test]
fn who_follows_begins_with_the_state_of_the_one_ahead() {
    for n_in_flight in [1, 2] {
        let limits = Limits { n_in_flight, n_snapshot: Some(4), ..LIMITS };
        let (mut core, _) = counted(limits, EngineOptions::default());
        let requests = in_common(&[18, 18, 13, 13]);
        let streams: Vec<Stream> =
            requests.iter().map(|request| enqueue(&mut core, request.clone())).collect();
        run_until_idle(&mut core);
        let found: Vec<usize> =
            streams.into_iter().zip(&requests).map(|(stream, request)| n_cached(stream, request)).collect();
        assert_eq!(found, [0, 16, 12, 12]);
    }
}

/// Windows of 9 positions, which are 2 pages behind, with as many pages as slots and steps need and `spare` more.
fn windowed(spare: usize) -> Limits {
    let window = Window { n_page: 0, n_position: 9 };
    let n_page = window.least(LIMITS.page_size, [LIMITS.n_slot, LIMITS.n_row]) + spare;
    Limits { window: Some(Window { n_page, ..window }), ..LIMITS }
}

#[test]
fn a_prompt_goes_on_where_the_windows_before_it_are_kept() {
    let (mut core, _) = counted(windowed(8), EngineOptions::default());
    assert_eq!(one_by_one(&mut core, &in_common(&[18, 18, 9, 9, 10, 5])), [0, 16, 8, 8, 8, 4]);
    // Prompts that fill the pool with pages of their own: the first one's end is gone, though its pages are there, and is computed again.
    let others: Vec<EngineRequest> = (0..6).map(|i| scoped(1, &[30 + i; 34])).collect();
    one_by_one(&mut core, &others);
    assert_eq!(one_by_one(&mut core, &in_common(&[18, 18])), [0, 16]);
    assert_eq!(core.windows().n_free(), windowed(8).window.unwrap().n_page);
    core.fail(&crate::EngineError::Stopped);
    assert_eq!(core.windows().n_unowned(), windowed(8).window.unwrap().n_page);
}

#[test]
fn who_follows_begins_with_the_windows_of_the_one_ahead() {
    for n_in_flight in [1, 2] {
        let (mut core, _) = counted(Limits { n_in_flight, ..windowed(8) }, EngineOptions::default());
        let requests = in_common(&[18, 18, 13, 13]);
        let streams: Vec<Stream> =
            requests.iter().map(|request| enqueue(&mut core, request.clone())).collect();
        run_until_idle(&mut core);
        let found: Vec<usize> =
            streams.into_iter().zip(&requests).map(|(stream, request)| n_cached(stream, request)).collect();
        assert_eq!(found, [0, 16, 12, 12]);
    }
}

#[test]
fn a_sequence_gives_the_pages_that_its_window_left_back() {
    let (mut core, _) = counted(windowed(0), EngineOptions::default());
    let n_page = windowed(0).window.unwrap().n_page;
    let request = EngineRequest { max_tokens: 40, ..scoped(1, &(0..20).collect::<Vec<_>>()) };
    let stream = enqueue(&mut core, request.clone());
    let mut most = 0;
    while !core.is_idle() {
        core.step().unwrap();
        most = most.max(n_page - core.windows().n_free());
    }
    // 60 positions are 15 pages.
    assert_eq!(most, 3);
    n_cached(stream, &request);
}

#[test]
fn an_executor_with_too_few_pages_of_windows_is_given_up() {
    let window = Some(Window { n_page: 1, n_position: 9 });
    let (mut core, _) = counted(Limits { window, ..LIMITS }, EngineOptions::default());
    let _stream = enqueue(&mut core, EngineRequest::greedy([1; 8], 2));
    let expected = "the engine failed: expected 2 free pages of windows, found 1";
    assert_eq!(core.step().unwrap_err().to_string(), expected);
}
