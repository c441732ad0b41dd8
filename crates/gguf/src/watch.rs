//! Is a model's file still the one that was opened?
//!
//! A mapped file is read for as long as the model is in use, so one that is written to or cut short changes the model. A file that was
//! moved or deleted, or whose path leads to another by now, does not: what was opened is still there.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// What happened to a file after it was opened.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs)] // The fields are named by the messages.
pub enum FileChange {
    /// It has fewer bytes: those that are gone cannot be read.
    #[error("{}: expected the {expected} bytes that were there when it was opened, found {found}", path.display())]
    Length { path: PathBuf, expected: u64, found: u64 },

    /// Its bytes may be others.
    #[error("{}: expected no change after it was opened, found that it was written to", path.display())]
    Written { path: PathBuf },

    /// It cannot be asked.
    #[error("{}: expected a file that can still be read, found {error}", path.display())]
    Unreadable { path: PathBuf, error: String },

    /// Its path leads to another file, or to none. What was opened is as it was.
    #[error("{}: expected the file that was opened, found {found}", path.display())]
    Replaced { path: PathBuf, found: &'static str },
}

impl FileChange {
    /// Whether the model's bytes are still those that were opened.
    #[must_use]
    pub fn is_harmless(&self) -> bool {
        matches!(self, FileChange::Replaced { .. })
    }
}

/// A file that was opened, and how it was then.
#[derive(Debug)]
pub(crate) struct Opened {
    path: PathBuf,
    file: File,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    n_bytes: u64,
    /// Seconds and nanoseconds since 1970.
    modified: (i64, i64),
    /// Device and inode.
    place: (u64, u64),
}

impl From<&Metadata> for State {
    fn from(found: &Metadata) -> State {
        State {
            n_bytes: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            place: (found.dev(), found.ino()),
        }
    }
}

impl Opened {
    pub(crate) fn new(path: &Path, file: File) -> io::Result<Opened> {
        let state = State::from(&file.metadata()?);
        Ok(Opened { path: path.to_owned(), file, state })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Compares the file and its path with how they were.
    pub(crate) fn check(&self) -> Result<(), FileChange> {
        let path = || self.path.clone();
        let now: State = match self.file.metadata() {
            Ok(found) => State::from(&found),
            Err(error) => return Err(FileChange::Unreadable { path: path(), error: error.to_string() }),
        };
        if now.n_bytes != self.state.n_bytes {
            let (expected, found) = (self.state.n_bytes, now.n_bytes);
            return Err(FileChange::Length { path: path(), expected, found });
        }
        if now.modified != self.state.modified {
            return Err(FileChange::Written { path: path() });
        }
        match std::fs::metadata(&self.path) {
            Ok(found) if State::from(&found).place == self.state.place => Ok(()),
            Ok(_) => Err(FileChange::Replaced { path: path(), found: "another in its place" }),
            Err(_) => Err(FileChange::Replaced { path: path(), found: "none at its path" }),
        }
    }
}
