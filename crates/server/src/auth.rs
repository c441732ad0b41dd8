//! Whose key is this? API keys, and the clients behind them.
//!
//! Keys are kept as SHA-256 digests. A given key is digested too and compared with every one of them, without an early end, so that the time
//! taken tells neither a key's bytes nor its length nor its place. A file of keys has one a line, `name:key` or a bare key; keys of the same name
//! are one client, so that a key can be replaced without its client losing its place in the queue or its cached prompts.

use std::fmt;

use axum::http::{HeaderMap, header};
use sha2::{Digest, Sha256};
use subtle::{ConditionallySelectable, ConstantTimeEq};
use thiserror::Error;

use crate::context::Client;
use crate::error::ApiError;

/// The most keys.
const MAX_KEYS: usize = 4096;
/// The most bytes of a key, and of a name.
const MAX_KEY_BYTES: usize = 512;
/// A key shorter than this can be guessed.
const SHORT: usize = 16;
/// While a client of this name exists, only it may end the process.
const ADMIN: &str = "admin";

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
    is_admin: bool,
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

    /// The keys of a file's text: one a line, `name:key` or a bare key; blank lines and those that begin with `#` count for nothing.
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
            let (name, key) =
                line.split_once(':').map_or((None, line), |(name, key)| (Some(name.trim()), key.trim()));
            keys.add(Key::new(name, key, at + 1)?)?;
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
        scope: CacheScope,
    ) -> Result<Client, ApiError> {
        if self.is_empty() {
            return Ok(Client { id: 0, weight: 1, cache_scope: (scope != CacheScope::Off).then_some(0) });
        }
        let mut given = given(headers).peekable();
        if given.peek().is_none() {
            return Err(ApiError::Unauthorized("expected an API key: send Authorization: Bearer KEY"));
        }
        let Some(key) = given.find_map(|given| self.find(given)) else {
            return Err(ApiError::Unauthorized("the API key is not known here"));
        };
        if path == "/shutdown" && !key.is_admin && self.0.iter().any(|key| key.is_admin) {
            return Err(ApiError::Forbidden("only the key named admin may end the process"));
        }
        let cache_scope = match scope {
            CacheScope::Key => Some(key.client),
            CacheScope::Shared => Some(0),
            CacheScope::Off => None,
        };
        Ok(Client { id: key.client, weight: 1, cache_scope })
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
        Ok(Key { digest, client, is_admin: name == Some(ADMIN), is_short: key.len() < SHORT, line })
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
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines.iter().map(|&(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_file_of_keys_is_read_by_line() {
        let keys =
            Keys::parse("# ours\n\n  alice: secret-1 \nbob:se:cret\nbare-key\nalice:secret-2\n").unwrap();
        assert_eq!(keys.len(), 4);
        let client = |key: &str| {
            let scope = CacheScope::Key;
            keys.client(&headers(&[("authorization", &format!("Bearer {key}"))]), "/", scope)
        };
        let alice = client("secret-1").unwrap();
        assert_eq!(client("secret-2").unwrap(), alice);
        assert_eq!(alice.cache_scope, Some(alice.id));
        assert_ne!(client("se:cret").unwrap().id, alice.id);
        assert_ne!(client("bare-key").unwrap().id, alice.id);
        for wrong in ["", "secret", "secret-11", "alice:secret-1", "alice", "Secret-1"] {
            assert!(matches!(client(wrong), Err(ApiError::Unauthorized(_))), "{wrong}");
        }
    }

    #[test]
    fn a_file_that_is_wrong_is_refused_by_line_and_without_its_text() {
        let check = |text: &str| Keys::parse(text).unwrap_err();
        assert_eq!(check("# none\n"), KeyError::None);
        assert_eq!(check("a\nb:\n"), KeyError::Length { line: 2, found: 0 });
        assert_eq!(check(":b"), KeyError::Length { line: 1, found: 0 });
        assert_eq!(check("\n a b"), KeyError::Character { line: 2, column: 2 });
        assert_eq!(check("a\nb\nx:a"), KeyError::Twice { line: 3, first: 1 });
        let long = "k".repeat(MAX_KEY_BYTES + 1);
        assert_eq!(check(&long), KeyError::Length { line: 1, found: MAX_KEY_BYTES + 1 });
        let many: String = (0..=MAX_KEYS).map(|n| format!("key-{n}\n")).collect();
        assert_eq!(check(&many), KeyError::TooMany);
    }

    #[test]
    fn either_header_brings_a_key_and_another_scheme_does_not() {
        let keys = Keys::one("secret").unwrap();
        let check = |lines: &[(&'static str, &str)]| {
            keys.client(&headers(lines), "/v1/models", CacheScope::Key).is_ok()
        };
        assert!(check(&[("authorization", "bearer  secret")]));
        assert!(check(&[("x-api-key", "secret")]));
        assert!(check(&[("authorization", "Basic c2VjcmV0"), ("x-api-key", "secret")]));
        assert!(!check(&[("authorization", "Basic secret")]));
        assert!(!check(&[("authorization", "secret")]));
        assert!(!check(&[]));
    }

    #[test]
    fn scopes_follow_the_option() {
        let keys = Keys::parse("a:1\nb:2").unwrap();
        let scope =
            |key: &str, scope| keys.client(&headers(&[("x-api-key", key)]), "/", scope).unwrap().cache_scope;
        assert_ne!(scope("1", CacheScope::Key), scope("2", CacheScope::Key));
        assert_eq!(scope("1", CacheScope::Shared), scope("2", CacheScope::Shared));
        assert_eq!(scope("1", CacheScope::Off), None);
        let open = Keys::default();
        let anybody = |scope| open.client(&headers(&[("x-api-key", "x")]), "/", scope).unwrap().cache_scope;
        assert_eq!(anybody(CacheScope::Key), Some(0));
        assert_eq!(anybody(CacheScope::Off), None);
    }

    #[test]
    fn an_admin_alone_may_end_the_process_where_there_is_one() {
        let end = |keys: &str, key: &str| {
            let keys = Keys::parse(keys).unwrap();
            keys.client(&headers(&[("x-api-key", key)]), "/shutdown", CacheScope::Key).is_ok()
        };
        assert!(end("a:1\nb:2", "1"));
        assert!(!end("a:1\nadmin:2", "1"));
        assert!(end("a:1\nadmin:2", "2"));
    }
}
