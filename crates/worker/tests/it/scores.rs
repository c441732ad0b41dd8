//! How likely a prompt's own tokens are, on real models: what the reference says, and the same bits however a prompt is cut.

use std::path::Path;
use std::sync::Arc;

use cpu::{CpuExecutor, Options};
use engine::{Engine, EngineOptions};
use model::Model;
use testkit::golden;
use tokenizer::Tokenizer;
use worker::{Event, Generation, Prompt, Request, SamplingParams, Scored, Worker, WorkerOptions};

/// Golden models, one of each kind of attention and state.
const MODELS: [&str; 5] = ["llama-q4_k_m", "gpt-oss-mxfp4_moe", "gemma3-q4_0", "qwen35-q4_0", "lfm2-q4_0"];

fn worker(path: &Path, options: &Options) -> Worker {
    let file = gguf::Gguf::open(path).unwrap();
    let tokenizer = Arc::new(Tokenizer::from_gguf(file.metadata(), None).unwrap());
    let model = Arc::new(Model::load(&file).unwrap());
    let options = Options { threads: 2, n_ctx: 256, n_slot: 3, n_snapshot: 4, ..options.clone() };
    let executor = CpuExecutor::new(model, &options).unwrap();
    let engine = Engine::spawn(Box::new(executor), EngineOptions::default()).unwrap();
    Worker::new(engine, tokenizer, WorkerOptions::default())
}

/// The scores of these tokens alone, without an answer.
fn begin(worker: &Worker, tokens: &[u32]) -> Generation {
    let sampling = SamplingParams { n_alternatives: 3, ..SamplingParams::default() };
    let request = Request {
        max_tokens: Some(0),
        scores_prompt: true,
        sampling,
        ..Request::new(Prompt::Tokens(tokens.to_vec()))
    };
    worker.generate(request).unwrap()
}

fn scores(mut generation: Generation) -> Vec<Scored> {
    let mut found = Vec::new();
    loop {
        match generation.next_blocking().expect("a terminal event") {
            Event::Started { .. } => {}
            Event::Prompt(tokens) => found.extend(tokens),
            Event::End { usage, .. } => {
                assert_eq!((usage.n_generated, usage.n_cached), (0, 0));
                return found;
            }
            other => panic!("{other:?}"),
        }
    }
}

/// The log probability and the rank of a token after these logits.
fn reference(logits: &[f32], token: u32) -> (f64, usize) {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit - max).exp()).sum();
    let own = logits[token as usize];
    (f64::from(own - max) - sum.ln(), 1 + logits.iter().filter(|&&logit| logit > own).count())
}

#[test]
fn scores_are_the_log_softmax_of_the_reference_s_logits() {
    for model in golden().iter().filter(|model| MODELS.contains(&model.name.as_str())) {
        let worker = worker(&model.path, &Options { exact: true, ..Options::default() });
        let mut worst = 0f64;
        for (tokens, logits) in &model.cases {
            let n_vocab = logits.len() / tokens.len();
            let found = scores(begin(&worker, tokens));
            assert_eq!(found.len(), tokens.len() - 1);
            for ((row, &token), scored) in logits.chunks(n_vocab).zip(&tokens[1..]).zip(&found) {
                let (logprob, rank) = reference(row, token);
                worst = worst.max((f64::from(scored.sampled.logprob) - logprob).abs());
                // Logits that nearly tie may change places.
                assert!(scored.rank.abs_diff(rank) <= 1, "{}: {} and {rank}", model.name, scored.rank);
                assert_eq!(scored.sampled.token, token);
            }
        }
        assert!(worst < 1e-3, "{}: {worst:e}", model.name);
    }
}

#[test]
fn scores_have_the_same_bits_however_a_prompt_is_cut() {
    let bits = |scored: &Scored| {
        let sampled = &scored.sampled;
        let others: Vec<(u32, u32)> = sampled.alternatives.iter().map(|&(id, p)| (id, p.to_bits())).collect();
        (sampled.token, sampled.logprob.to_bits(), others, scored.rank)
    };
    for model in golden().iter().filter(|model| MODELS.contains(&model.name.as_str())) {
        let tokens = &model.cases[0].0;
        let whole =
            scores(begin(&worker(&model.path, &Options { n_row: 256, ..Options::default() }), tokens));
        let whole: Vec<_> = whole.iter().map(bits).collect();
        for n_row in [5, 24] {
            let worker = worker(&model.path, &Options { n_row, ..Options::default() });
            // Beside the same prompt's beginning and another.
            let others =
                [&tokens[..tokens.len() / 2], &model.cases[1].0].map(|tokens| begin(&worker, tokens));
            let cut: Vec<_> = scores(begin(&worker, tokens)).iter().map(bits).collect();
            assert_eq!(cut, whole, "{} in steps of {n_row}", model.name);
            let [beginning, _] = others.map(scores);
            let beginning: Vec<_> = beginning.iter().map(bits).collect();
            assert_eq!(beginning, whole[..tokens.len() / 2 - 1], "{}", model.name);
        }
    }
}
