//! How far is a model from another, such as a quantised one from its original? Kullback-Leibler divergence and agreement, row by row.
//!
//! Over the rows that [`chunks`](super::chunks) names, with `p` the base's probabilities and `q` the model's: `KL = Σ p (ln p - ln q)`,
//! in double precision; whether both have the same most likely token; and `Δp`, the model's probability of the text's own next token
//! less the base's. llama.cpp's `llama-perplexity --kl-divergence` computes the same.

use std::fmt;
use std::path::PathBuf;

use device::Executor;
use gguf::Gguf;
use hub::ModelRef;
use serde::Serialize;
use worker::receipt::FileHashes;

use super::base::Reader;
use super::chunks::{self, Chunks, TextArgs};
use super::save::log_probabilities;
use super::score::{Score, most_likely};
use super::{Found, Soundness};
use crate::device::ModelArgs;
use crate::exit::Failure;
use crate::fetch;
use crate::log::LogArgs;
use crate::progress::Progress;
use crate::proof::{Input, Measure, Measured, Metadata, OutputArgs};

/// `worker-orcd eval divergence`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  worker-orcd eval divergence m-q4_k_m.gguf --base m-f16.gguf --file wiki.test.raw --chunks 20\n  \
    worker-orcd eval divergence m-q4_k_m.gguf --saved m-f16.predictions --file wiki.test.raw --chunks 20\n\n\
    With --base both models are on the device at once; eval save writes a --saved file."
)]
pub(crate) struct Args {
    #[command(flatten)]
    text: TextArgs,
    #[command(flatten)]
    base: BaseArgs,
    /// End with exit code 13 where the mean divergence is above this
    #[arg(long, value_name = "X")]
    max_kl: Option<f64>,
    /// End with exit code 13 where a smaller share of rows, 0 to 1, has the base's most likely token
    #[arg(long, value_name = "X")]
    min_agreement: Option<f64>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    model: ModelArgs,
}

/// What the model is held against.
#[derive(clap::Args, Debug)]
#[group(multiple = false)]
pub(super) struct BaseArgs {
    /// The model to compare with, as --model
    #[arg(long, value_name = "MODEL", value_parser = fetch::reference())]
    base: Option<ModelRef>,
    /// Predictions that eval save wrote
    #[arg(long, value_name = "FILE")]
    saved: Option<PathBuf>,
}

impl BaseArgs {
    /// Whether there is anything to hold against.
    pub(super) fn is_given(&self) -> bool {
        self.base.is_some() || self.saved.is_some()
    }

    /// Its files.
    pub(super) fn input(&self, model: &ModelArgs, log: &LogArgs) -> anyhow::Result<Option<Input>> {
        match (&self.base, &self.saved) {
            (Some(base), _) => {
                let path = fetch::path_of(base, model.fetch, log)?;
                Ok(Some(Input { flag: "--base", paths: Gguf::open(&path)?.paths().to_vec() }))
            }
            (None, Some(path)) => Ok(Some(Input { flag: "--saved", paths: vec![path.clone()] })),
            (None, None) => Ok(None),
        }
    }
}

/// The other predictions.
enum Base {
    Model(Box<dyn Executor>),
    Saved(Reader),
}

impl Base {
    fn open(
        args: &ModelArgs,
        text: &TextArgs,
        base: &BaseArgs,
        chunks: &Chunks,
        log: &LogArgs,
    ) -> anyhow::Result<Base> {
        let model = match (&base.base, &base.saved) {
            (Some(base), _) => args.of(base.clone()),
            (None, Some(path)) => return Ok(Base::Saved(Reader::open(path, chunks)?)),
            (None, None) => return Err(Failure::Usage("expected --base or --saved".to_owned()).into()),
        };
        let (opened, theirs) = chunks::open(&model, text, log)?;
        if theirs != *chunks {
            let text = "expected one vocabulary, found two: the models make other tokens of the text";
            return Err(Failure::Request(text.to_owned()).into());
        }
        Ok(Base::Model(chunks::load(opened, &model, chunks, log)?.executor))
    }

    /// Ids of the vocabulary.
    fn n_vocab(&self) -> usize {
        match self {
            Base::Model(executor) => executor.limits().n_vocab,
            Base::Saved(reader) => reader.n_vocab(),
        }
    }

    /// The log probabilities of a chunk's rows, one after the other.
    fn chunk(&mut self, chunks: &Chunks, n: usize, soundness: &mut Soundness) -> anyhow::Result<Vec<f32>> {
        match self {
            Base::Saved(reader) => reader.chunk(chunks, n),
            Base::Model(executor) => {
                let (mut all, mut row) = (Vec::new(), Vec::new());
                chunks.predict(executor.as_mut(), n, soundness, |logits, _| {
                    log_probabilities(logits, &mut row);
                    all.extend_from_slice(&row);
                })?;
                Ok(all)
            }
        }
    }
}

impl Measure for Args {
    const COMMAND: &'static str = "eval divergence";

    fn output(&self) -> &OutputArgs {
        &self.output
    }

    fn flags(&self) -> Vec<String> {
        [self.model.flags(), self.text.flags()].concat()
    }

    fn inputs(&self, log: &LogArgs) -> anyhow::Result<Vec<Input>> {
        let base = self.base.input(&self.model, log)?;
        Ok([self.text.input()].into_iter().chain(base).collect())
    }

    fn compute_as(&mut self, given: &ModelArgs) {
        self.model = given.computing(&self.model);
    }

    fn measure(&self, log: &LogArgs) -> anyhow::Result<Measured> {
        let Found { report, soundness, metadata, files } = measure(&self.model, &self.text, &self.base, log)?;
        let verdict = || {
            soundness.check()?;
            super::at_most("mean KL divergence", report.mean_kl, self.max_kl)?;
            let what = "share of rows with the same most likely token";
            super::at_least(what, report.agreement, self.min_agreement)
        };
        Measured::new(&report, metadata, Some(files), verdict())
    }
}

/// Loads the model, and its base if that is one, and compares them.
pub(super) fn measure(
    model: &ModelArgs,
    text: &TextArgs,
    base: &BaseArgs,
    log: &LogArgs,
) -> anyhow::Result<Found<Report>> {
    let (opened, chunks) = chunks::open(model, text, log)?;
    let files = FileHashes::open(opened.gguf.paths());
    let loaded = chunks::load(opened, model, &chunks, log)?;
    let (metadata, mut executor) = (Metadata::of(&loaded), loaded.executor);
    let n_vocab = executor.limits().n_vocab;
    let mut base = Base::open(model, text, base, &chunks, log)?;
    if base.n_vocab() != n_vocab {
        let text = format!("expected a base with a vocabulary of {n_vocab}, found {}", base.n_vocab());
        return Err(Failure::Request(text).into());
    }
    let (mut tally, mut soundness) = (Tally::default(), Soundness::default());
    let mut progress = Progress::count("comparing", log);
    for n in 0..chunks.len() {
        let theirs = base.chunk(&chunks, n, &mut soundness)?;
        let (mut rows, mut ours) = (theirs.chunks_exact(n_vocab), Vec::new());
        chunks.predict(executor.as_mut(), n, &mut soundness, |logits, target| {
            log_probabilities(logits, &mut ours);
            if let Some(theirs) = rows.next() {
                tally.add(theirs, &ours, target);
            }
        })?;
        progress.step(n, chunks.len(), || format!("mean KL {:.6}", tally.divergence.mean()));
    }
    progress.finish();
    let report = tally.report(&chunks, model.device.exact);
    Ok(Found { report, soundness, metadata, files })
}

/// What is known of the rows so far.
#[derive(Default)]
struct Tally {
    divergence: Score,
    all: Vec<f64>,
    n_same: usize,
    difference: Score,
    base: Score,
    model: Score,
}

impl Tally {
    /// A row's log probabilities, `[n_vocab]` each.
    fn add(&mut self, base: &[f32], model: &[f32], target: u32) {
        let kl = kullback_leibler(base, model);
        self.divergence.add(kl);
        self.all.push(kl);
        self.n_same += usize::from(most_likely(base) == most_likely(model));
        let own = |row: &[f32]| row.get(target as usize).map_or(f64::NEG_INFINITY, |&x| f64::from(x));
        let (p, q) = (own(base), own(model));
        self.difference.add(q.exp() - p.exp());
        self.base.add(-p);
        self.model.add(-q);
    }

    fn report(mut self, chunks: &Chunks, exact: bool) -> Report {
        self.all.sort_by(f64::total_cmp);
        let quantile = |share: f64| {
            // Nearest rank.
            let rank = (share * self.all.len() as f64).ceil() as usize;
            self.all.get(rank.max(1) - 1).copied().unwrap_or(f64::NAN)
        };
        let n = self.all.len().max(1) as f64;
        let agreement = self.n_same as f64 / n;
        Report {
            mean_kl: self.divergence.mean(),
            mean_kl_error: self.divergence.mean_error(),
            median_kl: quantile(0.5),
            kl_99: quantile(0.99),
            kl_999: quantile(0.999),
            max_kl: quantile(1.0),
            agreement,
            agreement_error: (agreement * (1.0 - agreement) / (n - 1.0).max(1.0)).sqrt(),
            mean_difference: self.difference.mean(),
            rms_difference: self.difference.root_mean_square(),
            base_perplexity: self.base.perplexity(),
            perplexity: self.model.perplexity(),
            n_ctx: chunks.n_ctx,
            chunks: chunks.len(),
            scored_tokens: self.all.len(),
            exact,
        }
    }
}

/// `Σ p (ln p - ln q)` of log probabilities. What the base never says counts nothing.
fn kullback_leibler(base: &[f32], model: &[f32]) -> f64 {
    let terms = base.iter().zip(model).filter(|&(&p, _)| p > f32::NEG_INFINITY);
    terms.map(|(&p, &q)| f64::from(p).exp() * (f64::from(p) - f64::from(q))).sum()
}

/// The fields of `eval divergence --json`.
#[derive(Serialize)]
pub(super) struct Report {
    /// In nats a row, with its standard error.
    mean_kl: f64,
    mean_kl_error: f64,
    median_kl: f64,
    kl_99: f64,
    kl_999: f64,
    max_kl: f64,
    /// Share of rows with the same most likely token.
    agreement: f64,
    agreement_error: f64,
    /// The text's own tokens' probability, model less base.
    mean_difference: f64,
    rms_difference: f64,
    base_perplexity: f64,
    perplexity: f64,
    n_ctx: usize,
    chunks: usize,
    scored_tokens: usize,
    exact: bool,
}

impl Report {
    /// The result in a few words.
    pub(super) fn summary(&self) -> String {
        format!("mean KL {:.6}, {:.2} % same top token", self.mean_kl, 100.0 * self.agreement)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "KL divergence   mean {:.6} +/- {:.6}", self.mean_kl, self.mean_kl_error)?;
        let (median, p99) = (self.median_kl, self.kl_99);
        writeln!(
            f,
            "                median {median:.6}, 99 % {p99:.6}, 99.9 % {:.6}, max {:.6}",
            self.kl_999, self.max_kl
        )?;
        let (share, error) = (100.0 * self.agreement, 100.0 * self.agreement_error);
        writeln!(f, "same top token  {share:.3} % +/- {error:.3}")?;
        let (mean, rms) = (100.0 * self.mean_difference, 100.0 * self.rms_difference);
        writeln!(f, "difference of p mean {mean:.3} %, root mean square {rms:.3} %")?;
        writeln!(f, "perplexity      {:.4}, base {:.4}", self.perplexity, self.base_perplexity)?;
        writeln!(
            f,
            "over            {} tokens in {} chunks of {}",
            self.scored_tokens, self.chunks, self.n_ctx
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divergence_is_what_its_formula_says() {
        let ln = |p: &[f32]| -> Vec<f32> { p.iter().map(|p| p.ln()).collect() };
        let (p, q) = (ln(&[0.5, 0.25, 0.25, 0.0]), ln(&[0.25, 0.25, 0.25, 0.25]));
        assert_eq!(kullback_leibler(&p, &p), 0.0);
        assert!((kullback_leibler(&p, &q) - 0.5 * 2f64.ln()).abs() < 1e-7);
        assert_eq!(kullback_leibler(&q, &p), f64::INFINITY);
        assert_eq!((most_likely(&p), most_likely(&q)), (0, 0));
    }

    #[test]
    fn a_tally_counts_rows() {
        let (a, b) = ([0.8f32.ln(), 0.2f32.ln()], [0.4f32.ln(), 0.6f32.ln()]);
        let mut tally = Tally::default();
        tally.add(&a, &a, 0);
        tally.add(&a, &b, 0);
        assert_eq!((tally.n_same, tally.all.len()), (1, 2));
        assert!((tally.difference.mean() + 0.2).abs() < 1e-6);
        assert!((tally.base.perplexity() - 1.25).abs() < 1e-6);
    }
}
