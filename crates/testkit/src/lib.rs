//! What tests of several crates share: the golden models with their reference logits, how far two results are apart, and executors
//! without a model that answer and fail as they are told.
//!
//! The golden models are in `tests/golden` at the root of the repository; its README says how they were made. This crate panics
//! freely: it runs in tests alone.

use std::path::{Path, PathBuf};

use model::KvType;

pub use golden::nmse;

pub mod blocks;
pub mod fake;
pub mod guesses;
pub mod scripted;
pub mod steps;

/// The repository's root.
#[must_use]
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("crates/testkit is two folders below the root").to_path_buf()
}

/// The calling thread's scheduling policy, as Linux numbers them (field 41 of proc_pid_stat(5)): 5 is `SCHED_IDLE`.
///
/// # Panics
/// Where the system does not say.
#[must_use]
pub fn scheduling_policy() -> u32 {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("a thread's state");
    // A thread's name, field 2, may hold anything but ends with the last parenthesis.
    let field = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(38));
    field.and_then(|field| field.parse().ok()).expect("a policy")
}

/// A downloaded fixture, such as `smollm2.gguf`: in `$WORKER_ORCD_FIXTURES`, or `fixtures` at the root. `None`, with the reason
/// printed, where it was not fetched.
///
/// # Panics
/// Where it was not fetched and `CI=true`: there every test runs.
#[must_use]
#[allow(clippy::print_stderr)]
pub fn fixture(name: &str) -> Option<PathBuf> {
    let folder =
        std::env::var_os("WORKER_ORCD_FIXTURES").map_or_else(|| root().join("fixtures"), PathBuf::from);
    let path = folder.join(name);
    if path.exists() {
        return Some(path);
    }
    let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(!ci, "the fixture {} is missing: run `cargo xtask fixtures`", path.display());
    eprintln!("skipped: the fixture {} is missing; `cargo xtask fixtures` fetches it", path.display());
    None
}

/// A golden model with what the reference implementation computes from it in float32.
#[derive(Clone)]
pub struct Golden {
    /// `ARCHITECTURE-FORMAT`.
    pub name: String,
    /// The model.
    pub path: PathBuf,
    /// Token sequences and their logits `[n_tokens, n_vocab]`: a text and random ids.
    pub cases: [(Vec<u32>, Vec<f32>); 2],
    /// A prompt.
    pub greedy_prompt: Vec<u32>,
    /// Its continuation at temperature 0.
    pub greedy: Vec<u32>,
}

impl Golden {
    /// How its keys and values can be kept: in 8 bits where heads are whole blocks of 32 values.
    #[must_use]
    pub fn kv_types(&self) -> Vec<KvType> {
        let has_heads_of_48 =
            ["deepseek2-lite", "gemma3-q4_0", "llama-linear-"].iter().any(|name| self.name.starts_with(name));
        KvType::ALL.into_iter().filter(|&kind| kind == KvType::F16 || !has_heads_of_48).collect()
    }

    /// Whether it is a mixture of experts.
    #[must_use]
    pub fn has_experts(&self) -> bool {
        self.name.starts_with("gpt-oss") || self.has_near_choices()
    }

    /// Whether its router's choices are so near that rounded activations choose other experts for some token, which is another answer.
    #[must_use]
    pub fn has_near_choices(&self) -> bool {
        ["deepseek2", "gemma4-moe", "glm4moe", "granitemoe", "mixtral", "qwen35moe", "qwen3moe"]
            .iter()
            .any(|family| self.name.starts_with(family))
    }
}

/// The folder of the golden models: `$WORKER_ORCD_GOLDEN`, or `tests/golden` at the root.
#[must_use]
pub fn golden_folder() -> PathBuf {
    std::env::var_os("WORKER_ORCD_GOLDEN").map_or_else(|| root().join("tests/golden"), PathBuf::from)
}

/// All golden models of [`golden_folder`], by name.
///
/// # Panics
/// If there are none.
#[must_use]
pub fn golden() -> Vec<Golden> {
    let folder = golden_folder();
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("a folder entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "gguf"))
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "no golden model in {}", folder.display());
    paths.iter().map(|path| load(path)).collect()
}

fn load(path: &Path) -> Golden {
    let reference = golden::Reference::beside(path).expect("a golden model's reference");
    Golden {
        name: path.file_stem().expect("a file name").to_string_lossy().into_owned(),
        path: path.to_path_buf(),
        cases: reference.cases.map(|case| (case.tokens, case.logits)),
        greedy_prompt: reference.greedy_prompt,
        greedy: reference.greedy,
    }
}

/// A JSON array of token ids.
///
/// # Panics
/// If it is not one.
#[must_use]
pub fn ids(json: &serde_json::Value) -> Vec<u32> {
    let id = |v: &serde_json::Value| v.as_u64().and_then(|id| u32::try_from(id).ok()).expect("a token id");
    json.as_array().expect("an array of ids").iter().map(id).collect()
}
