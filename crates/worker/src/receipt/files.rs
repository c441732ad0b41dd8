//! What are the model's files? Their hashes, computed once, on a thread of their own, beside whatever else is going on.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread;

use sha2::{Digest, Sha256};

use super::{ReceiptError, hex};

/// Bytes read at once.
const PIECE: usize = 1 << 20;

/// The hashes of some files, known or being computed.
#[derive(Debug, Default)]
pub struct FileHashes {
    found: OnceLock<Result<Vec<String>, ReceiptError>>,
}

impl FileHashes {
    /// Starts to hash these files, in order.
    #[must_use]
    pub fn start(paths: Vec<PathBuf>) -> Arc<FileHashes> {
        let hashes = Arc::new(FileHashes::default());
        let of_thread = Arc::clone(&hashes);
        let spawned = thread::Builder::new().name("hash".to_owned()).spawn(move || {
            let found = paths.iter().map(|path| {
                hash_file(path).map_err(|e| ReceiptError::Model(format!("{}: {e}", path.display())))
            });
            // Nobody else sets it once the thread runs.
            let _ = of_thread.found.set(found.collect());
        });
        if let Err(error) = spawned {
            let _ = hashes.found.set(Err(ReceiptError::Model(error.to_string())));
        }
        hashes
    }

    /// The hashes, if they are known already.
    #[must_use]
    pub fn known(&self) -> Option<&Result<Vec<String>, ReceiptError>> {
        self.found.get()
    }

    /// Waits for the hashes.
    ///
    /// # Errors
    /// [`ReceiptError::Model`] where a file cannot be read.
    pub fn wait(&self) -> Result<Vec<String>, ReceiptError> {
        self.found.wait().clone()
    }
}

fn hash_file(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
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
