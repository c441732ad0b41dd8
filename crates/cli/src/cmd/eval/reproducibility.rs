//! Does the same request give the same bytes, whatever else runs and however it is computed? Seeded answers, five times each.
//!
//! The requests have prompts of different lengths, all parts of one text, and a seed each. They are computed alone, without the prefix
//! cache and with prompts in steps as long as the device takes; all together; and, by a second engine with a prefix cache and prompts
//! cut into the shortest steps, alone, alone again where the cache has their prompts, and together again. Tokens and texts must be equal.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::device::SamplingParams;
use anyhow::Context;
use engine::{Engine, EngineHandle, EngineOptions, Shutdown};
use serde::Serialize;
use tokenizer::limits::MAX_TEXT_BYTES;
use tokenizer::{EncodeOptions, Tokenizer};
use worker::receipt::{FileHashes, of_ids};
use worker::{Event, Generation, Prompt, Request, Worker, WorkerOptions};

use super::{Found, Soundness};
use crate::cmd;
use crate::device::{self, ModelArgs, Shape};
use crate::exit::Failure;
use crate::input;
use crate::log::LogArgs;
use crate::proof::{Input, Measure, Measured, Metadata, OutputArgs};

/// What prompts are parts of where no text is given.
const TEXT: &str = "A sequence of tokens is continued one token at a time. Each new token is drawn from a distribution over the whole \
    vocabulary, and the distribution follows from all the tokens before it. Nothing else may have a say in it: not the other \
    sequences that are computed in the same step, not the number of threads, not the length of the pieces in which the prompt was \
    read, and not what was found in a cache. Where that holds, an answer can be repeated: the same model, the same prompt and the \
    same seed give the same bytes, on a quiet machine and on a busy one, today and next year.";

/// `worker-orcd eval reproducibility`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example: worker-orcd eval reproducibility m.gguf --device cuda:0 --requests 16\n\n\
    The exit code is 13 if any answer differs.")]
pub(crate) struct Args {
    #[command(flatten)]
    what: RequestArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    model: ModelArgs,
}

/// Which answers are asked for.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct RequestArgs {
    /// Requests, with a seed and a length of prompt each
    #[arg(long, value_name = "N", default_value = "8", value_parser = cmd::at_least_one)]
    requests: NonZeroUsize,
    /// Tokens of each answer
    #[arg(long, value_name = "N", default_value = "32", value_parser = cmd::at_least_one)]
    tokens: NonZeroUsize,
    /// The text that prompts are parts of, UTF-8 [default: one of about 130 tokens]
    #[arg(long, value_name = "TEXT")]
    prompts: Option<PathBuf>,
}

/// The fields of `eval reproducibility --json`.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    requests: usize,
    prompt_tokens: usize,
    tokens: usize,
    /// SHA-256 of each answer's token ids.
    answers: Vec<String>,
    ways: Vec<Way>,
    exact: bool,
}

/// One way to compute the answers.
#[derive(Debug, Serialize)]
struct Way {
    name: &'static str,
    /// Answers that are those of the first way.
    equal: usize,
    /// The first that is not, counted from 0.
    first_other: Option<usize>,
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    tokens: Vec<u32>,
    text: String,
}

impl Measure for Args {
    const COMMAND: &'static str = "eval reproducibility";

    fn output(&self) -> &OutputArgs {
        &self.output
    }

    fn flags(&self) -> Vec<String> {
        [self.model.flags(), self.what.flags()].concat()
    }

    fn inputs(&self, _log: &LogArgs) -> anyhow::Result<Vec<Input>> {
        Ok(self.what.input().into_iter().collect())
    }

    fn compute_as(&mut self, given: &ModelArgs) {
        self.model = given.computing(&self.model);
    }

    fn measure(&self, log: &LogArgs) -> anyhow::Result<Measured> {
        let Found { report, metadata, files, .. } = measure(&self.model, &self.what, log)?;
        Measured::new(&report, metadata, Some(files), report.check())
    }
}

/// Loads the model twice, one after the other, and asks.
pub(super) fn measure(model: &ModelArgs, what: &RequestArgs, log: &LogArgs) -> anyhow::Result<Found<Report>> {
    let n = what.requests.get();
    let load = |options: EngineOptions| -> anyhow::Result<Asked> {
        let (opened, tokenizer) = device::open_with_tokenizer(model, log)?;
        let files = FileHashes::open(opened.gguf.paths());
        let loaded = opened.load(Shape { n_slot: n, ..model.shape() }, log)?;
        let metadata = Metadata::of(&loaded);
        let (engine, tokenizer) = (Engine::spawn(loaded.executor, options)?, Arc::new(tokenizer));
        let options = WorkerOptions::default();
        let worker = Worker::new(engine.clone(), Arc::clone(&tokenizer), options);
        Ok(Asked { engine, worker, tokenizer, metadata, files })
    };
    let options = EngineOptions { n_waiting: n, ..EngineOptions::default() };
    let whole = EngineOptions { prefix_cache: false, step_target: None, ..options };
    let Asked { engine, worker, tokenizer, metadata, files } = load(whole)?;
    let prompts = prompts(&tokenizer, what, engine.limits().n_ctx)?;
    let requests: Vec<Request> = (0..).zip(&prompts).map(|(seed, ids)| request(seed, ids, what)).collect();
    let first = alone(&worker, &requests)?;
    let mut ways = vec![Way::compare("alone, prompts whole", &first, &first)];
    ways.push(Way::compare("together, prompts whole", &first, &together(&worker, &requests)?));
    engine.shutdown(Shutdown::Abort);
    drop((worker, engine));

    let cut = EngineOptions { step_target: Some(Duration::from_nanos(1)), ..options };
    let Asked { engine, worker, .. } = load(cut)?;
    for (name, is_together) in [
        ("alone, prompts cut", false),
        ("alone, from the prefix cache", false),
        ("together, from the prefix cache", true),
    ] {
        let found = if is_together { together(&worker, &requests)? } else { alone(&worker, &requests)? };
        ways.push(Way::compare(name, &first, &found));
    }
    engine.shutdown(Shutdown::Abort);
    let report = Report {
        requests: n,
        prompt_tokens: prompts.iter().map(Vec::len).sum(),
        tokens: first.iter().map(|answer| answer.tokens.len()).sum(),
        answers: first.iter().map(|answer| of_ids(&answer.tokens)).collect(),
        ways,
        exact: model.device.exact,
    };
    Ok(Found { report, soundness: Soundness::default(), metadata, files })
}

/// A loaded model, and whom to ask.
struct Asked {
    engine: EngineHandle,
    worker: Worker,
    tokenizer: Arc<Tokenizer>,
    metadata: Metadata,
    files: Arc<FileHashes>,
}

impl RequestArgs {
    /// What decides the answers, as flags.
    pub(super) fn flags(&self) -> Vec<String> {
        vec![format!("--requests={}", self.requests), format!("--tokens={}", self.tokens)]
    }

    /// The text of the prompts.
    pub(super) fn input(&self) -> Option<Input> {
        self.prompts.as_ref().map(|path| Input { flag: "--prompts", paths: vec![path.clone()] })
    }
}

/// Prompts of `1/n .. n/n` of the text's tokens.
fn prompts(tokenizer: &Tokenizer, what: &RequestArgs, n_ctx: usize) -> anyhow::Result<Vec<Vec<u32>>> {
    let read = |path: &PathBuf| input::text(path, MAX_TEXT_BYTES as u64);
    let text = what.prompts.as_ref().map(read).transpose()?;
    let text = text.as_deref().unwrap_or(TEXT);
    let ids = tokenizer.encode(text, EncodeOptions { add_special: true, parse_special: false })?;
    let (n, room) = (what.requests.get(), n_ctx.saturating_sub(what.tokens.get()));
    let length = ids.len().min(room);
    if length < n {
        let text = format!(
            "expected room and text for prompts of up to {n} tokens, found {length}; see --ctx and --prompts"
        );
        return Err(Failure::Request(text).into());
    }
    Ok((1..=n).map(|k| ids[..length * k / n].to_vec()).collect())
}

fn request(seed: u64, ids: &[u32], what: &RequestArgs) -> Request {
    Request {
        max_tokens: Some(what.tokens.get()),
        sampling: SamplingParams { temperature: 1.0, ..SamplingParams::default() },
        seed: Some(seed),
        ignore_eos: true,
        ..Request::new(Prompt::Tokens(ids.to_vec()))
    }
}

fn alone(worker: &Worker, requests: &[Request]) -> anyhow::Result<Vec<Answer>> {
    requests.iter().map(|request| wait(start(worker, request)?)).collect()
}

fn together(worker: &Worker, requests: &[Request]) -> anyhow::Result<Vec<Answer>> {
    let started: anyhow::Result<Vec<_>> = requests.iter().map(|request| start(worker, request)).collect();
    started?.into_iter().map(wait).collect()
}

fn start(worker: &Worker, request: &Request) -> anyhow::Result<Generation> {
    Ok(worker.start(worker.check(request.clone())?)?)
}

fn wait(mut generation: Generation) -> anyhow::Result<Answer> {
    let mut answer = Answer { tokens: Vec::new(), text: String::new() };
    loop {
        match generation.next_blocking().context("the answer has no end")? {
            Event::Started { .. } | Event::Prompt(_) => {}
            Event::Delta { text, tokens } => {
                answer.text.push_str(&text);
                answer.tokens.extend(tokens.iter().map(|sampled| sampled.token));
            }
            Event::End { .. } => return Ok(answer),
            Event::Error(error) => return Err(error.into()),
        }
    }
}

impl Way {
    fn compare(name: &'static str, first: &[Answer], found: &[Answer]) -> Way {
        let equal = first.iter().zip(found).filter(|(a, b)| a == b).count();
        Way { name, equal, first_other: first.iter().zip(found).position(|(a, b)| a != b) }
    }
}

impl Report {
    pub(super) fn is_equal(&self) -> bool {
        self.ways.iter().all(|way| way.equal == self.requests)
    }

    pub(super) fn check(&self) -> anyhow::Result<()> {
        match self.ways.iter().find(|way| way.equal < self.requests) {
            None => Ok(()),
            Some(Way { name, equal, first_other }) => {
                let (n, first) = (self.requests, first_other.unwrap_or_default());
                let text = format!(
                    "expected the same answers in every way, found {equal} of {n} equal when computed {name:?}, first other request {first}"
                );
                Err(Failure::OutOfBounds(text).into())
            }
        }
    }

    /// The result in a few words.
    pub(super) fn summary(&self) -> String {
        let equal = if self.is_equal() { "equal" } else { "NOT equal" };
        format!("{} answers, {} tokens: {equal} in {} ways", self.requests, self.tokens, self.ways.len())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (n, tokens) = (self.requests, self.tokens);
        writeln!(f, "{n} requests, prompts of {} tokens in all, answers of {tokens}", self.prompt_tokens)?;
        self.ways.iter().try_for_each(|way| writeln!(f, "{:<32} {} of {n} equal", way.name, way.equal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_differs_is_named() {
        let answer = |text: &str| Answer { tokens: vec![1], text: text.to_owned() };
        let (first, other) = ([answer("a"), answer("b")], [answer("a"), answer("c")]);
        let ways = vec![Way::compare("alone", &first, &first), Way::compare("together", &first, &other)];
        let report =
            Report { requests: 2, prompt_tokens: 3, tokens: 2, answers: Vec::new(), ways, exact: false };
        let error = report.check().unwrap_err().to_string();
        assert!(error.contains("1 of 2 equal") && error.contains("first other request 1"), "{error}");
    }
}
