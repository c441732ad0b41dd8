//! Guessed tokens on real models: every id and every log probability is the one that comes without guesses, alone and among others.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cpu::{CpuExecutor, Options};
use device::{Sampled, SamplingParams};
use engine::{Engine, EngineOptions, Extent, Guess, Guesser, Speculation};
use model::{KvType, Model};
use serde_json::json;
use tokenizer::Tokenizer;
use worker::{Event, Format, Generation, Prompt, Request, StopReason, Worker, WorkerOptions};

/// Guesses whatever comes out of its hash, or again what stood a few tokens before.
#[derive(Debug)]
struct Wild(Vec<u32>);

impl Guesser for Wild {
    fn begin(&mut self, prompt: &[u32]) {
        self.0.extend(prompt);
    }

    fn push(&mut self, token: u32) {
        self.0.push(token);
    }

    fn guess(&self, n: usize) -> Vec<Guess> {
        let seed = self.0.iter().fold(1u32, |hash, &token| hash.wrapping_mul(16_777_619) ^ token);
        let id = |i: usize| seed.rotate_left(5 * i as u32) % [50, 1000, 100_000][i % 3];
        (0..n)
            .map(|i| if seed.is_multiple_of(3) { self.0[(seed as usize + i) % self.0.len()] } else { id(i) })
            .map(|token| Guess { token, chance: 0.99 })
            .collect()
    }
}

const WILD: Speculation = Speculation { guesser: || Box::new(Wild(Vec::new())), extent: Extent::Most };

const OPTIONS: Options = Options {
    threads: 2,
    exact: false,
    isa: None,
    n_ctx: 512,
    n_slot: 1,
    n_row: 64,
    n_page: None,
    n_snapshot: 4,
    kv_type: KvType::F16,
};

fn worker(path: &Path, n_slot: usize, speculation: Option<Speculation>) -> Worker {
    drafted(path, n_slot, (None, speculation))
}

/// With this draft model, on the same threads.
fn drafted(path: &Path, n_slot: usize, (draft, speculation): (Option<&Path>, Option<Speculation>)) -> Worker {
    let file = gguf::Gguf::open(path).unwrap();
    let tokenizer = Arc::new(Tokenizer::from_gguf(file.metadata(), None).unwrap());
    let model = Arc::new(Model::load(&file).unwrap());
    let executor = CpuExecutor::new(model, &Options { n_slot, ..OPTIONS }).unwrap();
    let engine = EngineOptions { speculation, ..EngineOptions::default() };
    let engine = match draft {
        Some(draft) => {
            let model = Arc::new(Model::load(&gguf::Gguf::open(draft).unwrap()).unwrap());
            // Fewer than there are sequences: some go without.
            let options = Options { n_slot: n_slot.min(8), ..OPTIONS };
            let draft = CpuExecutor::on_threads(model, &options, executor.threads()).unwrap();
            Engine::spawn_with_draft(Box::new(executor), Box::new(draft), engine).unwrap()
        }
        None => Engine::spawn(Box::new(executor), engine).unwrap(),
    };
    Worker::new(engine, tokenizer, WorkerOptions::default())
}

/// Requests of every kind whose tokens something besides the logits decides.
fn requests() -> Vec<Request> {
    let list = "apple: red\nbanana: yellow\ncherry: red\ndate: brown\n".repeat(2);
    let plain = SamplingParams { temperature: 0.0, ..SamplingParams::default() };
    let warm = SamplingParams { temperature: 0.8, top_p: 0.95, n_alternatives: 3, ..plain.clone() };
    let penalised = SamplingParams {
        repetition_penalty: 1.1,
        frequency_penalty: 0.3,
        presence_penalty: 0.2,
        ..warm.clone()
    };
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"enum": ["red", "yellow"]}},
        "required": ["a", "b"], "additionalProperties": false});
    let request = |sampling: &SamplingParams, seed: u64| Request {
        sampling: sampling.clone(),
        seed: Some(seed),
        max_tokens: Some(20),
        ignore_eos: true,
        cache_scope: seed.is_multiple_of(2).then_some(1),
        ..Request::new(Prompt::Text { text: list.clone(), add_special: false, parse_special: false })
    };
    let mut requests = vec![
        request(&plain, 0),
        request(&SamplingParams { n_alternatives: 5, ..plain.clone() }, 1),
        Request { stop: vec!["red".to_owned()], ..request(&plain, 3) },
        Request { format: Some(Format::JsonSchema(schema)), ignore_eos: false, ..request(&warm, 4) },
        Request { ignore_eos: false, min_tokens: 6, ..request(&warm, 5) },
        Request { speculate: false, ..request(&warm, 7) },
    ];
    // As the answers of one request with n are.
    requests.extend((10..13).map(|seed| request(&warm, seed)));
    requests.extend((20..23).map(|seed| request(&penalised, seed)));
    requests
}

type Answer = (Vec<(u32, u32, Vec<(u32, u32)>)>, StopReason);

/// An answer's bits, why it ended, and how many of its tokens were guessed and accepted.
fn answer(mut generation: Generation) -> (Answer, (usize, usize)) {
    let bits = |sampled: &Sampled| {
        let alternatives = sampled.alternatives.iter().map(|&(id, logprob)| (id, logprob.to_bits()));
        (sampled.token, sampled.logprob.to_bits(), alternatives.collect())
    };
    let mut found = Vec::new();
    loop {
        match generation.next_blocking().expect("a terminal event") {
            Event::Started { .. } | Event::Prompt(_) => {}
            Event::Delta { tokens, .. } => found.extend(tokens.iter().map(bits)),
            Event::End { reason, timings, .. } => {
                return ((found, reason), (timings.n_guessed, timings.n_accepted));
            }
            Event::Error(error) => panic!("{error}"),
        }
    }
}

/// Each kind of guesses is that of every sequence beside others, and each request's in turn alone.
fn check(path: &Path, speculations: &[Speculation]) {
    let guessers: Vec<_> = speculations.iter().map(|&speculation| (None, speculation)).collect();
    check_with(path, &guessers);
}

/// The same with draft models. How many tokens were guessed and accepted, by guesser.
fn check_with(path: &Path, guessers: &[(Option<&Path>, Speculation)]) -> Vec<(usize, usize)> {
    let plain = worker(path, 1, None);
    let requests = requests();
    let expected: Vec<Answer> =
        requests.iter().map(|request| answer(plain.generate(request.clone()).unwrap()).0).collect();
    let mut all = Vec::new();
    for (turn, &(draft, speculation)) in guessers.iter().enumerate() {
        let guessing = drafted(path, 16, (draft, Some(speculation)));
        let ask = |request: &Request| guessing.generate(request.clone()).unwrap();
        let together: Vec<Generation> = requests.iter().map(ask).collect();
        let together = together.into_iter().map(answer).enumerate();
        let alone: Vec<usize> = (0..requests.len()).skip(turn).step_by(guessers.len()).collect();
        let alone = alone.into_iter().map(|i| (i, answer(ask(&requests[i]))));
        let (mut n_guessed, mut n_accepted) = (0, 0);
        for (i, (found, counts)) in together.chain(alone) {
            assert_eq!(found, expected[i], "{speculation:?}: request {i}");
            assert!(requests[i].speculate || counts == (0, 0));
            n_guessed += counts.0;
            n_accepted += counts.1;
        }
        // What is guessed at all is measured time's choice where it is to pay.
        assert!(n_guessed >= n_accepted && (n_guessed > 0 || speculation.extent == Extent::Paying));
        let load = guessing.engine().load();
        assert_eq!((load.has_draft, load.n_draft_unsound), (draft.is_some(), 0));
        all.push((n_guessed, n_accepted));
    }
    all
}

#[test]
fn no_byte_of_a_real_model_s_answers_changes() {
    let Some(path) = testkit::fixture("smollm2.gguf") else { return };
    check(&path, &[Speculation::lookup(Extent::Most), WILD]);
}

#[test]
fn no_byte_changes_with_windows_mixtures_or_latent_attention() {
    for name in
        ["gpt-oss-mxfp4_moe.gguf", "gemma3-q4_0.gguf", "deepseek2-plain-q4_0.gguf", "qwen2-q4_k_m.gguf"]
    {
        let path: PathBuf = testkit::golden_folder().join(name);
        let lookup = Speculation::lookup;
        check(&path, &[lookup(Extent::Most), lookup(Extent::Paying), WILD]);
    }
}

#[test]
fn no_byte_of_a_real_model_s_answers_changes_by_a_draft_model() {
    let Some(path) = testkit::fixture("smollm2.gguf") else { return };
    let draft = Some(path.as_path());
    let lookup = Speculation::lookup(Extent::Most);
    let counts = check_with(&path, &[(draft, Speculation::draft(Extent::Most)), (draft, lookup)]);
    // The model itself is right unless a draw or a mask decides otherwise.
    let (n_guessed, n_accepted) = counts[0];
    assert!(n_accepted * 5 > n_guessed, "{n_accepted} of {n_guessed}");
}

#[test]
fn a_draft_model_of_other_weights_changes_nothing_but_time() {
    let golden = |name| testkit::golden_folder().join(name);
    let (draft, wild) = (Speculation::draft, WILD);
    for (model, drafter) in [
        ("llama-q8_0.gguf", "llama-q2_k.gguf"),
        ("gemma3-q4_0.gguf", "gemma2-q4_0.gguf"),
        ("gemma2-q4_0.gguf", "gemma3-q4_0.gguf"),
        ("qwen2-q4_k_m.gguf", "gpt-oss-mxfp4_moe.gguf"),
    ] {
        let drafter = golden(drafter);
        let drafter = Some(drafter.as_path());
        check_with(
            &golden(model),
            &[(drafter, draft(Extent::Most)), (drafter, draft(Extent::Paying)), (drafter, wild)],
        );
    }
}
