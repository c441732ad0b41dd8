//! Is a vocabulary whole? Each token's text must come back through encoding and decoding, and given texts must give the given ids.
//!
//! A token's own text need not encode to that token (a merge may be missing, or another token may say the same); its text must survive.
//! Where a vocabulary normalises text first, the normal form must come back. Tokens that are part of a character, control tokens and unused
//! ones have no text of their own and are counted apart.

use std::fmt;
use std::path::{Path, PathBuf};

use gguf::Gguf;
use serde::Serialize;
use tokenizer::{EncodeOptions, Tokenizer};
use worker::receipt::FileHashes;

use crate::device::{self, ModelArgs};
use crate::exit::Failure;
use crate::fetch;
use crate::input;
use crate::log::LogArgs;
use crate::named::Named;
use crate::proof::{Input, Measure, Measured, Metadata, OutputArgs};

/// Between the texts of llama.cpp's vectors.
const SEPARATOR: &str = "\n__ggml_vocab_test__\n";
/// The most bytes of a file of texts or of their ids.
const MAX_VECTORS_BYTES: u64 = 64 << 20;
/// The most failures that are named.
const MAX_NAMED: usize = 10;
const PLAIN: EncodeOptions = EncodeOptions { add_special: false, parse_special: false };

/// `worker-orcd eval tokenizer`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example: worker-orcd eval tokenizer m.gguf --vectors ggml-vocab-qwen2.gguf.inp\n\n\
    Vectors are in llama.cpp's form: texts in X.inp between lines of __ggml_vocab_test__, and each text's ids on a line\n\
    of X.out. The exit code is 13 if a text does not come back or has other ids.")]
pub(crate) struct Args {
    #[command(flatten)]
    model: Named,
    #[command(flatten)]
    fetch: fetch::FetchArgs,
    /// Texts with their ids beside them, X.inp and X.out
    #[arg(long, value_name = "X.inp")]
    vectors: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

/// The fields of `eval tokenizer --json`.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    n_vocab: usize,
    /// Tokens with a text, and how many of these came back.
    with_text: usize,
    came_back: usize,
    /// Tokens whose text is normalised to another, which is what came back.
    normalized: usize,
    /// Tokens whose text encodes to that one token.
    alone: usize,
    /// Control, unknown and unused tokens, and parts of characters.
    without_text: usize,
    vectors: usize,
    vectors_equal: usize,
    /// The first that failed.
    failures: Vec<String>,
}

impl Measure for Args {
    const COMMAND: &'static str = "eval tokenizer";

    fn output(&self) -> &OutputArgs {
        &self.output
    }

    fn flags(&self) -> Vec<String> {
        Vec::new()
    }

    fn inputs(&self, _log: &LogArgs) -> anyhow::Result<Vec<Input>> {
        let vectors = self.vectors.as_ref();
        let input = |path: &PathBuf| Input {
            flag: "--vectors",
            paths: vec![path.clone(), path.with_extension("out")],
        };
        Ok(vectors.map(input).into_iter().collect())
    }

    fn compute_as(&mut self, _given: &ModelArgs) {}

    fn measure(&self, log: &LogArgs) -> anyhow::Result<Measured> {
        let gguf = Gguf::open(&fetch::path_of(&self.model.0, self.fetch, log)?)?;
        let files = FileHashes::open(gguf.paths());
        let tokenizer = device::open_tokenizer(&gguf)?;
        let mut report = Report::of(&tokenizer)?;
        if let Some(path) = &self.vectors {
            report.compare(&tokenizer, path)?;
        }
        Measured::new(&report, Metadata::of_files(&gguf), Some(files), report.check())
    }
}

impl Report {
    /// Tries every token.
    pub(super) fn of(tokenizer: &Tokenizer) -> anyhow::Result<Report> {
        let mut report = Report { n_vocab: tokenizer.n_vocab(), ..Report::default() };
        for id in (0..).take(tokenizer.n_vocab()) {
            let bytes = tokenizer.token_bytes(id).unwrap_or_default();
            let text = match std::str::from_utf8(bytes) {
                Ok(text) if !tokenizer.is_special(id) && !tokenizer.is_unused(id) => text,
                _ => {
                    report.without_text += 1;
                    continue;
                }
            };
            report.with_text += 1;
            let ids = tokenizer.encode(text, PLAIN)?;
            report.alone += usize::from(ids == [id]);
            let back = tokenizer.decode(&ids, false);
            let expected = tokenizer.normalized(text);
            if back == expected {
                report.came_back += 1;
                report.normalized += usize::from(expected != text);
            } else {
                report.fail(format!("token {id}: {text:?} came back as {back:?}"));
            }
        }
        Ok(report)
    }

    /// Tries texts whose ids are known.
    fn compare(&mut self, tokenizer: &Tokenizer, path: &Path) -> anyhow::Result<()> {
        let read = |path: &Path| input::text(path, MAX_VECTORS_BYTES);
        let (texts, ids) = (read(path)?, read(&path.with_extension("out"))?);
        let (texts, ids): (Vec<&str>, Vec<&str>) = (texts.split(SEPARATOR).collect(), ids.lines().collect());
        // Published lists have texts behind the last line of ids.
        if ids.is_empty() || texts.len() < ids.len() {
            let (path, n, found) = (path.display(), texts.len(), ids.len());
            let text =
                format!("{path}: expected ids for at most {n} texts and at least one, found {found} lines");
            return Err(Failure::Request(text).into());
        }
        for (n, (text, line)) in texts.into_iter().zip(ids).enumerate() {
            let expected: Result<Vec<u32>, _> = line.split_whitespace().map(str::parse).collect();
            let expected =
                expected.map_err(|e| Failure::Request(format!("line {} of the ids: {e}", n + 1)))?;
            let found = tokenizer.encode(text, PLAIN)?;
            self.vectors += 1;
            if found == expected {
                self.vectors_equal += 1;
            } else {
                self.fail(format!("text {n}: expected {expected:?}, found {found:?}"));
            }
        }
        Ok(())
    }

    fn fail(&mut self, text: String) {
        if self.failures.len() < MAX_NAMED {
            self.failures.push(text);
        }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.came_back == self.with_text && self.vectors_equal == self.vectors
    }

    /// An error where it is not whole.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        if self.is_whole() {
            return Ok(());
        }
        let first = self.failures.first().map_or("", String::as_str);
        let (lost, other) = (self.with_text - self.came_back, self.vectors - self.vectors_equal);
        let text = format!(
            "expected every text to come back, found {lost} that did not and {other} with other ids; first {first}"
        );
        Err(Failure::OutOfBounds(text).into())
    }

    /// The result in a few words.
    pub(super) fn summary(&self) -> String {
        format!("{} of {} texts of tokens came back", self.came_back, self.with_text)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "vocabulary  {} tokens, {} of them without a text of their own",
            self.n_vocab, self.without_text
        )?;
        writeln!(f, "round trip  {}; {} are one token again", self.summary(), self.alone)?;
        if self.normalized > 0 {
            writeln!(f, "            {} came back in Unicode's composed form (NFC)", self.normalized)?;
        }
        if self.vectors > 0 {
            writeln!(f, "vectors     {} of {} have the given ids", self.vectors_equal, self.vectors)?;
        }
        self.failures.iter().try_for_each(|failure| writeln!(f, "  {failure}"))
    }
}
