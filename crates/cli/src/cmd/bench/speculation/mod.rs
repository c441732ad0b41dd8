//! What does speculation give? The same answers with guesses and without, in turn, from one engine.
//!
//! An answer has the same tokens either way; the command checks that and fails where it does not hold. How much is gained follows from the
//! text, so there are three of them, of which one is repeated nearly word for word, one in part, and one not at all.

mod report;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use ::device::SamplingParams;
use anyhow::Context;
use engine::{EngineOptions, Shutdown};
use tokenizer::limits::MAX_TEXT_BYTES;
use tokenizer::{EncodeOptions, Tokenizer};
use worker::{Event, Generation, Prompt, Request, Worker, WorkerOptions};

use self::report::{Facts, Line, Report, Round};
use crate::cmd;
use crate::device::{self, ModelArgs, Shape};
use crate::exit::Failure;
use crate::input;
use crate::log::LogArgs;
use crate::speculate::{self, SpeculateArgs};

/// What is continued where no text is given: name and text.
const TEXTS: [(&str, &str); 3] = [
    ("edit", include_str!("texts/edit.txt")),
    ("extract", include_str!("texts/extract.txt")),
    ("prose", include_str!("texts/prose.txt")),
];

/// `worker-orcd bench speculation`.
#[derive(clap::Args, Debug)]
#[command(mut_arg("speculate", |arg| arg.default_value("auto")))]
#[command(after_help = "Examples:\n  worker-orcd bench speculation m.gguf\n  \
    worker-orcd bench speculation m.gguf --speculate draft --draft-model small.gguf --batch 1,8\n  \
    worker-orcd bench speculation m.gguf --text program.txt -n 512 --temperature 0.8\n\n\
    Rates are tokens per second of all sequences after their first tokens: medians of --reps repetitions, with guesses and\n\
    without in turn. The exit code is 13 if any token differs, which is a defect.")]
pub(crate) struct Args {
    /// Texts to continue, UTF-8 [default: a program to repeat with a change, a list to extract, a story]
    #[arg(long = "text", value_name = "FILE")]
    texts: Vec<PathBuf>,
    /// Tokens to generate, a sequence
    #[arg(short = 'n', long = "gen", value_name = "N", default_value = "256", value_parser = at_least_two)]
    generate: usize,
    /// Batch sizes of decode: sequences to generate at once
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "1", value_parser = cmd::at_least_one)]
    batch: Vec<NonZeroUsize>,
    /// Temperature of sampling
    #[arg(long, value_name = "T", default_value_t = 0.0, value_parser = temperature)]
    temperature: f32,
    /// Repetitions
    #[arg(long, value_name = "N", default_value = "3", value_parser = cmd::at_least_one)]
    reps: NonZeroUsize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    speculate: SpeculateArgs,
    #[command(flatten)]
    model: ModelArgs,
}

/// Reads a number of tokens for a flag: a rate needs one after the first.
fn at_least_two(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&n| n >= 2).ok_or_else(|| "expected a number of at least 2".to_owned())
}

/// Reads a temperature for a flag.
fn temperature(text: &str) -> Result<f32, String> {
    let number = text.parse().ok().filter(|number| (0.0..=10.0).contains(number));
    number.ok_or_else(|| "expected a number from 0 to 10".to_owned())
}

impl Args {
    fn check(&self) -> Result<(), Failure> {
        if self.speculate.is_off() {
            let text = "--speculate off: nothing to compare with; expected auto, lookup or draft";
            return Err(Failure::Usage(text.to_owned()));
        }
        self.speculate.check()
    }

    /// Names and texts.
    fn texts(&self) -> anyhow::Result<Vec<(String, String)>> {
        if self.texts.is_empty() {
            return Ok(TEXTS.map(|(name, text)| (name.to_owned(), text.to_owned())).into());
        }
        let read = |path: &PathBuf| {
            let text = input::text(path, MAX_TEXT_BYTES as u64)?;
            Ok((path.display().to_string(), text))
        };
        self.texts.iter().map(read).collect()
    }

    /// The prompts of a batch: a number each, so that no two sequences are the same, and the text.
    fn prompts(&self, tokenizer: &Tokenizer, text: &str) -> anyhow::Result<Vec<Vec<u32>>> {
        let n = self.batch.iter().max().map_or(1, |n| n.get());
        let options = EncodeOptions { add_special: true, parse_special: false };
        let encode = |k| Ok(tokenizer.encode(&format!("{k}.\n\n{text}"), options)?);
        (1..=n).map(encode).collect()
    }

    fn request(&self, seed: usize, prompt: &[u32], speculate: bool) -> Request {
        Request {
            max_tokens: Some(self.generate),
            sampling: SamplingParams { temperature: self.temperature, ..SamplingParams::default() },
            seed: Some(seed as u64),
            ignore_eos: true,
            speculate,
            ..Request::new(Prompt::Tokens(prompt.to_vec()))
        }
    }
}

/// Runs the command.
pub(crate) fn run(args: &Args, log: &LogArgs) -> anyhow::Result<()> {
    args.check()?;
    let texts = args.texts()?;
    let (opened, tokenizer) = device::open_with_tokenizer(&args.model, log)?;
    let prompts: Vec<Vec<Vec<u32>>> =
        texts.iter().map(|(_, text)| args.prompts(&tokenizer, text)).collect::<anyhow::Result<_>>()?;
    let opened = opened.with_draft(args.speculate.open_draft(&args.model, &tokenizer, log)?);
    let n = args.batch.iter().max().map_or(1, |n| n.get());
    let longest = prompts.iter().flatten().map(Vec::len).max().unwrap_or(0) + args.generate;
    let shape = args.model.shape();
    let shape = Shape { n_slot: n, n_ctx: shape.n_ctx.or(Some(longest)), ..shape };
    let loaded = opened.load(shape, log)?;
    let facts = Facts::of(&loaded, args);
    let limits = loaded.executor.limits();
    if longest > limits.n_ctx {
        let (n, most) = (args.generate, limits.n_ctx);
        let text = format!(
            "expected texts of at most {most} tokens (the context) with {n} generated ones, found {longest}"
        );
        return Err(Failure::Request(text).into());
    }
    let Some(speculation) = args.speculate.speculation(&limits)? else {
        return Err(
            Failure::Request("no token can be guessed on this device with this model".to_owned()).into()
        );
    };
    let options = EngineOptions { speculation: Some(speculation), n_waiting: n, ..EngineOptions::default() };
    let engine = speculate::start(loaded.executor, loaded.draft, options).context("starting the engine")?;
    let worker = Worker::new(engine.clone(), Arc::new(tokenizer), WorkerOptions::default());
    let measured = measure(args, &worker, &texts, &prompts);
    engine.shutdown(Shutdown::Abort);
    let report = Report { facts, tests: measured? };
    cmd::print_report(&report, args.json)?;
    report.check()
}

fn measure(
    args: &Args,
    worker: &Worker,
    texts: &[(String, String)],
    prompts: &[Vec<Vec<u32>>],
) -> anyhow::Result<Vec<Line>> {
    let mut lines = Vec::new();
    for ((name, _), prompts) in texts.iter().zip(prompts) {
        for &batch in &args.batch {
            let mut rounds: [Vec<Round>; 2] = Default::default();
            // Before the first repetition one round of each: it fills the prefix cache, and the engine measures what rows cost.
            for rep in 0..=args.reps.get() {
                for turn in [rep % 2, (rep + 1) % 2] {
                    let round = generate(args, worker, &prompts[..batch.get()], turn == 1)?;
                    if rep > 0 {
                        rounds[turn].push(round);
                    }
                }
            }
            let [without, with] = rounds;
            lines.extend(Line::of(name.clone(), batch.get(), &without, &with));
            tracing::info!("{name}, batch size {batch}");
        }
    }
    Ok(lines)
}

/// One answer to each prompt, all at once.
fn generate(args: &Args, worker: &Worker, prompts: &[Vec<u32>], speculate: bool) -> anyhow::Result<Round> {
    let start = |(k, prompt): (usize, &Vec<u32>)| -> anyhow::Result<Generation> {
        Ok(worker.start(worker.check(args.request(k, prompt, speculate))?)?)
    };
    let started: Vec<Generation> = prompts.iter().enumerate().map(start).collect::<anyhow::Result<_>>()?;
    let mut round = Round::default();
    for mut generation in started {
        let mut answer = Vec::new();
        loop {
            match generation.next_blocking().context("the answer has no end")? {
                Event::Started { .. } | Event::Prompt(_) => {}
                Event::Delta { tokens, .. } => answer.extend(tokens.iter().map(|sampled| sampled.token)),
                Event::End { timings, .. } => {
                    round.add(answer, timings);
                    break;
                }
                Event::Error(error) => return Err(error.into()),
            }
        }
    }
    Ok(round)
}
