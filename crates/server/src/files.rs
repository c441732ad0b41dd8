//! How is a file read that a flag names? Whole, within a bound, and only if it is a regular file.
//!
//! A pipe may wait for its writer for ever, a device may never end, and neither can be read a second time, as SIGHUP asks for.

use std::fs::{self, File, FileType};
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why a file is not read. Paths are the operator's own; what is in a file is not repeated.
#[derive(Debug, Error)]
pub enum FileError {
    /// It cannot be opened or read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is no regular file.
    #[error("{}: expected a regular file, found {found}", path.display())]
    Kind {
        /// Which.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// It is too large to be what it should be.
    #[error("{}: expected at most {most} bytes, found more", path.display())]
    TooLarge {
        /// Which.
        path: PathBuf,
        /// The most bytes that it may have.
        most: u64,
    },
}

/// Opens a regular file for reading.
///
/// # Errors
/// [`FileError::Read`] and [`FileError::Kind`].
pub fn open_file(path: &Path) -> Result<File, FileError> {
    let fail = |source| FileError::Read { path: path.to_owned(), source };
    // Before opening, because opening a pipe would wait for a writer.
    let kind = fs::metadata(path).map_err(fail)?.file_type();
    if !kind.is_file() {
        return Err(FileError::Kind { path: path.to_owned(), found: name(kind) });
    }
    File::open(path).map_err(fail)
}

/// The bytes of a regular file.
///
/// # Errors
/// [`FileError`]; a file with more than `most` bytes is read no further than one byte beyond.
pub fn read_file(path: &Path, most: u64) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    // The length that a file has need not be what it gives, as under /proc.
    let read = open_file(path)?.take(most + 1).read_to_end(&mut bytes);
    read.map_err(|source| FileError::Read { path: path.to_owned(), source })?;
    if bytes.len() as u64 > most {
        return Err(FileError::TooLarge { path: path.to_owned(), most });
    }
    Ok(bytes)
}

/// What a path is that is no regular file.
fn name(kind: FileType) -> &'static str {
    if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}
