//! What does a model predict? Logits for other tools, and perplexity.
//!
//! Both compute tokens as prompt, through the executor itself: the engine has no use for logits, and an evaluation no use for
//! sampling.

mod logits;
mod perplexity;

use clap::Subcommand;

use crate::log::LogArgs;

/// `worker-orcd eval`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Write the logits of every position of given tokens as a NumPy file
    Logits(logits::Args),
    /// Measure the perplexity of a text, by llama.cpp's method
    Perplexity(perplexity::Args),
}

/// Runs the command.
pub(crate) fn run(args: &Args, log: &LogArgs) -> anyhow::Result<()> {
    match &args.what {
        What::Logits(args) => logits::run(args, log),
        What::Perplexity(args) => perplexity::run(args, log),
    }
}
