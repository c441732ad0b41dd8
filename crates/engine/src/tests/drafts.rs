//! A draft model beside the fake: what it saves, and that nothing but time depends on it, whatever becomes of it.

use super::guesses::{GUESSING, SEER};
use super::*;

/// A draft model that is always right for greedy requests.
const RIGHT: u64 = 0;
/// One that is wrong now and then.
const LIAR: u64 = 3;
/// One that is never right but by chance.
const WRONG: u64 = 1;

const DRAFTING: Speculation = Speculation { extent: Extent::Most, ..SEER };

fn drafting(limits: Limits, draft: Fake) -> Core {
    let speculation = Some(Speculation::draft(Extent::Most));
    let options = EngineOptions { speculation, ..EngineOptions::default() };
    Core::new(Box::new(Fake::new(limits)), options).unwrap().with_draft(Box::new(draft))
}

fn draft(salt: u64) -> Fake {
    Fake::new(GUESSING).draft(salt)
}

/// The tokens of a request, the steps that they took, and how many of them were guessed and accepted.
fn run(request: &EngineRequest, mut core: Core) -> (Vec<u32>, u64, (u64, u64)) {
    let stream = enqueue(&mut core, request.clone());
    run_until_idle(&mut core);
    let load = core.counters().load();
    assert_eq!(core.draft_pool().unwrap().n_free(), core.draft_pool().unwrap().n_unowned());
    assert_eq!((core.pool().n_free(), core.draft_pool().unwrap().n_free()), (64, 64));
    assert!(load.has_draft, "the draft model was given up");
    (tokens(&drain(stream)), load.n_step, (load.by_draft.n_token, load.by_draft.n_accepted))
}

#[test]
fn a_draft_model_that_is_right_saves_steps() {
    let request = EngineRequest::greedy([1, 2, 3], 25);
    let expected = tokens(&alone(&request));
    // The prompt gives one token, each step after it six.
    assert_eq!(run(&request, drafting(GUESSING, draft(RIGHT))), (expected.clone(), 5, (20, 20)));
    let refusing = EngineRequest { speculate: false, ..request.clone() };
    assert_eq!(run(&refusing, drafting(GUESSING, draft(RIGHT))), (expected.clone(), 25, (0, 0)));
    // One that is kept a step ahead: the first generated token is under way before the prompt's is known, and is waited for then.
    let ahead = Limits { n_in_flight: 2, ..GUESSING };
    assert_eq!(run(&request, drafting(ahead, draft(RIGHT))), (expected, 6, (19, 19)));
}

#[test]
fn what_is_proposed_wrongly_is_taken_back() {
    for request in [
        EngineRequest::greedy([1, 2, 3], 40),
        EngineRequest::greedy((0..33).collect::<Vec<u32>>(), 30),
        EngineRequest {
            params: SamplingParams {
                temperature: 1.0,
                seed: 5,
                presence_penalty: 1.0,
                ..SamplingParams::default()
            },
            ..EngineRequest::greedy([9], 40)
        },
    ] {
        let expected = tokens(&alone(&request));
        for salt in [LIAR, WRONG, 2, 7] {
            let (found, n_step, (n_token, n_accepted)) = run(&request, drafting(GUESSING, draft(salt)));
            assert_eq!(found, expected);
            let n_prompt_step = request.prompt.len().div_ceil(GUESSING.n_row) as u64;
            assert!(n_accepted < n_token, "{salt}: {n_accepted}");
            assert_eq!(n_step + n_accepted, n_prompt_step - 1 + expected.len() as u64);
        }
        // Rows that have no room for guesses of their own are computed as a prompt's, and pages of windows are gone back on as well.
        let window = Some(Window { n_page: 4 * 5 + 20, n_position: 5 });
        for limits in [
            Limits { n_guess: 0, ..GUESSING },
            Limits { window, ..GUESSING },
            Limits { n_row: 2, ..GUESSING },
        ] {
            let (found, ..) = run(&request, drafting(GUESSING, Fake::new(limits).draft(LIAR)));
            assert_eq!(found, expected);
        }
    }
}

#[test]
fn a_long_prompt_comes_piece_by_piece_after_the_first_token() {
    let request = EngineRequest::greedy((0..50).map(|i| i % 40).collect::<Vec<u32>>(), 14);
    let expected = tokens(&alone(&request));
    let (found, n_step, (n_token, n_accepted)) = run(
        &request,
        drafting(Limits { n_row: 64, ..GUESSING }, Fake::new(Limits { n_row: 40, ..GUESSING }).draft(RIGHT)),
    );
    assert_eq!(found, expected);
    // Two steps for the prompt; the one after the first token has no guesses yet, since the draft model has only a part of the prompt by then.
    assert_eq!((n_step, n_token, n_accepted), (5, 10, 10));
}

#[test]
fn sequences_that_find_no_place_there_go_without() {
    let requests: Vec<EngineRequest> = (0..4).map(|i| EngineRequest::greedy([i, 2], 20)).collect();
    for limits in [
        Limits { n_slot: 1, ..GUESSING },
        Limits { n_page: 6, ..GUESSING },
        Limits { n_ctx: 12, ..GUESSING },
        // Ids that the draft model does not have.
        Limits { n_vocab: 30, ..GUESSING },
    ] {
        let mut core = drafting(GUESSING, Fake::new(limits).draft(LIAR));
        let streams: Vec<Stream> =
            requests.iter().map(|request| enqueue(&mut core, request.clone())).collect();
        run_until_idle(&mut core);
        for (request, stream) in requests.iter().zip(streams) {
            assert_eq!(tokens(&drain(stream)), tokens(&alone(request)));
        }
        let load = core.counters().load();
        assert!(load.has_draft && load.n_draft_step > 0, "{limits:?}");
        assert_eq!(core.draft_pool().unwrap().n_free(), limits.n_page);
    }
}

#[test]
fn a_draft_model_that_fails_costs_only_time() {
    let request = EngineRequest::greedy([1, 2, 3], 30);
    let expected = tokens(&alone(&request));
    for fault in [Fault::SubmitError(4), Fault::CollectError(0), Fault::TicketLost(7)] {
        let mut core = drafting(GUESSING, draft(LIAR).fault(fault));
        let stream = enqueue(&mut core, request.clone());
        run_until_idle(&mut core);
        let events = drain(stream);
        assert_eq!((tokens(&events), reason(&events)), (expected.clone(), Ok(EndReason::Length)));
        assert!(core.draft_pool().is_none() && !core.counters().load().has_draft);
    }
    // Logits that are not numbers: this sequence is not drafted for any more, the next one is.
    let mut core = drafting(GUESSING, draft(RIGHT).fault(Fault::Broken(3)));
    for n_unsound in [1, 1] {
        let stream = enqueue(&mut core, request.clone());
        let before = core.counters().load().n_draft_step;
        run_until_idle(&mut core);
        assert_eq!(tokens(&drain(stream)), expected);
        let load = core.counters().load();
        assert!(load.has_draft && load.n_draft_unsound == n_unsound && load.n_draft_step > before);
        assert_eq!(core.draft_pool().unwrap().n_free(), GUESSING.n_page);
    }
}

#[test]
fn a_request_that_ends_among_drafts_ends_once_and_gives_back_both_models_pages() {
    let request = || EngineRequest::greedy([1, 2, 3], 50);
    for early in Early::ALL {
        let mut core = drafting(GUESSING, draft(LIAR));
        let stream = enqueue(&mut core, early.request(request()));
        let other = enqueue(&mut core, request());
        (0..3).for_each(|_| core.step().unwrap());
        assert_eq!(core.draft_pool().unwrap().n_free(), 64 - 2 * 14);
        early.end(&mut core, stream);
        assert_eq!(core.draft_pool().unwrap().n_free(), 64 - 14);
        run_until_idle(&mut core);
        assert_eq!(tokens(&drain(other)), tokens(&alone(&request())));
        assert_eq!((core.pool().n_free(), core.draft_pool().unwrap().n_free()), (64, 64));
    }
    for fault in [Fault::SubmitError(3), Fault::CollectError(3)] {
        let speculation = Some(Speculation::draft(Extent::Most));
        let options = EngineOptions { speculation, ..EngineOptions::default() };
        let executor = Box::new(Fake::new(GUESSING).fault(fault));
        let mut core = Core::new(executor, options).unwrap().with_draft(Box::new(draft(LIAR)));
        let stream = enqueue(&mut core, request());
        let error = (0..9).find_map(|_| core.step().err()).unwrap();
        assert!(core.counters().load().n_draft_token > 0 && core.draft_pool().unwrap().n_free() < 64);
        core.fail(&error);
        assert_eq!(reason(&drain(stream)), Err(error));
        assert_eq!((core.pool().n_free(), core.draft_pool().unwrap().n_free()), (64, 64));
    }
}

#[test]
fn an_own_guess_that_is_as_likely_is_not_drafted() {
    // The seer's guesses have a chance of 0.9, more than what a draft model is taken to have at first.
    let options = EngineOptions { speculation: Some(DRAFTING), ..EngineOptions::default() };
    let mut core =
        Core::new(Box::new(Fake::new(GUESSING)), options).unwrap().with_draft(Box::new(draft(RIGHT)));
    let request = EngineRequest::greedy([1, 2, 3], 40);
    let stream = enqueue(&mut core, request.clone());
    run_until_idle(&mut core);
    assert_eq!(tokens(&drain(stream)), tokens(&alone(&request)));
    let load = core.counters().load();
    assert!(load.n_draft > 0 && load.n_draft_step == 0, "{load:?}");
}

/// Times are measured, so the fakes take some: the model 3 ms a step.
fn paying(of_draft: Duration, salt: u64, n: usize) -> Load {
    let speculation = Some(Speculation::draft(Extent::Paying));
    let options = EngineOptions { speculation, ..EngineOptions::default() };
    let limits = Limits { n_ctx: 512, n_page: 200, ..GUESSING };
    let model = Fake::new(limits).latency(Duration::from_millis(3));
    let drafter = Fake::new(limits).draft(salt).latency(of_draft);
    let mut core = Core::new(Box::new(model), options).unwrap().with_draft(Box::new(drafter));
    let stream = enqueue(&mut core, EngineRequest::greedy([1, 2, 3], n));
    run_until_idle(&mut core);
    assert_eq!(tokens(&drain(stream)).len(), n);
    core.counters().load()
}

#[test]
fn a_draft_model_is_asked_as_far_as_it_pays() {
    // It is measured time that decides, and a busy machine has outliers: one of three runs has to be as on a quiet one.
    let once = |of_draft: Duration, salt: u64, expected: fn(&Load) -> bool| {
        let mut seen: Vec<Load> = Vec::new();
        while !seen.last().is_some_and(expected) {
            assert!(seen.len() < 3, "{seen:?}");
            seen.push(paying(of_draft, salt, 200));
        }
    };
    // One that is right and quick: some tokens a step.
    once(Duration::from_micros(100), RIGHT, |load| load.n_step < 100);
    // One that is as slow as the model, and one that is wrong: tried for as long as the credit lasts, and then now and then.
    for (of_draft, salt) in [(Duration::from_millis(3), RIGHT), (Duration::from_millis(1), WRONG)] {
        once(of_draft, salt, |load| load.draft_time < Duration::from_millis(120) && load.n_draft_step < 60);
    }
}
