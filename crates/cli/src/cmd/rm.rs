//! Is a model no longer wanted? Removes it from the cache, after asking.
//!
//! Only what lies in the cache is removed: a path is refused. The cache is shared with other programs of the hub, which would fetch the model
//! again.

use std::io::{self, BufRead, IsTerminal, Write};

use anyhow::Context;
use hub::{Cached, HubError, ModelRef};

use crate::cmd;
use crate::exit::Failure;
use crate::fetch;
use crate::units::Bytes;

/// `worker-orcd rm`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  worker-orcd rm qwen3:0.6b\n  worker-orcd rm hf:ORG/REPO:Q4_K_M --yes\n\n\
    `worker-orcd models` lists what there is."
)]
pub(crate) struct Args {
    /// A name such as qwen3:0.6b, or hf:ORG/REPO[:QUANTIZATION]
    #[arg(value_name = "MODEL", value_parser = fetch::reference())]
    model: ModelRef,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if let ModelRef::Path(path) = &args.model {
        fetch::there(path)?;
        let text = format!("{}: rm removes models of the cache, not files", path.display());
        return Err(Failure::Usage(text).into());
    }
    let hub = fetch::hub(fetch::FetchArgs::offline())?;
    let model = one(hub.inventory()?, &args.model)?;
    let what = format!("{} ({}, {})", model.name(), model.file.path(), Bytes(model.n_bytes));
    if !args.yes && !confirmed(&what)? {
        return cmd::print("nothing was removed\n");
    }
    let n_freed = hub.remove(&model)?;
    cmd::print(&format!("removed {what}: {} given back\n", Bytes(n_freed)))
}

/// The only model of the cache that is meant.
fn one(models: Vec<Cached>, name: &ModelRef) -> Result<Cached, HubError> {
    let mut found: Vec<Cached> = models.into_iter().filter(|model| model.is(name)).collect();
    if found.len() == 1 {
        return Ok(found.remove(0));
    }
    let names: Vec<String> = found.iter().map(Cached::name).collect();
    Err(HubError::Choice {
        repo: name.to_string(),
        expected: "one model in the cache".to_owned(),
        found: if names.is_empty() { "none".to_owned() } else { names.join(", ") },
    })
}

/// Whether the person at the terminal says yes.
fn confirmed(what: &str) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        let text = "without a terminal to ask at, rm needs --yes".to_owned();
        return Err(Failure::Usage(text).into());
    }
    let mut err = io::stderr().lock();
    write!(err, "Remove {what}? [y/N] ").and_then(|()| err.flush())?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).context("stdin")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
