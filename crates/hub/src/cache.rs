//! Where does a file lie in the cache? The layout that all programs of the hub share:
//!
//! ```text
//! models--ORG--NAME/blobs/ETAG                the bytes; ETAG.incomplete while they come
//! models--ORG--NAME/snapshots/COMMIT/PATH     a link to a blob
//! models--ORG--NAME/refs/REVISION             the commit that a branch or a tag is
//! .locks/models--ORG--NAME/ETAG.lock          held (flock) by whoever fetches the blob
//! ```
//!
//! Source: the hub's "Local Cache" page. Links are relative, so that the cache can be moved.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::HubError;
use crate::reference::is_name;

/// The most bytes of a file under `refs`.
const MAX_REF_BYTES: u64 = 256;

/// One repository's part of the cache.
#[derive(Clone, Debug)]
pub(crate) struct RepoCache {
    /// `models--ORG--NAME`.
    folder: PathBuf,
    locks: PathBuf,
}

impl RepoCache {
    /// The part of `cache` for `ORG/NAME`.
    pub(crate) fn new(cache: &Path, repo: &str) -> RepoCache {
        let name = format!("models--{}", repo.replace('/', "--"));
        RepoCache { locks: cache.join(".locks").join(&name), folder: cache.join(name) }
    }

    /// Where blobs are.
    pub(crate) fn blobs(&self) -> PathBuf {
        self.folder.join("blobs")
    }

    pub(crate) fn blob(&self, etag: &str) -> PathBuf {
        self.blobs().join(etag)
    }

    pub(crate) fn incomplete(&self, etag: &str) -> PathBuf {
        self.blobs().join(format!("{etag}.incomplete"))
    }

    /// A file of a commit, where its bytes are here.
    pub(crate) fn find(&self, commit: &str, path: &str) -> Option<PathBuf> {
        Some(self.snapshot(commit, path)).filter(|link| link.is_file())
    }

    /// Where a file of a commit is, or would be.
    pub(crate) fn snapshot(&self, commit: &str, path: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit).join(path)
    }

    /// Where the commits' files are.
    pub(crate) fn snapshots(&self) -> PathBuf {
        self.folder.join("snapshots")
    }

    /// Takes away the folders of a commit that have nothing in them, the revisions that were this commit if none of its files is left, and the
    /// repository's folder if that was all. What cannot be removed stays: it is empty.
    pub(crate) fn prune(&self, commit: &str) {
        remove_empty(&self.snapshot(commit, ""));
        if !self.snapshot(commit, "").exists() {
            remove_refs(&self.folder.join("refs"), commit);
        }
        for folder in [self.snapshots(), self.blobs(), self.folder.join("refs"), self.folder.clone()] {
            remove_empty(&folder);
        }
    }

    /// The commit that a revision was when it was last looked up; a commit is its own.
    pub(crate) fn commit_of(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        read_ref(&self.folder.join("refs").join(revision))
    }

    /// Remembers which commit a revision is.
    pub(crate) fn set_commit_of(&self, revision: &str, commit: &str) -> Result<(), HubError> {
        let path = self.folder.join("refs").join(revision);
        if is_commit(revision) || self.commit_of(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        replace(&path, |fresh| fs::write(fresh, commit))
    }

    /// Makes the file of a commit a link to its blob.
    pub(crate) fn link(&self, commit: &str, path: &str, etag: &str) -> Result<(), HubError> {
        let link = self.snapshot(commit, path);
        let up = "../".repeat(path.split('/').count() + 1);
        let target = PathBuf::from(format!("{up}blobs/{etag}"));
        if fs::read_link(&link).is_ok_and(|found| found == target) {
            return Ok(());
        }
        replace(&link, |fresh| std::os::unix::fs::symlink(&target, fresh))
    }

    /// Waits until no other process fetches this blob; `busy` is called before a wait. The lock ends with what is returned.
    pub(crate) fn lock(&self, etag: &str, busy: &mut dyn FnMut()) -> Result<File, HubError> {
        let path = self.locks.join(format!("{etag}.lock"));
        let io = HubError::io(&path);
        make_parent(&path)?;
        let file = File::options().create(true).append(true).open(&path).map_err(&io)?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => {
                busy();
                file.lock().map_err(&io)?;
                Ok(file)
            }
            // Where a file system has no locks, the hash still keeps a spoilt file out.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(file),
            Err(TryLockError::Error(error)) => Err(io(error)),
        }
    }
}

/// Removes a folder with the folders in it, as far as they are empty.
fn remove_empty(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty(&entry.path());
        }
    }
    // It fails where something is left.
    let _ = fs::remove_dir(folder);
}

/// Removes the files under `refs` that name this commit.
fn remove_refs(folder: &Path, commit: &str) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => remove_refs(&entry.path(), commit),
            Ok(_) if read_ref(&entry.path()).as_deref() == Some(commit) => {
                let _ = fs::remove_file(entry.path());
            }
            _ => {}
        }
    }
}

/// What a file under `refs` says.
fn read_ref(path: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(MAX_REF_BYTES).read_to_string(&mut text).ok()?;
    Some(text.trim()).filter(|commit| is_name(commit)).map(str::to_owned)
}

/// Whether a revision is a commit, which never changes.
pub(crate) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Makes the folder that a path is in.
pub(crate) fn make_parent(path: &Path) -> Result<(), HubError> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).map_err(HubError::io(parent))
}

/// Makes something beside its place and moves it there, so that nobody sees half of it. Its name there is nobody else's, be they another
/// process or another thread.
fn replace(path: &Path, make: impl Fn(&Path) -> io::Result<()>) -> Result<(), HubError> {
    make_parent(path)?;
    let parent = path.parent().unwrap_or(path);
    let fresh = tempfile::Builder::new().prefix(".").suffix(".fresh").make_in(parent, make);
    let fresh = fresh.map_err(HubError::io(path))?;
    fresh.persist(path).map(drop).map_err(|failed| HubError::io(path)(failed.error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_fetched_is_found_and_what_is_linked_here_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let cache = RepoCache::new(folder.path(), "org/name");
        let commit = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!((cache.commit_of("main"), cache.commit_of(commit)), (None, Some(commit.to_owned())));
        cache.set_commit_of("refs/pr/1", commit).unwrap();
        assert_eq!(cache.commit_of("refs/pr/1").as_deref(), Some(commit));

        cache.link(commit, "a/b.gguf", "abc").unwrap();
        let link = cache.snapshot(commit, "a/b.gguf");
        // The blob is still missing.
        assert_eq!(cache.find(commit, "a/b.gguf"), None);
        make_parent(&cache.blob("abc")).unwrap();
        fs::write(folder.path().join("models--org--name/blobs/abc"), "bytes").unwrap();
        assert_eq!(cache.find(commit, "a/b.gguf"), Some(link.clone()));
        assert_eq!(fs::read(&link).unwrap(), b"bytes");
        assert_eq!(fs::read_link(link).unwrap(), Path::new("../../../blobs/abc"));
    }

    #[test]
    fn a_ref_that_would_leave_the_cache_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let refs = folder.path().join("models--org--name/refs");
        fs::create_dir_all(&refs).unwrap();
        fs::write(refs.join("main"), "../../../etc").unwrap();
        assert_eq!(RepoCache::new(folder.path(), "org/name").commit_of("main"), None);
    }
}
