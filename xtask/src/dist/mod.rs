//! What does a release consist of? An archive with the binary, a Python wheel, a Debian package, the list of parts (SBOM), a script that installs
//! and the hashes of all.
//!
//! The same binary gives the same bytes: entries are sorted, owned by root and have the time of the commit (`SOURCE_DATE_EPOCH` names another).
//! maturin and cargo-deb would each compile the worker again, in their own way; the formats are small, so `pack.py` writes them from one
//! list. What the binary needs of glibc is read from it and becomes the wheel's tag and the package's dependency; one that needs a newer glibc than
//! releases do is refused.

mod build;
mod machine;
mod plan;
mod sbom;
mod trial;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

pub(crate) use self::build::add_target;
pub(crate) use self::machine::ARM64;
use self::machine::{Machine, Needs};
use self::plan::Release;
use crate::fixtures::sha256;
use crate::process::{self, output, python, root};

/// The script that installs.
const INSTALL: &str = include_str!("../../../deploy/install.sh");

/// What the command line asks for.
struct Options {
    binary: Option<PathBuf>,
    /// What is built for, where no binary is given.
    machines: Vec<Machine>,
    /// Whether the binary may need a newer glibc than releases do.
    any_glibc: bool,
    out: Option<PathBuf>,
    /// Of compression, 1 (fast) to 9 (small).
    level: u32,
    is_tried: bool,
}

/// Makes a release of the given binary, or of those that are built now; with `--try` installs it in each way and asks for an answer.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    let options = Options::parse(words)?;
    let binaries = match options.binary {
        Some(path) => vec![Binary::of(&std::path::absolute(path)?)?],
        None => options
            .machines
            .iter()
            .map(|&machine| Binary::of(&build::build(machine)?))
            .collect::<Result<_>>()?,
    };
    if !options.any_glibc {
        binaries.iter().try_for_each(Binary::runs_with_old_glibc)?;
    }
    let out = match options.out {
        Some(out) => out,
        None => emptied(process::target_folder()?.join("dist"))?,
    };
    let made = make(&binaries, &out, options.level)?;
    for path in &made {
        println!("{:>12} bytes  {}", fs::metadata(path)?.len(), path.display());
    }
    if options.is_tried {
        trial::run(&binaries, &out, options.level)?;
    }
    Ok(())
}

/// A worker, and what it needs.
struct Binary {
    path: PathBuf,
    needs: Needs,
}

impl Binary {
    fn of(path: &Path) -> Result<Binary> {
        Ok(Binary { path: path.to_owned(), needs: Needs::of(path)? })
    }

    fn runs_with_old_glibc(&self) -> Result<()> {
        let ((major, minor), (newest, newest_minor)) = (self.needs.glibc, build::GLIBC);
        ensure!(
            self.needs.glibc <= build::GLIBC,
            "{}: a release runs with glibc {newest}.{newest_minor}, this binary needs {major}.{minor} (without --binary one is built \
             that does not; --any-glibc packs it as it is)",
            self.path.display()
        );
        Ok(())
    }
}

/// The project's own folder for releases, without the one before. A folder that somebody names is never emptied.
fn emptied(out: PathBuf) -> Result<PathBuf> {
    if out.exists() {
        fs::remove_dir_all(&out).with_context(|| out.display().to_string())?;
    }
    Ok(out)
}

impl Options {
    fn parse(words: &[&str]) -> Result<Options> {
        let mut options = Options {
            binary: None,
            machines: Vec::new(),
            any_glibc: false,
            out: None,
            level: 6,
            is_tried: false,
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} has no value"));
            match *word {
                "--binary" => options.binary = Some(PathBuf::from(value()?)),
                "--arch" => options.machines.push(Machine::named(value()?)?),
                "--any-glibc" => options.any_glibc = true,
                "--out" => options.out = Some(PathBuf::from(value()?)),
                "--level" => {
                    options.level = value()?
                        .parse()
                        .ok()
                        .filter(|level| (1..=9).contains(level))
                        .context("--level: expected 1 (fast) to 9 (small)")?;
                }
                "--try" => options.is_tried = true,
                other => bail!(
                    "expected --binary FILE, --any-glibc, --arch NAME, --out FOLDER, --level N or --try, found {other}"
                ),
            }
        }
        if options.machines.is_empty() {
            options.machines.push(Machine::HERE);
        }
        Ok(options)
    }
}

/// Makes all files of a release in a new folder; their paths.
fn make(binaries: &[Binary], out: &Path, level: u32) -> Result<Vec<PathBuf>> {
    ensure!(cfg!(target_os = "linux"), "a release is made on Linux");
    ensure!(!out.exists(), "expected a folder that is not there yet, found {}", out.display());
    fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    for Binary { path, needs } in binaries {
        let stripped = tempfile::Builder::new().prefix("worker-orcd-").tempdir()?;
        let worker = stripped.path().join("worker-orcd");
        if needs.machine == Machine::HERE {
            process::run(Command::new("strip").arg("--strip-debug").arg("-o").arg(&worker).arg(path))
                .context("strip comes with the compiler's binutils")?;
        } else {
            // This machine's strip knows this machine's files. A release is linked without debugging information anyway.
            fs::copy(path, &worker).with_context(|| path.display().to_string())?;
        }
        let sbom = sbom::of_worker(needs.machine.triple)?;
        let release =
            Release { version: sbom.version, needs: *needs, worker, sbom: sbom.text, epoch: epoch()?, level };
        pack(&release.plan(out)?)?;
        write(&out.join(release.sbom_name()), &release.sbom)?;
    }
    write(&out.join("install.sh"), INSTALL)?;
    let mut made = fs::read_dir(out)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    made.sort();
    let mut sums = String::new();
    for path in &made {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        sums += &format!("{}  {name}\n", sha256(path)?);
    }
    let path = out.join("SHA256SUMS");
    write(&path, &sums)?;
    made.push(path);
    Ok(made)
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| path.display().to_string())
}

/// The time of everything in a release, in seconds since 1970. Source: the specification of `SOURCE_DATE_EPOCH`.
fn epoch() -> Result<u64> {
    let text = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text,
        Err(_) => output(Command::new("git").current_dir(root()).args(["log", "-1", "--format=%ct"]))?,
    };
    text.trim().parse().with_context(|| format!("SOURCE_DATE_EPOCH: expected seconds, found {text:?}"))
}

/// Has the archives of a plan written.
fn pack(plan: &serde_json::Value) -> Result<()> {
    let mut child = Command::new(python()?)
        .args(["-c", include_str!("pack.py")])
        .stdin(Stdio::piped())
        .spawn()
        .context("cannot run Python")?;
    child.stdin.take().context("Python has no stdin")?.write_all(plan.to_string().as_bytes())?;
    ensure!(child.wait()?.success(), "the archives could not be written");
    Ok(())
}
