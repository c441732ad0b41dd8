//! Is this model, on this device, what it should be? The other evaluations one after the other, and a table.

use std::fmt;

use serde::Serialize;

use super::chunks::TextArgs;
use super::divergence::{self, BaseArgs};
use super::reproducibility::{self, RequestArgs};
use super::{perplexity, tokens};
use crate::device::{self, ModelArgs};
use crate::fetch;
use crate::log::LogArgs;
use crate::proof::{Input, Measure, Measured, OutputArgs};

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
    #[command(flatten)]
    output: OutputArgs,
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

impl Measure for Args {
    const COMMAND: &'static str = "eval all";
    const UNREPEATABLE: &'static [&'static str] = &["model"];

    fn output(&self) -> &OutputArgs {
        &self.output
    }

    fn flags(&self) -> Vec<String> {
        [self.model.flags(), self.text.flags(), self.requests.flags()].concat()
    }

    fn inputs(&self, log: &LogArgs) -> anyhow::Result<Vec<Input>> {
        let base = self.base.input(&self.model, log)?;
        Ok([self.text.input()].into_iter().chain(base).chain(self.requests.input()).collect())
    }

    fn compute_as(&mut self, given: &ModelArgs) {
        self.model = given.computing(&self.model);
    }

    fn measure(&self, log: &LogArgs) -> anyhow::Result<Measured> {
        let path = fetch::path_of(&self.model.model.0, self.model.fetch, log)?;
        let tokenizer = tokens::Report::of(&device::open_tokenizer(&gguf::Gguf::open(&path)?)?)?;
        let perplexity = perplexity::measure(&self.model, &self.text, log)?;
        let is_compared = self.base.is_given();
        let compared = is_compared.then(|| divergence::measure(&self.model, &self.text, &self.base, log));
        let divergence = compared.transpose()?;
        let reproducibility = reproducibility::measure(&self.model, &self.requests, log)?.report;
        let verdict = || {
            perplexity.soundness.check()?;
            divergence.as_ref().map_or(Ok(()), |divergence| divergence.soundness.check())?;
            reproducibility.check()?;
            tokenizer.check()
        };
        let verdict = verdict();
        let (metadata, files) = (perplexity.metadata, perplexity.files);
        let report = Report {
            model: self.model.model.0.to_string(),
            tokenizer,
            perplexity: perplexity.report,
            divergence: divergence.map(|found| found.report),
            reproducibility,
        };
        Measured::new(&report, metadata, Some(files), verdict)
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
