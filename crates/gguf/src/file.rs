//! What is in the model's file, or in all its files?
//!
//! [`Gguf`] maps the files, reads their headers and hands out metadata and tensors. Opening reads headers alone; tensor data
//! is touched when used, or ahead of that with [`Gguf::prefetch`].

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::GgufError;
use crate::file_type;
use crate::limits;
use crate::mapping::TensorBytes;
use crate::metadata::Metadata;
use crate::reader::{Part, read};
use crate::split::Split;
use crate::tensor::{Tensor, TensorInfo};
use crate::watch::FileChange;

/// An open model. Clones share it.
#[derive(Clone, Debug)]
pub struct Gguf(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    version: u32,
    alignment: usize,
    paths: Vec<PathBuf>,
    files: Vec<TensorBytes>,
    metadata: Metadata,
    tensors: Vec<TensorInfo>,
    /// Indices into `tensors`, sorted by name.
    by_name: Vec<u32>,
}

impl Gguf {
    /// Opens a model. Given any file of a split model, opens all of them. The files stay mapped while the model or any of its
    /// bytes are in use and must not be written to or cut short until then; replacing them by renaming is safe.
    ///
    /// # Errors
    /// [`GgufError::File`] with the path and the cause, [`GgufError::Io`], or what is wrong between the files of a split model.
    pub fn open(path: &Path) -> Result<Gguf, GgufError> {
        Gguf::open_with(path, TensorBytes::map)
    }

    /// The same with all files read into memory, in place of being mapped: what happens to them afterwards changes nothing. Takes as much memory
    /// as the files have bytes, at once.
    ///
    /// # Errors
    /// As [`Gguf::open`].
    pub fn read(path: &Path) -> Result<Gguf, GgufError> {
        Gguf::open_with(path, TensorBytes::read)
    }

    fn open_with(path: &Path, bytes: Bytes) -> Result<Gguf, GgufError> {
        let open_part = |path: &Path| open_part(path, bytes);
        let part = open_part(path)?;
        let in_file = |error| GgufError::File { path: path.to_owned(), error: Box::new(error) };
        let Some(split) = Split::of(&part.metadata).map_err(in_file)? else {
            return Gguf::from_parts(vec![part], vec![path.to_owned()]).map_err(in_file);
        };
        let paths = split.paths(path).map_err(in_file)?;
        let mut parts = Vec::with_capacity(paths.len());
        for path in &paths {
            parts.push(open_part(path)?);
        }
        split.check(&parts)?;
        Gguf::from_parts(parts, paths)
    }

    /// Reads a model that is in memory.
    ///
    /// # Errors
    /// What is wrong with the bytes; [`GgufError::Split`] for a part of a split model, whose other parts cannot be found.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Gguf, GgufError> {
        let part = read(&bytes.into())?;
        if let Some(split) = Split::of(&part.metadata)? {
            return Err(GgufError::Split {
                expected: "a whole model".to_owned(),
                found: format!("part {} of {}", split.no + 1, split.count),
            });
        }
        Gguf::from_parts(vec![part], Vec::new())
    }

    fn from_parts(parts: Vec<Part>, paths: Vec<PathBuf>) -> Result<Gguf, GgufError> {
        let mut inner = Inner {
            version: 0,
            alignment: limits::DEFAULT_ALIGNMENT,
            paths,
            files: Vec::with_capacity(parts.len()),
            metadata: Metadata::default(),
            tensors: Vec::new(),
            by_name: Vec::new(),
        };
        for (file, part) in parts.into_iter().enumerate() {
            if file == 0 {
                (inner.version, inner.alignment) = (part.version, part.alignment);
                (inner.metadata, inner.tensors) = (part.metadata, part.tensors);
            } else {
                inner.tensors.extend(part.tensors.into_iter().map(|tensor| TensorInfo { file, ..tensor }));
            }
            inner.files.push(part.bytes);
        }
        inner.by_name = sort_by_name(&inner.tensors)?;
        Ok(Gguf(Arc::new(inner)))
    }

    /// The format's version: 1, 2 or 3.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.0.version
    }

    /// The alignment of tensor data, in bytes.
    #[must_use]
    pub fn alignment(&self) -> usize {
        self.0.alignment
    }

    /// Bytes of all files together.
    #[must_use]
    pub fn file_len(&self) -> u64 {
        self.0.files.iter().map(|file| file.len() as u64).sum()
    }

    /// The files' paths, in order; none for a model from memory.
    #[must_use]
    pub fn paths(&self) -> &[PathBuf] {
        &self.0.paths
    }

    /// The metadata; that of the first file where the model is split.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.0.metadata
    }

    /// What the file calls its quantisation, such as `Q4_K_M`: a hint, as tensors say their own formats.
    #[must_use]
    pub fn file_type(&self) -> Option<&'static str> {
        file_type::name(&self.0.metadata)
    }

    /// Every tensor, in the order of the file or files.
    #[must_use]
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.0.tensors
    }

    /// A tensor by its name.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<Tensor> {
        let inner = &*self.0;
        let found =
            inner.by_name.binary_search_by_key(&name, |&i| inner.tensors[i as usize].name.as_str()).ok()?;
        let info = inner.tensors.get(inner.by_name[found] as usize)?;
        // The reader checked that the range is in the file and therefore fits in a usize.
        let start = usize::try_from(info.offset).ok()?;
        let bytes = inner.files.get(info.file)?.slice(start..start.checked_add(info.n_bytes)?).ok()?;
        Some(Tensor { info: info.clone(), bytes })
    }

    /// Keeps all files in memory, so that no part of them has to be read from the disk again.
    ///
    /// # Errors
    /// [`GgufError::Lock`] where the operating system does not allow it.
    pub fn lock(&self) -> Result<(), GgufError> {
        self.0.files.iter().try_for_each(TensorBytes::lock)
    }

    /// Whether a part of a mapped file could not be read when it was used: it was cut short, or the disk failed. What was computed since is
    /// of no use. To be asked before a result is given away.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.0.files.iter().any(TensorBytes::is_lost)
    }

    /// Whether the files are as they were when they were opened. Asks the file system.
    ///
    /// # Errors
    /// What has happened to the first that is not: one whose bytes may be others, if there is one.
    pub fn check_files(&self) -> Result<(), FileChange> {
        let changes = self.0.files.iter().filter_map(|file| file.opened()?.check().err());
        // False sorts first.
        changes.min_by_key(FileChange::is_harmless).map_or(Ok(()), Err)
    }

    /// Asks the kernel to read all files from the disk in the background.
    pub fn prefetch(&self) {
        for file in &self.0.files {
            file.prefetch();
        }
    }
}

/// How a file's bytes are had.
type Bytes = fn(&Path) -> Result<TensorBytes, GgufError>;

fn open_part(path: &Path, bytes: Bytes) -> Result<Part, GgufError> {
    let bytes = bytes(path)?;
    read(&bytes).map_err(|error| GgufError::File { path: path.to_owned(), error: Box::new(error) })
}

fn sort_by_name(tensors: &[TensorInfo]) -> Result<Vec<u32>, GgufError> {
    let max = limits::MAX_TENSORS;
    if tensors.len() as u64 > max {
        let (what, found) = ("a number of tensors in all files", tensors.len() as u64);
        return Err(GgufError::Limit { place: "split model".to_owned(), offset: 0, what, max, found });
    }
    let mut by_name: Vec<u32> = (0..tensors.len() as u32).collect();
    by_name.sort_by_key(|&i| &tensors[i as usize].name);
    for pair in by_name.windows(2) {
        let (first, second) = (&tensors[pair[0] as usize], &tensors[pair[1] as usize]);
        if first.name == second.name {
            let name = first.name.clone();
            return Err(GgufError::DuplicateTensor { name, first: first.offset, second: second.offset });
        }
    }
    Ok(by_name)
}
