//! Why is the model not here?
//!
//! No message carries a token, nor the query of an address: that of a content server holds its signature.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

/// Why a reference does not lead to a file.
#[derive(Debug, Error)]
pub enum HubError {
    /// Not the name of a model.
    #[error("model reference: expected {expected}, found {found:?}")]
    Reference {
        /// What would be one.
        expected: &'static str,
        /// What was given.
        found: String,
    },
    /// Neither a file here nor the name of a model.
    #[error("{found}: neither a file here nor the name of a model{}", did_you_mean(nearest))]
    Name {
        /// What was given.
        found: String,
        /// What may have been meant.
        nearest: Vec<String>,
    },
    /// A variable of the environment, or a file it names, makes no sense. Its value is not repeated.
    #[error("{name}: expected {expected}")]
    Environment {
        /// The variable.
        name: &'static str,
        /// What would do.
        expected: &'static str,
    },
    /// Not in the cache, and nothing may be fetched.
    #[error(
        "{file} is not in the cache {}, and nothing may be fetched (--offline or HF_HUB_OFFLINE)",
        cache.display()
    )]
    Offline {
        /// The reference.
        file: String,
        /// The cache's folder.
        cache: PathBuf,
    },
    /// The hub has no such thing.
    #[error("{file}: the hub has no such {what}")]
    NotFound {
        /// The reference.
        file: String,
        /// What is missing.
        what: Missing,
    },
    /// A repository has none or several files that a name may mean.
    #[error("{repo}: expected {expected}, found {found}")]
    Choice {
        /// The reference.
        repo: String,
        /// What there should be.
        expected: String,
        /// The files that there are.
        found: String,
    },
    /// The hub does not let us.
    #[error("{file}: the hub refuses it (HTTP {status}): {}", hint(*with_token))]
    Refused {
        /// The reference.
        file: String,
        /// 401 or 403.
        status: u16,
        /// Whether a token was sent.
        with_token: bool,
    },
    /// A server cannot be reached, or broke off, each time it was tried.
    #[error("{host}: {reason} (tried {attempts} times)")]
    Network {
        /// The server.
        host: String,
        /// What happened last.
        reason: String,
        /// How often.
        attempts: u32,
    },
    /// A server answers, but not with what was asked for.
    #[error("{host}: HTTP {status}{}", wait(*retry_after))]
    Status {
        /// The server.
        host: String,
        /// The status.
        status: u16,
        /// What the server wants to be waited.
        retry_after: Option<Duration>,
    },
    /// A server does not speak as a hub does.
    #[error("{host}: expected {expected}, found {found}")]
    Protocol {
        /// The server.
        host: String,
        /// What a hub would say.
        expected: String,
        /// What it said.
        found: String,
    },
    /// What was fetched is not what the hub names. Nothing of it was kept.
    #[error("{file}: expected SHA-256 {expected}, found {found}; the file was not kept")]
    Hash {
        /// The reference.
        file: String,
        /// From the hub.
        expected: String,
        /// Of the bytes that came.
        found: String,
    },
    /// No room for it.
    #[error("{}: no space: {needed} bytes to fetch, {} bytes free", path.display(), known(*free))]
    DiskFull {
        /// The folder.
        path: PathBuf,
        /// What is still to be fetched.
        needed: u64,
        /// Where it is known.
        free: Option<u64>,
    },
    /// It would not fit where it is to be used, so it was not fetched.
    #[error("{file} takes {n_bytes} bytes, and {place} has {free} bytes free: it was not fetched")]
    NoRoom {
        /// The reference.
        file: String,
        /// Of all its parts.
        n_bytes: u64,
        /// Such as a device.
        place: String,
        /// Bytes.
        free: u64,
    },
    /// The cache cannot be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
}

/// What a hub does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The repository.
    Repository,
    /// The branch, tag or commit.
    Revision,
    /// The file.
    File,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Missing::Repository => "repository",
            Missing::Revision => "revision",
            Missing::File => "file",
        })
    }
}

impl HubError {
    pub(crate) fn io(path: &Path) -> impl Fn(io::Error) -> HubError + '_ {
        |error| HubError::Io { path: path.to_owned(), error }
    }

    /// Whether the hub was out of reach, so that an older copy may do.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        match self {
            HubError::Network { .. } => true,
            HubError::Status { status, .. } => *status == 429 || *status >= 500,
            _ => false,
        }
    }
}

fn did_you_mean(nearest: &[String]) -> String {
    match nearest {
        [] => String::new(),
        nearest => format!("; did you mean {}?", nearest.join(", ")),
    }
}

fn hint(with_token: bool) -> &'static str {
    match with_token {
        true => "the token gives no access to it, or its licence is not accepted yet",
        false => "it does not exist, or needs a token in HF_TOKEN",
    }
}

fn wait(retry_after: Option<Duration>) -> String {
    retry_after.map(|time| format!(", to be tried again in {} s", time.as_secs())).unwrap_or_default()
}

fn known(free: Option<u64>) -> String {
    free.map_or_else(|| "fewer".to_owned(), |free| free.to_string())
}
