//! What is left of a run, for others to repeat it? A folder: the answer's receipt, what was said when, how long it took, on what.
//!
//! | file | content |
//! |---|---|
//! | `README.md` | how to repeat the run |
//! | `metadata.json` | program, device, model files with their hashes, command line |
//! | `receipt.json` | everything that decided the answer; `verify` reads it |
//! | `transcript.ndjson` | a line for each piece of the answer: milliseconds since the request, text, token ids |
//! | `timings.json` | as `run --json` has them |

use std::fs::File;
use std::io::{BufWriter, Write};
use std::time::Instant;

use anyhow::Context;
use serde_json::json;

use super::ask::Times;
use super::show::Piece;
use crate::device::Loaded;
use crate::proof::{Folder, Metadata};

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
    folder: Folder,
    metadata: Metadata,
    transcript: BufWriter<File>,
    began: Instant,
}

impl Proof {
    /// Begins to fill a folder.
    pub(crate) fn begin(folder: Folder, loaded: &Loaded) -> anyhow::Result<Proof> {
        let path = folder.path("transcript.ndjson");
        let transcript = BufWriter::new(File::create(&path).with_context(|| path.display().to_string())?);
        Ok(Proof { folder, metadata: Metadata::of(loaded), transcript, began: Instant::now() })
    }

    /// A piece of the answer came.
    pub(crate) fn piece(&mut self, piece: &Piece, tokens: &[u32]) -> anyhow::Result<()> {
        let ms = (self.began.elapsed().as_secs_f64() * 1e6).round() / 1e3;
        let mut line = json!({"ms": ms, "text": piece.text, "tokens": tokens});
        if !piece.reasoning.is_empty() {
            line["reasoning"] = piece.reasoning.clone().into();
        }
        writeln!(self.transcript, "{line}").context("transcript.ndjson")
    }

    /// Writes what is known at the end. The receipt is there already.
    pub(crate) fn finish(mut self, timings: &Times, hashes: &[String]) -> anyhow::Result<()> {
        self.transcript.flush().context("transcript.ndjson")?;
        self.folder.write_json("metadata.json", &self.metadata.with_hashes(hashes))?;
        self.folder.write_json("timings.json", timings)?;
        self.folder.write("README.md", README)
    }
}
