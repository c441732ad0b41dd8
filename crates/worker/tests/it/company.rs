//! Requests on a real model, together and alone: the same tokens, bit for bit. One cancelled in between disturbs none, and one stopped for
//! another client's goes on as if it had not been.

use std::path::Path;
use std::sync::Arc;

use cpu::{CpuExecutor, Options};
use device::SamplingParams;
use engine::{Engine, EngineOptions};
use model::Model;
use tokenizer::Tokenizer;
use worker::{Event, Format, Generation, Prompt, Request, Worker, WorkerOptions};

const N_REQUEST: usize = 10;

/// A worker on the processor with room for `n_slot` sequences, whose prompts are cut into steps of 24 rows.
fn worker(n_slot: usize) -> Worker {
    worker_of("llama-q4_k_m.gguf", n_slot, EngineOptions::default())
}

fn worker_of(name: &str, n_slot: usize, engine: EngineOptions) -> Worker {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(name);
    let file = gguf::Gguf::open(&path).unwrap();
    let tokenizer = Arc::new(Tokenizer::from_gguf(file.metadata(), None).unwrap());
    let model = Arc::new(Model::load(&file).unwrap());
    let options = Options { threads: 2, n_ctx: 256, n_slot, n_row: 24, n_snapshot: 4, ..Options::default() };
    let executor = CpuExecutor::new(model, &options).unwrap();
    let engine = Engine::spawn(Box::new(executor), engine).unwrap();
    Worker::new(engine, tokenizer, WorkerOptions::default())
}

/// Requests of different lengths, each with its own parameters.
fn request(i: usize) -> Request {
    let text = "the rain in Spain falls on the plain, ".repeat(1 + i % 4);
    let sampling = SamplingParams {
        temperature: if i.is_multiple_of(3) { 0.0 } else { 0.9 },
        top_p: if i.is_multiple_of(2) { 0.9 } else { 1.0 },
        repetition_penalty: 1.0 + i as f32 / 50.0,
        ..SamplingParams::default()
    };
    let prompt = Prompt::Text { text, add_special: false, parse_special: false };
    Request {
        sampling,
        seed: Some(i as u64),
        max_tokens: Some(8 + 3 * i),
        ignore_eos: true,
        ..Request::new(prompt)
    }
}

/// The tokens of an answer with the bits of their log probabilities.
fn tokens(mut generation: Generation) -> Vec<(u32, u32)> {
    let mut found = Vec::new();
    loop {
        match generation.next_blocking().expect("a terminal event") {
            Event::Started { .. } | Event::Prompt(_) => {}
            Event::Delta { tokens, .. } => {
                found.extend(tokens.iter().map(|t| (t.token, t.logprob.to_bits())));
            }
            Event::End { .. } => return found,
            Event::Error(error) => panic!("{error}"),
        }
    }
}

#[test]
fn ten_requests_together_are_each_as_alone() {
    let shared = worker(4);
    let running: Vec<Generation> = (0..N_REQUEST).map(|i| shared.generate(request(i)).unwrap()).collect();
    let mut cancelled = shared.generate(Request { max_tokens: Some(200), ..request(1) }).unwrap();
    assert!(matches!(cancelled.next_blocking(), Some(Event::Started { .. })));
    drop(cancelled);
    let together: Vec<_> = running.into_iter().map(tokens).collect();
    for (i, together) in together.iter().enumerate() {
        assert_eq!(together.len(), 8 + 3 * i);
        assert_eq!(*together, tokens(worker(1).generate(request(i)).unwrap()), "request {i}");
    }
}

/// Three clients with two requests each on two slots, so that each is stopped several times: by the next client that holds nothing, when its
/// turn of 5 tokens is over, and as its client's second. Two share pages of their prompts, one follows a grammar.
#[test]
fn requests_that_are_stopped_for_others_are_each_as_alone() {
    for name in [
        "llama-q4_k_m.gguf",
        "gpt-oss-mxfp4_moe.gguf",
        "qwen2-q4_k_m.gguf",
        "qwen35-q4_0.gguf",
        "lfm2-q4_0.gguf",
    ] {
        let options = EngineOptions { turn: 5, ..EngineOptions::default() };
        let shared = worker_of(name, 2, options);
        let asked: Vec<Request> = (0..6)
            .map(|i| Request {
                client: i as u64 / 2,
                weight: 1 + i as u32 / 4,
                max_tokens: Some(40 + i),
                cache_scope: (i < 4).then_some(i as u64 / 2),
                format: (i == 5).then(|| Format::Regex("[a-z ]{60,80}".to_owned())),
                ignore_eos: i != 5,
                ..request(i)
            })
            .collect();
        let mut running: Vec<Generation> =
            asked[..2].iter().map(|request| shared.generate(request.clone()).unwrap()).collect();
        while shared.engine().load().n_step < 12 {
            std::thread::yield_now();
        }
        running.extend(asked[2..].iter().map(|request| shared.generate(request.clone()).unwrap()));
        let together: Vec<_> = running.into_iter().map(tokens).collect();
        let load = shared.engine().load();
        assert!(load.n_preempted > 3 && load.n_replayed_token > 15, "{name}: {load:?}");
        let alone = worker_of(name, 1, EngineOptions::default());
        for (i, (together, request)) in together.iter().zip(asked).enumerate() {
            assert_eq!(*together, tokens(alone.generate(request).unwrap()), "{name}: request {i}");
        }
    }
}

/// Recurrent layers go on from the state that was kept with a prompt's start, and give what they give without.
#[test]
fn a_prompt_whose_start_is_there_is_answered_as_if_it_were_not() {
    for name in ["llama-q4_k_m.gguf", "qwen35-q4_0.gguf", "lfm2-q4_0.gguf"] {
        let (kept, anew) =
            (worker_of(name, 1, EngineOptions::default()), worker_of(name, 1, EngineOptions::default()));
        let mut n_cached = Vec::new();
        for (i, end) in ["of Spain", "of Spain", "of France", "of France", "of Italy"].into_iter().enumerate()
        {
            let (start, tail) =
                ("the rain falls on the plain, ".repeat(4), " and the hills are alive".repeat(4));
            let text = format!("{start}{end}{tail}");
            let prompt = Prompt::Text { text, add_special: false, parse_special: false };
            let request = Request { prompt, max_tokens: Some(20), ..request(i) };
            let expected = tokens(anew.generate(request.clone()).unwrap());
            let request = Request { cache_scope: Some(1), ..request };
            assert_eq!(tokens(kept.generate(request).unwrap()), expected, "{name}: {end}");
            n_cached.push(kept.engine().load().n_prefix_hit_token);
        }
        // Of the third, its start is there only where no state is needed.
        let is_found: Vec<bool> = n_cached.windows(2).map(|n| n[1] > n[0]).collect();
        let has_state = !name.starts_with("llama");
        assert_eq!(is_found, [true, !has_state, true, true], "{name}: {n_cached:?}");
    }
}
