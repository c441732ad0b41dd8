//! What is in a GGUF file, and what memory does it need? Reads headers alone.
//!
//! A file of an unknown architecture is described as far as its keys go, and the reason it cannot run is named. Sizes in bytes,
//! contexts in tokens. With `--plan` the question is narrower: whether it fits on a device.

mod facts;
mod metadata;
mod plan;
mod text;

use std::num::NonZeroUsize;
use std::path::Path;

use gguf::Gguf;
use hub::ModelRef;
use model::{KvType, Model};

use self::facts::Facts;
use crate::cmd;
use crate::device::{self, DeviceArgs, Draft, KvArgs, Shape};
use crate::exit::Failure;
use crate::fetch;
use crate::log::LogArgs;
use crate::memory::Needed;
use crate::named::Named;

/// `worker-orcd inspect`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  worker-orcd inspect m.gguf --ctx 8192\n  \
    worker-orcd inspect m.gguf --metadata\n  \
    worker-orcd inspect m.gguf --plan --device cuda:0 --ctx 8192 --slots 16\n\n\
    With --plan the exit code is 0 if the model fits, 6 if it does not, and 7 if the device is not available.")]
pub(crate) struct Args {
    #[command(flatten)]
    model: Named,
    #[command(flatten)]
    fetch: fetch::FetchArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// List every tensor
    #[arg(long, conflicts_with = "plan")]
    tensors: bool,
    /// List every key of the metadata with its type and value; long values are cut, except with --json
    #[arg(long, conflicts_with = "plan")]
    metadata: bool,
    /// Show the memory that the model needs on a device and whether it fits, without loading it
    #[arg(long)]
    plan: bool,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    kv: KvArgs,
    /// Sequences at once to plan memory for [default: 1]
    #[arg(long, value_name = "N", value_parser = cmd::at_least_one, requires = "plan")]
    slots: Option<NonZeroUsize>,
    /// A draft model to plan memory for beside the model, as of `serve`
    #[arg(long, value_name = "MODEL", value_parser = fetch::reference(), requires = "plan")]
    draft_model: Option<ModelRef>,
    /// Context length to compute memory for, in tokens [default: the context that `run` takes]
    #[arg(long, value_name = "N", value_parser = cmd::at_least_one)]
    ctx: Option<NonZeroUsize>,
}

/// Runs the command.
pub(crate) fn run(args: &Args, log: &LogArgs) -> anyhow::Result<()> {
    let n_ctx = args.ctx.map(NonZeroUsize::get);
    if args.plan {
        let gguf = Gguf::open(&fetch::path_of(&args.model.0, args.fetch, log)?)?;
        let n_slot = args.slots.map_or(1, NonZeroUsize::get);
        let shape = Shape { n_ctx, n_slot, kv_type: args.kv.kv_type, ..Shape::one_sequence() };
        let draft = args.draft_model.as_ref().map(|draft| {
            let tokenizer = device::open_tokenizer(&gguf)?;
            Draft::open(draft, &tokenizer, args.fetch, log)
        });
        let draft = draft.transpose()?;
        return plan::run((&Model::load(&gguf)?, draft.as_ref()), shape, &args.device, args.json);
    }
    if args.device.says_something() || args.kv.kv_type != KvType::default() {
        return Err(Failure::Usage(
            "--device, --gpu-device, --exact, --cpu-features and --kv-type need --plan".to_owned(),
        )
        .into());
    }
    let gguf = Gguf::open(&fetch::path_of(&args.model.0, args.fetch, log)?)?;
    let facts = Facts::of(&gguf, n_ctx, args.metadata, args.tensors);
    if let Some(memory) = facts.memory.filter(Needed::is_beyond_counting) {
        let text =
            format!("--ctx: expected a context whose bytes 64 bits can count, found {} tokens", memory.n_ctx);
        return Err(Failure::Usage(text).into());
    }
    if args.json { cmd::print_json(&facts) } else { cmd::print(&facts.to_string()) }
}

/// What is said about a file without any flags.
pub(crate) fn summary(path: &Path) -> anyhow::Result<String> {
    Ok(Facts::of(&Gguf::open(path)?, None, false, false).to_string())
}
