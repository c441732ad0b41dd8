//! What do the commands that measure have in common? They measure, print, keep a proof if that is wanted, and then judge the result.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use serde::Serialize;
use serde_json::Value;
use worker::receipt::FileHashes;

use super::record::{InputRecord, MEASUREMENT, Record};
use super::{Folder, Metadata};
use crate::cmd::verify::of_receipt;
use crate::device::ModelArgs;
use crate::log::LogArgs;
use crate::output;

const README: &str = "# A measurement of worker-orcd\n\n\
    `measurement.json` has the parameters, the SHA-256 of every file that was read, and the result; `metadata.json` has the program, the\n\
    device and the command line. With the same files it can be measured again and compared:\n\n\
    ```sh\nworker-orcd verify FOLDER --model MODEL\n```\n\n\
    FOLDER is this folder. Each file under `inputs` of `measurement.json` is given with the flag that stands there, such as `--file TEXT`.\n";

/// Where the result of a measurement goes.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct OutputArgs {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Write the result, its parameters, versions and timings into this new folder, for `worker-orcd verify`
    #[arg(long, value_name = "DIR")]
    proof: Option<PathBuf>,
}

/// A command that measures.
pub(crate) trait Measure {
    /// Its words, such as `eval perplexity`.
    const COMMAND: &'static str;
    /// Fields of the result that no other run repeats: times, and what a file is called here.
    const UNREPEATABLE: &'static [&'static str] = &[];

    /// Where the result goes.
    fn output(&self) -> &OutputArgs;
    /// What decides the result, as flags with their values.
    fn flags(&self) -> Vec<String>;
    /// The files that are read beside the model.
    fn inputs(&self, log: &LogArgs) -> anyhow::Result<Vec<Input>>;
    /// Where the model is computed, of what a repetition was given; all else stays.
    fn compute_as(&mut self, given: &ModelArgs);
    /// Measures.
    fn measure(&self, log: &LogArgs) -> anyhow::Result<Measured>;
    /// What a person wants to see of two equal results, such as the rates of both.
    fn beside(_then: &Value, _now: &Value) -> String {
        String::new()
    }
}

/// A file, or the parts of one, that a measurement reads.
pub(crate) struct Input {
    pub(crate) flag: &'static str,
    pub(crate) paths: Vec<PathBuf>,
}

/// What was found.
pub(crate) struct Measured {
    pub(super) metadata: Metadata,
    /// Of the model's files, opened before they were used; none for random weights.
    pub(super) files: Option<Arc<FileHashes>>,
    pub(super) result: Value,
    text: String,
    verdict: anyhow::Result<()>,
}

impl Measured {
    /// A report, and what its bounds say of it.
    pub(crate) fn new(
        report: &(impl Serialize + std::fmt::Display),
        metadata: Metadata,
        files: Option<Arc<FileHashes>>,
        verdict: anyhow::Result<()>,
    ) -> anyhow::Result<Measured> {
        let result = serde_json::to_value(report).context("the report as JSON")?;
        Ok(Measured { metadata, files, result, text: report.to_string(), verdict })
    }

    /// The hashes of the model's files.
    pub(super) fn hashes(&self) -> anyhow::Result<Vec<String>> {
        self.files.as_ref().map_or(Ok(Vec::new()), |files| files.wait().map_err(of_receipt))
    }
}

impl Input {
    /// The SHA-256 of its parts.
    pub(super) fn record(&self) -> anyhow::Result<InputRecord> {
        let sha256 = FileHashes::open(&self.paths).wait().map_err(of_receipt)?;
        let name = self.paths.first().and_then(|path| path.file_name());
        let name = name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(InputRecord { flag: self.flag.to_owned(), name, sha256 })
    }
}

/// Runs a command that measures.
pub(crate) fn run(args: &impl Measure, log: &LogArgs) -> anyhow::Result<()> {
    let output = args.output();
    let folder = output.proof.as_deref().map(Folder::begin).transpose()?;
    let measured = args.measure(log)?;
    match output.json {
        true => output::print_json(&measured.result)?,
        false => output::print(&measured.text)?,
    }
    match folder {
        Some(folder) => keep(args, &folder, measured, log)?,
        None => measured.verdict,
    }
}

/// Writes the proof of what was measured, and gives the verdict on it.
fn keep<M: Measure>(
    args: &M,
    folder: &Folder,
    measured: Measured,
    log: &LogArgs,
) -> anyhow::Result<anyhow::Result<()>> {
    let (hashes, inputs) = (measured.hashes()?, args.inputs(log)?);
    let inputs = inputs.iter().map(Input::record).collect::<anyhow::Result<_>>()?;
    let how = (M::COMMAND, args.flags(), measured.metadata.place());
    folder.write_json(MEASUREMENT, &Record::new(how, (hashes.clone(), inputs), measured.result))?;
    folder.write_json("metadata.json", &measured.metadata.with_hashes(&hashes))?;
    folder.write("README.md", README)?;
    Ok(measured.verdict)
}
