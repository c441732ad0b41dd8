//! Which file of a repository is meant by its name alone, or by a quantization?
//!
//! A repository of GGUF files has one model in several quantizations, each a file or the parts of one. What is no language model by its
//! name (vision projectors, importance matrices) is left out.

use crate::split::parts;
use crate::{HubError, HubFile, HubRepo};

/// What is taken where a repository has several files and none is asked for, the first that is there: small for what it loses first, as
/// other programs choose too.
const PREFERRED: [&str; 12] =
    ["Q4_K_M", "MXFP4", "Q4_0", "Q4_K_S", "IQ4_XS", "Q5_K_M", "Q6_K", "Q8_0", "BF16", "F16", "FP16", "F32"];
/// Words in a file's name that say that it is no model.
const NO_MODEL: [&str; 2] = ["mmproj", "imatrix"];
/// The most files that an error names.
const MAX_NAMED: usize = 24;

/// A file of a repository, with all its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The file, or the first part of it.
    pub file: HubFile,
    /// Of all parts in bytes, where the hub says so.
    pub n_bytes: Option<u64>,
    /// How many other models the repository has.
    pub n_other: usize,
}

/// A path in a repository, and the file's size if that is known.
pub(crate) type Entry = (String, Option<u64>);

/// Chooses among all files of a repository.
pub(crate) fn choose(repo: &HubRepo, files: &[Entry]) -> Result<Chosen, HubError> {
    let models = models(files);
    let found = match repo.quantization() {
        Some(tag) => models.iter().filter(|(path, _)| has_tag(path, tag)).collect::<Vec<_>>(),
        None if models.len() == 1 => models.iter().collect(),
        None => {
            let best =
                PREFERRED.iter().map(|tag| models.iter().filter(|(path, _)| has_tag(path, tag)).collect());
            best.into_iter().find(|found: &Vec<_>| !found.is_empty()).unwrap_or_default()
        }
    };
    let [(path, n_bytes)] = found[..] else {
        let named = if found.is_empty() { models.iter().collect() } else { found };
        let expected = match repo.quantization() {
            Some(tag) => format!("one GGUF file of {tag}"),
            None => "one GGUF file, or a known quantization".to_owned(),
        };
        return Err(HubError::Choice { repo: repo.to_string(), expected, found: list(&named) });
    };
    let file = HubFile::new(repo.repo(), repo.revision(), path)?;
    Ok(Chosen { file, n_bytes: *n_bytes, n_other: models.len() - 1 })
}

/// The models among files, by the first of their parts, with the sizes of all.
pub(crate) fn models(files: &[Entry]) -> Vec<Entry> {
    let size = |path: &str| files.iter().find(|(found, _)| found == path).and_then(|(_, size)| *size);
    let is_model = |path: &str| {
        let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
        name.ends_with(".gguf") && !NO_MODEL.iter().any(|word| name.contains(word))
    };
    let mut models: Vec<Entry> = files
        .iter()
        .filter(|(path, _)| is_model(path))
        .filter_map(|(path, _)| {
            let parts = parts(path);
            let n_bytes = parts.iter().map(|part| size(part)).sum();
            (parts[0] == *path).then(|| (path.clone(), n_bytes))
        })
        .collect();
    models.sort();
    models
}

/// Whether a quantization stands in a file's name as a word of its own, in any case: `Q4_K` does not stand in `m-Q4_K_M.gguf`.
pub(crate) fn has_tag(path: &str, tag: &str) -> bool {
    let (name, tag) =
        (path.rsplit('/').next().unwrap_or(path).to_ascii_uppercase(), tag.to_ascii_uppercase());
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.match_indices(&tag)
        .any(|(at, _)| !name[..at].ends_with(is_word) && !name[at + tag.len()..].starts_with(is_word))
}

fn list(files: &[&Entry]) -> String {
    if files.is_empty() {
        return "none".to_owned();
    }
    let name = |(path, n_bytes): &Entry| match n_bytes {
        Some(n) => format!("{path} ({:.1} GB)", *n as f64 / 1e9),
        None => path.clone(),
    };
    let more = if files.len() > MAX_NAMED { ", ..." } else { "" };
    files.iter().take(MAX_NAMED).map(|file| name(file)).collect::<Vec<_>>().join(", ") + more
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ModelRef;

    fn check(name: &str, files: &[&str]) -> String {
        let Ok(ModelRef::Repo(repo)) = name.parse() else { panic!("{name}") };
        let files: Vec<Entry> = files.iter().map(|path| ((*path).to_owned(), Some(1_500_000_000))).collect();
        match choose(&repo, &files) {
            Ok(chosen) => format!("{} of {:.1} GB", chosen.file.path(), chosen.n_bytes.unwrap() as f64 / 1e9),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_quantization_is_a_word_of_the_name() {
        let files =
            ["m-Q4_K_M.gguf", "m-UD-Q4_K_XL.gguf", "q8/m.q8_0.gguf", "mmproj-m-Q8_0.gguf", "README.md"];
        assert_eq!(check("hf:o/r:q4_k_m", &files), "m-Q4_K_M.gguf of 1.5 GB");
        assert_eq!(check("hf:o/r:Q8_0", &files), "q8/m.q8_0.gguf of 1.5 GB");
        assert_eq!(check("hf:o/r:UD-Q4_K_XL", &files), "m-UD-Q4_K_XL.gguf of 1.5 GB");
        assert_eq!(
            check("hf:o/r:Q4_K", &files),
            "hf:o/r@main:Q4_K: expected one GGUF file of Q4_K, found m-Q4_K_M.gguf (1.5 GB), m-UD-Q4_K_XL.gguf (1.5 GB), q8/m.q8_0.gguf (1.5 GB)"
        );
    }

    #[test]
    fn without_one_the_usual_is_taken() {
        assert_eq!(
            check("hf:o/r", &["m-F16.gguf", "m-Q4_K_M.gguf", "m-Q8_0.gguf"]),
            "m-Q4_K_M.gguf of 1.5 GB"
        );
        assert_eq!(check("hf:o/r", &["odd.gguf", "config.json"]), "odd.gguf of 1.5 GB");
        assert!(check("hf:o/r", &["a.gguf", "b.gguf"]).contains("found a.gguf (1.5 GB), b.gguf (1.5 GB)"));
        assert!(check("hf:o/r", &["model.safetensors"]).ends_with("found none"));
        assert!(check("hf:o/r", &["a-Q4_0.gguf", "b-Q4_0.gguf"]).contains("found a-Q4_0.gguf"));
    }

    #[test]
    fn parts_are_one_model() {
        let parts = ["q/m-Q6_K-00001-of-00002.gguf", "q/m-Q6_K-00002-of-00002.gguf"];
        assert_eq!(check("hf:o/r:q6_k", &parts), "q/m-Q6_K-00001-of-00002.gguf of 3.0 GB");
    }
}
