//! Where are the files that are too large for the repository?
//!
//! In the folder that WORKER_ORCD_FIXTURES names, else in `fixtures/` of the repository (`cargo xtask fixtures` fills it).
//! Without them a test says that it skips, except on CI, where it fails.

use std::path::PathBuf;

use tokenizer::Tokenizer;

/// A fixture's path, or none where it is not there and that is no failure.
pub(crate) fn path(relative: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("WORKER_ORCD_FIXTURES")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures")), PathBuf::from);
    let path = folder.join(relative);
    if path.exists() {
        return Some(path);
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{} is missing", path.display());
    #[expect(clippy::print_stderr, reason = "a skipped test says so")]
    {
        eprintln!("skipped: {} is not there (cargo xtask fixtures)", path.display());
    }
    None
}

/// The tokenizer of a vocabulary-only GGUF file.
pub(crate) fn vocab(name: &str) -> Option<Tokenizer> {
    let gguf = gguf::Gguf::open(&path(&format!("vocabs/ggml-vocab-{name}.gguf"))?).unwrap();
    Some(Tokenizer::from_gguf(gguf.metadata(), None).unwrap())
}
