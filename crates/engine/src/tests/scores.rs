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
    prompts.flatten().map(|t| (t.token, t.logprob.to_bits(), t.alternatives.len())).collect()
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
