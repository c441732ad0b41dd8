//! How fast is it? Prefill and decode rates of one model on one device, alone or in turn with llama.cpp's.
//!
//! Rates are tokens per second over all sequences; the median of some repetitions, after one warm-up. What a step of generation must
//! read ([`traffic`]) times its rate is its bandwidth, which is held against what the device's memory gives: the roofline.

mod measure;
mod peer;
mod proof;
mod random;
mod report;
mod samples;
mod serve;
mod shape;
mod speculation;
mod traffic;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Subcommand;
use hub::ModelRef;
use worker::receipt::FileHashes;

use self::measure::Test;
use self::peer::Peer;
use self::report::{Facts, Line, Report, Roofline};
use self::samples::Samples;
use self::traffic::Traffic;
use crate::cmd;
use crate::device::{self, ModelArgs, Opened, Shape};
use crate::exit::Failure;
use crate::log::LogArgs;
use crate::named;
use crate::proof::{Metadata, OutputArgs};

/// `worker-orcd bench`.
#[derive(clap::Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = "Examples:\n  worker-orcd bench m.gguf -p 512,2048 -n 128 --batch 1,4\n  \
    worker-orcd bench m.gguf --device cuda:0 -p 0 -n 64 --depth 8192\n  \
    worker-orcd bench m.gguf --vs llama.cpp/build/bin/llama-bench --json\n  \
    worker-orcd bench --shape llama-3-8b:q4_k_m --device cuda:0 --batch 1,8,64\n  \
    worker-orcd bench m.gguf --stages\n  \
    worker-orcd bench serve --url http://127.0.0.1:8080\n  \
    worker-orcd bench speculation m.gguf\n\n\
    Rates are in tokens per second: the median of --reps repetitions (and the slowest and fastest).\n\
    GB/s are the bytes that a step of generation must read, in the file's format, times its rate; the share is of\n\
    --roofline, or of what a short test of the device's memory gave (reading on the CPU, copying on a GPU).\n\
    --vs runs the other program in turn with this one, repetition by repetition, on the same device.")]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    device: LocalArgs,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Measure a server with OpenAI's routes under load
    Serve(serve::Args),
    /// Measure speculative decoding and plain decoding, in turn
    Speculation(Box<speculation::Args>),
}

/// What stands for a model where none is given; `bench serve` and `--shape` need none.
pub(crate) const NO_MODEL: &str = "-";

/// `worker-orcd bench --model`.
#[derive(clap::Args, Debug)]
#[command(mut_arg(named::FLAG, |arg| arg.default_value(NO_MODEL).hide_default_value(true)))]
#[command(mut_group(named::GROUP, |group| group.required(false)))]
pub(crate) struct LocalArgs {
    /// A published model's shapes with random weights in place of a model's, as llama-3-8b:q4_k_m or llama-3-8b:iq3_s; needs no file
    #[arg(long, value_name = "NAME[:FORMAT]", conflicts_with = named::GROUP)]
    shape: Option<shape::Shape>,
    /// The first N layers of --shape alone, as for a profiler or a small GPU
    #[arg(long, value_name = "N", requires = "shape", value_parser = cmd::at_least_one)]
    layers: Option<NonZeroUsize>,
    /// Tokens of the prompts to time, 0 for none
    #[arg(short = 'p', long = "prompt", value_name = "N,..", value_delimiter = ',', default_value = "512")]
    prompt: Vec<usize>,
    /// Tokens to generate for each sequence, 0 for none
    #[arg(short = 'n', long = "gen", value_name = "N", default_value_t = 128)]
    generate: usize,
    /// Batch sizes of decode: sequences to generate at once
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "1", value_parser = cmd::at_least_one)]
    batch: Vec<NonZeroUsize>,
    /// Tokens in the KV cache of each sequence before the generated ones
    #[arg(short = 'd', long, value_name = "N", default_value_t = 0)]
    depth: usize,
    /// Memory bandwidth of the device in GB/s, to compare decode with [default: measured]
    #[arg(long, value_name = "GB/S", value_parser = positive)]
    roofline: Option<f64>,
    /// Repetitions
    #[arg(long, value_name = "N", default_value = "5", value_parser = cmd::at_least_one)]
    reps: NonZeroUsize,
    /// llama.cpp's llama-bench to compare with
    #[arg(long, value_name = "LLAMA_BENCH")]
    vs: Option<PathBuf>,
    /// Time the stages of a step as well, on the device's own clock where it has one
    #[arg(long)]
    stages: bool,
    /// Draw a chart of the throughput into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    model: ModelArgs,
}

impl LocalArgs {
    fn tests(&self) -> anyhow::Result<Vec<Test>> {
        let prefill = self.prompt.iter().filter(|&&n| n > 0).map(|&n_prompt| Test::Prefill { n_prompt });
        let batches = self.batch.iter().filter(|_| self.generate > 0);
        let decode =
            batches.map(|batch| Test::Decode { n_gen: self.generate, batch: batch.get(), depth: self.depth });
        let tests: Vec<Test> = prefill.chain(decode).collect();
        match tests.is_empty() {
            true => Err(Failure::Usage("nothing to time: -p and -n are both 0".into()).into()),
            false => Ok(tests),
        }
    }

    /// The context, the sequences and the pages of the KV cache that the tests need.
    fn plan(&self, tests: &[Test], opened: &Opened) -> anyhow::Result<Shape> {
        let longest = tests.iter().map(|test| test.n_ctx()).max();
        let n_slot = self.batch.iter().map(|b| b.get()).max().unwrap_or(1);
        let shape = self.model.shape();
        let shape = Shape { n_ctx: longest.max(shape.n_ctx), n_slot, ..shape };
        let page_size = opened.needed(shape)?.pages.page_size.max(1);
        // Not a full context for each: a long prompt is measured alone.
        let n_page = tests.iter().map(|test| test.n_page(page_size)).max();
        Ok(Shape { n_page, ..shape })
    }
}

/// Reads a rate for a flag.
fn positive(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|&rate: &f64| rate.is_finite() && rate > 0.0);
    rate.ok_or_else(|| "expected a number above 0".to_owned())
}

/// Runs the command.
pub(crate) fn run(args: &Args, log: &LogArgs) -> anyhow::Result<()> {
    match &args.what {
        Some(What::Serve(args)) => serve::run(args),
        Some(What::Speculation(args)) => speculation::run(args, log),
        None => crate::proof::run(&args.device, log),
    }
}

/// What was measured, and under what circumstances.
struct Found {
    report: Report,
    metadata: Metadata,
    /// None of random weights.
    files: Option<Arc<FileHashes>>,
}

/// Measures a model on a device.
fn of_device(args: &LocalArgs, log: &LogArgs) -> anyhow::Result<Found> {
    let tests = args.tests()?;
    args.svg.as_deref().map_or(Ok(()), crate::whole::check)?;
    let made = args.shape.as_ref().map(|shape| shape.first_layers(args.layers)?.make()).transpose()?;
    let model = match (&made, &args.model.model.0) {
        (Some(made), _) => args.model.of(ModelRef::Path(made.path.clone())),
        (None, ModelRef::Path(path)) if path.as_os_str() == NO_MODEL => {
            let text = "expected a model, --shape, or serve; --help says more";
            return Err(Failure::Usage(text.to_owned()).into());
        }
        (None, _) => args.model.clone(),
    };
    let mut opened = device::open(&model, log)?;
    // While nothing is loaded there is room for it.
    let roofline = match args.roofline {
        Some(rate) => Some(Roofline { gigabytes_per_second: rate, source: "given" }),
        None if args.generate == 0 => None,
        None => {
            let (gigabytes_per_second, source) = opened.bandwidth()?;
            Some(Roofline { gigabytes_per_second, source })
        }
    };
    let files = made.is_none().then(|| FileHashes::open(opened.gguf.paths()));
    let shape = args.plan(&tests, &opened)?;
    let mut loaded = opened.load(shape, log)?;
    let n_ctx = loaded.executor.limits().n_ctx;
    if let Some(test) = tests.iter().find(|test| test.n_ctx() > n_ctx) {
        let text = format!("expected at most {n_ctx} tokens (the context), found {}", test.n_ctx());
        return Err(Failure::Request(text).into());
    }
    let (threads, gpu) = (loaded.threads, loaded.gpu);
    let gguf = loaded.gguf.clone();
    let model = gguf.paths().first();
    let peer = args.vs.as_deref().zip(model).map(|(program, model)| Peer { program, model, threads, gpu });
    let mut ours = vec![Vec::new(); tests.len()];
    let mut theirs = vec![Vec::new(); tests.len()];
    for &test in &tests {
        test.run(loaded.executor.as_mut())?;
    }
    for rep in 0..args.reps.get() {
        // Whoever goes second may find a warmer or a throttled machine: take turns at that too.
        for turn in [rep % 2, (rep + 1) % 2] {
            match (turn, &peer) {
                (0, _) => {
                    for (rates, test) in ours.iter_mut().zip(&tests) {
                        rates.push(test.run(loaded.executor.as_mut())?);
                    }
                }
                (_, Some(peer)) => {
                    for (ran, rate) in peer.run(&tests)? {
                        let known = theirs.iter_mut().zip(&tests).filter(|(_, test)| **test == ran);
                        known.for_each(|(rates, _)| rates.push(rate));
                    }
                }
                (_, None) => {}
            }
        }
        tracing::info!("repetition {} of {}", rep + 1, args.reps);
    }
    let mut stages = vec![Vec::new(); tests.len()];
    if args.stages {
        for (stages, test) in stages.iter_mut().zip(&tests) {
            *stages = test.stages(loaded.executor.as_mut())?;
        }
    }
    let kept = (args.model.device.exact, args.model.shape().kv_type);
    let traffic = Traffic::of(&loaded.gguf, &loaded.model, kept);
    let rates = ours.iter().zip(&theirs).zip(stages);
    let lines = tests.iter().zip(rates).filter_map(|(&test, ((ours, theirs), stages))| {
        let line = Line::new(test, Samples::of(ours)?, Samples::of(theirs));
        Some(line.with_bandwidth(traffic.of_step(test), roofline.as_ref()).with_stages(stages))
    });
    let lines = lines.collect();
    let report = Report::new(Facts::of(&loaded, args, traffic.weights), roofline, lines);
    if let Some(path) = &args.svg {
        crate::whole::write(path, report.svg())?;
    }
    Ok(Found { report, metadata: Metadata::of(&loaded), files })
}
