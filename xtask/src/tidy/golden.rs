//! Is the reference data what it was? `tests/golden/SHA256SUMS` lists every file; one that changed, went or came is reported.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::Finding;
use crate::fixtures::{parse_hashes, sha256};

const LIST: &str = "SHA256SUMS";
const WHY: &str = "golden files are made once and never edited";

/// Checks the folder against its list of hashes.
pub(super) fn check(folder: &Path) -> Result<Vec<Finding>> {
    let text = fs::read_to_string(folder.join(LIST))
        .with_context(|| format!("cannot read {LIST} in {}", folder.display()))?;
    let listed = parse_hashes(&text)?;
    let mut findings = Vec::new();
    let mut report = |name: &str, what: String| {
        findings.push(Finding { path: format!("tests/golden/{name}"), line: 1, what, why: WHY });
    };
    for (name, &expected) in &listed {
        match sha256(&folder.join(name)) {
            Ok(found) if found == expected => {}
            Ok(found) => report(name, format!("expected SHA-256 {expected}, found {found}")),
            Err(error) => report(name, format!("{error:#}")),
        }
    }
    for name in names(folder)? {
        if name != LIST && name != "README.md" && !listed.contains_key(name.as_str()) {
            report(&name, format!("not in {LIST}"));
        }
    }
    Ok(findings)
}

/// The names of a folder's files, of those in its own folders with the folder's.
fn names(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        match entry.file_type()?.is_dir() {
            true => {
                names.extend(self::names(&entry.path())?.into_iter().map(|inner| format!("{name}/{inner}")));
            }
            false => names.push(name),
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::check;

    #[test]
    fn a_file_that_changed_went_or_came_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        fs::write(folder.path().join("SHA256SUMS"), format!("{abc}  kept\n{abc}  changed\n{abc}  gone\n"))
            .unwrap();
        fs::create_dir(folder.path().join("more")).unwrap();
        for (name, text) in [("kept", "abc"), ("changed", "abd"), ("more/new", ""), ("new", "")] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let findings = check(folder.path()).unwrap();
        let mut paths: Vec<&str> = findings.iter().map(|finding| finding.path.as_str()).collect();
        paths.sort_unstable();
        let expected = ["changed", "gone", "more/new", "new"].map(|name| format!("tests/golden/{name}"));
        assert_eq!(paths, expected);
    }
}
