//! What is read beside the model? Texts in files that flags name: regular files, as a whole and within a bound.

use std::io::{self, IsTerminal};
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

/// Says that there is something on stdin where a command has what it would read there already; `why` says where it has it from.
///
/// None of it is read. A pipe that nobody writes to has no end to wait for, and in a loop over the lines of a file the loop's own stdin is
/// the command's too: what is read here is missing there.
pub(crate) fn note_unread(why: &str) {
    let stdin = io::stdin();
    // What has no such count, such as /dev/null, has nothing.
    let n_byte = if stdin.is_terminal() { 0 } else { rustix::io::ioctl_fionread(&stdin).unwrap_or(0) };
    if n_byte > 0 {
        tracing::warn!("stdin has text that is not read: {why}");
    }
}

fn read(path: &Path, most: u64, refuse: fn(String) -> Failure) -> anyhow::Result<String> {
    let bytes = match read_file(path, most) {
        Err(error @ FileError::TooLarge { .. }) => return Err(refuse(error.to_string()).into()),
        found => found?,
    };
    String::from_utf8(bytes)
        .map_err(|error| refuse(format!("{}: expected UTF-8: {error}", path.display())).into())
}
