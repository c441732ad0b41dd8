//! Does the worker compute the same on arm64? Its computing crates are compiled for it and their tests run under QEMU.
//!
//! The compiler, the libraries and QEMU are Debian's and Ubuntu's packages. An emulated processor says nothing about speed.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::dist::{ARM64, add_target};
use crate::fixtures;
use crate::process::{self, cargo, works};

const COMPILER: &str = "aarch64-linux-gnu-gcc";

/// Where Debian's cross packages have the system's libraries.
const SYSTEM: &str = "/usr/aarch64-linux-gnu";

/// What computes, with all that it stands on. The others wait for networks and people, and know no processor.
const CRATES: [&str; 7] = ["quant", "gguf", "tokenizer", "model", "device", "cpu", "engine"];

/// Maps a file of 687 GB that is all hole, for which QEMU finds no memory.
const LEFT_OUT: &str = "what_a_sparse_file_claims_is_refused_before_it_is_copied";

/// Runs the tests; arguments choose among them, as the runner understands them.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let qemu = ["qemu-aarch64-static", "qemu-aarch64"]
        .into_iter()
        .find(|name| works(Command::new(name).arg("--version")));
    let found = works(Command::new(COMPILER).arg("--version")) && Path::new(SYSTEM).is_dir();
    let qemu = qemu.filter(|_| found).with_context(|| {
        format!("expected QEMU, {COMPILER} and {SYSTEM} (on Debian and Ubuntu: apt install gcc-aarch64-linux-gnu qemu-user-static)")
    })?;
    add_target(ARM64)?;
    let is_nextest = works(cargo().args(["nextest", "--version"]));
    let mut tests = cargo();
    tests.args(if is_nextest { &["nextest", "run"][..] } else { &["test"] }).arg("--no-fail-fast");
    tests.args(["--target", ARM64.triple]).args(CRATES.iter().flat_map(|name| ["--package", name]));
    tests.args(arguments);
    if arguments.is_empty() {
        let filter = format!("not test({LEFT_OUT})");
        tests.args(if is_nextest { ["-E", &filter, "--"] } else { ["--", "--skip", LEFT_OUT] });
    }
    tests
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", COMPILER)
        .env("CC_aarch64_unknown_linux_gnu", COMPILER)
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", format!("{qemu} -L {SYSTEM}"))
        .env("WORKER_ORCD_FIXTURES", fixtures::folder()?)
        .envs(ARM64.environment);
    ensure!(process::run(&mut tests).is_ok(), "some tests failed under QEMU");
    Ok(())
}
