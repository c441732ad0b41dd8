//! What does a name mean? The repository, the licence where it is known, and what `inspect` says if the file is here.
//!
//! Nothing is fetched: of a model that is not in the cache the hub is asked which file it would be.

use hub::{HubError, ModelRef, NAMES};

use crate::cmd::{self, inspect};
use crate::fetch::{self, FetchArgs};
use crate::log::LogArgs;
use crate::units::Bytes;

/// `worker-orcd show`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  worker-orcd show qwen3:0.6b\n  worker-orcd show hf:ORG/REPO:Q4_K_M\n\n\
    inspect shows more of a file.")]
pub(crate) struct Args {
    /// A name such as qwen3:0.6b, hf:ORG/REPO[:QUANTIZATION] of a hub, or a path
    #[arg(value_name = "MODEL", value_parser = fetch::reference())]
    model: ModelRef,
    #[command(flatten)]
    fetch: FetchArgs,
}

/// Runs the command.
pub(crate) fn run(args: &Args, log: &LogArgs) -> anyhow::Result<()> {
    let repo = match &args.model {
        ModelRef::Path(path) => return cmd::print(&inspect::summary(fetch::there(path)?)?),
        ModelRef::Hub(file) => file.repo(),
        ModelRef::Repo(repo) => repo.repo(),
    };
    let mut text = line("repository", repo);
    if let Some(named) = NAMES.iter().find(|named| named.repo == repo) {
        text += &line("licence", named.licence);
    }
    match fetch::path_of(&args.model, FetchArgs::offline(), log) {
        Ok(path) => text += &inspect::summary(&path)?,
        Err(error) => match error.downcast_ref() {
            Some(HubError::Offline { .. } | HubError::Choice { .. }) => text += &absent(args)?,
            _ => return Err(error),
        },
    }
    cmd::print(&text)
}

/// What the hub would give for a name that means nothing in the cache.
fn absent(args: &Args) -> anyhow::Result<String> {
    let (file, size) = match &args.model {
        ModelRef::Repo(repo) => {
            let chosen = fetch::choose(repo, args.fetch)?;
            (chosen.file.path().to_owned(), chosen.n_bytes.map(|n| format!(", {}", Bytes(n))))
        }
        model => (model.to_string(), None),
    };
    let size = size.unwrap_or_default();
    Ok(line("file", &format!("{file}{size}: not in the cache, `worker-orcd pull` fetches it")))
}

/// As the lines of `inspect` are.
fn line(label: &str, text: &str) -> String {
    format!("{label:<14} {text}\n")
}
