//! What ids does a text become, and what text do ids become? Reads stdin, writes stdout.
//!
//! Text is taken as it is: no BOS is added without `--bos`, and the names of special tokens are ordinary text without
//! `--special`. Plain: stdin is one text (or one JSON array of ids). `--jsonl`: a JSON value a line in, a JSON value a line out.

use std::io::{self, BufRead, BufWriter, Read, Write};

use anyhow::Context;
use gguf::Gguf;
use tokenizer::limits::MAX_TEXT_BYTES;
use tokenizer::{EncodeOptions, Tokenizer};

use crate::device;
use crate::exit::Failure;
use crate::fetch;
use crate::log::LogArgs;
use crate::named::Named;

/// Bytes of a line or of all of stdin: JSON writes a character in up to six bytes, and an id in up to eleven.
const MAX_INPUT_BYTES: usize = 12 * MAX_TEXT_BYTES;

/// `worker-orcd tokenize`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  printf 'Hello' | worker-orcd tokenize m.gguf        ->  [9707]\n  \
    worker-orcd tokenize m.gguf --jsonl < texts.jsonl   ->  one array a line")]
pub(crate) struct TokenizeArgs {
    #[command(flatten)]
    model: Named,
    #[command(flatten)]
    fetch: fetch::FetchArgs,
    /// Turn the names of special tokens, such as <|im_start|>, into their ids
    #[arg(long)]
    special: bool,
    /// Add the tokens that the file wants around a text (BOS, EOS)
    #[arg(long)]
    bos: bool,
    /// Each line of stdin is a JSON string; write a JSON array of ids for each
    #[arg(long)]
    jsonl: bool,
}

/// `worker-orcd detokenize`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example: echo '[9707]' | worker-orcd detokenize m.gguf")]
pub(crate) struct DetokenizeArgs {
    #[command(flatten)]
    model: Named,
    #[command(flatten)]
    fetch: fetch::FetchArgs,
    /// Write special tokens by their names; otherwise they are left out
    #[arg(long)]
    special: bool,
    /// Each line of stdin is a JSON array of ids; write a JSON string for each
    #[arg(long)]
    jsonl: bool,
}

/// Text to ids.
pub(crate) fn tokenize(args: &TokenizeArgs, log: &LogArgs) -> anyhow::Result<()> {
    let tokenizer = open(&args.model, args.fetch, log)?;
    let options = EncodeOptions { add_special: args.bos, parse_special: args.special };
    let mut out = BufWriter::new(io::stdout().lock());
    each_input(args.jsonl, &mut |place, input| {
        let text = match args.jsonl {
            true => serde_json::from_slice(&input).map_err(|e| format!("expected a JSON string: {e}")),
            false => String::from_utf8(input).map_err(|e| format!("expected UTF-8: {e}")),
        };
        let text = text.map_err(|reason| Failure::Request(format!("{place}: {reason}")))?;
        let ids = tokenizer.encode(&text, options).map_err(|e| Failure::Request(format!("{place}: {e}")))?;
        serde_json::to_writer(&mut out, &ids).map_err(io::Error::from)?;
        Ok(out.write_all(b"\n")?)
    })?;
    Ok(out.flush()?)
}

/// Ids to text.
pub(crate) fn detokenize(args: &DetokenizeArgs, log: &LogArgs) -> anyhow::Result<()> {
    let tokenizer = open(&args.model, args.fetch, log)?;
    let mut out = BufWriter::new(io::stdout().lock());
    each_input(args.jsonl, &mut |place, input| {
        let refuse = |reason: String| Failure::Request(format!("{place}: {reason}"));
        let ids: Vec<u32> = serde_json::from_slice(&input)
            .map_err(|e| refuse(format!("expected a JSON array of ids: {e}")))?;
        if let Some(id) = ids.iter().find(|&&id| id as usize >= tokenizer.n_vocab()) {
            return Err(refuse(format!("expected ids below {}, found {id}", tokenizer.n_vocab())).into());
        }
        let text = tokenizer.decode(&ids, args.special);
        if !args.jsonl {
            return Ok(out.write_all(text.as_bytes())?);
        }
        serde_json::to_writer(&mut out, &text).map_err(io::Error::from)?;
        Ok(out.write_all(b"\n")?)
    })?;
    Ok(out.flush()?)
}

fn open(Named(model): &Named, args: fetch::FetchArgs, log: &LogArgs) -> anyhow::Result<Tokenizer> {
    device::open_tokenizer(&Gguf::open(&fetch::path_of(model, args, log)?)?)
}

/// Hands over stdin whole, or line by line, with the name of the place for errors. No input is longer than the bound.
pub(super) fn each_input(
    by_line: bool,
    take: &mut dyn FnMut(&str, Vec<u8>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut stdin = io::stdin().lock();
    for line in 1.. {
        let place = if by_line { format!("stdin, line {line}") } else { "stdin".to_owned() };
        let mut input = Vec::new();
        let mut bounded = stdin.by_ref().take(MAX_INPUT_BYTES as u64 + 1);
        let read = match by_line {
            true => bounded.read_until(b'\n', &mut input),
            false => bounded.read_to_end(&mut input),
        };
        let n = read.with_context(|| place.clone())?;
        if n > MAX_INPUT_BYTES {
            return Err(Failure::Request(format!("{place}: expected at most {MAX_INPUT_BYTES} bytes")).into());
        }
        if by_line && n == 0 {
            break;
        }
        take(&place, input)?;
        if !by_line {
            break;
        }
    }
    Ok(())
}
