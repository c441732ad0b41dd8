//! Is a measurement true? Measured again with the same parameters on files of one's own, and compared field by field.
//!
//! A folder comes from a stranger, so its flags are read as a command line and must then be just those that the command names as deciding
//! its result: none that writes a file or starts a program is among them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Parser;
use gguf::Gguf;
use hub::ModelRef;
use serde_json::Value;
use worker::receipt::FileHashes;

use super::measure::{Input, Measure};
use super::record::{MEASUREMENT, Record};
use crate::cmd::verify::{different, of_receipt};
use crate::cmd::{bench, eval};
use crate::device::ModelArgs;
use crate::exit::Failure;
use crate::fetch;
use crate::log::LogArgs;
use crate::output;

/// The most differences that are named.
const MAX_NAMED: usize = 10;

/// The files that a measurement read beside the model.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Files of an evaluation")]
pub(crate) struct InputArgs {
    /// The text of an evaluation
    #[arg(long, short, value_name = "TEXT")]
    file: Option<PathBuf>,
    /// The model that another was held against
    #[arg(long, value_name = "MODEL", value_parser = fetch::reference())]
    base: Option<ModelRef>,
    /// Predictions that a model was held against
    #[arg(long, value_name = "FILE")]
    saved: Option<PathBuf>,
    /// The text that prompts were parts of
    #[arg(long, value_name = "TEXT")]
    prompts: Option<PathBuf>,
    /// Texts with their ids beside them, X.inp and X.out
    #[arg(long, value_name = "X.inp")]
    vectors: Option<PathBuf>,
    /// The reference's NAME.json, with NAME.logits.npz beside it
    #[arg(long, value_name = "NAME.json")]
    reference: Option<PathBuf>,
}

impl InputArgs {
    /// What was given with a flag.
    fn of(&self, flag: &str) -> Option<OsString> {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.clone().into_os_string());
        match flag {
            "--file" => path(&self.file),
            "--saved" => path(&self.saved),
            "--prompts" => path(&self.prompts),
            "--vectors" => path(&self.vectors),
            "--reference" => path(&self.reference),
            "--base" => self.base.as_ref().map(|model| model.to_string().into()),
            _ => None,
        }
    }
}

/// A command's flags without its words.
#[derive(Parser)]
#[command(no_binary_name = true)]
struct Line<A: clap::Args> {
    #[command(flatten)]
    args: A,
}

/// Measures again what a folder says; the model is none where weights were random.
pub(crate) fn repeat(
    folder: &Path,
    (model, given): (Option<&ModelRef>, &ModelArgs),
    inputs: &InputArgs,
    log: &LogArgs,
) -> anyhow::Result<()> {
    let record = Record::read(folder)?;
    let again = Again { record: &record, model, given, inputs, log, place: folder.join(MEASUREMENT) };
    match record.command.as_str() {
        eval::Perplexity::COMMAND => again.run::<eval::Perplexity>(),
        eval::Divergence::COMMAND => again.run::<eval::Divergence>(),
        eval::Reproducibility::COMMAND => again.run::<eval::Reproducibility>(),
        eval::Golden::COMMAND => again.run::<eval::Golden>(),
        eval::Tokenizer::COMMAND => again.run::<eval::Tokenizer>(),
        eval::All::COMMAND => again.run::<eval::All>(),
        bench::LocalArgs::COMMAND => again.run::<bench::LocalArgs>(),
        other => Err(again.refused(&format!("command: expected one that measures, found {other:?}"))),
    }
}

struct Again<'a> {
    record: &'a Record,
    model: Option<&'a ModelRef>,
    given: &'a ModelArgs,
    inputs: &'a InputArgs,
    log: &'a LogArgs,
    place: PathBuf,
}

impl Again<'_> {
    fn refused(&self, text: &str) -> anyhow::Error {
        Failure::Request(format!("{}: {text}", self.place.display())).into()
    }

    fn run<M: Measure + clap::Args>(&self) -> anyhow::Result<()> {
        let mut line: Vec<OsString> = self.record.flags.iter().map(OsString::from).collect();
        line.extend(self.model_flag()?);
        for input in &self.record.inputs {
            let Some(given) = self.inputs.of(&input.flag) else {
                let (flag, name, sha256) = (&input.flag, &input.name, input.sha256.join(" "));
                let text = format!("expected {flag} with a file of SHA-256 {sha256} ({name:?}), found none");
                return Err(Failure::Usage(text).into());
            };
            let mut flag = OsString::from(format!("{}=", input.flag));
            flag.push(given);
            line.push(flag);
        }
        let mut args = match Line::<M>::try_parse_from(line) {
            Ok(line) => line.args,
            Err(error) => {
                let error = error.to_string();
                return Err(self.refused(error.lines().next().unwrap_or_default()));
            }
        };
        let expected = args.flags();
        if expected != self.record.flags {
            let (expected, found) = (expected.join(" "), self.record.flags.join(" "));
            return Err(self.refused(&format!("flags: expected {expected}, found {found}")));
        }
        let inputs = args.inputs(self.log)?.iter().map(Input::record).collect::<anyhow::Result<Vec<_>>>()?;
        for (expected, found) in self.record.inputs.iter().zip(&inputs) {
            if expected.sha256 != found.sha256 {
                let what = format!("{} {:?}", expected.flag, found.name);
                return Err(different(&what, &expected.sha256.join(" "), &found.sha256.join(" ")));
            }
        }
        args.compute_as(self.given);
        let measured = args.measure(self.log)?;
        let device = measured.metadata.place();
        if device != self.record.device {
            tracing::warn!("another device: the measurement's is {}, this is {device}", self.record.device);
        }
        let mut found = Vec::new();
        differences(&self.record.result, &measured.result, M::UNREPEATABLE, "result", &mut found);
        if found.is_empty() {
            let n = count(&measured.result, M::UNREPEATABLE);
            let beside = M::beside(&self.record.result, &measured.result);
            return output::print(&format!("equal: {}, {n} values\n{beside}", M::COMMAND));
        }
        let more = found.len().saturating_sub(MAX_NAMED);
        found.truncate(MAX_NAMED);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        Err(Failure::Different(format!("different: {}{more}", found.join("; "))).into())
    }

    /// `--model=...`, of a file that is the one that was measured.
    fn model_flag(&self) -> anyhow::Result<Option<OsString>> {
        if self.record.model.is_empty() {
            return Ok(None);
        }
        let Some(model) = self.model else {
            let hashes = self.record.model.join(" ");
            return Err(Failure::Usage(format!("expected --model with a file of SHA-256 {hashes}")).into());
        };
        let path = fetch::path_of(model, self.given.fetch, self.log)?;
        let found = FileHashes::open(Gguf::open(&path)?.paths()).wait().map_err(of_receipt)?;
        if found != self.record.model {
            return Err(different("model", &self.record.model.join(" "), &found.join(" ")));
        }
        let mut flag = OsString::from("--model=");
        flag.push(path);
        Ok(Some(flag))
    }
}

/// Where two results differ, by the path of each value.
fn differences(then: &Value, now: &Value, skipped: &[&str], path: &str, found: &mut Vec<String>) {
    match (then, now) {
        (Value::Object(a), Value::Object(b)) => {
            let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
            for key in keys.filter(|key| !skipped.contains(&key.as_str())) {
                let of =
                    |object: &serde_json::Map<String, Value>| object.get(key).cloned().unwrap_or_default();
                differences(&of(a), &of(b), skipped, &format!("{path}.{key}"), found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (n, (a, b)) in a.iter().zip(b).enumerate() {
                differences(a, b, skipped, &format!("{path}[{n}]"), found);
            }
        }
        _ if then == now => {}
        _ => found.push(format!("{path}: expected {then}, found {now}")),
    }
}

/// How many values are compared.
fn count(value: &Value, skipped: &[&str]) -> usize {
    match value {
        Value::Object(object) => {
            let kept = object.iter().filter(|(key, _)| !skipped.contains(&key.as_str()));
            kept.map(|(_, value)| count(value, skipped)).sum()
        }
        Value::Array(values) => values.iter().map(|value| count(value, skipped)).sum(),
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn differences_are_named_by_their_path() {
        let then = json!({"a": 1.5, "b": [1, {"c": "x"}], "seconds": 1, "gone": null});
        let now = json!({"a": 1.25, "b": [1, {"c": "y"}], "seconds": 2, "new": true});
        let mut found = Vec::new();
        differences(&then, &now, &["seconds"], "result", &mut found);
        assert_eq!(
            found,
            [
                "result.a: expected 1.5, found 1.25",
                "result.b[1].c: expected \"x\", found \"y\"",
                "result.new: expected null, found true",
            ]
        );
        assert_eq!(count(&then, &["seconds"]), 4);
    }
}
