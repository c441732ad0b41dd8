//! Is this model, on this device, what it should be? The other evaluations one after the other, and a table.

use std::fmt;

use serde::Serialize;

use super::chunks::TextArgs;
use super::divergence::{self, BaseArgs};
use super::reproducibility::{self, RequestArgs};
use super::{perplexity, tokens};
use crate::cmd;
use crate::device::{self, ModelArgs};
use crate::exit::Failure;
use crate::fetch;
use crate::log::LogArgs;

/// `worker-orcd eval all`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example: worker-orcd eval all m-q4_k_m.gguf --file wiki.test.raw --chunks 20 --base m-f16.gguf\n\n\
    The vocabulary's round trip, perplexity, divergence where there is a --base or --saved, and reproducibility. The exit\n\
    code is 13 if texts of tokens do not come back or answers differ."
)]
pub(crate) struct Args {
    #[command(flatten)]
    text: TextArgs,
    #[command(flatten)]
    base: BaseArgs,
    #[command(flatten)]
    requests: RequestArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    model: ModelArgs,
}

/// The fields of `eval all --json`.
#[derive(Serialize)]
struct Report {
    model: String,
    tokenizer: tokens::Report,
    perplexity: perplexity::Report,
    divergence: Option<divergence::Report>,
    reproducibility: reproducibility::Report,
}

/// Runs the command.
pub(crate) fn run(args: &Args, log: &LogArgs) -> anyhow::Result<()> {
    let path = fetch::path_of(&args.model.model.0, args.model.fetch, log)?;
    let tokenizer = tokens::Report::of(&device::open_tokenizer(&gguf::Gguf::open(&path)?)?)?;
    let (perplexity, soundness) = perplexity::measure(&args.model, &args.text, log)?;
    let compared =
        args.base.is_given().then(|| divergence::measure(&args.model, &args.text, &args.base, log));
    let (divergence, other) = compared.transpose()?.unzip();
    let reproducibility = reproducibility::measure(&args.model, &args.requests, log)?;
    let model = args.model.model.0.to_string();
    let report = Report { model, tokenizer, perplexity, divergence, reproducibility };
    cmd::print_report(&report, args.json)?;
    soundness.check()?;
    other.map_or(Ok(()), |soundness| soundness.check())?;
    report.reproducibility.check()?;
    match report.tokenizer.is_whole() {
        true => Ok(()),
        false => Err(Failure::OutOfBounds(report.tokenizer.failure()).into()),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = |passed: bool| if passed { "ok" } else { "FAILED" };
        writeln!(f, "{}", self.model)?;
        let mut row = |name: &str, state: &str, found: String| writeln!(f, "{name:<16} {state:<7} {found}");
        row("tokenizer", state(self.tokenizer.is_whole()), self.tokenizer.summary())?;
        row("perplexity", "-", self.perplexity.summary())?;
        if let Some(divergence) = &self.divergence {
            row("divergence", "-", divergence.summary())?;
        }
        row("reproducibility", state(self.reproducibility.is_equal()), self.reproducibility.summary())
    }
}
