//! What is in a GGUF file, and what memory does it need? Reads headers alone.
//!
//! A file of an unknown architecture is described as far as its keys go, and the reason it cannot run is named. Sizes in bytes,
//! contexts in tokens.

mod facts;
mod text;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use gguf::Gguf;

use self::facts::Facts;
use crate::cmd;

/// `worker-orcd inspect`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example: worker-orcd inspect m.gguf --ctx 8192")]
pub(crate) struct Args {
    /// The GGUF file; any part of a split one
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// List every tensor
    #[arg(long)]
    tensors: bool,
    /// The context to compute memory for, in tokens [default: the context that `run` takes]
    #[arg(long, value_name = "N", value_parser = cmd::at_least_one)]
    ctx: Option<NonZeroUsize>,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let gguf = Gguf::open(&args.file)?;
    let facts = Facts::of(&gguf, args.ctx.map(NonZeroUsize::get), args.tensors);
    if args.json { cmd::print_json(&facts) } else { cmd::print(&facts.to_string()) }
}
