//! Is a model what it should be? What it predicts, how far it is from another, whether its answers repeat, whether its vocabulary is whole.
//!
//! Predictions are computed as prompt, through the executor itself: the engine has no use for logits, and an evaluation no use for
//! sampling. Only [`reproducibility`] asks as clients do.

mod all;
mod base;
mod chunks;
mod divergence;
mod golden;
mod logits;
mod perplexity;
mod reproducibility;
mod save;
mod score;
mod tokens;

use std::sync::Arc;

use clap::Subcommand;
use worker::receipt::FileHashes;

pub(crate) use self::all::Args as All;
pub(crate) use self::divergence::Args as Divergence;
pub(crate) use self::golden::Args as Golden;
pub(crate) use self::perplexity::Args as Perplexity;
pub(crate) use self::reproducibility::Args as Reproducibility;
pub(crate) use self::tokens::Args as Tokenizer;
use crate::exit::Failure;
use crate::log::LogArgs;
use crate::proof::{self, Metadata};

/// `worker-orcd eval`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  worker-orcd eval perplexity m.gguf --file wiki.test.raw --chunks 20\n  \
    worker-orcd eval divergence m.gguf --base m-f16.gguf --file wiki.test.raw --chunks 20\n  \
    worker-orcd eval reproducibility m.gguf"
)]
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
    /// Save a model's predictions for a text, as the base of a comparison
    Save(save::Args),
    /// Measure KL divergence and agreement with another model or with saved predictions
    Divergence(divergence::Args),
    /// Run the same prompts alone, batched and in chunks, and compare the answers
    Reproducibility(reproducibility::Args),
    /// Compare logits and a greedy answer with those of a reference implementation
    Golden(golden::Args),
    /// Round-trip each token of the vocabulary through decoding and encoding
    Tokenizer(tokens::Args),
    /// Run all of these and print a table
    All(all::Args),
}

/// Runs the command.
pub(crate) fn run(args: &Args, log: &LogArgs) -> anyhow::Result<()> {
    match &args.what {
        What::Logits(args) => logits::run(args, log),
        What::Perplexity(args) => proof::run(args, log),
        What::Save(args) => save::run(args, log),
        What::Divergence(args) => proof::run(args, log),
        What::Reproducibility(args) => proof::run(args, log),
        What::Golden(args) => proof::run(args, log),
        What::Tokenizer(args) => proof::run(args, log),
        What::All(args) => proof::run(args, log),
    }
}

/// What an evaluation found, and under what circumstances.
struct Found<R> {
    report: R,
    soundness: Soundness,
    metadata: Metadata,
    /// The model's files, as they were opened.
    files: Arc<FileHashes>,
}

/// An error where a value is above its bound, or is no number.
fn at_most(what: &str, found: f64, bound: Option<f64>) -> anyhow::Result<()> {
    match bound {
        Some(bound) if found.is_nan() || found > bound => {
            Err(Failure::OutOfBounds(format!("{what}: expected at most {bound}, found {found}")).into())
        }
        _ => Ok(()),
    }
}

/// An error where a value is below its bound, or is no number.
fn at_least(what: &str, found: f64, bound: Option<f64>) -> anyhow::Result<()> {
    match bound {
        Some(bound) if found.is_nan() || found < bound => {
            Err(Failure::OutOfBounds(format!("{what}: expected at least {bound}, found {found}")).into())
        }
        _ => Ok(()),
    }
}

/// Watches for logits that no model has that is whole: NaN and +∞, and rows of -∞ alone, from which no token can be chosen.
#[derive(Debug, Default)]
struct Soundness {
    n_row: usize,
    n_broken_row: usize,
    /// The first of the broken rows.
    first: usize,
}

impl Soundness {
    /// Looks at the next rows, `[n][n_vocab]`.
    fn look(&mut self, rows: &[f32], n_vocab: usize) {
        for row in rows.chunks_exact(n_vocab.max(1)) {
            let has_none = row.iter().all(|&logit| logit == f32::NEG_INFINITY);
            if has_none || row.iter().any(|&logit| logit.is_nan() || logit == f32::INFINITY) {
                if self.n_broken_row == 0 {
                    self.first = self.n_row;
                }
                self.n_broken_row += 1;
            }
            self.n_row += 1;
        }
    }

    /// An error where there were such rows; what was measured is then of no model.
    fn check(&self) -> anyhow::Result<()> {
        if self.n_broken_row == 0 {
            return Ok(());
        }
        let Soundness { n_row, n_broken_row, first } = self;
        let text = format!(
            "expected logits that are numbers below infinity, one of a row finite, \
             found others in {n_broken_row} of {n_row} rows, first in row {first}: the model file is damaged, or the device computes wrongly"
        );
        Err(Failure::Unsound(text).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_no_whole_model_has_are_counted() {
        let mut soundness = Soundness::default();
        soundness.look(&[0.0, f32::NEG_INFINITY, 1.0, 2.0], 2);
        assert!(soundness.check().is_ok());
        soundness.look(&[0.0, f32::NAN, 1.0, 2.0, f32::INFINITY, 0.0], 2);
        let error = soundness.check().unwrap_err().to_string();
        assert!(error.contains("in 2 of 5 rows, first in row 2"), "{error}");
        soundness.look(&[f32::NEG_INFINITY; 2], 2);
        let error = soundness.check().unwrap_err().to_string();
        assert!(error.contains("in 3 of 6 rows"), "{error}");
    }
}
