//! Which file is meant? Turns the name of a model into a path, fetching it first if it is on a hub and not here.
//!
//! What the environment says of hubs (`HF_HOME`, `HF_TOKEN` and others) is read by [`hub::Settings`].

use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use hub::{Hub, ModelRef, Settings};

use crate::log::LogArgs;
use crate::progress::Progress;

/// Reads a model's name for a flag.
pub(crate) fn reference() -> impl TypedValueParser<Value = ModelRef> {
    OsStringValueParser::new().try_map(ModelRef::try_from)
}

/// The path of a model's file, here.
pub(crate) fn path_of(model: &ModelRef, log: &LogArgs) -> anyhow::Result<PathBuf> {
    let file = match model {
        ModelRef::Path(path) => return Ok(path.clone()),
        ModelRef::Hub(file) => file,
    };
    let hub = Hub::new(Settings::from_environment(&|name| std::env::var_os(name))?);
    let mut progress: Option<Progress> = None;
    let found = hub.fetch(file, &mut |news| match news {
        hub::Progress::At { done, total } => {
            progress.get_or_insert_with(|| Progress::of("fetching", log)).at(done, total);
        }
        hub::Progress::Locked(file) => tracing::info!("another process fetches {file}: waiting for it"),
        hub::Progress::Again { reason, wait } => {
            tracing::warn!("{reason}; trying again in {:.1} s", wait.as_secs_f64());
        }
        hub::Progress::Stale(error) => tracing::warn!("{error}; using what was fetched before"),
    });
    if let Some(progress) = progress {
        progress.finish();
    }
    Ok(found?)
}
