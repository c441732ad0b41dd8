//! From a reference to a path: the cache first, then the hub.
//!
//! A commit that is here whole needs no network. Of a branch or a tag the hub is asked which commit it is now; where the hub is out of
//! reach, the commit that it was last time will do, and that is said. All parts of a split model come from one commit.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cache::{RepoCache, is_commit};
use crate::choose::{Chosen, choose};
use crate::client::{Client, Facts};
use crate::download::{Download, Step, again, free_bytes};
use crate::list;
use crate::retry::{Patience, Tries};
use crate::split::parts;
use crate::{HubError, HubFile, HubRepo, Settings};

/// Tries to reach the hub where the cache has an older copy.
const TRIES_WITH_COPY: u32 = 2;

/// A hub and the cache of its files.
#[derive(Debug)]
pub struct Hub {
    settings: Settings,
    /// None where nothing may be fetched.
    client: Option<Client>,
}

/// Where a model is to be used, beside the disk: its file is not fetched if it has more bytes than that place has free. Weights take at least about
/// what the file does.
#[derive(Clone, Debug)]
pub struct Room {
    /// For messages, such as `cuda:0`.
    pub place: String,
    /// Bytes.
    pub free: u64,
}

/// What there is to say while a file comes.
#[derive(Debug)]
pub enum Progress<'a> {
    /// The file is not here; it fits, and fetching begins.
    Begin {
        /// The file, or the part that was named.
        file: &'a HubFile,
        /// Bytes still to come.
        needed: u64,
        /// Bytes of all parts.
        total: u64,
        /// Bytes free in the cache, where the system says.
        free: Option<u64>,
    },
    /// Another process fetches the same file and is waited for.
    Locked(&'a HubFile),
    /// So many bytes of all parts are here.
    At {
        /// Bytes.
        done: u64,
        /// Bytes.
        total: u64,
    },
    /// A try failed, and there will be another.
    Again {
        /// Why.
        reason: &'a str,
        /// Until the next.
        wait: Duration,
    },
    /// The hub is out of reach; the cache's copy is used.
    Stale(&'a HubError),
}

impl Hub {
    /// A hub that nobody has spoken to yet.
    #[must_use]
    pub fn new(settings: Settings) -> Hub {
        let client = (!settings.offline).then(|| Client::new(&settings));
        Hub { settings, client }
    }

    /// The cache's folder.
    pub(crate) fn cache(&self) -> &Path {
        &self.settings.cache
    }

    /// The path of a file in the cache, after fetching it and the other parts of its model if they are not there and fit.
    ///
    /// # Errors
    /// Every [`HubError`] but those of parsing.
    pub fn fetch(
        &self,
        file: &HubFile,
        room: Option<&Room>,
        watch: &mut dyn FnMut(Progress<'_>),
    ) -> Result<PathBuf, HubError> {
        let cache = RepoCache::new(&self.settings.cache, file.repo());
        let files: Vec<HubFile> = parts(file.path()).into_iter().map(|path| file.sibling(path)).collect();
        let here = found(&cache, file, &files);
        if let Some(path) = here.as_ref().filter(|_| is_commit(file.revision())) {
            return Ok(path.clone());
        }
        let Some(client) = &self.client else {
            let cache = self.settings.cache.clone();
            return here.ok_or_else(|| HubError::Offline { file: file.to_string(), cache });
        };
        let mut patience = self.settings.patience;
        if here.is_some() {
            patience.tries = patience.tries.min(TRIES_WITH_COPY);
        }
        let facts = match ask(client, &files, patience, watch) {
            Ok(facts) => facts,
            Err(error) => match here {
                Some(path) if error.is_unreachable() => {
                    watch(Progress::Stale(&error));
                    return Ok(path);
                }
                _ => return Err(error),
            },
        };
        let patience = self.settings.patience;
        let jobs: Vec<Download<'_>> = facts
            .iter()
            .map(|(file, facts)| Download { client, cache: &cache, file, facts, patience })
            .collect();
        if !jobs.iter().all(Download::is_here) {
            begin(&jobs, room, watch)?;
            download(&jobs, watch)?;
        }
        let commit = facts[0].1.commit.as_str();
        for (part, facts) in &facts {
            cache.link(commit, part.path(), &facts.etag)?;
        }
        cache.set_commit_of(file.revision(), commit)?;
        Ok(cache.snapshot(commit, file.path()))
    }

    /// Chooses the file of a repository that a name means: from the hub's list, or from what the cache has where the hub is not asked or out of
    /// reach. Nothing is fetched.
    ///
    /// # Errors
    /// [`HubError::Choice`] where none or several fit, and those of asking the hub.
    pub fn choose(&self, repo: &HubRepo, watch: &mut dyn FnMut(Progress<'_>)) -> Result<Chosen, HubError> {
        let here = || list::cached(&RepoCache::new(&self.settings.cache, repo.repo()), repo.revision());
        let Some(client) = &self.client else {
            let (file, cache) = (repo.to_string(), self.settings.cache.clone());
            let here = Some(here()).filter(|here| !here.is_empty());
            return here.map_or(Err(HubError::Offline { file, cache }), |here| choose(repo, &here));
        };
        let mut tries = Tries::new(self.settings.patience);
        let failed = loop {
            match client.list(repo) {
                Ok(files) => return choose(repo, &files),
                Err(failed) => match again(failed, &mut tries, false) {
                    Ok((reason, wait)) => {
                        watch(Progress::Again { reason: &reason, wait });
                        std::thread::sleep(wait);
                    }
                    Err(error) => break error,
                },
            }
        };
        match choose(repo, &here()) {
            Ok(chosen) if failed.is_unreachable() => {
                watch(Progress::Stale(&failed));
                Ok(chosen)
            }
            _ => Err(failed),
        }
    }
}

/// Refuses what has no room where it is kept or used, else says what is to come.
fn begin(
    jobs: &[Download<'_>],
    room: Option<&Room>,
    watch: &mut dyn FnMut(Progress<'_>),
) -> Result<(), HubError> {
    let (file, total) = (jobs[0].file, total(jobs));
    if let Some(Room { place, free }) = room.filter(|room| room.free < total) {
        let (file, place) = (file.to_string(), place.clone());
        return Err(HubError::NoRoom { file, n_bytes: total, place, free: *free });
    }
    let needed = jobs.iter().map(Download::n_missing).fold(0, u64::saturating_add);
    let free = check_space(&jobs[0].cache.blobs(), needed)?;
    watch(Progress::Begin { file, needed, total, free });
    Ok(())
}

/// Fetches one part after the other.
fn download(jobs: &[Download<'_>], watch: &mut dyn FnMut(Progress<'_>)) -> Result<(), HubError> {
    let total = total(jobs);
    let mut before = 0;
    for job in jobs {
        job.run(&mut |step| {
            watch(match step {
                Step::Locked => Progress::Locked(job.file),
                Step::At(done) => Progress::At { done: before + done, total },
                Step::Again { reason, wait } => Progress::Again { reason, wait },
            });
        })?;
        before += job.facts.size;
    }
    Ok(())
}

/// Bytes of all parts.
fn total(jobs: &[Download<'_>]) -> u64 {
    jobs.iter().map(|job| job.facts.size).fold(0, u64::saturating_add)
}

/// The path of a file whose parts are all here, at the commit that its revision was last.
fn found(cache: &RepoCache, file: &HubFile, parts: &[HubFile]) -> Option<PathBuf> {
    let commit = cache.commit_of(file.revision())?;
    let all = parts.iter().all(|part| cache.find(&commit, part.path()).is_some());
    all.then(|| cache.find(&commit, file.path())).flatten()
}

/// Asks what the files are, all at the commit of the first.
fn ask(
    client: &Client,
    files: &[HubFile],
    patience: Patience,
    watch: &mut dyn FnMut(Progress<'_>),
) -> Result<Vec<(HubFile, Facts)>, HubError> {
    let mut known: Vec<(HubFile, Facts)> = Vec::with_capacity(files.len());
    for file in files {
        let file = known.first().map_or_else(|| file.clone(), |(_, first)| file.at(&first.commit));
        let mut tries = Tries::new(patience);
        let facts = loop {
            match client.facts(&file) {
                Ok(facts) => break facts,
                Err(failed) => {
                    let (reason, wait) = again(failed, &mut tries, false)?;
                    watch(Progress::Again { reason: &reason, wait });
                    std::thread::sleep(wait);
                }
            }
        };
        // A branch may move on before the bytes are asked for.
        known.push((file.at(&facts.commit), facts));
    }
    Ok(known)
}

/// Refuses before the first byte what cannot be kept; the bytes that are free. Where the system does not say, writing will.
fn check_space(folder: &Path, needed: u64) -> Result<Option<u64>, HubError> {
    let there = folder.ancestors().find(|folder| folder.is_dir()).unwrap_or(folder);
    match free_bytes(there) {
        Some(free) if free < needed => {
            Err(HubError::DiskFull { path: folder.to_owned(), needed, free: Some(free) })
        }
        free => Ok(free),
    }
}
