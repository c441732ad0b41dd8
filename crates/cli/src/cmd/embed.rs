//! What vectors do texts have? A text or a line of stdin in, a JSON array of numbers a line out, in the order of the texts.
//!
//! The computation of `POST /v1/embeddings`, of as many texts at once as there are slots. A vector's bits do not depend on the other texts.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::num::NonZeroUsize;
use std::sync::Arc;

use anyhow::Context;
use engine::{Engine, EngineOptions, Shutdown};
use model::Pooling;
use worker::embed::{Asker, Embedding, shorten};
use worker::{Embedder, Prompt, Work, Worker, WorkerOptions};

use super::at_least_one;
use super::tokenize::each_input;
use crate::device::{self, ModelArgs, Shape};
use crate::exit::Failure;
use crate::log::LogArgs;
use crate::{input, named};

/// Texts that begin alike share the computation of that beginning.
const ASKER: Asker = Asker { client: 0, weight: 1, cache_scope: Some(0) };

/// `worker-orcd embed`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  worker-orcd embed m.gguf 'The capital of China is Beijing.' 'Gravity attracts bodies.'\n  \
    worker-orcd embed m.gguf < texts.txt > vectors.jsonl\n\n\
    Each vector is a JSON array on a line of its own. Names of control tokens in a text are these tokens."
)]
pub(crate) struct Args {
    /// The texts; without any, each line of stdin is one (beside texts it is not read, and a warning says so)
    #[arg(index = 2, value_name = "TEXT", conflicts_with = "jsonl")]
    texts: Vec<String>,
    /// Each line of stdin is JSON: a text, or an array of token ids
    #[arg(long)]
    jsonl: bool,
    #[command(flatten)]
    pooling: PoolingArgs,
    /// Keep this many values of each vector; for models that are trained for it
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    dimensions: Option<NonZeroUsize>,
    /// Do not normalize the vectors to length 1
    #[arg(long)]
    no_normalize: bool,
    /// Texts that are computed at once [default: 8 on the CPU, 64 on a GPU]
    #[arg(long, visible_alias = "parallel", value_name = "N", value_parser = at_least_one)]
    slots: Option<NonZeroUsize>,
    #[command(flatten)]
    model: ModelArgs,
}

/// Which rows of a text make its vector.
#[derive(clap::Args, Clone, Copy, Debug)]
pub(crate) struct PoolingArgs {
    /// Which hidden rows of a text make its vector: the mean of all, the first (cls) or the last [default: what the file says, else last]
    #[arg(long, value_name = "HOW", value_parser = pooling)]
    pooling: Option<Pooling>,
}

impl PoolingArgs {
    /// What makes vectors of a model: what was asked for, else what its file says.
    pub(crate) fn embedder(self, model: &model::Model) -> Embedder {
        let embedder = Embedder::new(model);
        self.pooling.map_or(embedder.clone(), |pooling| embedder.with_pooling(pooling))
    }
}

/// Reads a kind of pooling for a flag.
fn pooling(text: &str) -> Result<Pooling, String> {
    let found = [Pooling::Mean, Pooling::First, Pooling::Last].into_iter().find(|kind| kind.name() == text);
    found.ok_or_else(|| "expected mean, cls or last".to_owned())
}

/// Runs the command.
pub(crate) fn run(args: &Args, log: &LogArgs) -> anyhow::Result<()> {
    if args.texts.is_empty() && io::stdin().is_terminal() {
        let text = "expected texts, or lines of text on stdin, found neither";
        return Err(Failure::Usage(text.to_owned()).into());
    }
    named::in_order("embed MODEL TEXT", &args.model.model.0, &args.texts)?;
    let (opened, tokenizer) = device::open_with_tokenizer(&args.model, log)?;
    let embedder = args.pooling.embedder(&opened.model);
    embedder.embeds()?;
    let n_embd = opened.model.architecture.n_embd;
    let n_dimension = args.dimensions.map_or(n_embd, NonZeroUsize::get);
    if n_dimension > n_embd {
        let text = format!("--dimensions: expected 1 to {n_embd}, the model's own, found {n_dimension}");
        return Err(Failure::Request(text).into());
    }
    let n_slot = args.slots.map_or(if opened.is_on_gpu() { 64 } else { 8 }, NonZeroUsize::get);
    let shape = opened.fit(Shape { n_slot, ..args.model.shape() }, None)?;
    let loaded = opened.load(shape, log)?;
    let engine = Engine::spawn(loaded.executor, EngineOptions::default()).context("starting the engine")?;
    let worker = Worker::new(engine.clone(), Arc::new(tokenizer), WorkerOptions::default());
    let worker = worker.with_embedder(embedder);
    if !args.texts.is_empty() {
        input::note_unread("there are texts already, without which each line of stdin is one");
    }
    let mut vectors = Vectors { worker, args, n_dimension, n_slot, begun: VecDeque::new() };
    let read = if args.texts.is_empty() {
        each_input(true, &mut |place, line| {
            vectors.add(place, &args.prompt(&line).with_context(|| place.to_owned())?)
        })
    } else {
        let mut texts = (1..).zip(&args.texts);
        texts.try_for_each(|(i, text)| vectors.add(&format!("text {i}"), &prompt_of(text.clone())))
    };
    // Those before one that is refused are written all the same.
    let written = vectors.finish();
    engine.shutdown(Shutdown::Abort);
    read.and(written)
}

impl Args {
    /// A line of stdin.
    fn prompt(&self, line: &[u8]) -> Result<Prompt, Failure> {
        if !self.jsonl {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let text =
                std::str::from_utf8(line).map_err(|e| Failure::Request(format!("expected UTF-8: {e}")))?;
            return Ok(prompt_of(text.to_owned()));
        }
        if let Ok(text) = serde_json::from_slice(line) {
            return Ok(prompt_of(text));
        }
        let refuse = |e| Failure::Request(format!("expected a JSON string, or an array of token ids: {e}"));
        serde_json::from_slice(line).map(Prompt::Tokens).map_err(refuse)
    }
}

/// A text as the HTTP route takes it.
fn prompt_of(text: String) -> Prompt {
    Prompt::Text { text, add_special: true, parse_special: true }
}

/// Vectors that are under way, and how they are written.
struct Vectors<'a> {
    worker: Worker,
    args: &'a Args,
    n_dimension: usize,
    n_slot: usize,
    /// In the order of their texts, at most as many as there are slots.
    begun: VecDeque<Embedding>,
}

impl Vectors<'_> {
    /// Starts a text, after the oldest one is written if there is no slot.
    fn add(&mut self, place: &str, prompt: &Prompt) -> anyhow::Result<()> {
        let text = self.worker.check_text(prompt, ASKER, &Work::default());
        let text = text.with_context(|| place.to_owned())?;
        if self.begun.len() == self.n_slot {
            self.write_oldest()?;
        }
        self.begun.push_back(self.worker.embed(text)?);
        Ok(())
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        while !self.begun.is_empty() {
            self.write_oldest()?;
        }
        Ok(())
    }

    fn write_oldest(&mut self) -> anyhow::Result<()> {
        let Some(oldest) = self.begun.pop_front() else { return Ok(()) };
        let (mut vector, _) = oldest.wait()?;
        match self.args.no_normalize {
            true => vector.truncate(self.n_dimension),
            false => shorten(&mut vector, self.n_dimension),
        }
        let mut line = serde_json::to_vec(&vector)?;
        line.push(b'\n');
        Ok(io::stdout().lock().write_all(&line)?)
    }
}
