//! Vectors of prompts.

use super::*;
use crate::Pooling;

const ALL: [Pooling; 3] = [Pooling::Mean, Pooling::First, Pooling::Last];

fn embedding(prompt: &[u32], pooling: Pooling) -> EngineRequest {
    EngineRequest { cache_scope: Some(1), ..EngineRequest::embedding(prompt, pooling) }
}

/// The only vector of a request that ended as it should.
fn vector(events: &[Event], n_prompt: usize) -> Vec<u32> {
    let [Event::Started { .. }, Event::Embedding(vector), Event::End { reason, usage, .. }] = events else {
        panic!("{events:?}")
    };
    assert_eq!((*reason, usage.n_prompt, usage.n_generated), (EndReason::Length, n_prompt, 0));
    vector.iter().map(|x| x.to_bits()).collect()
}

fn alone(limits: Limits, request: EngineRequest) -> Vec<u32> {
    let mut core = core(Fake::new(limits));
    let n_prompt = request.prompt.len();
    let stream = enqueue(&mut core, request);
    run_until_idle(&mut core);
    vector(&drain(stream), n_prompt)
}

fn prompts() -> Vec<Vec<u32>> {
    // All but the last begin alike; the last is a whole context.
    let mut prompts: Vec<Vec<u32>> =
        (0..5).map(|i| (0..20 + i).map(|t| if t < 16 { t % 8 } else { i }).collect()).collect();
    prompts.extend([vec![3], (0..64).map(|t| t % 8).collect()]);
    prompts
}

#[test]
fn a_vector_is_made_of_the_rows_that_its_pooling_names() {
    let prompt = [1, 2, 3, 4, 5, 6];
    // The fake's row at a position depends on the tokens up to it, so a prefix's last row is a row of the prompt.
    let row = |n: usize| alone(LIMITS, embedding(&prompt[..n], Pooling::Last));
    assert_eq!(row(1).len(), LIMITS.n_embd);
    assert_eq!(alone(LIMITS, embedding(&prompt, Pooling::First)), row(1));
    assert_ne!(row(6), row(1));
    let rows: Vec<Vec<u32>> = (1..=6).map(row).collect();
    let mean = |i: usize| {
        let sum: f64 = rows.iter().map(|row| f64::from(f32::from_bits(row[i]))).sum();
        ((sum / 6.0) as f32).to_bits()
    };
    let expected: Vec<u32> = (0..LIMITS.n_embd).map(mean).collect();
    assert_eq!(alone(LIMITS, embedding(&prompt, Pooling::Mean)), expected);
}

#[test]
fn vectors_are_the_same_alone_among_others_cut_and_after_a_cached_prefix() {
    for pooling in ALL {
        let alone: Vec<Vec<u32>> =
            prompts().iter().map(|prompt| alone(LIMITS, embedding(prompt, pooling))).collect();
        for limits in [LIMITS, Limits { n_row: 3, ..LIMITS }, Limits { n_in_flight: 2, ..LIMITS }] {
            let mut core = core(Fake::new(limits));
            // The second time prefixes of the prompts are there.
            for round in 0..2 {
                let other = enqueue(&mut core, EngineRequest::greedy([1, 2], 4));
                let streams: Vec<Stream> =
                    prompts().iter().map(|prompt| enqueue(&mut core, embedding(prompt, pooling))).collect();
                run_until_idle(&mut core);
                for ((stream, prompt), alone) in streams.into_iter().zip(prompts()).zip(&alone) {
                    let events = drain(stream);
                    assert_eq!(&vector(&events, prompt.len()), alone, "{pooling:?} {limits:?}");
                    let Some(Event::End { usage, .. }) = events.last() else { unreachable!("checked") };
                    let may_hit = pooling == Pooling::Last && round == 1 && prompt.len() > 4;
                    assert!(usage.n_cached == 0 || pooling == Pooling::Last);
                    assert!(usage.n_cached > 0 || !may_hit, "{pooling:?} {} tokens", prompt.len());
                }
                assert_eq!(tokens(&drain(other)).len(), 4);
            }
            assert_eq!(core.pool().n_free(), limits.n_page);
        }
    }
}

#[test]
fn a_request_that_starts_again_has_the_same_vector() {
    let options = EngineOptions { prefix_cache: false, ..EngineOptions::default() };
    // The first row is there after a step.
    for pooling in [Pooling::Mean, Pooling::Last] {
        let prompts = [0, 1].map(|i| (0..60).map(|t| (t * 3 + i) % 8).collect::<Vec<u32>>());
        let limits = Limits { n_slot: 2, n_row: 4, ..LIMITS };
        let mut core = Core::new(Box::new(Fake::new(limits)), options).unwrap();
        let streams = prompts.each_ref().map(|prompt| enqueue(&mut core, embedding(prompt, pooling)));
        for _ in 0..6 {
            core.step().unwrap();
        }
        // One of the two slots is this client's share.
        let other = enqueue(&mut core, EngineRequest { client: 1, ..EngineRequest::greedy([1, 2], 4) });
        run_until_idle(&mut core);
        assert_eq!(tokens(&drain(other)).len(), 4);
        assert_eq!(core.counters().n_preempted.load(Ordering::Relaxed), 1);
        for (stream, prompt) in streams.into_iter().zip(&prompts) {
            assert_eq!(vector(&drain(stream), 60), alone(limits, embedding(prompt, pooling)));
        }
    }
}

#[test]
fn what_makes_no_vector_is_refused() {
    let refused = |request: EngineRequest, limits: &Limits| request.check(limits).unwrap_err().to_string();
    let long = EngineRequest::embedding(vec![1; 65], Pooling::Mean);
    assert_eq!(refused(long, &LIMITS), "prompt: expected 1 to 64 tokens, found 65");
    let empty = EngineRequest::embedding(vec![], Pooling::Mean);
    assert_eq!(refused(empty, &LIMITS), "prompt: expected 1 to 64 tokens, found 0");
    let unknown = EngineRequest::embedding(vec![40], Pooling::Mean);
    assert_eq!(refused(unknown, &LIMITS), "prompt: expected ids below 40, found 40");
    let answers = EngineRequest { max_tokens: 1, ..embedding(&[1], Pooling::Last) };
    let expected = "embeds: expected no answer, scores or constraint beside it, found one of them";
    assert_eq!(refused(answers, &LIMITS), expected);
    let expected = "embeds: expected none: this device gives no hidden rows, found some";
    assert_eq!(refused(embedding(&[1], Pooling::Last), &Limits { n_embd: 0, ..LIMITS }), expected);
}

#[test]
fn a_vector_that_is_no_number_is_an_error_and_a_cancelled_one_ends() {
    let mut core = core(Fake::new(LIMITS).fault(Fault::Broken(0)));
    let stream = enqueue(&mut core, embedding(&[1, 2, 3], Pooling::Last));
    run_until_idle(&mut core);
    let events = drain(stream);
    assert_eq!(events.last(), Some(&Event::Error(EngineError::NotNumbers { position: 2 })));
    let stream = enqueue(&mut core, embedding(&[1, 2, 3], Pooling::Last));
    stream.cancel();
    run_until_idle(&mut core);
    let events = drain(stream);
    assert!(matches!(events[..], [Event::End { reason: EndReason::Cancelled, .. }]), "{events:?}");
}
