//! What is read beside the model? Texts in files that flags name: regular files, as a whole and within a bound.

use std::path::Path;

use server::{FileError, read_file};

use crate::exit::Failure;

/// The text of a file that says how the program is set up, of at most `most` bytes.
///
/// # Errors
/// A file that cannot be read, is no regular file, or is not such a text: wrong usage.
pub(crate) fn settings(path: &Path, most: u64) -> anyhow::Result<String> {
    read(path, most, Failure::Usage)
}

/// The text of a file that is computed with, of at most `most` bytes.
///
/// # Errors
/// A file that cannot be read, is no regular file, or is not such a text: an invalid request.
pub(crate) fn text(path: &Path, most: u64) -> anyhow::Result<String> {
    read(path, most, Failure::Request)
}

fn read(path: &Path, most: u64, refuse: fn(String) -> Failure) -> anyhow::Result<String> {
    let bytes = match read_file(path, most) {
        Err(error @ FileError::TooLarge { .. }) => return Err(refuse(error.to_string()).into()),
        found => found?,
    };
    String::from_utf8(bytes)
        .map_err(|error| refuse(format!("{}: expected UTF-8: {error}", path.display())).into())
}
