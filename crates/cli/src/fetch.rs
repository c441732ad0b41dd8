//! Which file is meant? Turns the name of a model into a path, fetching it first if it is on a hub and not here.
//!
//! What the environment says of hubs (`HF_HOME`, `HF_TOKEN` and others) is read by [`hub::Settings`].

use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use hub::{Hub, HubFile, ModelRef, Settings};

use crate::log::LogArgs;
use crate::progress::Progress;
use crate::units::Bytes;

/// Reads a model's name for a flag.
pub(crate) fn reference() -> impl TypedValueParser<Value = ModelRef> {
    OsStringValueParser::new().try_map(ModelRef::try_from)
}

/// The path of a model's file, here.
pub(crate) fn path_of(model: &ModelRef, log: &LogArgs) -> anyhow::Result<PathBuf> {
    let hub = || -> anyhow::Result<Hub> {
        Ok(Hub::new(Settings::from_environment(&|name| std::env::var_os(name))?))
    };
    match model {
        ModelRef::Path(path) => Ok(path.clone()),
        ModelRef::Hub(file) => fetch(&hub()?, file, log),
        ModelRef::Repo(repo) => {
            let hub = hub()?;
            let chosen = hub.choose(repo, &mut |news| say(&news))?;
            let size = chosen.n_bytes.map(|n| format!(", {}", Bytes(n))).unwrap_or_default();
            tracing::info!("{repo} is {}{size}; {} other models there", chosen.file.path(), chosen.n_other);
            fetch(&hub, &chosen.file, log)
        }
    }
}

fn fetch(hub: &Hub, file: &HubFile, log: &LogArgs) -> anyhow::Result<PathBuf> {
    let mut progress: Option<Progress> = None;
    let found = hub.fetch(file, &mut |news| match news {
        hub::Progress::At { done, total } => {
            progress.get_or_insert_with(|| Progress::of("fetching", log)).at(done, total);
        }
        news => say(&news),
    });
    if let Some(progress) = progress {
        progress.finish();
    }
    Ok(found?)
}

/// What there is to say beside how far it is.
fn say(news: &hub::Progress<'_>) {
    match news {
        hub::Progress::At { .. } => {}
        hub::Progress::Locked(file) => tracing::info!("another process fetches {file}: waiting for it"),
        hub::Progress::Again { reason, wait } => {
            tracing::warn!("{reason}; trying again in {:.1} s", wait.as_secs_f64());
        }
        hub::Progress::Stale(error) => tracing::warn!("{error}; using what was fetched before"),
    }
}
