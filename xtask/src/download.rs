//! How is a package fetched and opened? By the registries' own programs, pip and npm, so that whatever mirror, proxy,
//! certificate or login is set up for them is used. No address of a registry stands in this repository.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::process::{python, root, run, works};

/// A package in a registry.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Package {
    /// Wheels on the Python package index; the name of a requirements file in `xtask/pins`.
    Wheels(&'static str),
    /// The same for a source archive.
    SourceArchive(&'static str),
    /// `NAME@VERSION` on npm's registry.
    Npm(&'static str),
}

impl Package {
    /// Downloads the package's archives into a folder.
    pub(crate) fn download(self, folder: &Path) -> Result<()> {
        match self {
            Package::Wheels(pins) => pip(pins, folder, false),
            Package::SourceArchive(pins) => pip(pins, folder, true),
            Package::Npm(name) => npm(name, folder),
        }
    }
}

/// Installs wheels into a folder, outside any Python's own: programs in them stay executable.
pub(crate) fn install(pins: &str, folder: &Path) -> Result<()> {
    let mut command = pip_command("install", pins)?;
    // The warning about installing as root means folders of the system.
    command.env("PIP_ROOT_USER_ACTION", "ignore");
    command.args(["--only-binary", ":all:", "--no-compile", "--quiet", "--target"]).arg(folder);
    run_pip(&mut command, pins)
}

fn pip(pins: &str, folder: &Path, source_archive: bool) -> Result<()> {
    let mut command = pip_command("download", pins)?;
    command.arg("--dest").arg(folder);
    let backend = tempfile::tempdir()?;
    if source_archive {
        let package = backend.path().join("scikit_build_core");
        fs::create_dir(&package)?;
        fs::write(package.join("__init__.py"), "")?;
        fs::write(package.join("build.py"), include_str!("backend.py"))?;
        command.args(["--no-binary", ":all:", "--no-build-isolation"]).env("PYTHONPATH", backend.path());
    }
    run_pip(&mut command, pins)
}

fn pip_command(verb: &str, pins: &str) -> Result<Command> {
    let mut command = Command::new(python()?);
    command.args([
        "-m",
        "pip",
        verb,
        "--no-deps",
        "--no-cache-dir",
        "--disable-pip-version-check",
        "--no-input",
    ]);
    command.arg("--requirement").arg(root().join("xtask/pins").join(pins));
    Ok(command)
}

fn run_pip(command: &mut Command, pins: &str) -> Result<()> {
    run(command.stdin(Stdio::null()).stdout(Stdio::inherit())).with_context(|| {
        format!(
            "pip could not download what xtask/pins/{pins} asks for; its own messages are above. Without a network, or \
             behind a mirror, see `pip config set global.index-url URL`"
        )
    })
}

fn npm(name: &str, folder: &Path) -> Result<()> {
    ensure!(
        works(Command::new("npm").arg("--version")),
        "found no npm, with which tokenizer.json files are fetched (it comes with Node.js)"
    );
    run(Command::new("npm")
        .args(["pack", "--silent", name])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null()))
    .with_context(|| format!("npm could not download {name}; its own messages are above"))
}

/// Takes the members of a zip or tar archive whose path matches a glob into a folder, under their last name.
pub(crate) fn unpack(archive: &Path, pattern: &str, folder: &Path) -> Result<()> {
    run(Command::new(python()?).args(["-c", include_str!("unpack.py")]).arg(archive).arg(pattern).arg(folder))
        .with_context(|| format!("cannot unpack {}", archive.display()))
}
