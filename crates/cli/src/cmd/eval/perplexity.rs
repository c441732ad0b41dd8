//! How well does a model predict a text? Perplexity by the method of llama.cpp's `llama-perplexity`, so that figures compare.
//!
//! The text's tokens are cut into chunks of `n_ctx`; a rest is left out. Each chunk is computed by itself, with its first token
//! replaced by BOS where the file asks for one. The rows `n_ctx/2 .. n_ctx-1` predict their next token; the result is
//! `exp(mean(-ln p))` over all of them, and its error bar is the standard error of that mean times the perplexity.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use serde::Serialize;
use tokenizer::EncodeOptions;

use super::Soundness;
use crate::device::{self, ModelArgs, Shape};
use crate::exit::Failure;
use crate::log::LogArgs;
use crate::{cmd, single};

/// The default context of a chunk, in tokens.
const DEFAULT_CTX: usize = 512;

/// `worker-orcd eval perplexity`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example: worker-orcd eval perplexity --model m.gguf --file wiki.test.raw --ctx 512 --chunks 20\n\n\
    Chunks have --ctx tokens (512 where it is not given). Running values go to stderr, the result to stdout."
)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// The text, UTF-8
    #[arg(long, short, value_name = "TEXT")]
    file: PathBuf,
    /// Stop after this many chunks
    #[arg(long, value_name = "N")]
    chunks: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    perplexity: f64,
    error: f64,
    n_ctx: usize,
    chunks: usize,
    scored_tokens: usize,
    mean_nll: f64,
    bos: bool,
    exact: bool,
}

/// Runs the command.
pub(crate) fn run(args: &Args, log: &LogArgs) -> anyhow::Result<()> {
    let n_ctx = args.model.ctx.map_or(DEFAULT_CTX, std::num::NonZeroUsize::get);
    if n_ctx < 4 {
        return Err(Failure::Usage(format!("--ctx: expected at least 4 tokens, found {n_ctx}")).into());
    }
    let text = fs::read(&args.file).with_context(|| args.file.display().to_string())?;
    let text = String::from_utf8(text)
        .map_err(|e| Failure::Request(format!("{}: expected UTF-8: {e}", args.file.display())))?;
    let (opened, tokenizer) = device::open_with_tokenizer(&args.model, log)?;
    let mut ids = tokenizer.encode(&text, EncodeOptions { add_special: true, parse_special: false })?;
    let bos = tokenizer.special().bos.filter(|_| tokenizer.special().add_bos);
    let n_chunk = (ids.len() / n_ctx).min(args.chunks.unwrap_or(usize::MAX));
    if n_chunk == 0 {
        let text = format!("expected at least {n_ctx} tokens (one chunk), found {} in the text", ids.len());
        return Err(Failure::Request(text).into());
    }
    let shape = Shape { n_ctx: Some(n_ctx), ..args.model.shape() };
    let mut loaded = opened.load(shape, log)?;
    let n_vocab = loaded.executor.limits().n_vocab;
    let (mut score, mut soundness) = (Score::default(), Soundness::default());
    for (n, chunk) in ids.chunks_exact_mut(n_ctx).take(n_chunk).enumerate() {
        if let Some(bos) = bos {
            chunk[0] = bos;
        }
        let first = n_ctx / 2;
        let mut targets = chunk[first + 1..].iter().copied();
        single::prompt_logits(loaded.executor.as_mut(), chunk, first..n_ctx - 1, |rows| {
            soundness.look(rows, n_vocab);
            for (row, target) in rows.chunks_exact(n_vocab).zip(&mut targets) {
                score.add(negative_log_likelihood(row, target));
            }
            Ok(())
        })?;
        tracing::info!("[{}/{n_chunk}] {:.4}", n + 1, score.perplexity());
    }
    let report = Report {
        perplexity: score.perplexity(),
        error: score.error(),
        n_ctx,
        chunks: n_chunk,
        scored_tokens: score.count,
        mean_nll: score.mean(),
        bos: bos.is_some(),
        exact: args.model.device.exact,
    };
    if args.json {
        cmd::print_json(&report)?;
    } else {
        cmd::print(&format!("perplexity {:.4} +/- {:.5}\n", report.perplexity, report.error))?;
    }
    soundness.check()
}

/// `-ln softmax(logits)[target]`, in double precision.
fn negative_log_likelihood(logits: &[f32], target: u32) -> f64 {
    let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|&x| (f64::from(x) - max).exp()).sum();
    let own = logits.get(target as usize).map_or(f64::NEG_INFINITY, |&x| f64::from(x));
    max + sum.ln() - own
}

/// The running mean and its error.
#[derive(Default)]
struct Score {
    count: usize,
    sum: f64,
    sum_of_squares: f64,
}

impl Score {
    fn add(&mut self, nll: f64) {
        self.count += 1;
        self.sum += nll;
        self.sum_of_squares += nll * nll;
    }

    fn mean(&self) -> f64 {
        self.sum / self.count as f64
    }

    fn perplexity(&self) -> f64 {
        self.mean().exp()
    }

    fn error(&self) -> f64 {
        let variance = self.sum_of_squares / self.count as f64 - self.mean() * self.mean();
        (variance.max(0.0) / (self.count.max(2) - 1) as f64).sqrt() * self.perplexity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uniform_logits_have_the_vocabulary_as_perplexity() {
        let mut score = Score::default();
        for target in 0..8 {
            score.add(negative_log_likelihood(&[3.5; 50], target));
        }
        assert!((score.perplexity() - 50.0).abs() < 1e-9, "{}", score.perplexity());
        assert!(score.error() < 1e-5, "{}", score.error());
    }

    #[test]
    fn a_certain_token_costs_nothing_and_large_logits_do_not_overflow() {
        let logits = [1000.0, 0.0, -1000.0];
        assert!(negative_log_likelihood(&logits, 0).abs() < 1e-12);
        assert!((negative_log_likelihood(&logits, 2) - 2000.0).abs() < 1e-9);
    }
}
