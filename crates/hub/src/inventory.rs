//! Which models are in the cache, and how is one taken out of it?
//!
//! A model is a GGUF file of a snapshot with all its parts. What it takes and when it was last read is said by its blobs. Removing takes
//! away its links, and the blobs that no other link of the repository leads to: nothing that a path in the cache does not name, so what a link
//! points at elsewhere stays.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::cache::{RepoCache, is_commit};
use crate::choose::{has_tag, models};
use crate::list::walk_snapshot;
use crate::names::NAMES;
use crate::split::parts;
use crate::{Hub, HubError, HubFile, ModelRef};

/// The branch that a name without a revision means.
const MAIN: &str = "main";

/// A model in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cached {
    /// Its file, or the first of its parts, at the branch `main` where that is its commit, else at the commit.
    pub file: HubFile,
    /// The commit that it was fetched at.
    pub commit: String,
    /// Of all parts.
    pub n_bytes: u64,
    /// When one of its parts was last read or written, where the file system says.
    pub used: Option<SystemTime>,
}

impl Cached {
    /// Whether a reference means this model, as far as names tell: a repository without a quantization means all of its models.
    #[must_use]
    pub fn is(&self, model: &ModelRef) -> bool {
        let at = |revision: &str| revision == self.file.revision() || revision == self.commit;
        match model {
            ModelRef::Path(_) => false,
            ModelRef::Hub(file) => {
                let mine = parts(self.file.path()).iter().any(|path| path == file.path());
                file.repo() == self.file.repo() && at(file.revision()) && mine
            }
            ModelRef::Repo(repo) => {
                let tag = repo.quantization().is_none_or(|tag| has_tag(self.file.path(), tag));
                repo.repo() == self.file.repo() && at(repo.revision()) && tag
            }
        }
    }

    /// The shortest name that means this model: that of the table, or the reference of its file.
    #[must_use]
    pub fn name(&self) -> String {
        let of_table = NAMES.iter().find(|named| {
            let tag = has_tag(self.file.path(), named.quantization);
            self.file.revision() == MAIN && named.repo == self.file.repo() && tag
        });
        match (of_table, self.file.revision()) {
            (Some(named), _) => named.name.to_owned(),
            (None, MAIN) => format!("hf:{}::file={}", self.file.repo(), self.file.path()),
            (None, _) => self.file.to_string(),
        }
    }

    fn paths(&self, cache: &RepoCache) -> Vec<PathBuf> {
        parts(self.file.path()).iter().map(|path| cache.snapshot(&self.commit, path)).collect()
    }
}

impl Hub {
    /// All models of the cache, in the order of their repositories and paths. A model of which a part is missing is none.
    ///
    /// # Errors
    /// [`HubError::Io`] where the cache is there and cannot be read.
    pub fn inventory(&self) -> Result<Vec<Cached>, HubError> {
        let mut found = Vec::new();
        for name in names_in(self.cache())? {
            if let Some(repo) = name.strip_prefix("models--").and_then(|name| name.split_once("--")) {
                self.inventory_of(&format!("{}/{}", repo.0, repo.1), &mut found)?;
            }
        }
        Ok(found)
    }

    fn inventory_of(&self, repo: &str, found: &mut Vec<Cached>) -> Result<(), HubError> {
        let cache = RepoCache::new(self.cache(), repo);
        let main = cache.commit_of(MAIN);
        for commit in names_in(&cache.snapshots())?.into_iter().filter(|name| is_commit(name)) {
            for (path, n_bytes) in models(&walk_snapshot(&cache, &commit)) {
                let revision = if main.as_ref() == Some(&commit) { MAIN } else { &commit };
                // What other programs call a file may be no reference.
                let (Some(n_bytes), Ok(file)) = (n_bytes, HubFile::new(repo, revision, &path)) else {
                    continue;
                };
                let mut model = Cached { file, commit: commit.clone(), n_bytes, used: None };
                model.used = model.paths(&cache).iter().filter_map(|path| used(path)).max();
                found.push(model);
            }
        }
        Ok(())
    }

    /// Takes a model out of the cache. How many bytes that gave back.
    ///
    /// # Errors
    /// [`HubError::Io`] where something cannot be removed.
    pub fn remove(&self, model: &Cached) -> Result<u64, HubError> {
        let cache = RepoCache::new(self.cache(), model.file.repo());
        let blobs: BTreeSet<String> =
            model.paths(&cache).iter().filter_map(|link| blob_of(link, &cache)).collect();
        // A process that fetches one of them holds its lock, and links it when it is done.
        let mut locks = Vec::new();
        for blob in &blobs {
            locks.push(cache.lock(blob, &mut || {})?);
        }
        let mut n_freed = 0;
        for path in model.paths(&cache) {
            // Without links the file itself lies there.
            let n_own =
                fs::symlink_metadata(&path).map_or(0, |found| if found.is_file() { found.len() } else { 0 });
            fs::remove_file(&path).map_err(HubError::io(&path))?;
            n_freed += n_own;
        }
        let linked = linked(&cache)?;
        for blob in blobs.difference(&linked) {
            let path = cache.blob(blob);
            let n_bytes = fs::metadata(&path).map_or(0, |found| found.len());
            fs::remove_file(&path).map_err(HubError::io(&path))?;
            n_freed += n_bytes;
        }
        cache.prune(&model.commit);
        Ok(n_freed)
    }
}

/// The blobs that links of any snapshot lead to.
fn linked(cache: &RepoCache) -> Result<BTreeSet<String>, HubError> {
    let mut linked = BTreeSet::new();
    for commit in names_in(&cache.snapshots())? {
        for (path, _) in walk_snapshot(cache, &commit) {
            linked.extend(blob_of(&cache.snapshot(&commit, &path), cache));
        }
    }
    Ok(linked)
}

/// The name of the blob that a link leads to; none where it is no link into the repository's blobs.
fn blob_of(link: &Path, cache: &RepoCache) -> Option<String> {
    let target = link.parent()?.join(fs::read_link(link).ok()?);
    let (folder, name) = (target.parent()?.canonicalize().ok()?, target.file_name()?.to_str()?);
    (folder == cache.blobs().canonicalize().ok()?).then(|| name.to_owned())
}

fn used(path: &Path) -> Option<SystemTime> {
    let found = fs::metadata(path).ok()?;
    found.accessed().ok().max(found.modified().ok())
}

/// The names in a folder in order, none where it is not there.
fn names_in(folder: &Path) -> Result<Vec<String>, HubError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(HubError::io(folder))?,
    };
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}
