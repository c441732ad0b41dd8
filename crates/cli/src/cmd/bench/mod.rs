//! How fast is it? Prefill and decode rates of one model on one device, alone or in turn with llama.cpp's.
//!
//! Rates are tokens per second over all sequences; the median of some repetitions, after one warm-up. Bandwidth is the bytes of
//! weights that one token reads (a mixture's unused experts and the rows of the embedding that are not looked up left out)
//! times the decode rate of one sequence.

mod measure;
mod peer;
mod report;
mod samples;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use self::measure::Test;
use self::peer::Peer;
use self::report::{Facts, Line, Report};
use self::samples::Samples;
use crate::cmd;
use crate::device::{self, ModelArgs, Shape};
use crate::exit::Failure;
use crate::log::LogArgs;

/// `worker-orcd bench`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  worker-orcd bench --model m.gguf -p 512,2048 -n 128 --batch 1,4\n  \
    worker-orcd bench --model m.gguf --vs llama.cpp/build/bin/llama-bench --json\n\n\
    Rates are in tokens per second: the median of --reps repetitions (and the slowest and fastest).\n\
    --vs runs the other program in turn with this one, repetition by repetition.")]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Tokens of the prompts to time, 0 for none
    #[arg(short = 'p', long = "prompt", value_name = "N,..", value_delimiter = ',', default_value = "512")]
    prompt: Vec<usize>,
    /// Tokens to generate, a sequence, 0 for none
    #[arg(short = 'n', long = "gen", value_name = "N", default_value_t = 128)]
    generate: usize,
    /// Sequences to generate at once
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "1", value_parser = cmd::at_least_one)]
    batch: Vec<NonZeroUsize>,
    /// Repetitions
    #[arg(long, value_name = "N", default_value = "5", value_parser = cmd::at_least_one)]
    reps: NonZeroUsize,
    /// llama.cpp's llama-bench to compare with
    #[arg(long, value_name = "LLAMA_BENCH")]
    vs: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Args {
    fn tests(&self) -> anyhow::Result<Vec<Test>> {
        let prefill = self.prompt.iter().filter(|&&n| n > 0).map(|&n_prompt| Test::Prefill { n_prompt });
        let batches = self.batch.iter().filter(|_| self.generate > 0);
        let decode = batches.map(|batch| Test::Decode { n_gen: self.generate, batch: batch.get() });
        let tests: Vec<Test> = prefill.chain(decode).collect();
        match tests.is_empty() {
            true => Err(Failure::Usage("nothing to time: -p and -n are both 0".into()).into()),
            false => Ok(tests),
        }
    }

    /// The context and the sequences that the tests need.
    fn shape(&self) -> Shape {
        let longest = self.prompt.iter().copied().max().unwrap_or(0);
        let n_slot = self.batch.iter().map(|b| b.get()).max().unwrap_or(1);
        Shape { n_ctx: Some(longest.max(self.generate.saturating_add(1))), n_slot }
    }
}

/// Runs the command.
pub(crate) fn run(args: &Args, log: &LogArgs) -> anyhow::Result<()> {
    let tests = args.tests()?;
    let mut shape = args.shape();
    if let Some(n_ctx) = args.model.ctx {
        shape.n_ctx = shape.n_ctx.max(Some(n_ctx.get()));
    }
    let mut loaded = device::open(&args.model)?.load(shape, log)?;
    let threads = loaded.threads;
    let peer = args.vs.as_deref().map(|program| Peer { program, model: &args.model.model, threads });
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
    let lines = tests
        .iter()
        .zip(ours.iter().zip(&theirs))
        .filter_map(|(&test, (ours, theirs))| Some(Line::new(test, Samples::of(ours)?, Samples::of(theirs))));
    let report = Report::new(Facts::of(&loaded, args), lines.collect());
    if args.json { cmd::print_json(&report) } else { cmd::print(&report.to_string()) }
}
