//! What is left of a run, for others to repeat it? A folder: the answer's receipt, what was said when, how long it took, on what.
//!
//! | file | content |
//! |---|---|
//! | `README.md` | how to repeat the run |
//! | `metadata.json` | program, device, model files with their hashes, command line |
//! | `receipt.json` | everything that decided the answer; `verify` reads it |
//! | `transcript.ndjson` | a line for each piece of the answer: milliseconds since the request, text, token ids |
//! | `timings.json` | as `run --json` has them |

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use serde::Serialize;
use serde_json::json;

use super::ask::Times;
use super::show::Piece;
use crate::device::Loaded;
use crate::exit::Failure;
use crate::version;

/// Where `verify` finds the receipt in such a folder.
pub(crate) const RECEIPT: &str = "receipt.json";

const README: &str = "# A run of worker-orcd\n\n\
    `receipt.json` has everything that decided the answer: parameters, seed, the prompt's token ids and the answer's. With the model's file,\n\
    whose SHA-256 is in `metadata.json`, the answer can be computed again and compared token by token:\n\n\
    ```sh\nworker-orcd verify FOLDER --model FILE\n```\n\n\
    FOLDER is this folder. `transcript.ndjson` has the answer as it came, `timings.json` how long it took, which no other run will repeat.\n\
    Whoever has the tokenizer can read the prompt and the answer from these files.\n";

/// The folder, being filled.
pub(crate) struct Proof {
    folder: PathBuf,
    metadata: Metadata,
    transcript: BufWriter<File>,
    began: Instant,
}

/// Under what circumstances.
#[derive(Serialize)]
struct Metadata {
    version: &'static str,
    commit: Option<&'static str>,
    command: Vec<String>,
    /// Seconds since 1970.
    started: u64,
    system: &'static str,
    processor: &'static str,
    device: String,
    kernels: String,
    cuda_driver: Option<String>,
    threads: usize,
    model: Vec<ModelFile>,
}

#[derive(Serialize)]
struct ModelFile {
    file: String,
    bytes: u64,
    sha256: Option<String>,
}

impl Proof {
    /// Begins a folder, which must be new or empty.
    pub(crate) fn begin(folder: &Path, loaded: &Loaded) -> anyhow::Result<Proof> {
        let place = || folder.display().to_string();
        fs::create_dir_all(folder).with_context(place)?;
        if fs::read_dir(folder).with_context(place)?.next().is_some() {
            let text = format!("{}: expected a new or an empty folder, found files", folder.display());
            return Err(Failure::Usage(text).into());
        }
        let file = |path: &PathBuf| ModelFile {
            file: path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            bytes: fs::metadata(path).map_or(0, |metadata| metadata.len()),
            sha256: None,
        };
        let metadata = Metadata {
            version: env!("CARGO_PKG_VERSION"),
            commit: version::COMMIT,
            command: std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect(),
            started: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
            system: std::env::consts::OS,
            processor: std::env::consts::ARCH,
            device: loaded.executor.memory().device,
            kernels: loaded.kernels.clone(),
            cuda_driver: loaded.cuda_version.clone(),
            threads: loaded.threads,
            model: loaded.gguf.paths().iter().map(file).collect(),
        };
        let transcript = BufWriter::new(File::create(folder.join("transcript.ndjson")).with_context(place)?);
        Ok(Proof { folder: folder.to_owned(), metadata, transcript, began: Instant::now() })
    }

    /// A piece of the answer came.
    pub(crate) fn piece(&mut self, piece: &Piece, tokens: &[u32]) -> anyhow::Result<()> {
        let ms = (self.began.elapsed().as_secs_f64() * 1e6).round() / 1e3;
        let mut line = json!({"ms": ms, "text": piece.text, "tokens": tokens});
        if !piece.reasoning.is_empty() {
            line["reasoning"] = piece.reasoning.clone().into();
        }
        writeln!(self.transcript, "{line}").with_context(|| self.folder.display().to_string())
    }

    /// Writes what is known at the end. The receipt is there already.
    pub(crate) fn finish(mut self, timings: &Times, hashes: &[String]) -> anyhow::Result<()> {
        self.transcript.flush().with_context(|| self.folder.display().to_string())?;
        for (file, hash) in self.metadata.model.iter_mut().zip(hashes) {
            file.sha256 = Some(hash.clone());
        }
        let write = |name: &str, text: String| {
            let path = self.folder.join(name);
            fs::write(&path, text).with_context(|| path.display().to_string())
        };
        write("metadata.json", serde_json::to_string_pretty(&self.metadata)? + "\n")?;
        write("timings.json", serde_json::to_string_pretty(timings)? + "\n")?;
        write("README.md", README.to_owned())
    }
}
