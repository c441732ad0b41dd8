//! One command from a fresh clone to a streamed answer.

use anyhow::{Context, Result};

use crate::fixtures;
use crate::process::{self, cargo};

const PROMPT: &str = "Explain in three sentences how a bicycle stays upright.";

/// Builds the worker, fetches a small model, streams an answer and says what to try next.
pub(crate) fn run() -> Result<()> {
    println!("Building worker-orcd (release)");
    process::run(cargo().args(["build", "--release", "--package", "worker-orcd"]))
        .context("the worker does not build")?;
    let model = fixtures::fetch_smollm2()?;
    println!("\n> {PROMPT}\n");
    let worker = ["run", "--quiet", "--release", "--package", "worker-orcd", "--"];
    process::run(cargo().args(worker).arg("run").arg(&model).args(["--prompt", PROMPT]))
        .context("the demo's answer failed")
}
