//! Where do the files of a proof go? Into a folder of their own, so that none is taken for another run's.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;

use crate::exit::Failure;

/// The folder, being filled.
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Begins a folder.
    ///
    /// # Errors
    /// A folder that has files, or one that cannot be made.
    pub(crate) fn begin(path: &Path) -> anyhow::Result<Folder> {
        let place = || path.display().to_string();
        fs::create_dir_all(path).with_context(place)?;
        if fs::read_dir(path).with_context(place)?.next().is_some() {
            let text = format!("{}: expected a new or an empty folder, found files", path.display());
            return Err(Failure::Usage(text).into());
        }
        Ok(Folder(path.to_owned()))
    }

    /// The path of a file in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file.
    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> anyhow::Result<()> {
        crate::whole::write(&self.path(name), text)
    }

    /// Writes a file of indented JSON.
    pub(crate) fn write_json(&self, name: &str, value: &impl Serialize) -> anyhow::Result<()> {
        self.write(name, serde_json::to_string_pretty(value)? + "\n")
    }
}
