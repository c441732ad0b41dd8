//! What was measured, and how? The fields of `measurement.json`.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cmd::verify::read;
use crate::exit::Failure;

/// Where `verify` finds it in a folder.
pub(crate) const MEASUREMENT: &str = "measurement.json";
const VERSION: u32 = 1;

/// A measurement that can be repeated.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    version: u32,
    /// The command's words, such as `eval perplexity`.
    pub(super) command: String,
    /// What decides the result, a flag each, as `--ctx=256`.
    pub(super) flags: Vec<String>,
    /// The device and its kernels.
    pub(super) device: String,
    /// SHA-256 of each of the model's files; empty for random weights.
    pub(super) model: Vec<String>,
    /// What else was read.
    pub(super) inputs: Vec<InputRecord>,
    /// As `--json` prints it.
    pub(super) result: Value,
}

/// A file that a measurement read beside the model.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InputRecord {
    /// The flag that named it, such as `--file`.
    pub(super) flag: String,
    /// Its name, or the first part's.
    pub(super) name: String,
    /// SHA-256 of each part.
    pub(super) sha256: Vec<String>,
}

impl Record {
    /// A record of a command and its result.
    pub(super) fn new(
        (command, flags, device): (&str, Vec<String>, String),
        (model, inputs): (Vec<String>, Vec<InputRecord>),
        result: Value,
    ) -> Record {
        Record { version: VERSION, command: command.to_owned(), flags, device, model, inputs, result }
    }

    /// Reads a folder's.
    ///
    /// # Errors
    /// A file that cannot be read, is too long or no record.
    pub(super) fn read(folder: &Path) -> anyhow::Result<Record> {
        let path = folder.join(MEASUREMENT);
        let refused = |text: String| Failure::Request(format!("{}: {text}", path.display()));
        let record: Record = serde_json::from_str(&read(&path)?).map_err(|e| refused(e.to_string()))?;
        match record.version {
            VERSION => Ok(record),
            found => Err(refused(format!("version: expected {VERSION}, found {found}")).into()),
        }
    }
}
