//! Runs every test, with the fixtures some of them need.
//!
//! With `CI=true` a fixture that cannot be had is a failure. Elsewhere it is a warning, and the tests that need it say why
//! they skip.

use std::process::Command;

use anyhow::{Context, Result};

use crate::fixtures;
use crate::process::{self, cargo, works};

/// Fetches the fixtures, then runs every test with cargo-nextest, or with `cargo test` where it is not installed. Arguments
/// choose among the tests, as the runner understands them.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    if let Err(error) = fixtures::fetch_all() {
        if std::env::var("CI").is_ok_and(|ci| ci == "true") {
            return Err(error.context("with CI=true no test may skip, and some fixtures cannot be had"));
        }
        eprintln!("warning: {error:#}\nwarning: the tests that need them will skip");
    }
    if !works(cargo().args(["nextest", "--version"])) {
        return process::run(tests(&["test"])?.args(arguments)).context("some tests failed");
    }
    process::run(tests(&["nextest", "run"])?.args(arguments)).context("some tests failed")?;
    if arguments.is_empty() {
        process::run(&mut tests(&["test", "--doc"])?).context("some examples in the documentation failed")?;
    }
    Ok(())
}

/// A test command that knows where the fixtures are and does not stop at the first failure.
fn tests(command: &[&str]) -> Result<Command> {
    let mut cargo = cargo();
    cargo.args(command).arg("--no-fail-fast").env("WORKER_ORCD_FIXTURES", fixtures::folder()?);
    Ok(cargo)
}
