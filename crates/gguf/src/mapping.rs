//! Where do a file's bytes live?
//!
//! A file is mapped read-only and never copied: [`TensorBytes`] is a range of the mapping that keeps it alive. Pages are
//! read from the disk when first touched; [`TensorBytes::prefetch`] asks for them ahead. Offsets and lengths in bytes.
//! The only file of this crate with `unsafe`.

use std::fmt;
use std::fs::File;
use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::Arc;

use memmap2::{Advice, Mmap};

use crate::error::GgufError;

/// A range of a mapped file, or bytes in memory. Clones share the bytes.
#[derive(Clone)]
pub struct TensorBytes {
    backing: Arc<Backing>,
    /// Invariant: `start <= end <= backing.len()`.
    start: usize,
    end: usize,
}

enum Backing {
    Mapped(Mmap),
    Memory(Vec<u8>),
}

impl Backing {
    fn bytes(&self) -> &[u8] {
        match self {
            Backing::Mapped(map) => map,
            Backing::Memory(bytes) => bytes,
        }
    }
}

impl TensorBytes {
    /// Maps a whole regular file. Its length is fixed here; what is appended later is not seen.
    pub(crate) fn map(path: &Path) -> Result<TensorBytes, GgufError> {
        let io = |error| GgufError::Io { path: path.to_owned(), error };
        // Before opening, because opening a pipe would wait for a writer.
        if !std::fs::metadata(path).map_err(io)?.is_file() {
            return Err(GgufError::NotAFile { path: path.to_owned() });
        }
        let file = File::open(path).map_err(io)?;
        // SAFETY: the mapping is read-only and lives as long as the `Arc` that owns it, so no slice outlives it. The bytes
        // must not change while mapped, which no program can prove of a file: it relies on nobody writing to a model file
        // in use. Replacing one by renaming a new file over it is safe, because the mapping keeps the old one.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        let end = map.len();
        Ok(TensorBytes { backing: Arc::new(Backing::Mapped(map)), start: 0, end })
    }

    /// The bytes of `range`, counted from the start of these, sharing the same mapping.
    ///
    /// # Errors
    /// [`GgufError::Range`] if the range ends before it starts or ends past these bytes.
    pub fn slice(&self, range: Range<usize>) -> Result<TensorBytes, GgufError> {
        if range.start > range.end || range.end > self.len() {
            return Err(GgufError::Range { range, len: self.len() });
        }
        let start = self.start + range.start;
        Ok(TensorBytes { backing: Arc::clone(&self.backing), start, end: start + (range.end - range.start) })
    }

    /// Where these bytes start in their file.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.start
    }

    /// Asks the kernel to read the bytes from the disk in the background. It is a hint: a refusal changes nothing but speed.
    pub fn prefetch(&self) {
        if let Backing::Mapped(map) = &*self.backing {
            let _ = map.advise_range(Advice::WillNeed, self.start, self.end - self.start);
        }
    }

    /// Waits until every page has been in memory once, by reading a byte of each.
    pub fn prefault(&self) {
        let sum = self.iter().step_by(4096).fold(0u8, |sum, &byte| sum.wrapping_add(byte));
        std::hint::black_box(sum);
    }
}

impl Deref for TensorBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.backing.bytes()[self.start..self.end]
    }
}

impl AsRef<[u8]> for TensorBytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl From<Vec<u8>> for TensorBytes {
    fn from(bytes: Vec<u8>) -> TensorBytes {
        let end = bytes.len();
        TensorBytes { backing: Arc::new(Backing::Memory(bytes)), start: 0, end }
    }
}

impl PartialEq for TensorBytes {
    fn eq(&self, other: &TensorBytes) -> bool {
        **self == **other
    }
}

impl Eq for TensorBytes {}

impl fmt::Debug for TensorBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TensorBytes({} bytes at {})", self.len(), self.start)
    }
}
