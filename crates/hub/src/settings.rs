//! Where is the cache, which hub is asked, and with which token? What the environment says, by the names that every program of the
//! hub reads: `HF_HUB_CACHE`, `HF_HOME`, `XDG_CACHE_HOME`, `HF_ENDPOINT`, `HF_TOKEN`, `HF_TOKEN_PATH`, `HF_HUB_OFFLINE`.
//!
//! Source: "Environment variables" in the documentation of `huggingface_hub`.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use ureq::http::Uri;

use crate::{HubError, Patience};

/// The hub where none is named.
const ENDPOINT: &str = "https://huggingface.co";
/// The most bytes of a token's file.
const MAX_TOKEN_BYTES: u64 = 4096;

/// What holds for every file of a [`Hub`](crate::Hub).
#[derive(Clone, Debug)]
pub struct Settings {
    /// The cache's folder.
    pub cache: PathBuf,
    /// The hub's address without a slash at its end.
    pub endpoint: Uri,
    /// Sent to the endpoint, and to no other place.
    pub token: Option<Token>,
    /// Look into the cache alone.
    pub offline: bool,
    /// Whether the proxy that the environment names is used.
    pub proxy: bool,
    /// How long to wait, and how often to try again.
    pub patience: Patience,
}

/// A secret of the user. It is in no message.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token that can stand in a header.
    ///
    /// # Errors
    /// [`HubError::Environment`] for `name`.
    pub fn new(text: &str, name: &'static str) -> Result<Token, HubError> {
        match !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic()) {
            true => Ok(Token(text.to_owned())),
            false => Err(HubError::Environment { name, expected: "a token of visible ASCII characters" }),
        }
    }

    pub(crate) fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Settings {
    /// What the environment says; `get` reads a variable.
    ///
    /// # Errors
    /// [`HubError::Environment`] for a value that makes no sense, [`HubError::Io`] for a token's file that cannot be read.
    pub fn from_environment(get: &dyn Fn(&str) -> Option<OsString>) -> Result<Settings, HubError> {
        let get = |name: &str| get(name).filter(|value| !value.is_empty());
        let home = get("HOME").map(PathBuf::from);
        let path = |name: &str| get(name).map(|value| expand(&PathBuf::from(value), home.as_deref()));
        let xdg = path("XDG_CACHE_HOME").or_else(|| Some(home.as_ref()?.join(".cache")));
        let hf_home = path("HF_HOME").or_else(|| Some(xdg?.join("huggingface")));
        let cache = path("HF_HUB_CACHE")
            .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| Some(hf_home.as_ref()?.join("hub")))
            .ok_or(HubError::Environment {
                name: "HF_HUB_CACHE",
                expected: "a folder, where there is no HOME",
            })?;
        let endpoint = match get("HF_ENDPOINT") {
            Some(value) => parse_endpoint(&value.to_string_lossy())?,
            None => Uri::from_static(ENDPOINT),
        };
        let token_path = path("HF_TOKEN_PATH").or_else(|| Some(hf_home?.join("token")));
        let token = match ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"]
            .into_iter()
            .find_map(|name| Some((name, get(name)?)))
        {
            Some((name, value)) => Some(Token::new(value.to_string_lossy().trim(), name)?),
            None if is_true(get("HF_HUB_DISABLE_IMPLICIT_TOKEN")) => None,
            None => token_path.map(|path| read_token(&path)).transpose()?.flatten(),
        };
        let offline = is_true(get("HF_HUB_OFFLINE"));
        Ok(Settings { cache, endpoint, token, offline, proxy: true, patience: Patience::default() })
    }
}

/// The hub's address: a scheme, a host, perhaps a path before the repositories.
fn parse_endpoint(text: &str) -> Result<Uri, HubError> {
    let uri: Option<Uri> = text.trim_end_matches('/').parse().ok();
    let web = |uri: &Uri| matches!(uri.scheme_str(), Some("http" | "https"));
    // A name and a password in it would go into messages.
    let plain = |uri: &Uri| {
        uri.authority().is_some_and(|authority| !authority.as_str().contains('@')) && uri.query().is_none()
    };
    uri.filter(|uri| web(uri) && plain(uri)).ok_or(HubError::Environment {
        name: "HF_ENDPOINT",
        expected: "an address such as https://huggingface.co",
    })
}

fn read_token(path: &Path) -> Result<Option<Token>, HubError> {
    let mut text = String::new();
    match File::open(path) {
        Ok(file) => file.take(MAX_TOKEN_BYTES).read_to_string(&mut text).map_err(HubError::io(path))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(HubError::io(path)(error)),
    };
    match text.trim() {
        "" => Ok(None),
        text => Token::new(text, "HF_TOKEN_PATH").map(Some),
    }
}

/// `~` is the home folder where a shell did not say so already.
fn expand(path: &Path, home: Option<&Path>) -> PathBuf {
    match (path.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path.to_owned(),
    }
}

fn is_true(value: Option<OsString>) -> bool {
    let value = value.map(|value| value.to_string_lossy().to_ascii_uppercase());
    value.is_some_and(|value| matches!(value.as_str(), "1" | "ON" | "YES" | "TRUE"))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(variables: &[(&str, &str)], expected: &Expect) {
        let get = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
        let said = match Settings::from_environment(&get) {
            Ok(found) => format!(
                "{} {} {:?} {}",
                found.cache.display(),
                found.endpoint,
                found.token.map(|token| token.0),
                found.offline
            ),
            Err(error) => error.to_string(),
        };
        expected.assert_eq(&said);
    }

    #[test]
    fn the_environment_is_read_as_other_programs_of_the_hub_do() {
        let home = ("HOME", "/nowhere");
        check(&[home], &expect!["/nowhere/.cache/huggingface/hub https://huggingface.co/ None false"]);
        check(
            &[home, ("XDG_CACHE_HOME", "/x")],
            &expect!["/x/huggingface/hub https://huggingface.co/ None false"],
        );
        check(
            &[home, ("HF_HOME", "~/hf"), ("HF_HUB_OFFLINE", "yes"), ("HF_TOKEN", " hf_a\n")],
            &expect![[r#"/nowhere/hf/hub https://huggingface.co/ Some("hf_a") true"#]],
        );
        check(
            &[home, ("HF_HUB_CACHE", "/c"), ("HF_HOME", "/hf"), ("HF_ENDPOINT", "http://mirror:8080/hf/")],
            &expect!["/c http://mirror:8080/hf None false"],
        );
        check(&[], &expect!["HF_HUB_CACHE: expected a folder, where there is no HOME"]);
        check(
            &[home, ("HF_TOKEN", "se cret")],
            &expect!["HF_TOKEN: expected a token of visible ASCII characters"],
        );
        check(
            &[home, ("HF_ENDPOINT", "https://user:secret@hub")],
            &expect!["HF_ENDPOINT: expected an address such as https://huggingface.co"],
        );
    }

    #[test]
    fn a_token_is_read_from_its_file_and_shown_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "hf_secret\n").unwrap();
        let get = |name: &str| (name == "HF_HOME").then(|| folder.path().as_os_str().to_owned());
        let settings = Settings::from_environment(&get).unwrap();
        assert_eq!(settings.token.as_ref().unwrap().header(), "Bearer hf_secret");
        assert!(!format!("{settings:?}").contains("secret"));
    }
}
