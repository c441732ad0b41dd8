//! What are the model's files? Their hashes, computed once, on a thread of their own, beside whatever else is going on.
//!
//! The files are opened before the model is loaded and read when the first receipt is wanted, so a path that leads to another file by then
//! changes nothing. A file that was written to in the meantime has no hash: its bytes are not those that were loaded.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::SystemTime;

use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::{ReceiptError, hex};

/// Bytes read at once.
const PIECE: usize = 1 << 20;

/// A file, as it was when it was opened.
#[derive(Debug)]
struct Opened {
    path: PathBuf,
    file: File,
    /// Bytes, and when it was last written to.
    state: (u64, Option<SystemTime>),
}

fn state(file: &File) -> io::Result<(u64, Option<SystemTime>)> {
    let found = file.metadata()?;
    Ok((found.len(), found.modified().ok()))
}

impl Opened {
    fn open(path: &Path) -> io::Result<Opened> {
        let file = File::open(path)?;
        Ok(Opened { path: path.to_owned(), state: state(&file)?, file })
    }

    fn hash(self) -> Result<String, ReceiptError> {
        let refuse = |error: &dyn Display| ReceiptError::Model(format!("{}: {error}", self.path.display()));
        let hash = hash_file(&self.file).map_err(|error| refuse(&error))?;
        match state(&self.file) {
            Ok(now) if now == self.state => Ok(hash),
            Ok(_) => Err(refuse(&"expected the file that was loaded, found that it was written to since")),
            Err(error) => Err(refuse(&error)),
        }
    }
}

/// The hashes of some files: known, being computed, or not wanted so far.
#[derive(Debug)]
pub struct FileHashes {
    /// None once the thread runs.
    files: Mutex<Option<Vec<Opened>>>,
    found: OnceLock<Result<Vec<String>, ReceiptError>>,
    /// True as soon as something is found, or nothing will be. Those who wait subscribe to it.
    is_done: watch::Sender<bool>,
}

impl FileHashes {
    /// Opens these files, to be hashed in order when that is wanted.
    #[must_use]
    pub fn open(paths: &[PathBuf]) -> Arc<FileHashes> {
        let open = |path: &PathBuf| {
            Opened::open(path).map_err(|error| ReceiptError::Model(format!("{}: {error}", path.display())))
        };
        let opened: Result<Vec<_>, _> = paths.iter().map(open).collect();
        let hashes = FileHashes {
            files: Mutex::new(None),
            found: OnceLock::new(),
            is_done: watch::Sender::new(false),
        };
        match opened {
            Ok(files) => *hashes.files.lock().unwrap_or_else(PoisonError::into_inner) = Some(files),
            Err(error) => hashes.set(Err(error)),
        }
        Arc::new(hashes)
    }

    /// Starts to hash, unless that was done before.
    pub fn start(self: &Arc<FileHashes>) {
        let Some(files) = self.files.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let of_thread = Arc::clone(self);
        let spawned = thread::Builder::new().name("hash".to_owned()).spawn(move || {
            of_thread.set(files.into_iter().map(Opened::hash).collect());
        });
        if let Err(error) = spawned {
            self.set(Err(ReceiptError::Model(error.to_string())));
        }
    }

    fn set(&self, found: Result<Vec<String>, ReceiptError>) {
        // Nobody else sets it: the files are taken once.
        let _second = self.found.set(found);
        self.is_done.send_replace(true);
    }

    /// The hashes, if they are known already.
    #[must_use]
    pub fn known(&self) -> Option<&Result<Vec<String>, ReceiptError>> {
        self.found.get()
    }

    /// How many tasks wait for the hashes.
    #[must_use]
    pub fn n_waiting(&self) -> usize {
        self.is_done.receiver_count()
    }

    /// Lets go whoever waits and would wait, with an error unless the hashes are known by then: the process ends.
    pub fn give_up(&self) {
        self.is_done.send_replace(true);
    }

    /// Waits for the hashes on this thread, which must not be one that runs async tasks.
    ///
    /// # Errors
    /// [`ReceiptError::Model`] where a file cannot be read.
    pub fn wait(self: &Arc<FileHashes>) -> Result<Vec<String>, ReceiptError> {
        self.start();
        self.found.wait().clone()
    }

    /// Waits for the hashes.
    ///
    /// # Errors
    /// [`ReceiptError::Model`] where a file cannot be read, or after [`FileHashes::give_up`].
    pub async fn hashed(self: &Arc<FileHashes>) -> Result<Vec<String>, ReceiptError> {
        self.start();
        let mut is_done = self.is_done.subscribe();
        // Its sender lives as long as this.
        let _gone = is_done.wait_for(|&is_done| is_done).await.is_err();
        match self.found.get() {
            Some(found) => found.clone(),
            None => Err(ReceiptError::Model("the process ends before the file is read".to_owned())),
        }
    }
}

fn hash_file(mut file: &File) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok(hex(&hash.finalize())),
            Ok(n) => hash.update(&piece[..n]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_file_that_was_written_to_has_no_hash() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.gguf");
        std::fs::write(&path, b"abc").unwrap();
        let hash = || FileHashes::open(std::slice::from_ref(&path)).wait();
        assert_eq!(
            hash().unwrap(),
            ["ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".to_owned()]
        );
        let hashes = FileHashes::open(std::slice::from_ref(&path));
        std::fs::write(&path, b"xyz").unwrap();
        // Where the clock of the file system is coarse, the time of writing might be the same.
        let later = SystemTime::now() + Duration::from_secs(5);
        File::options().append(true).open(&path).unwrap().set_modified(later).unwrap();
        assert!(matches!(hashes.wait(), Err(ReceiptError::Model(text)) if text.contains("written to since")));
        // Another file in its place is not what was opened.
        let hashes = FileHashes::open(std::slice::from_ref(&path));
        let other = folder.path().join("other");
        std::fs::write(&other, b"abc").unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert!(hashes.wait().is_ok());
    }
}
