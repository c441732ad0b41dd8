//! Which repository does a short name such as `qwen3:0.6b` mean? A table, and the names that are nearest to one that is not in it.
//!
//! A name is FAMILY:SIZE. Its file is the quantization of the table, or one that is named behind it: `qwen3:4b:Q8_0`. Listed are
//! repositories of those who made the model, or of llama.cpp's own organization, and only what needs no account there. Sizes are those
//! that the hub gives for the file; a row without one has not been looked up.

use strsim::jaro_winkler;

use crate::reference::is_name;
use crate::{HubRepo, address};

/// The most names that an error proposes.
const MAX_NEAREST: usize = 8;
/// From which likeness on a name of another family is proposed, and how many.
const ALIKE: f64 = 0.8;
const MAX_ALIKE: usize = 3;

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    /// In small letters.
    pub name: &'static str,
    /// `ORG/NAME` on the hub.
    pub repo: &'static str,
    /// Of the file that the name alone means.
    pub quantization: &'static str,
    /// Of that file, in bytes.
    pub n_bytes: Option<u64>,
    /// Of the weights: an SPDX identifier, or the title of the terms.
    pub licence: &'static str,
}

/// The terms of the Gemma models are not a free licence: the repository links to them.
const GEMMA: &str = "Gemma Terms of Use";
const APACHE: &str = "Apache-2.0";

/// All names.
pub const NAMES: &[Named] = &[
    row("gemma3:1b", "ggml-org/gemma-3-1b-it-GGUF", "Q4_K_M", Some(806_058_240), GEMMA),
    row("gemma3:4b", "ggml-org/gemma-3-4b-it-GGUF", "Q4_K_M", Some(2_489_757_856), GEMMA),
    row("gemma3:12b", "ggml-org/gemma-3-12b-it-GGUF", "Q4_K_M", None, GEMMA),
    row("gpt-oss:20b", "ggml-org/gpt-oss-20b-GGUF", "MXFP4", Some(12_109_566_560), APACHE),
    row("qwen2.5:0.5b", "Qwen/Qwen2.5-0.5B-Instruct-GGUF", "Q4_K_M", Some(491_400_032), APACHE),
    row("qwen2.5:1.5b", "Qwen/Qwen2.5-1.5B-Instruct-GGUF", "Q4_K_M", Some(1_117_320_736), APACHE),
    row("qwen3:0.6b", "Qwen/Qwen3-0.6B-GGUF", "Q8_0", Some(639_446_688), APACHE),
    row("qwen3:1.7b", "Qwen/Qwen3-1.7B-GGUF", "Q8_0", Some(1_834_426_016), APACHE),
    row("qwen3:4b", "Qwen/Qwen3-4B-GGUF", "Q4_K_M", Some(2_497_280_256), APACHE),
    row("qwen3:8b", "Qwen/Qwen3-8B-GGUF", "Q4_K_M", Some(5_027_783_488), APACHE),
    row("qwen3:14b", "Qwen/Qwen3-14B-GGUF", "Q4_K_M", Some(9_001_752_960), APACHE),
    row("qwen3:32b", "Qwen/Qwen3-32B-GGUF", "Q4_K_M", Some(19_762_149_024), APACHE),
    row("qwen3:30b-a3b", "Qwen/Qwen3-30B-A3B-GGUF", "Q4_K_M", Some(18_556_685_824), APACHE),
    row("smollm2:360m", "HuggingFaceTB/SmolLM2-360M-Instruct-GGUF", "Q8_0", Some(386_404_992), APACHE),
    row("smollm2:1.7b", "HuggingFaceTB/SmolLM2-1.7B-Instruct-GGUF", "Q4_K_M", Some(1_055_609_536), APACHE),
    row("smollm3:3b", "ggml-org/SmolLM3-3B-GGUF", "Q4_K_M", Some(1_915_305_312), APACHE),
];

const fn row(
    name: &'static str,
    repo: &'static str,
    quantization: &'static str,
    n_bytes: Option<u64>,
    licence: &'static str,
) -> Named {
    Named { name, repo, quantization, n_bytes, licence }
}

/// The repository that a name means, in any case, with the quantization behind it or that of the table.
pub(crate) fn find(text: &str) -> Option<HubRepo> {
    let text = text.to_ascii_lowercase();
    NAMES.iter().find_map(|named| {
        let quantization = match text.strip_prefix(named.name)? {
            "" => named.quantization.to_owned(),
            rest => rest.strip_prefix(':').filter(|tag| is_name(tag))?.to_ascii_uppercase(),
        };
        Some(HubRepo::main(named.repo, Some(quantization)))
    })
}

/// What may have been meant by a name that means nothing: a repository without its `hf:` or by its address, the names of the same family, or names that are
/// written alike.
#[must_use]
pub fn nearest(text: &str) -> Vec<String> {
    if address::is_address(text) {
        return address::named(text).into_iter().collect();
    }
    let repo = text.split_once(':').map_or(text, |(repo, _)| repo);
    if let Some((org, name)) = repo.split_once('/') {
        return if is_name(org) && is_name(name) { vec![format!("hf:{text}")] } else { Vec::new() };
    }
    let text = text.to_ascii_lowercase();
    let family = |name: &str| name.split_once(':').map_or(name, |(family, _)| family).to_owned();
    let names = || NAMES.iter().map(|named| named.name.to_owned());
    let same: Vec<String> = names().filter(|name| family(name) == family(&text)).take(MAX_NEAREST).collect();
    if !same.is_empty() {
        return same;
    }
    let mut alike: Vec<(f64, String)> = names().map(|name| (jaro_winkler(&text, &name), name)).collect();
    alike.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    alike
        .into_iter()
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .map(|(_, name)| name)
        .take(MAX_ALIKE)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ModelRef;

    #[test]
    fn every_row_is_a_name_a_repository_and_a_quantization() {
        for (i, named) in NAMES.iter().enumerate() {
            let name: ModelRef = named.name.parse().unwrap();
            let repo: ModelRef = format!("hf:{}:{}", named.repo, named.quantization).parse().unwrap();
            assert_eq!(name, repo);
            assert_eq!(named.name, named.name.to_ascii_lowercase());
            assert!(named.name.contains(':') && !named.licence.is_empty(), "{named:?}");
            assert!(NAMES[i + 1..].iter().all(|other| other.name != named.name), "{named:?}");
        }
    }

    #[test]
    fn a_name_has_any_case_and_may_have_a_quantization() {
        let found = |text: &str| find(text).map(|repo| repo.to_string());
        assert_eq!(found("Qwen3:0.6B").as_deref(), Some("hf:Qwen/Qwen3-0.6B-GGUF@main:Q8_0"));
        assert_eq!(found("qwen3:4b:q6_k").as_deref(), Some("hf:Qwen/Qwen3-4B-GGUF@main:Q6_K"));
        for none in ["qwen3", "qwen3:0.6b-q8_0", "qwen3:4b:", "qwen3:4b:a/b", "qwen3:4b/m.gguf", ""] {
            assert_eq!(found(none), None, "{none}");
        }
    }

    #[test]
    fn a_wrong_name_is_told_what_would_be_right() {
        assert_eq!(nearest("smollm2"), ["smollm2:360m", "smollm2:1.7b"]);
        assert_eq!(nearest("gemma3:2b"), ["gemma3:1b", "gemma3:4b", "gemma3:12b"]);
        assert_eq!(nearest("gtp-oss:20b"), ["gpt-oss:20b"]);
        assert_eq!(nearest("org/Repo:Q8_0"), ["hf:org/Repo:Q8_0"]);
        assert_eq!(nearest("hf.co/org/Repo:Q8_0"), ["hf:org/Repo:Q8_0"]);
        assert_eq!(nearest("https://example.org/m.gguf"), [""; 0]);
        assert_eq!(nearest("a/b/c"), [""; 0]);
        assert_eq!(nearest("xyz"), [""; 0]);
    }
}
