//! Does a release work where it is installed? Each way in is taken in a folder of its own, and the worker that it gives is asked.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::Binary;
use super::machine::{Machine, Needs};
use crate::fixtures;
use crate::process::{self, output, python, works};

const HERE: Machine = Machine::HERE;
const PROMPT: [&str; 7] =
    ["--prompt", "Name three colours.", "--temperature", "0", "--max-tokens", "8", "-q"];

/// Tries a release that was made of binaries. What is for another kind of processor cannot be asked.
pub(super) fn run(binaries: &[Binary], out: &Path, level: u32) -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let folder = |name: &str| scratch.path().join(name);
    let again = folder("again");
    super::make(binaries, &again, level)?;
    let sums = |out: &Path| fs::read_to_string(out.join("SHA256SUMS")).context("SHA256SUMS");
    ensure!(sums(out)? == sums(&again)?, "the same binary gave other bytes the second time");

    for Binary { path, needs } in binaries {
        if needs.machine != HERE {
            println!("{} is not tried here", needs.machine.triple);
            continue;
        }
        let expected = Asked::of(path)?;
        let ways = [
            ("the wheel", Some(wheel(out, &folder("venv"))?)),
            ("install.sh", Some(script(out, &folder("prefix"))?)),
            ("the Debian package", Some(debian(out, &folder("debian"), needs)?)),
            ("the npm package", npm(out, &folder("npm"))?),
        ];
        for (way, worker) in ways {
            let Some(worker) = worker else {
                eprintln!("warning: {way} is not tried: its program is not here");
                continue;
            };
            ensure!(Asked::of(&worker)? == expected, "{way} gives another worker");
            println!("{way}: {}", expected.version);
        }
        refuses_what_is_changed(&again, &folder("changed"))?;
    }
    Ok(())
}

/// What a worker says.
#[derive(PartialEq)]
struct Asked {
    version: String,
    answer: String,
}

impl Asked {
    fn of(worker: &Path) -> Result<Asked> {
        let version = output(Command::new(worker).arg("--version"))?.trim().to_owned();
        let model = fixtures::fetch_smollm2()?;
        let mut run = Command::new(worker);
        let answer = output(run.args(["run", "--device", "cpu", "--model"]).arg(model).args(PROMPT))?;
        ensure!(!answer.trim().is_empty(), "{} gives no answer", worker.display());
        Ok(Asked { version, answer })
    }
}

/// The only file of a release for this machine whose name ends like this, after the machine's own name.
fn only(out: &Path, end: &str) -> Result<PathBuf> {
    let paths = fs::read_dir(out)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    let found = paths.into_iter().find(|path| path.to_string_lossy().ends_with(end));
    found.with_context(|| format!("there is no {end} in {}", out.display()))
}

fn wheel(out: &Path, venv: &Path) -> Result<PathBuf> {
    process::run(Command::new(python()?).args(["-m", "venv"]).arg(venv))
        .context("cannot make a Python environment (on Debian and Ubuntu: apt install python3-venv)")?;
    let mut pip = Command::new(venv.join("bin/pip"));
    pip.args(["install", "--quiet", "--no-index", "--disable-pip-version-check"])
        .arg(only(out, &format!("_{}.whl", HERE.wheel))?);
    process::run(&mut pip)?;
    Ok(venv.join("bin/worker-orcd"))
}

fn script(out: &Path, prefix: &Path) -> Result<PathBuf> {
    process::run(Command::new("sh").arg(out.join("install.sh")).arg("--prefix").arg(prefix))?;
    Ok(prefix.join("bin/worker-orcd"))
}

/// `None` without npm.
fn npm(out: &Path, prefix: &Path) -> Result<Option<PathBuf>> {
    if !works(Command::new("npm").arg("--version")) {
        return Ok(None);
    }
    let mut npm = Command::new("npm");
    npm.args(["install", "--global", "--offline", "--silent", "--prefix"]).arg(prefix);
    process::run(npm.arg(only(out, &format!("-linux-{}.tgz", HERE.npm))?))?;
    Ok(Some(prefix.join("bin/worker-orcd")))
}

/// The package, unpacked by dpkg; without dpkg the archive's binary.
fn debian(out: &Path, folder: &Path, needs: &Needs) -> Result<PathBuf> {
    let package = only(out, &format!("_{}.deb", HERE.debian))?;
    if !works(Command::new("dpkg-deb").arg("--version")) {
        eprintln!("warning: the Debian package is not tried: there is no dpkg-deb");
        fs::create_dir_all(folder)?;
        process::run(
            Command::new("tar")
                .arg("-xzf")
                .arg(only(out, &format!("-{}.tar.gz", HERE.triple))?)
                .arg("-C")
                .arg(folder)
                .arg("--strip-components=1"),
        )?;
        return Ok(folder.join("worker-orcd"));
    }
    let field = |name: &str| output(Command::new("dpkg-deb").arg("--field").arg(&package).arg(name));
    ensure!(field("Package")?.trim() == "worker-orcd", "the package has another name");
    let (major, minor) = needs.glibc;
    let libc = format!("libc6 (>= {major}.{minor})");
    ensure!(field("Depends")?.trim().starts_with(&libc), "the package does not say that it needs {libc}");
    let list = output(Command::new("dpkg-deb").arg("--contents").arg(&package))?;
    for line in ["-rwxr-xr-x root/root", "./usr/bin/worker-orcd", "./usr/share/doc/worker-orcd/copyright"] {
        ensure!(list.contains(line), "the package lacks {line}:\n{list}");
    }
    process::run(Command::new("dpkg-deb").arg("--extract").arg(&package).arg(folder))?;
    Ok(folder.join("usr/bin/worker-orcd"))
}

fn refuses_what_is_changed(out: &Path, prefix: &Path) -> Result<()> {
    let archive = only(out, &format!("-{}.tar.gz", HERE.triple))?;
    let mut bytes = fs::read(&archive)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&archive, bytes)?;
    let mut install = Command::new("sh");
    ensure!(
        !works(install.arg(out.join("install.sh")).arg("--prefix").arg(prefix)),
        "install.sh takes an archive whose hash is wrong"
    );
    ensure!(!prefix.join("bin/worker-orcd").exists(), "install.sh leaves a file whose hash is wrong");
    Ok(())
}
