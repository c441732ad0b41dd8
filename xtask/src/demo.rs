//! One command from a fresh clone to a streamed answer.

use std::path::{Display, Path};
use std::process::Command;

use anyhow::{Context, Result};

use crate::fixtures;
use crate::process::{self, cargo, root};

const PROMPT: &str = "Explain in three sentences why the sky is blue.";

/// Builds the worker, fetches a small model, streams an answer and says what to try next.
pub(crate) fn run() -> Result<()> {
    println!("Building worker-orcd (release)");
    process::run(cargo().args(["build", "--release", "--package", "worker-orcd"]))
        .context("the worker does not build")?;
    let worker = process::target_folder()?.join("release/worker-orcd");
    let model = fixtures::fetch_smollm2()?;
    println!("\n> {PROMPT}\n");
    let answer = ["--prompt", PROMPT, "--temperature", "0", "--max-tokens", "200"];
    process::run(Command::new(&worker).arg("run").arg("--model").arg(&model).args(answer))
        .context("the demo's answer failed")?;
    let (worker, model) = (short(&worker), short(&model));
    println!(
        "\nNext, try\n\n  {worker} run --model {model}\n  {worker} inspect {model}\n  {worker} bench --model {model}\n  \
         {worker} --help"
    );
    Ok(())
}

/// A path as someone in the repository's root would type it.
fn short(path: &Path) -> Display<'_> {
    path.strip_prefix(root()).unwrap_or(path).display()
}
