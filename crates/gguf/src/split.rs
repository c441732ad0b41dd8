//! Which files make a split model?
//!
//! A model may be split into files `PREFIX-00001-of-0000N.gguf` that each carry `split.no` (from 0), `split.count` and
//! `split.tensors.count`; the model's own metadata is in the first. Source: llama.cpp's gguf-split.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::error::GgufError;
use crate::limits::MAX_SPLIT_FILES;
use crate::metadata::Metadata;
use crate::reader::Part;
use crate::value::Value;

/// What a file says about the split it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Split {
    /// Index of the file, from 0.
    pub(crate) no: usize,
    /// Files in all.
    pub(crate) count: usize,
    /// Tensors in all files together, where the file says.
    n_tensors: Option<usize>,
}

impl Split {
    /// `None` for a model in one file.
    pub(crate) fn of(metadata: &Metadata) -> Result<Option<Split>, GgufError> {
        let Some(count) = metadata.usize_of("split.count")?.filter(|&count| count > 1) else {
            return Ok(None);
        };
        let no = metadata.usize_of("split.no")?.unwrap_or(0);
        if count > MAX_SPLIT_FILES || no >= count {
            return Err(GgufError::Split {
                expected: format!("a split.no below split.count, and that at most {MAX_SPLIT_FILES}"),
                found: format!("split.no {no} and split.count {count}"),
            });
        }
        Ok(Some(Split { no, count, n_tensors: metadata.usize_of("split.tensors.count")? }))
    }

    /// The paths of all files, in order, from the path of this one.
    pub(crate) fn paths(self, path: &Path) -> Result<Vec<PathBuf>, GgufError> {
        let suffix = |no: usize| format!("-{:05}-of-{:05}.gguf", no + 1, self.count);
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(prefix) = name.and_then(|name| name.strip_suffix(&suffix(self.no))) else {
            return Err(GgufError::Split {
                expected: format!("a file name that ends in {:?}, as its metadata says", suffix(self.no)),
                found: format!("{:?}", path.file_name().unwrap_or_default()),
            });
        };
        Ok((0..self.count).map(|no| path.with_file_name(format!("{prefix}{}", suffix(no)))).collect())
    }

    /// Checks that the files are the parts of one model, in order: what one says of the whole, no other may contradict.
    pub(crate) fn check(self, parts: &[Part]) -> Result<(), GgufError> {
        for (no, part) in parts.iter().enumerate() {
            let found = Split::of(&part.metadata)?;
            if found.is_none_or(|split| split.no != no || split.count != self.count) {
                return Err(GgufError::Split {
                    expected: format!("part {} of {}", no + 1, self.count),
                    found: found.map_or("a model in one file".to_owned(), |split| {
                        format!("part {} of {}", split.no + 1, split.count)
                    }),
                });
            }
        }
        check_agreement(parts)?;
        let n_tensors: usize = parts.iter().map(|part| part.tensors.len()).sum();
        if self.n_tensors.is_some_and(|expected| expected != n_tensors) {
            return Err(GgufError::Split {
                expected: format!("split.tensors.count of {n_tensors}, the tensors in all files"),
                found: format!("{}", self.n_tensors.unwrap_or_default()),
            });
        }
        Ok(())
    }
}

/// Keys that say of each file how it is laid out, and nothing of the model.
const OF_A_FILE: [&str; 2] = ["general.alignment", "split.no"];

/// Checks that no two parts say different things of the model under one key.
fn check_agreement(parts: &[Part]) -> Result<(), GgufError> {
    let mut said: HashMap<&str, (usize, &Value)> = HashMap::new();
    for (no, part) in parts.iter().enumerate() {
        for (key, value) in part.metadata.iter() {
            if OF_A_FILE.contains(&key) || !(key.starts_with("general.") || key.starts_with("split.")) {
                continue;
            }
            let &mut (first, before) = said.entry(key).or_insert((no, value));
            let is_same_number = before.integer().is_some() && before.integer() == value.integer();
            if before != value && !is_same_number {
                let (before, value) = (before.to_string(), value.to_string());
                return Err(GgufError::Split {
                    expected: format!(
                        "parts of one model, with {key} = {before:.80} as in part {}",
                        first + 1
                    ),
                    found: format!("{value:.80} in part {}", no + 1),
                });
            }
        }
    }
    Ok(())
}
