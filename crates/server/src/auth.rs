//! Whose key is this? API keys, and the clients behind them.
//!
//! Keys are kept as SHA-256 digests. A given key is digested too and compared with every one of them, without an early end, so that the time
//! taken tells neither a key's bytes nor its length nor its place. A file of keys has one a line, `name:key` or a bare key, and after it `role=`
//! and `weight=`; keys of the same name are one client, so that a key can be replaced without its client losing its place in the queue or
//! its cached prompts.

use std::fmt;

use axum::http::{HeaderMap, header};
use sha2::{Digest, Sha256};
use subtle::{ConditionallySelectable, ConstantTimeEq};
use thiserror::Error;

use crate::context::Client;
use crate::error::ApiError;
use crate::options::Security;

/// The most keys.
const MAX_KEYS: usize = 4096;
/// The most bytes of a key, and of a name.
const MAX_KEY_BYTES: usize = 512;
/// A key shorter than this can be guessed.
const SHORT: usize = 16;
/// A key of this name has the role of the same name, unless its line says otherwise.
const ADMIN: &str = "admin";
/// The largest weight.
const MAX_WEIGHT: u32 = 1000;

/// What a key is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Role {
    /// Everything but ending the process, and the metrics where they are kept to others.
    #[default]
    User,
    /// Everything.
    Admin,
    /// The metrics alone.
    Monitor,
}

impl Role {
    const NAMES: [(&'static str, Role); 3] =
        [("user", Role::User), ("admin", Role::Admin), ("monitor", Role::Monitor)];

    /// Whether a key of this role may ask for a path; if not, what is expected.
    fn check(self, path: &str, security: &Security) -> Result<(), ApiError> {
        match path {
            "/shutdown" if self != Role::Admin && (self == Role::Monitor || !security.allow_shutdown) => {
                Err(ApiError::Forbidden(
                    "expected a key whose role is admin, or a server that was started with --allow-shutdown",
                ))
            }
            "/metrics" if self == Role::User && security.metrics_for_admin => {
                Err(ApiError::Forbidden("expected a key whose role is admin or monitor"))
            }
            "/metrics" | "/shutdown" => Ok(()),
            _ if self == Role::Monitor => Err(ApiError::Forbidden("this key is only for /metrics")),
            _ => Ok(()),
        }
    }
}

/// Whose cached prompts a client shares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheScope {
    /// Its own: whether another client has sent a prompt cannot be found out by timing.
    #[default]
    Key,
    /// Those of all.
    Shared,
    /// Nobody's.
    Off,
}

/// Why a text is no list of keys. The text itself is never repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    /// A name or key of the wrong length.
    #[error("line {line}: expected 1 to {MAX_KEY_BYTES} bytes, found {found}")]
    Length {
        /// Counted from 1.
        line: usize,
        /// Bytes.
        found: usize,
    },
    /// Something that does not fit a header.
    #[error("line {line}: expected visible ASCII characters, found another at column {column}")]
    Character {
        /// Counted from 1.
        line: usize,
        /// Counted from 1, in bytes.
        column: usize,
    },
    /// Something after the key that is not said of keys.
    #[error(
        "line {line}: expected nothing after the key but role=user, role=admin or role=monitor and weight=1 to \
         weight={MAX_WEIGHT}, each once"
    )]
    Setting {
        /// Counted from 1.
        line: usize,
    },
    /// Keys of one name with different weights.
    #[error("line {line}: expected the weight of line {first}, which has the same name")]
    Weight {
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        first: usize,
    },
    /// The same key twice.
    #[error("line {line}: expected a new key, found that of line {first}")]
    Twice {
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        first: usize,
    },
    /// Nothing but blank lines and comments.
    #[error("expected at least one key, found none")]
    None,
    /// Too many.
    #[error("expected at most {MAX_KEYS} keys, found more")]
    TooMany,
}

/// The keys that are accepted; without any, everybody is.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Keys(Vec<Key>);

#[derive(Clone, PartialEq, Eq)]
struct Key {
    digest: [u8; 32],
    client: u64,
    role: Role,
    weight: u32,
    is_short: bool,
    line: usize,
}

impl Keys {
    /// One key without a name.
    ///
    /// # Errors
    /// [`KeyError`] for one that cannot stand in a header.
    pub fn one(key: &str) -> Result<Keys, KeyError> {
        Ok(Keys(vec![Key::new(None, key, 1)?]))
    }

    /// The keys of a file's text: one a line, `name:key` or a bare key, then `role=ROLE` and `weight=N` if they are not user and 1; blank lines
    /// and those that begin with `#` count for nothing.
    ///
    /// # Errors
    /// [`KeyError`], by line.
    pub fn parse(text: &str) -> Result<Keys, KeyError> {
        let mut keys = Keys::default();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, rest) =
                line.split_once(':').map_or((None, line), |(name, rest)| (Some(name.trim()), rest.trim()));
            let mut words = rest.split_ascii_whitespace();
            let mut key = Key::new(name, words.next().unwrap_or_default(), at + 1)?;
            key.set(words)?;
            keys.add(key)?;
        }
        if keys.is_empty() { Err(KeyError::None) } else { Ok(keys) }
    }

    /// These and those.
    ///
    /// # Errors
    /// [`KeyError::Twice`] and [`KeyError::TooMany`].
    pub fn and(mut self, others: Keys) -> Result<Keys, KeyError> {
        others.0.into_iter().try_for_each(|key| self.add(key))?;
        Ok(self)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// How many are so short that they can be guessed.
    #[must_use]
    pub fn n_short(&self) -> usize {
        self.0.iter().filter(|key| key.is_short).count()
    }

    fn add(&mut self, key: Key) -> Result<(), KeyError> {
        if let Some(first) = self.0.iter().find(|other| other.digest == key.digest) {
            return Err(KeyError::Twice { line: key.line, first: first.line });
        }
        let same_client = |other: &&Key| other.client == key.client && other.weight != key.weight;
        if let Some(first) = self.0.iter().find(same_client) {
            return Err(KeyError::Weight { line: key.line, first: first.line });
        }
        if self.0.len() == MAX_KEYS {
            return Err(KeyError::TooMany);
        }
        self.0.push(key);
        Ok(())
    }

    fn find(&self, given: &[u8]) -> Option<&Key> {
        let digest: [u8; 32] = Sha256::digest(given).into();
        let mut found = u64::MAX;
        for (at, key) in self.0.iter().enumerate() {
            found.conditional_assign(&(at as u64), key.digest.ct_eq(&digest));
        }
        self.0.get(usize::try_from(found).ok()?)
    }

    /// Who sends these headers.
    ///
    /// # Errors
    /// [`ApiError::Unauthorized`] without a key that is known, [`ApiError::Forbidden`] where the path is not for this client.
    pub(crate) fn client(
        &self,
        headers: &HeaderMap,
        path: &str,
        security: &Security,
    ) -> Result<Client, ApiError> {
        let scope = security.cache_scope;
        if self.is_empty() {
            Role::User.check(path, security)?;
            return Ok(Client { id: 0, weight: 1, cache_scope: (scope != CacheScope::Off).then_some(0) });
        }
        let mut given = given(headers).peekable();
        if given.peek().is_none() {
            return Err(ApiError::Unauthorized("expected an API key: send Authorization: Bearer KEY"));
        }
        let Some(key) = given.find_map(|given| self.find(given)) else {
            return Err(ApiError::Unauthorized("unknown API key"));
        };
        key.role.check(path, security)?;
        let cache_scope = match scope {
            CacheScope::Key => Some(key.client),
            CacheScope::Shared => Some(0),
            CacheScope::Off => None,
        };
        Ok(Client { id: key.client, weight: key.weight, cache_scope })
    }
}

impl Key {
    fn new(name: Option<&str>, key: &str, line: usize) -> Result<Key, KeyError> {
        for text in name.into_iter().chain([key]) {
            if text.is_empty() || text.len() > MAX_KEY_BYTES {
                return Err(KeyError::Length { line, found: text.len() });
            }
            if let Some(at) = text.bytes().position(|byte| !byte.is_ascii_graphic()) {
                return Err(KeyError::Character { line, column: at + 1 });
            }
        }
        let digest: [u8; 32] = Sha256::digest(key).into();
        // Not the digest of the key itself: a client's number is logged.
        let whose = Sha256::new().chain_update("client");
        let whose = match name {
            Some(name) => whose.chain_update(" named ").chain_update(name),
            None => whose.chain_update(" of ").chain_update(digest),
        };
        let client = whose.finalize().iter().take(8).fold(0, |all, &byte| all << 8 | u64::from(byte));
        let role = if name == Some(ADMIN) { Role::Admin } else { Role::User };
        Ok(Key { digest, client, role, weight: 1, is_short: key.len() < SHORT, line })
    }

    /// Takes what stands after the key.
    fn set<'a>(&mut self, words: impl Iterator<Item = &'a str>) -> Result<(), KeyError> {
        let wrong = KeyError::Setting { line: self.line };
        let (mut has_role, mut has_weight) = (false, false);
        for word in words {
            let (seen, is_right) = match word.split_once('=') {
                Some(("role", name)) => {
                    let role = Role::NAMES.iter().find(|(known, _)| *known == name);
                    self.role = role.map_or(self.role, |&(_, role)| role);
                    (&mut has_role, role.is_some())
                }
                Some(("weight", text)) => {
                    let weight = text.parse().ok().filter(|weight| (1..=MAX_WEIGHT).contains(weight));
                    self.weight = weight.unwrap_or(self.weight);
                    (&mut has_weight, weight.is_some())
                }
                _ => return Err(wrong),
            };
            if !is_right || std::mem::replace(seen, true) {
                return Err(wrong);
            }
        }
        Ok(())
    }
}

/// What headers offer as keys: `Authorization: Bearer KEY`, `X-Api-Key: KEY`.
fn given(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let bearer = headers.get_all(header::AUTHORIZATION).into_iter().filter_map(|value| {
        let (scheme, key) = value.as_bytes().split_at_checked(7)?;
        scheme.eq_ignore_ascii_case(b"bearer ").then_some(key.trim_ascii())
    });
    bearer.chain(headers.get_all("x-api-key").into_iter().map(|value| value.as_bytes().trim_ascii())).take(4)
}

/// Without the digests.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", self.0.len())
    }
}

#[cfg(test)]
mod tests;
