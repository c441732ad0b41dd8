//! The worker over a real tokenizer (byte-level BPE, 320 tokens) and an executor that answers by script.

mod company;
mod constrained;
mod corpus;
mod embeddings;
mod guessed;
mod infill;
mod messages;
mod receipts;
mod scores;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use device::SamplingParams;
use engine::{Engine, EngineError, EngineOptions};
use proptest::prelude::*;
use testkit::scripted::Scripted;
use tokenizer::{EncodeOptions, Tokenizer};
use worker::{Chat, Event, Prompt, Request, StopReason, Worker, WorkerError, WorkerOptions};

fn tokenizer() -> Arc<Tokenizer> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/llama-q4_0.gguf");
    let file = gguf::Gguf::open(&path).unwrap();
    Arc::new(Tokenizer::from_gguf(file.metadata(), None).unwrap())
}

/// The same tokenizer with this chat template.
fn with_template(template: &str) -> Arc<Tokenizer> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/llama-q4_0.gguf");
    let file = gguf::Gguf::open(&path).unwrap();
    let pairs = file.metadata().iter().map(|(key, value)| (key.to_owned(), value.clone()));
    let template = ("tokenizer.chat_template".to_owned(), gguf::Value::from(template));
    let metadata = gguf::Metadata::from_pairs(pairs.chain([template])).unwrap();
    Arc::new(Tokenizer::from_gguf(&metadata, None).unwrap())
}

fn worker(executor: Scripted) -> Worker {
    let engine = Engine::spawn(Box::new(executor), EngineOptions::default()).unwrap();
    Worker::new(engine, tokenizer(), WorkerOptions::default())
}

/// A worker that answers with this text, then with an end token, and so on.
fn says(text: &str) -> Worker {
    let tokenizer = tokenizer();
    let mut answer = tokenizer.encode(text, EncodeOptions::default()).unwrap();
    answer.push(tokenizer.ends()[0]);
    worker(Scripted::new(answer))
}

fn request() -> Request {
    Request::new(Prompt::Tokens(vec![1, 2, 3]))
}

struct Answer {
    deltas: Vec<String>,
    n_token: usize,
    reason: StopReason,
    n_generated: usize,
}

fn answer(worker: &Worker, request: Request) -> Answer {
    let mut generation = worker.generate(request).unwrap();
    let events: Vec<Event> = std::iter::from_fn(|| generation.next_blocking()).collect();
    assert!(matches!(events.first(), Some(Event::Started { n_prompt: 3, .. })), "{events:?}");
    let mut deltas = Vec::new();
    let mut n_token = 0;
    for event in &events[1..events.len() - 1] {
        let Event::Delta { text, tokens } = event else { panic!("{events:?}") };
        deltas.push(text.clone());
        n_token += tokens.len();
    }
    let Some(Event::End { reason, usage, .. }) = events.last() else { panic!("{events:?}") };
    Answer { deltas, n_token, reason: reason.clone(), n_generated: usage.n_generated }
}

fn check_stop(said: &str, stop: &[&str], (text, reason): (&str, StopReason)) {
    let stop = stop.iter().map(ToString::to_string).collect();
    let answer = answer(&says(said), Request { stop, ..request() });
    assert_eq!((answer.deltas.concat().as_str(), answer.reason), (text, reason));
}

#[test]
fn stop_strings_are_found_wherever_tokens_end() {
    let end = StopReason::Token(tokenizer().ends()[0]);
    let found = |stop: &str| StopReason::Text(stop.to_owned());
    check_stop("one two three", &[], ("one two three", end.clone()));
    check_stop("one two three", &["o th"], ("one tw", found("o th")));
    check_stop("one two three", &["one"], ("", found("one")));
    check_stop("one two three", &["three"], ("one two ", found("three")));
    // Held back, then passed on: the text ends where a stop string has only begun.
    check_stop("one two three", &["three hundred"], ("one two three", end.clone()));
    check_stop("aab", &["ab", "aaab"], ("a", found("ab")));
    check_stop("naïve 日本語", &["本"], ("naïve 日", found("本")));
    check_stop("naïve 日本語", &["本人"], ("naïve 日本語", end));
}

#[test]
fn every_token_is_reported_and_counted_once() {
    let n_text = tokenizer().encode("one two three", EncodeOptions::default()).unwrap().len();
    let whole = answer(&says("one two three"), request());
    // The end token is counted, but is no part of the answer.
    assert_eq!((whole.n_token, whole.n_generated), (n_text, n_text + 1));
    let cut = answer(&says("one two three"), Request { max_tokens: Some(2), ..request() });
    assert_eq!((cut.n_token, cut.n_generated, cut.reason), (2, 2, StopReason::Length));
    let stopped = answer(&says("one two three"), Request { stop: vec!["two".to_owned()], ..request() });
    assert_eq!(stopped.n_token, stopped.n_generated);
    assert!(stopped.n_token < n_text);
}

#[test]
fn a_character_cut_off_at_the_end_is_left_out() {
    let euro = tokenizer().encode("€", EncodeOptions::default()).unwrap();
    assert!(euro.len() > 1, "the vocabulary has the euro sign as one token");
    let n_token = euro.len() - 1;
    let answer = answer(&worker(Scripted::new(euro)), Request { max_tokens: Some(n_token), ..request() });
    assert_eq!((answer.deltas.concat().as_str(), answer.n_token), ("", n_token));
    assert_eq!(answer.reason, StopReason::Length);
}

#[test]
fn a_stop_string_that_was_found_outlives_a_later_failure() {
    let said = tokenizer().encode("yes. no", EncodeOptions::default()).unwrap();
    let ends = |stop: &[&str]| {
        let worker = worker(Scripted::new(said.clone()).fails_at(100));
        let stop = stop.iter().map(ToString::to_string).collect();
        let mut text = worker.generate(Request { stop, ..request() }).unwrap();
        // Nobody takes an event before the device has failed: the stop string is found in what came before.
        while !matches!(worker.generate(request()), Err(WorkerError::Engine(EngineError::Device(_)))) {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::iter::from_fn(|| text.next_blocking()).last().unwrap()
    };
    assert!(matches!(ends(&[". "]), Event::End { reason: StopReason::Text(stop), .. } if stop == ". "));
    assert!(matches!(ends(&[]), Event::Error(_)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// The deltas join to what the whole text gives, less what follows the first stop string to be complete.
    #[test]
    fn the_answer_is_the_text_up_to_the_first_stop(
        text in "[a-c €日é😀]{1,20}",
        stop in proptest::collection::vec("[a-c €日é😀]{1,3}", 0..3),
    ) {
        let passed = worker::stop::StopMatcher::new(stop.clone()).push(&text);
        let expected = if passed.stop.is_some() { passed.text } else { text.clone() };
        let answer = answer(&says(&text), Request { stop, ..request() });
        prop_assert_eq!(answer.deltas.concat(), expected);
        prop_assert_eq!(matches!(answer.reason, StopReason::Text(_)), passed.stop.is_some());
    }
}

#[test]
fn what_is_not_acceptable_is_named() {
    let worker = says("x");
    let check = |request: Request, expected: &str| {
        assert_eq!(worker.check(request).unwrap_err().to_string(), expected);
    };
    let prompt = |prompt| Request { prompt, ..request() };
    check(prompt(Prompt::Tokens(vec![])), "prompt: expected 1 to 999 tokens, found 0");
    check(
        prompt(Prompt::Tokens(vec![1; 1000])),
        "prompt: expected at most 999 tokens, found 1000, 1 too many: shorten it, or start with a --ctx of at least 1001",
    );
    check(prompt(Prompt::Tokens(vec![1, 320])), "prompt: expected ids below 320, found 320");
    let messages = vec![worker::chat::message("user", "hi")];
    check(
        prompt(Prompt::Chat(Chat::new(messages))),
        "the model has no chat template, so a conversation cannot be a prompt for it",
    );
    check(
        Request { max_tokens: Some(5), min_tokens: 6, ..request() },
        "min_tokens: expected at most max_tokens, 5, found 6",
    );
    check(
        Request { stop: vec!["x".to_owned(); 17], ..request() },
        "stop: expected at most 16 strings, found 17",
    );
    check(
        Request { stop: vec!["x".repeat(257)], ..request() },
        "stop: expected strings of 1 to 256 bytes, found 257",
    );
    check(
        Request { stop: vec![String::new()], ..request() },
        "stop: expected strings of 1 to 256 bytes, found 0",
    );
    check(
        Request { stop_token_ids: vec![320], ..request() },
        "stop_token_ids: expected ids below 320, found 320",
    );
    let sampling = SamplingParams { top_p: 2.0, ..SamplingParams::default() };
    check(Request { sampling, ..request() }, "top_p: expected 0 to 1, found 2");
}

#[test]
fn a_seed_is_kept_or_drawn() {
    let worker = says("x");
    assert_eq!(worker.check(Request { seed: Some(7), ..request() }).unwrap().seed(), 7);
    let [a, b] = [0, 1].map(|_| worker.check(request()).unwrap().seed());
    assert_ne!(a, b);
}

#[test]
fn a_generation_can_be_cancelled_timed_out_and_awaited() {
    let endless = || worker(Scripted::new(vec![70]).n_ctx(1_000_000));
    let last = |generation: &mut worker::Generation| {
        std::iter::from_fn(|| generation.next_blocking()).last().map(|event| match event {
            Event::End { reason, .. } => reason,
            other => panic!("{other:?}"),
        })
    };
    let one = endless();
    let mut generation = one.generate(request()).unwrap();
    generation.next_blocking().unwrap();
    generation.cancel();
    assert_eq!(last(&mut generation), Some(StopReason::Cancelled));
    let mut overdue = one.generate(Request { timeout: Some(Duration::ZERO), ..request() }).unwrap();
    assert_eq!(last(&mut overdue), Some(StopReason::Deadline));
    assert_eq!(one.engine().load().n_free_page, one.engine().load().n_page);

    let hello = says("hello");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let text = runtime.block_on(async {
        let mut generation = hello.generate(request()).unwrap();
        let mut text = String::new();
        while let Some(event) = generation.recv().await {
            if let Event::Delta { text: more, .. } = event {
                text.push_str(&more);
            }
        }
        text
    });
    assert_eq!(text, "hello");
}
