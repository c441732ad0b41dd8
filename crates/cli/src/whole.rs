//! How is a result kept? A file has all of it, or is not there: a full disk or an end in the middle leaves what was there before.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use tempfile::{Builder, NamedTempFile};

/// A file that is written beside its place and takes it at the end. What is no regular file, such as a pipe, is written as it is.
pub(crate) struct Whole {
    path: PathBuf,
    out: Out,
}

enum Out {
    Beside(BufWriter<NamedTempFile>),
    There(BufWriter<fs::File>),
}

impl Whole {
    /// Begins it.
    pub(crate) fn create(path: &Path) -> anyhow::Result<Whole> {
        let out = Out::create(path).with_context(|| path.display().to_string())?;
        Ok(Whole { path: path.to_owned(), out })
    }

    /// Puts it in its place.
    pub(crate) fn finish(self) -> anyhow::Result<()> {
        self.out.finish(&self.path, false).with_context(|| self.path.display().to_string())
    }
}

impl Write for Whole {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.out {
            Out::Beside(out) => out.write(bytes),
            Out::There(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.out {
            Out::Beside(out) => out.flush(),
            Out::There(out) => out.flush(),
        }
    }
}

impl Out {
    fn create(path: &Path) -> io::Result<Out> {
        // Through links, so that what they lead to is written and they stay.
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let there = fs::metadata(&target).ok();
        if there.as_ref().is_some_and(|there| !there.is_file()) {
            return fs::OpenOptions::new()
                .write(true)
                .open(&target)
                .map(|file| Out::There(BufWriter::new(file)));
        }
        let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        if !folder.exists() {
            let text = format!("the folder {} is not there", folder.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, text));
        }
        // The system takes away what this process may not give; a file that is there keeps what it has.
        let mode = there.map_or(0o666, |there| there.permissions().mode() & 0o777);
        // Opened here, so that an error is not about the name that it would have had until the end.
        let open = |path: &Path| fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
        let file = Builder::new().prefix(".worker-orcd-").make_in(folder, open)?;
        Ok(Out::Beside(BufWriter::new(file)))
    }

    fn finish(self, path: &Path, is_new: bool) -> io::Result<()> {
        match self {
            Out::There(mut out) => out.flush(),
            Out::Beside(out) => {
                let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
                // A full disk may say so only now.
                file.as_file().sync_all()?;
                let kept = if is_new {
                    file.persist_noclobber(path)
                } else {
                    file.persist(fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()))
                };
                kept.map(drop).map_err(|error| error.error)
            }
        }
    }
}

/// Whether a file can be written there, for who writes it only after long work: leaves nothing behind. A disk may be full by then all the same.
///
/// # Errors
/// Why it cannot.
pub(crate) fn check(path: &Path) -> anyhow::Result<()> {
    // A reader of a pipe would take it for all there is.
    let is_written_as_it_is = |there: fs::Metadata| !there.is_file() && !there.is_dir();
    if fs::metadata(path).is_ok_and(is_written_as_it_is) {
        return Ok(());
    }
    Whole::create(path).map(drop)
}

/// Writes a file.
pub(crate) fn write(path: &Path, text: impl AsRef<[u8]>) -> anyhow::Result<()> {
    let mut file = Whole::create(path)?;
    file.write_all(text.as_ref()).with_context(|| path.display().to_string())?;
    file.finish()
}

/// Writes a file that is not there yet.
pub(crate) fn write_new(path: &Path, text: &[u8]) -> io::Result<()> {
    if path.symlink_metadata().is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let mut out = Out::create(path)?;
    match &mut out {
        Out::Beside(out) => out.write_all(text)?,
        Out::There(out) => out.write_all(text)?,
    }
    out.finish(path, true)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    #[test]
    fn what_is_not_finished_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("a"), folder.path().join("link"));
        write(&path, "first").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let mut file = Whole::create(&link).unwrap();
        file.write_all(&[b'x'; 100_000]).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"first");
        drop(file);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        write(&link, "second").unwrap();
        assert_eq!(
            (fs::read(&path).unwrap(), fs::read_dir(folder.path()).unwrap().count()),
            (b"second".to_vec(), 2)
        );
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(link.is_symlink());
    }

    #[test]
    fn a_device_is_written_as_it_is_and_a_full_one_says_so() {
        write(Path::new("/dev/null"), "text").unwrap();
        let error = write(Path::new("/dev/full"), "text").unwrap_err();
        assert!(format!("{error:#}").starts_with("/dev/full: No space left"), "{error:#}");
    }

    #[test]
    fn what_cannot_be_written_is_known_before_and_named_as_it_was_given() {
        let folder = tempfile::tempdir().unwrap();
        let said = |path: &Path| {
            let error = format!("{:#}", check(path).unwrap_err());
            error.replace(folder.path().to_str().unwrap(), "DIR")
        };
        let missing = folder.path().join("no/x");
        assert_eq!(said(&missing), "DIR/no/x: the folder DIR/no is not there");
        assert_eq!(said(folder.path()), "DIR: Is a directory (os error 21)");
        std::fs::write(folder.path().join("file"), "").unwrap();
        let inside = folder.path().join("file/x");
        assert_eq!(said(&inside), "DIR/file/x: Not a directory (os error 20)");
        let there = folder.path().join("there");
        check(&there).unwrap();
        check(Path::new("/dev/full")).unwrap();
        assert!(!there.exists());
        write(&there, "text").unwrap();
        check(&there).unwrap();
        assert_eq!(
            (fs::read(&there).unwrap(), fs::read_dir(folder.path()).unwrap().count()),
            (b"text".to_vec(), 2)
        );
    }

    #[test]
    fn a_new_file_replaces_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write_new(&path, b"first").unwrap();
        assert_eq!(write_new(&path, b"second").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"first");
    }
}
