//! What does a model predict over a text, for others to be held against? Written once, read by `eval divergence`.

use std::path::PathBuf;

use anyhow::Context;
use worker::receipt::FileHashes;

use super::Soundness;
use super::base::{Header, Writer};
use super::chunks::{self, TextArgs};
use super::score::log_sum;
use crate::cmd;
use crate::cmd::verify::of_receipt;
use crate::device::ModelArgs;
use crate::log::LogArgs;
use crate::progress::Progress;
use crate::whole;

/// `worker-orcd eval save`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example: worker-orcd eval save m-f16.gguf --file wiki.test.raw --chunks 20 --out m-f16.predictions\n\n\
    The file takes 2 bytes for each id of the vocabulary and each scored token. If the command is stopped, the same\n\
    command goes on where it was."
)]
pub(crate) struct Args {
    #[command(flatten)]
    text: TextArgs,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    model: ModelArgs,
}

/// Runs the command.
pub(crate) fn run(args: &Args, log: &LogArgs) -> anyhow::Result<()> {
    if !args.out.exists() {
        whole::check(&args.out)?;
    }
    let (opened, chunks) = chunks::open(&args.model, &args.text, log)?;
    let hashes = FileHashes::open(opened.gguf.paths());
    let mut executor = chunks::load(opened, &args.model, &chunks, log)?.executor;
    let header = Header::new(hashes.wait().map_err(of_receipt)?, chunks.n_ctx, executor.limits().n_vocab);
    let mut writer = Writer::open(&args.out, &header, &chunks)?;
    let place = || args.out.display().to_string();
    let (n_there, mut soundness) = (writer.n_there, Soundness::default());
    if n_there > 0 {
        tracing::info!("{n_there} of {} chunks were there", chunks.len());
    }
    let mut progress = Progress::count("predicting", log);
    for n in n_there..chunks.len() {
        let mut written = writer.ids(chunks.ids(n));
        let mut row = Vec::new();
        chunks.predict(executor.as_mut(), n, &mut soundness, |logits, _| {
            log_probabilities(logits, &mut row);
            if written.is_ok() {
                written = writer.row(&row);
            }
        })?;
        written.and_then(|()| writer.flush()).with_context(place)?;
        progress.step(n, chunks.len(), || "saved".to_owned());
    }
    progress.finish();
    cmd::print(&format!("{}: {} chunks of {} tokens\n", args.out.display(), chunks.len(), chunks.n_ctx))?;
    soundness.check()
}

/// Writes the logarithms of a row's probabilities.
pub(super) fn log_probabilities(logits: &[f32], out: &mut Vec<f32>) {
    let sum = log_sum(logits);
    out.clear();
    out.extend(logits.iter().map(|&logit| (f64::from(logit) - sum) as f32));
}
