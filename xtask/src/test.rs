//! Runs every test, with the fixtures some of them need, then the server's clients against it and its page in a browser.
//!
//! With `CI=true` a fixture, a client or a browser that cannot be had is a failure. Elsewhere it is a warning, and the tests that need it say why
//! they skip.

use std::process::Command;
use std::thread;

use anyhow::{Context, Result, anyhow};

use crate::process::{self, cargo, works};
use crate::{clients, fixtures, page};

/// Fetches what is needed, then runs every test with cargo-nextest, or with `cargo test` where it is not installed, the clients and the page.
/// Arguments choose among the tests, as the runner understands them; then there are no clients and no page.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    had(fixtures::fetch_all(), "the tests that need them will skip")?;
    if !arguments.is_empty() {
        return run_tests(arguments);
    }
    // Downloads wait for the network, the compiler for the processor.
    let (clients, page) = thread::scope(|scope| {
        let built = scope.spawn(build_tests);
        let clients = had(clients::install(), "the server is not tried with clients")?;
        let page = had(page::install(), "the page is not tried in a browser")?;
        built.join().map_err(|_panic| anyhow!("building the tests panicked"))??;
        anyhow::Ok((clients, page))
    })?;
    run_tests(&[])?;
    // The tests have just built the worker.
    if let Some(installed) = clients {
        clients::try_all(&installed, &[])?;
    }
    page.map_or(Ok(()), |installed| page::try_all(&installed, &[]))
}

/// Compiles the tests and runs none.
fn build_tests() -> Result<()> {
    let command: &[&str] = match works(cargo().args(["nextest", "--version"])) {
        true => &["nextest", "run", "--no-run"],
        false => &["test", "--no-run"],
    };
    process::run(cargo().args(command)).context("the tests cannot be built")
}

fn run_tests(arguments: &[&str]) -> Result<()> {
    if !works(cargo().args(["nextest", "--version"])) {
        return process::run(tests(&["test"])?.args(arguments)).context("some tests failed");
    }
    process::run(tests(&["nextest", "run"])?.args(arguments)).context("some tests failed")?;
    if arguments.is_empty() {
        process::run(&mut tests(&["test", "--doc"])?).context("some examples in the documentation failed")?;
    }
    Ok(())
}

/// What was found or fetched; without it a warning of what follows, or a failure where nothing may skip.
fn had<T>(found: Result<T>, otherwise: &str) -> Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
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
