//! Runs every test, with the fixtures some of them need, then the server's clients against it.
//!
//! With `CI=true` a fixture or a client that cannot be had is a failure. Elsewhere it is a warning, and the tests that need it say why
//! they skip.

use std::process::Command;

use anyhow::{Context, Result};

use crate::{clients, fixtures};
use crate::process::{self, cargo, works};

/// Fetches the fixtures, then runs every test with cargo-nextest, or with `cargo test` where it is not installed, and the clients. Arguments
/// choose among the tests, as the runner understands them; then there are no clients.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    had(fixtures::fetch_all(), "the tests that need them will skip")?;
    if works(cargo().args(["nextest", "--version"])) {
        process::run(tests(&["nextest", "run"])?.args(arguments)).context("some tests failed")?;
        if arguments.is_empty() {
            process::run(&mut tests(&["test", "--doc"])?)
                .context("some examples in the documentation failed")?;
        }
    } else {
        process::run(tests(&["test"])?.args(arguments)).context("some tests failed")?;
    }
    if !arguments.is_empty() {
        return Ok(());
    }
    // The tests have just built the worker.
    match had(clients::install(), "the server is not tried with clients")? {
        Some(installed) => clients::try_all(&installed, &[]),
        None => Ok(()),
    }
}

/// What was fetched; without it a warning of what follows, or a failure where nothing may skip.
fn had<T>(fetched: Result<T>, otherwise: &str) -> Result<Option<T>> {
    match fetched {
        Ok(fetched) => Ok(Some(fetched)),
        Err(error) if std::env::var("CI").is_ok_and(|ci| ci == "true") => {
            Err(error.context("with CI=true no test may skip, and something that tests need cannot be had"))
        }
        Err(error) => {
            eprintln!("warning: {error:#}\nwarning: {otherwise}");
            Ok(None)
        }
    }
}

/// A test command that knows where the fixtures are and does not stop at the first failure.
fn tests(command: &[&str]) -> Result<Command> {
    let mut cargo = cargo();
    cargo.args(command).arg("--no-fail-fast").env("WORKER_ORCD_FIXTURES", fixtures::folder()?);
    Ok(cargo)
}
