//! Which file is meant? Turns the name of a model into a path, fetching it first if it is on a hub and not here.
//!
//! What the environment says of hubs (`HF_HOME`, `HF_TOKEN` and others) is read by [`hub::Settings`].

use std::path::{Path, PathBuf};

use clap::builder::{OsStringValueParser, TypedValueParser};
use hub::{Chosen, Hub, HubError, HubFile, HubRepo, ModelRef, Room, Settings};

use crate::log::LogArgs;
use crate::progress::Progress;
use crate::units::Bytes;

/// The flags of every command that takes the name of a model.
#[derive(clap::Args, Clone, Copy, Debug)]
pub(crate) struct FetchArgs {
    /// Fetch nothing: the model must be a file here or in the cache
    #[arg(long)]
    offline: bool,
}

impl FetchArgs {
    /// Looks into the cache alone.
    pub(crate) fn offline() -> FetchArgs {
        FetchArgs { offline: true }
    }
}

/// Reads a model's name for a flag.
pub(crate) fn reference() -> impl TypedValueParser<Value = ModelRef> {
    OsStringValueParser::new().try_map(ModelRef::try_from)
}

/// The hub that the environment names.
pub(crate) fn hub(args: FetchArgs) -> anyhow::Result<Hub> {
    let mut settings = Settings::from_environment(&|name| std::env::var_os(name))?;
    settings.offline |= args.offline;
    Ok(Hub::new(settings))
}

/// The path of a model's file, here.
pub(crate) fn path_of(model: &ModelRef, args: FetchArgs, log: &LogArgs) -> anyhow::Result<PathBuf> {
    path_with_room(model, args, None, log)
}

/// The same for a model that is to be used where there is so much room: what does not fit is not fetched.
pub(crate) fn path_with_room(
    model: &ModelRef,
    args: FetchArgs,
    room: Option<&Room>,
    log: &LogArgs,
) -> anyhow::Result<PathBuf> {
    let file = match model {
        ModelRef::Path(path) => return Ok(there(path).map(Path::to_owned)?),
        ModelRef::Hub(file) => file.clone(),
        ModelRef::Repo(repo) => {
            let chosen = choose(repo, args)?;
            let size = chosen.n_bytes.map(|n| format!(", {}", Bytes(n))).unwrap_or_default();
            tracing::info!("{repo} is {}{size}; {} other models there", chosen.file.path(), chosen.n_other);
            chosen.file
        }
    };
    fetch(&hub(args)?, &file, room, log)
}

/// The file of a repository that is meant. Nothing is fetched.
pub(crate) fn choose(repo: &HubRepo, args: FetchArgs) -> anyhow::Result<Chosen> {
    hub(args)?.choose(repo, &mut |news| say(&news)).map_err(explained)
}

/// A path, unless nothing is there and it looks like a name that was meant otherwise.
pub(crate) fn there(path: &Path) -> Result<&Path, HubError> {
    match path.to_str() {
        Some(text) if !path.exists() && is_like_a_name(text) => {
            Err(HubError::Name { found: text.to_owned(), nearest: hub::nearest(text) })
        }
        _ => Ok(path),
    }
}

/// Names have no extension, and at most one slash: `qwen3`, `org/repo:Q8_0`. No file has an address of the web.
fn is_like_a_name(text: &str) -> bool {
    if hub::is_address(text) {
        return true;
    }
    let is_file = Path::new(text).extension().is_some_and(|end| end.eq_ignore_ascii_case("gguf"));
    !is_file && !text.starts_with(['.', '/', '~']) && text.matches('/').count() <= 1
}

fn fetch(hub: &Hub, file: &HubFile, room: Option<&Room>, log: &LogArgs) -> anyhow::Result<PathBuf> {
    let mut progress: Option<Progress> = None;
    let found = hub.fetch(file, room, &mut |news| match news {
        hub::Progress::At { done, total } => {
            progress.get_or_insert_with(|| Progress::of("fetching", log)).at(done, total);
        }
        hub::Progress::Begin { file, needed, total, free } => {
            tracing::info!("{}", begin(file, (needed, total), free, room));
        }
        news => say(&news),
    });
    if let Some(progress) = progress {
        progress.finish();
    }
    found.map_err(explained)
}

/// What is to come and where there is room for it.
fn begin(file: &HubFile, (needed, total): (u64, u64), free: Option<u64>, room: Option<&Room>) -> String {
    let of = if needed < total { format!(" of {}", Bytes(total)) } else { String::new() };
    let mut line = format!("fetching {} from {}: {}{of}", file.path(), file.repo(), Bytes(needed));
    if let Some(free) = free {
        line += &format!(", {} free on the disk", Bytes(free));
    }
    if let Some(Room { place, free }) = room {
        line += &format!(", {} free on {place}", Bytes(*free));
    }
    line
}

/// An error that has to do with the network is about the model, for who reads it.
fn explained(error: HubError) -> anyhow::Error {
    let unreachable = error.is_unreachable();
    let error = anyhow::Error::from(error);
    if unreachable {
        error.context("the model is not in the cache, and the hub cannot be reached")
    } else {
        error
    }
}

/// What there is to say beside how far it is.
fn say(news: &hub::Progress<'_>) {
    match news {
        hub::Progress::At { .. } | hub::Progress::Begin { .. } => {}
        hub::Progress::Locked(file) => tracing::info!("another process fetches {file}: waiting for it"),
        hub::Progress::Again { reason, wait } => {
            tracing::warn!("{reason}; trying again in {:.1} s", wait.as_secs_f64());
        }
        hub::Progress::Stale(error) => tracing::warn!("{error}; using what was fetched before"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_be_a_name_is_taken_for_one() {
        for name in ["qwen3", "qwen3:9b", "Qwen/Qwen3-0.6B-GGUF", "org/repo:Q8_0"] {
            assert!(is_like_a_name(name), "{name}");
        }
        for path in ["m.gguf", "models/m.GGUF", "./qwen3", "/models/m", "~/m", "a/b/c"] {
            assert!(!is_like_a_name(path), "{path}");
        }
    }

    #[test]
    fn what_is_to_come_is_said_with_the_room_for_it() {
        let file = HubFile::new("o/r", "main", "m.gguf").unwrap();
        let room = Room { place: "cuda:0".to_owned(), free: 3 << 30 };
        let gib = 1 << 30;
        assert_eq!(begin(&file, (gib, gib), None, None), "fetching m.gguf from o/r: 1.0 GiB");
        assert_eq!(
            begin(&file, (gib, 2 * gib), Some(5 * gib), Some(&room)),
            "fetching m.gguf from o/r: 1.0 GiB of 2.0 GiB, 5.0 GiB free on the disk, 3.0 GiB free on cuda:0"
        );
    }
}
