//! Log probabilities of prompts.

use super::*;

fn scored(prompt: &[u32]) -> EngineRequest {
    let params = SamplingParams { n_alternatives: 2, temperature: 0.0, ..SamplingParams::default() };
    EngineRequest { scores_prompt: true, cache_scope: Some(1), params, ..EngineRequest::greedy(prompt, 3) }
}

/// The prompt's tokens with their bits.
fn scores(events: &[Event]) -> Vec<(u32, u32, usize)> {
    let prompts = events.iter().filter_map(|event| match event {
        Event::Prompt(tokens) => Some(tokens),
        _ => None,
    });
    prompts
        .flatten()
        .map(|t| &t.sampled)
        .map(|t| (t.token, t.logprob.to_bits(), t.alternatives.len()))
        .collect()
}

#[test]
fn each_token_of_a_prompt_but_the_first_is_scored_alone_or_among_others() {
    let prompts: Vec<Vec<u32>> = (0..4).map(|i| (0..20 + i).map(|t| (t * 3 + i) % 8).collect()).collect();
    let alone: Vec<Vec<Event>> = prompts
        .iter()
        .map(|prompt| {
            let mut core = core(Fake::new(LIMITS));
            let stream = enqueue(&mut core, scored(prompt));
            run_until_idle(&mut core);
            drain(stream)
        })
        .collect();
    for (prompt, events) in prompts.iter().zip(&alone) {
        let found: Vec<u32> = scores(events).iter().map(|score| score.0).collect();
        assert_eq!(found, prompt[1..]);
        assert!(scores(events).iter().all(|score| score.2 == 2));
        assert_eq!(tokens(events).len(), 3);
    }
    // Among requests whose pages could be shared, and after the same prompts were computed and kept.
    let mut core = core(Fake::new(LIMITS));
    for _ in 0..2 {
        let plain = |prompt: &Vec<u32>| EngineRequest { scores_prompt: false, ..scored(prompt) };
        let plain: Vec<Stream> = prompts.iter().map(|p| enqueue(&mut core, plain(p))).collect();
        let streams: Vec<Stream> = prompts.iter().map(|p| enqueue(&mut core, scored(p))).collect();
        run_until_idle(&mut core);
        for (stream, alone) in streams.into_iter().zip(&alone) {
            let events = drain(stream);
            assert_eq!((scores(&events), tokens(&events)), (scores(alone), tokens(alone)));
        }
        for (stream, alone) in plain.into_iter().zip(&alone) {
            let events = drain(stream);
            assert_eq!((scores(&events), tokens(&events)), (vec![], tokens(alone)));
        }
    }
}

#[test]
fn a_request_that_starts_again_scores_each_token_once() {
    let options = EngineOptions { turn: 1, ..EngineOptions::default() };
    let limits = Limits { n_slot: 1, ..LIMITS };
    let mut core = Core::new(Box::new(Fake::new(limits)), options).unwrap();
    let prompt: Vec<u32> = (0..24).map(|t| t % 8).collect();
    let request = EngineRequest { max_tokens: 8, ..scored(&prompt) };
    let stream = enqueue(&mut core, request);
    for _ in 0..4 {
        core.step().unwrap();
    }
    let other = enqueue(&mut core, EngineRequest { client: 1, ..EngineRequest::greedy([1, 2], 4) });
    run_until_idle(&mut core);
    assert!(core.counters().n_replayed_token.load(Ordering::Relaxed) > 0, "it was never stopped");
    assert_eq!(tokens(&drain(other)).len(), 4);
    let events = drain(stream);
    assert_eq!(scores(&events).iter().map(|score| score.0).collect::<Vec<_>>(), prompt[1..]);
    assert_eq!(tokens(&events).len(), 8);
}

#[test]
fn a_prompt_may_be_scored_without_an_answer() {
    let mut core = core(Fake::new(LIMITS));
    let prompts: Vec<Vec<u32>> = [2, 3, 20].map(|n| (0..n).map(|t| t * 3 % 8).collect()).into();
    let streams: Vec<Stream> = prompts
        .iter()
        .map(|prompt| enqueue(&mut core, EngineRequest { max_tokens: 0, ..scored(prompt) }))
        .collect();
    // Others run beside it as they do without.
    let other = enqueue(&mut core, EngineRequest::greedy([1, 2], 4));
    run_until_idle(&mut core);
    for (stream, prompt) in streams.into_iter().zip(&prompts) {
        let events = drain(stream);
        assert_eq!(scores(&events).iter().map(|score| score.0).collect::<Vec<_>>(), prompt[1..]);
        let Some(Event::End { reason, usage, .. }) = events.last() else { panic!("{events:?}") };
        assert_eq!((*reason, usage.n_prompt, usage.n_generated), (EndReason::Length, prompt.len(), 0));
    }
    assert_eq!(tokens(&drain(other)).len(), 4);
    // The first token has no score, so of one alone there is none.
    let stream = enqueue(&mut core, EngineRequest { max_tokens: 0, ..scored(&[1]) });
    run_until_idle(&mut core);
    assert!(matches!(&drain(stream)[..], [Event::Started { .. }, Event::End { .. }]));
}

#[test]
fn a_rank_counts_the_likelier_tokens() {
    let mut core = core(Fake::new(LIMITS));
    let stream = enqueue(&mut core, scored(&[1, 2, 3, 4, 5, 6, 7]));
    run_until_idle(&mut core);
    let events = drain(stream);
    let found = events.iter().filter_map(|event| match event {
        Event::Prompt(tokens) => Some(tokens),
        _ => None,
    });
    for scored in found.flatten() {
        let at = scored.sampled.alternatives.iter().position(|&(token, _)| token == scored.sampled.token);
        match at {
            Some(at) => assert_eq!(scored.rank, at + 1),
            None => assert!(scored.rank > scored.sampled.alternatives.len()),
        }
    }
}
