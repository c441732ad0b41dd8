//! Which tokens of a text are predicted? The cut of llama.cpp's `llama-perplexity`, so that figures compare.
//!
//! The text's tokens are cut into chunks of `n_ctx`; a rest is left out. Each chunk is computed by itself, with its first token
//! replaced by BOS where the file asks for one. The rows `n_ctx/2 .. n_ctx-1` predict their next token.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::PathBuf;

use ::device::Executor;
use tokenizer::limits::MAX_TEXT_BYTES;
use tokenizer::{EncodeOptions, Tokenizer};

use super::Soundness;
use crate::device::{self, Loaded, ModelArgs, Opened, Shape};
use crate::exit::Failure;
use crate::input;
use crate::log::LogArgs;
use crate::proof::Input;
use crate::single;

/// The default context of a chunk, in tokens.
const DEFAULT_CTX: usize = 512;

/// The text to predict.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct TextArgs {
    /// The text, UTF-8
    #[arg(long, short, value_name = "TEXT")]
    file: PathBuf,
    /// Stop after this many chunks
    #[arg(long, value_name = "N")]
    chunks: Option<usize>,
}

/// A text's tokens in chunks.
#[derive(PartialEq, Eq)]
pub(super) struct Chunks {
    /// Whole chunks, with BOS where it belongs.
    ids: Vec<u32>,
    pub(super) n_ctx: usize,
    pub(super) bos: Option<u32>,
}

/// Opens a model, and cuts the text into chunks of its tokens: `--ctx` of them each, or 512.
///
/// # Errors
/// Chunks of fewer than 4 tokens, and those of the model and the text.
pub(super) fn open(args: &ModelArgs, text: &TextArgs, log: &LogArgs) -> anyhow::Result<(Opened, Chunks)> {
    let n_ctx = args.ctx.map_or(DEFAULT_CTX, NonZeroUsize::get);
    if n_ctx < 4 {
        return Err(Failure::Usage(format!("--ctx: expected at least 4 tokens, found {n_ctx}")).into());
    }
    let (opened, tokenizer) = device::open_with_tokenizer(args, log)?;
    Ok((opened, Chunks::read(text, n_ctx, &tokenizer)?))
}

/// Loads a model for chunks of these.
pub(super) fn load(
    opened: Opened,
    args: &ModelArgs,
    chunks: &Chunks,
    log: &LogArgs,
) -> anyhow::Result<Loaded> {
    opened.load(Shape { n_ctx: Some(chunks.n_ctx), ..args.shape() }, log)
}

impl TextArgs {
    /// What decides a result, as flags.
    pub(super) fn flags(&self) -> Vec<String> {
        self.chunks.iter().map(|n| format!("--chunks={n}")).collect()
    }

    /// The text.
    pub(super) fn input(&self) -> Input {
        Input { flag: "--file", paths: vec![self.file.clone()] }
    }
}

impl Chunks {
    /// Reads the text and cuts it.
    fn read(args: &TextArgs, n_ctx: usize, tokenizer: &Tokenizer) -> anyhow::Result<Chunks> {
        let text = input::text(&args.file, MAX_TEXT_BYTES as u64)?;
        let mut ids = tokenizer.encode(&text, EncodeOptions { add_special: true, parse_special: false })?;
        let n_chunk = (ids.len() / n_ctx).min(args.chunks.unwrap_or(usize::MAX));
        if n_chunk == 0 {
            let text =
                format!("expected at least {n_ctx} tokens (one chunk), found {} in the text", ids.len());
            return Err(Failure::Request(text).into());
        }
        ids.truncate(n_chunk * n_ctx);
        let bos = tokenizer.special().bos.filter(|_| tokenizer.special().add_bos);
        if let Some(bos) = bos {
            ids.chunks_mut(n_ctx).for_each(|chunk| chunk[0] = bos);
        }
        Ok(Chunks { ids, n_ctx, bos })
    }

    /// How many there are; at least one.
    pub(super) fn len(&self) -> usize {
        self.ids.len() / self.n_ctx
    }

    /// The tokens of one.
    pub(super) fn ids(&self, n: usize) -> &[u32] {
        &self.ids[n * self.n_ctx..(n + 1) * self.n_ctx]
    }

    /// The rows that predict.
    pub(super) fn rows(&self) -> Range<usize> {
        self.n_ctx / 2..self.n_ctx - 1
    }

    /// What these rows should predict.
    pub(super) fn targets(&self, n: usize) -> &[u32] {
        &self.ids(n)[self.n_ctx / 2 + 1..]
    }

    /// Computes one chunk, and hands the logits of each row that predicts to `take` with what it should predict.
    pub(super) fn predict(
        &self,
        executor: &mut dyn Executor,
        n: usize,
        soundness: &mut Soundness,
        mut take: impl FnMut(&[f32], u32),
    ) -> anyhow::Result<()> {
        let n_vocab = executor.limits().n_vocab;
        let mut targets = self.targets(n).iter();
        single::prompt_logits(executor, self.ids(n), self.rows(), |rows| {
            soundness.look(rows, n_vocab);
            for (row, &target) in rows.chunks_exact(n_vocab).zip(&mut targets) {
                take(row, target);
            }
            Ok(())
        })
    }
}
