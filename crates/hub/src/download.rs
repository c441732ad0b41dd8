//! How does a file come whole? Into `ETAG.incomplete`, from where it was cut, hashed as it comes; renamed when the hash is right.
//!
//! Whoever downloads holds the blob's lock. What an earlier process left is hashed first and continued; if the hash is wrong in the
//! end it is fetched once more from its first byte, and if it is still wrong nothing is kept.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use ureq::http::StatusCode;

use crate::HubError;
use crate::HubFile;
use crate::cache::{RepoCache, make_parent};
use crate::client::{Answer, Client, Facts, Failed};
use crate::retry::{Patience, Tries};

/// Bytes read at once.
const PIECE: usize = 256 << 10;

/// One file to fetch.
pub(crate) struct Download<'a> {
    pub(crate) client: &'a Client,
    pub(crate) cache: &'a RepoCache,
    pub(crate) file: &'a HubFile,
    pub(crate) facts: &'a Facts,
    pub(crate) patience: Patience,
}

/// What there is to say while it runs.
pub(crate) enum Step<'a> {
    /// Another process has the lock.
    Locked,
    /// So many bytes of the file are here.
    At(u64),
    /// A try failed.
    Again { reason: &'a str, wait: std::time::Duration },
}

impl Download<'_> {
    /// Bytes that are still to come.
    pub(crate) fn n_missing(&self) -> u64 {
        if self.is_here() {
            return 0;
        }
        let partial = fs::metadata(self.cache.incomplete(&self.facts.etag)).map_or(0, |file| file.len());
        self.facts.size.saturating_sub(partial)
    }

    /// Whether the blob is here.
    pub(crate) fn is_here(&self) -> bool {
        let blob = fs::metadata(self.cache.blob(&self.facts.etag));
        blob.is_ok_and(|blob| blob.is_file() && blob.len() == self.facts.size)
    }

    /// Fetches the blob unless it is here.
    pub(crate) fn run(&self, watch: &mut dyn FnMut(Step<'_>)) -> Result<(), HubError> {
        if self.is_here() {
            watch(Step::At(self.facts.size));
            return Ok(());
        }
        let _lock = self.cache.lock(&self.facts.etag, &mut || watch(Step::Locked))?;
        if self.is_here() {
            watch(Step::At(self.facts.size));
            return Ok(());
        }
        let mut partial = Partial::open(self.cache.incomplete(&self.facts.etag), self.facts)?;
        let mut inherited = partial.len > 0;
        loop {
            self.fill(&mut partial, watch)?;
            let Some(expected) = self.facts.sha256() else { break };
            let found = partial.sha256();
            if found == expected {
                break;
            }
            if inherited {
                inherited = false;
                partial.restart()?;
                continue;
            }
            partial.remove()?;
            let (file, expected) = (self.file.to_string(), expected.to_owned());
            return Err(HubError::Hash { file, expected, found });
        }
        partial.keep(&self.cache.blob(&self.facts.etag))
    }

    /// Tries until all bytes are here.
    fn fill(&self, partial: &mut Partial, watch: &mut dyn FnMut(Step<'_>)) -> Result<(), HubError> {
        let mut tries = Tries::new(self.patience);
        loop {
            let before = partial.n_taken;
            match self.stream(partial, watch) {
                Ok(()) => return Ok(()),
                Err(failed) => {
                    let (reason, wait) = again(failed, &mut tries, partial.n_taken > before)?;
                    watch(Step::Again { reason: &reason, wait });
                    std::thread::sleep(wait);
                }
            }
        }
    }

    /// One request, and what comes of it.
    fn stream(&self, partial: &mut Partial, watch: &mut dyn FnMut(Step<'_>)) -> Result<(), Failed> {
        watch(Step::At(partial.len));
        let size = self.facts.size;
        if partial.len == size {
            return Ok(());
        }
        let Answer { host, response } = self.client.bytes(self.file, partial.len)?;
        let cut =
            |reason: String| Failed::Again { host: host.clone(), reason, status: None, retry_after: None };
        let odd = |expected: String, found: String| {
            Failed::Never(HubError::Protocol { host: host.clone(), expected, found })
        };
        match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                let range = response.headers().get("content-range").and_then(|range| range.to_str().ok());
                let expected = format!("bytes {}-{}/{size}", partial.len, size - 1);
                if range != Some(&expected) {
                    return Err(odd(format!("Content-Range {expected}"), range.unwrap_or("none").to_owned()));
                }
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                partial.restart().map_err(Failed::Never)?;
                return Err(cut("HTTP 416".to_owned()));
            }
            // The whole file: this server has no ranges.
            _ => partial.restart().map_err(Failed::Never)?,
        }
        let expected = size - partial.len;
        let body = response.into_body();
        if let Some(found) = body.content_length().filter(|&found| found != expected) {
            return Err(odd(format!("{expected} bytes"), found.to_string()));
        }
        // One byte more than there should be would show.
        let mut reader = body.into_with_config().limit(u64::MAX).reader().take(expected + 1);
        let mut piece = vec![0; PIECE];
        loop {
            let n = match reader.read(&mut piece) {
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(cut(error.to_string())),
            };
            if n == 0 {
                break;
            }
            if n as u64 > size - partial.len {
                return Err(odd(format!("{expected} bytes"), "more".to_owned()));
            }
            partial.take(&piece[..n]).map_err(Failed::Never)?;
            watch(Step::At(partial.len));
        }
        match size - partial.len {
            0 => Ok(()),
            missing => Err(cut(format!("the connection ended {missing} bytes early"))),
        }
    }
}

/// What failed and how long to wait before the next try, or the error that ends all tries.
pub(crate) fn again(
    failed: Failed,
    tries: &mut Tries,
    progressed: bool,
) -> Result<(String, std::time::Duration), HubError> {
    match failed {
        Failed::Never(error) => Err(error),
        Failed::Again { host, reason, status, retry_after } => match tries.failed(progressed, retry_after) {
            Some(wait) => Ok((format!("{host}: {reason}"), wait)),
            None => Err(match status {
                Some(status) => HubError::Status { host, status, retry_after },
                None => HubError::Network { host, reason, attempts: tries.n() },
            }),
        },
    }
}

/// A file that is coming.
struct Partial {
    path: PathBuf,
    file: File,
    hash: Sha256,
    len: u64,
    /// Bytes taken since it was opened, those of an abandoned start too.
    n_taken: u64,
    size: u64,
}

impl Partial {
    /// Opens what is there of a file and hashes it. Without a hash to check in the end, nothing old is trusted.
    fn open(path: PathBuf, facts: &Facts) -> Result<Partial, HubError> {
        make_parent(&path)?;
        let io = HubError::io(&path);
        let options = File::options().read(true).append(true).create(true).clone();
        let mut file = options.open(&path).map_err(&io)?;
        let mut hash = Sha256::new();
        let mut len = file.metadata().map_err(&io)?.len();
        if len > facts.size || facts.sha256().is_none() {
            file.set_len(0).map_err(&io)?;
            len = 0;
        }
        let mut piece = vec![0; PIECE];
        let mut left = len;
        while left > 0 {
            let n = file.read(&mut piece[..left.min(PIECE as u64) as usize]).map_err(&io)?;
            if n == 0 {
                return Err(io(io::ErrorKind::UnexpectedEof.into()));
            }
            hash.update(&piece[..n]);
            left -= n as u64;
        }
        drop(io);
        Ok(Partial { path, file, hash, len, n_taken: 0, size: facts.size })
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), HubError> {
        self.file.write_all(bytes).map_err(|error| refuse(&self.path, error, self.size - self.len))?;
        self.hash.update(bytes);
        self.len += bytes.len() as u64;
        self.n_taken += bytes.len() as u64;
        Ok(())
    }

    fn restart(&mut self) -> Result<(), HubError> {
        let io = HubError::io(&self.path);
        self.file.set_len(0).and_then(|()| self.file.rewind()).map_err(io)?;
        (self.hash, self.len) = (Sha256::new(), 0);
        Ok(())
    }

    fn sha256(&self) -> String {
        self.hash.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn remove(self) -> Result<(), HubError> {
        fs::remove_file(&self.path).map_err(HubError::io(&self.path))
    }

    /// Makes it the blob. It is on the disk before it has that name.
    fn keep(self, blob: &Path) -> Result<(), HubError> {
        self.file.sync_all().map_err(|error| refuse(&self.path, error, 0))?;
        fs::rename(&self.path, blob).map_err(HubError::io(blob))
    }
}

/// What a failed write is.
fn refuse(path: &Path, error: io::Error, needed: u64) -> HubError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            let folder = path.parent().unwrap_or(path);
            HubError::DiskFull { path: folder.to_owned(), needed, free: free_bytes(folder) }
        }
        _ => HubError::Io { path: path.to_owned(), error },
    }
}

/// Bytes that a file in this folder may still take, where the system says.
pub(crate) fn free_bytes(folder: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(folder).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_said_as_such() {
        let folder = tempfile::tempdir().unwrap();
        let full =
            refuse(&folder.path().join("x.incomplete"), io::ErrorKind::StorageFull.into(), 7).to_string();
        assert!(full.contains(": no space: 7 bytes to fetch, ") && full.ends_with(" bytes free"), "{full}");
    }
}
