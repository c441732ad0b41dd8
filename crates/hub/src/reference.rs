//! How is a model named? By a path, as `file:PATH`, as `hf:ORG/REPO[@REVISION]::file=PATH` for a file of a
//! hub's repository, as `hf:ORG/REPO[@REVISION][:QUANTIZATION]`, which leaves the file to be chosen, or by a short name of
//! [`NAMES`](crate::NAMES), which means such a repository. A file with the name of a short name is `./NAME` or `file:NAME`.
//!
//! The parts of a hub's name become folders of the cache and pieces of addresses, so each is checked here once: none is empty, too
//! long or able to leave its folder.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::{HubError, names};

/// The most bytes of a part of a name.
const MAX_PART: usize = 255;
/// The most bytes of a path in a repository.
const MAX_PATH: usize = 1024;
/// What a reference may be.
const FORMS: &str = "a path, file:PATH, a name such as qwen3:0.6b, hf:ORG/REPO[@REVISION][:QUANTIZATION] or hf:ORG/REPO[@REVISION]::file=PATH";

/// A model by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelRef {
    /// A file here.
    Path(PathBuf),
    /// A file on a hub.
    Hub(HubFile),
    /// A repository on a hub, of which a file is to be chosen.
    Repo(HubRepo),
}

/// A repository of a hub, and the quantization that is wanted of its model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubRepo {
    repo: String,
    revision: String,
    quantization: Option<String>,
}

/// A file in a repository of a hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubFile {
    repo: String,
    revision: String,
    path: String,
}

impl HubFile {
    /// A file by its parts.
    ///
    /// # Errors
    /// [`HubError::Reference`] with the part that cannot be one.
    pub fn new(repo: &str, revision: &str, path: &str) -> Result<HubFile, HubError> {
        check(repo, revision)?;
        let safe = |part: &str| {
            let hostile = |c: char| c.is_control() || c == '\\';
            part.len() <= MAX_PART && !matches!(part, "" | "." | "..") && !part.contains(hostile)
        };
        if path.len() > MAX_PATH || !path.split('/').all(safe) {
            return Err(refuse("a file's path inside the repository after '::file='", path));
        }
        Ok(HubFile { repo: repo.to_owned(), revision: revision.to_owned(), path: path.to_owned() })
    }

    /// `ORG/NAME`.
    #[must_use]
    pub fn repo(&self) -> &str {
        &self.repo
    }

    /// A branch, a tag or a commit.
    #[must_use]
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// Inside the repository.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Another file of the same revision. `path` comes from this file's own, so it is as safe.
    pub(crate) fn sibling(&self, path: String) -> HubFile {
        HubFile { path, ..self.clone() }
    }

    /// The same file at a commit that a server named.
    pub(crate) fn at(&self, commit: &str) -> HubFile {
        HubFile { revision: commit.to_owned(), ..self.clone() }
    }

    fn parse(place: &str, path: &str) -> Result<HubFile, HubError> {
        let (repo, revision) = place.split_once('@').unwrap_or((place, "main"));
        HubFile::new(repo, revision, path)
    }
}

impl HubRepo {
    /// A repository whose name is checked, at its branch `main`.
    pub(crate) fn main(repo: &str, quantization: Option<String>) -> HubRepo {
        HubRepo { repo: repo.to_owned(), revision: "main".to_owned(), quantization }
    }

    fn parse(text: &str) -> Result<HubRepo, HubError> {
        let (place, tag) = text.split_once(':').map_or((text, None), |(place, tag)| (place, Some(tag)));
        let (repo, revision) = place.split_once('@').unwrap_or((place, "main"));
        check(repo, revision)?;
        if let Some(tag) = tag.filter(|tag| !is_name(tag)) {
            return Err(refuse("a quantization such as Q4_K_M after ':'", tag));
        }
        let quantization = tag.map(str::to_owned);
        Ok(HubRepo { repo: repo.to_owned(), revision: revision.to_owned(), quantization })
    }

    /// `ORG/NAME`.
    #[must_use]
    pub fn repo(&self) -> &str {
        &self.repo
    }

    /// A branch, a tag or a commit.
    #[must_use]
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// Such as `Q4_K_M`; none leaves the choice.
    #[must_use]
    pub fn quantization(&self) -> Option<&str> {
        self.quantization.as_deref()
    }
}

/// Checks a repository's and a revision's name.
fn check(repo: &str, revision: &str) -> Result<(), HubError> {
    let halves = repo.split('/').collect::<Vec<_>>();
    if halves.len() != 2 || !halves.iter().all(|half| is_name(half)) {
        return Err(refuse("a repository as ORG/NAME of letters, digits, '.', '_' and '-'", repo));
    }
    if revision.len() > MAX_PART || !revision.split('/').all(is_name) {
        return Err(refuse("a branch, a tag or a commit after '@'", revision));
    }
    Ok(())
}

impl FromStr for ModelRef {
    type Err = HubError;

    fn from_str(text: &str) -> Result<ModelRef, HubError> {
        if let Some(name) = text.strip_prefix("hf:") {
            return match name.split_once("::file=") {
                Some((place, path)) => HubFile::parse(place, path).map(ModelRef::Hub),
                None => HubRepo::parse(name).map(ModelRef::Repo),
            };
        }
        if let Some(repo) = names::find(text) {
            return Ok(ModelRef::Repo(repo));
        }
        let path = text.strip_prefix("file:").unwrap_or(text);
        // The form of an address, as in file:///models/m.gguf.
        let path = path.strip_prefix("//").filter(|path| path.starts_with('/')).unwrap_or(path);
        if path.is_empty() || path.contains('\0') {
            return Err(refuse(FORMS, text));
        }
        Ok(ModelRef::Path(path.into()))
    }
}

/// A path need not be text.
impl TryFrom<OsString> for ModelRef {
    type Error = HubError;

    fn try_from(name: OsString) -> Result<ModelRef, HubError> {
        name.into_string().map_or_else(|path| Ok(ModelRef::Path(path.into())), |text| text.parse())
    }
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ModelRef::Path(path) => path.display().fmt(f),
            ModelRef::Hub(file) => file.fmt(f),
            ModelRef::Repo(repo) => repo.fmt(f),
        }
    }
}

impl fmt::Display for HubRepo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hf:{}@{}", self.repo, self.revision)?;
        self.quantization.as_ref().map_or(Ok(()), |tag| write!(f, ":{tag}"))
    }
}

impl fmt::Display for HubFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hf:{}@{}::file={}", self.repo, self.revision, self.path)
    }
}

/// Whether this can be part of a repository's or a revision's name.
pub(crate) fn is_name(part: &str) -> bool {
    let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    !part.is_empty() && part.len() <= MAX_PART && !matches!(part, "." | "..") && part.bytes().all(known)
}

fn refuse(expected: &'static str, found: &str) -> HubError {
    let found = found.chars().take(MAX_PART).collect();
    HubError::Reference { expected, found }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: &Expect) {
        let said = match text.parse::<ModelRef>() {
            Ok(ModelRef::Path(path)) => format!("path {}", path.display()),
            Ok(hub) => hub.to_string(),
            Err(error) => error.to_string(),
        };
        expected.assert_eq(&said);
    }

    #[test]
    fn references_are_told_apart() {
        check("models/m.gguf", &expect!["path models/m.gguf"]);
        check("file:hf:m.gguf", &expect!["path hf:m.gguf"]);
        check("qwen3:0.6b", &expect!["hf:Qwen/Qwen3-0.6B-GGUF@main:Q8_0"]);
        check("file:qwen3:0.6b", &expect!["path qwen3:0.6b"]);
        check("./qwen3:0.6b", &expect!["path ./qwen3:0.6b"]);
        check("file:///models/m.gguf", &expect!["path /models/m.gguf"]);
        check("hf:org/repo-GGUF::file=m.Q4_K_M.gguf", &expect!["hf:org/repo-GGUF@main::file=m.Q4_K_M.gguf"]);
        check("hf:org/repo", &expect!["hf:org/repo@main"]);
        check("hf:org/repo@v1:Q4_K_M", &expect!["hf:org/repo@v1:Q4_K_M"]);
        check("hf:org/repo@refs/pr/1::file=a/b c.gguf", &expect!["hf:org/repo@refs/pr/1::file=a/b c.gguf"]);
    }

    #[test]
    fn what_is_no_reference_is_named() {
        check(
            "hf:org/repo:q4/x",
            &expect![[r#"model reference: expected a quantization such as Q4_K_M after ':', found "q4/x""#]],
        );
        check(
            "hf:org::file=m.gguf",
            &expect![[
                r#"model reference: expected a repository as ORG/NAME of letters, digits, '.', '_' and '-', found "org""#
            ]],
        );
        check(
            "hf:org/repo@../..::file=m.gguf",
            &expect![[r#"model reference: expected a branch, a tag or a commit after '@', found "../..""#]],
        );
        check(
            "hf:org/repo::file=../../m.gguf",
            &expect![[
                r#"model reference: expected a file's path inside the repository after '::file=', found "../../m.gguf""#
            ]],
        );
        check(
            "file:",
            &expect![[
                r#"model reference: expected a path, file:PATH, a name such as qwen3:0.6b, hf:ORG/REPO[@REVISION][:QUANTIZATION] or hf:ORG/REPO[@REVISION]::file=PATH, found "file:""#
            ]],
        );
    }

    proptest! {
        #[test]
        fn no_name_leaves_its_folder(text in "hf:[a./@:=-]{0,12}/[a./@-]{1,8}(@[a./]{0,8})?::file=[a./\\\\]{0,12}") {
            if let Ok(ModelRef::Hub(file)) = text.parse::<ModelRef>() {
                for part in [file.repo(), file.revision(), file.path()] {
                    prop_assert!(part.split('/').all(|part| !matches!(part, "" | "." | "..")), "{part}");
                }
                prop_assert_eq!(file.to_string().parse::<ModelRef>().unwrap(), ModelRef::Hub(file));
            }
        }
    }
}
