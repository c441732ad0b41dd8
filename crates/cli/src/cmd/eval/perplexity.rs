//! How well does a model predict a text? Perplexity by the method of llama.cpp's `llama-perplexity`, so that figures compare.
//!
//! Over the rows that [`chunks`](super::chunks) names the result is `exp(mean(-ln p))`, and its error bar is the standard error of that
//! mean times the perplexity.

use std::fmt;

use serde::Serialize;
use worker::receipt::FileHashes;

use super::chunks::{self, Chunks, TextArgs};
use super::score::{Score, negative_log_likelihood};
use super::{Found, Soundness};
use crate::device::ModelArgs;
use crate::log::LogArgs;
use crate::progress::Progress;
use crate::proof::{Input, Measure, Measured, Metadata, OutputArgs};

/// `worker-orcd eval perplexity`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example: worker-orcd eval perplexity m.gguf --file wiki.test.raw --ctx 512 --chunks 20\n\n\
    Chunks have --ctx tokens (512 where it is not given). Running values go to stderr, the result to stdout."
)]
pub(crate) struct Args {
    #[command(flatten)]
    text: TextArgs,
    /// End with exit code 13 where the perplexity is above this
    #[arg(long, value_name = "X")]
    max_perplexity: Option<f64>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    model: ModelArgs,
}

/// The fields of `eval perplexity --json`.
#[derive(Serialize)]
pub(super) struct Report {
    perplexity: f64,
    error: f64,
    n_ctx: usize,
    chunks: usize,
    scored_tokens: usize,
    mean_nll: f64,
    bos: bool,
    exact: bool,
}

impl Measure for Args {
    const COMMAND: &'static str = "eval perplexity";

    fn output(&self) -> &OutputArgs {
        &self.output
    }

    fn flags(&self) -> Vec<String> {
        [self.model.flags(), self.text.flags()].concat()
    }

    fn inputs(&self, _log: &LogArgs) -> anyhow::Result<Vec<Input>> {
        Ok(vec![self.text.input()])
    }

    fn compute_as(&mut self, given: &ModelArgs) {
        self.model = given.computing(&self.model);
    }

    fn measure(&self, log: &LogArgs) -> anyhow::Result<Measured> {
        let found = measure(&self.model, &self.text, log)?;
        let perplexity = found.report.perplexity;
        let verdict = || {
            found.soundness.check()?;
            super::at_most("perplexity", perplexity, self.max_perplexity)
        };
        Measured::new(&found.report, found.metadata, Some(found.files), verdict())
    }
}

/// Loads the model and predicts the text.
pub(super) fn measure(model: &ModelArgs, text: &TextArgs, log: &LogArgs) -> anyhow::Result<Found<Report>> {
    let (opened, chunks) = chunks::open(model, text, log)?;
    let files = FileHashes::open(opened.gguf.paths());
    let loaded = chunks::load(opened, model, &chunks, log)?;
    let (metadata, mut executor) = (Metadata::of(&loaded), loaded.executor);
    let (mut score, mut soundness) = (Score::default(), Soundness::default());
    let mut progress = Progress::count("predicting", log);
    for n in 0..chunks.len() {
        chunks.predict(executor.as_mut(), n, &mut soundness, |row, target| {
            score.add(negative_log_likelihood(row, target));
        })?;
        progress.step(n, chunks.len(), || format!("perplexity {:.4}", score.perplexity()));
    }
    progress.finish();
    let report = Report::new(&score, &chunks, model.device.exact);
    Ok(Found { report, soundness, metadata, files })
}

impl Report {
    fn new(score: &Score, chunks: &Chunks, exact: bool) -> Report {
        Report {
            perplexity: score.perplexity(),
            error: score.perplexity_error(),
            n_ctx: chunks.n_ctx,
            chunks: chunks.len(),
            scored_tokens: score.count,
            mean_nll: score.mean(),
            bos: chunks.bos.is_some(),
            exact,
        }
    }

    /// The result in a few words.
    pub(super) fn summary(&self) -> String {
        format!("perplexity {:.4} +/- {:.5}", self.perplexity, self.error)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.summary())
    }
}
