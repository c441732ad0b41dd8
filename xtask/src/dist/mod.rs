//! What does a release consist of? An archive with the binary, a Python wheel, a Debian package, the list of parts (SBOM), a script that installs
//! and the hashes of all.
//!
//! The same binary gives the same bytes: entries are sorted, owned by root and have the time of the commit (`SOURCE_DATE_EPOCH` names another).
//! maturin and cargo-deb would each compile the worker again, in their own way; the formats are small, so `pack.py` writes them from one
//! list. What the binary needs of glibc is read from it and becomes the wheel's tag and the package's dependency.

mod plan;
mod sbom;
mod trial;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use self::plan::Release;
use crate::fixtures::sha256;
use crate::process::{self, cargo, output, python, root};

/// The script that installs.
const INSTALL: &str = include_str!("../../../deploy/install.sh");

/// What the command line asks for.
struct Options {
    binary: Option<PathBuf>,
    out: Option<PathBuf>,
    /// Of compression, 1 (fast) to 9 (small).
    level: u32,
    is_tried: bool,
}

/// Makes a release of the given binary, or of one that is built now; with `--try` installs it in each way and asks for an answer.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    let options = Options::parse(words)?;
    let out = match options.out {
        Some(out) => out,
        None => emptied(process::target_folder()?.join("dist"))?,
    };
    let binary = options.binary.map_or_else(build, |path| Ok(std::path::absolute(path)?))?;
    let made = make(&binary, &out, options.level)?;
    for path in &made {
        println!("{:>12} bytes  {}", fs::metadata(path)?.len(), path.display());
    }
    if options.is_tried {
        trial::run(&binary, &out, options.level)?;
    }
    Ok(())
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
        let mut options = Options { binary: None, out: None, level: 6, is_tried: false };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} has no value"));
            match *word {
                "--binary" => options.binary = Some(PathBuf::from(value()?)),
                "--out" => options.out = Some(PathBuf::from(value()?)),
                "--level" => {
                    options.level = value()?
                        .parse()
                        .ok()
                        .filter(|level| (1..=9).contains(level))
                        .context("--level: expected 1 (fast) to 9 (small)")?;
                }
                "--try" => options.is_tried = true,
                other => bail!("expected --binary FILE, --out FOLDER, --level N or --try, found {other}"),
            }
        }
        Ok(options)
    }
}

/// Builds the release's binary, with no path of this machine in it.
fn build() -> Result<PathBuf> {
    println!("Building worker-orcd (release); without a warm target folder this takes many minutes");
    let home = std::env::var("CARGO_HOME").map_or_else(
        |_| std::env::home_dir().context("there is no home folder").map(|home| home.join(".cargo")),
        |home| Ok(home.into()),
    )?;
    let remap = |from: &Path, to: &str| format!("\"--remap-path-prefix={}={to}\"", from.display());
    let flags = [remap(&home, "/cargo"), remap(root(), "/worker-orcd")].join(",");
    let flags = format!("build.rustflags=[{flags}]");
    process::run(cargo().args([
        "build",
        "--release",
        "--locked",
        "--package",
        "worker-orcd",
        "--config",
        &flags,
    ]))
    .context("the worker does not build")?;
    Ok(process::target_folder()?.join("release/worker-orcd"))
}

/// Makes all files of a release in a new folder; their paths.
fn make(binary: &Path, out: &Path, level: u32) -> Result<Vec<PathBuf>> {
    ensure!(cfg!(all(target_os = "linux", target_arch = "x86_64")), "a release is made on Linux on x86-64");
    ensure!(!out.exists(), "expected a folder that is not there yet, found {}", out.display());
    fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    let stripped = tempfile::Builder::new().prefix("worker-orcd-").tempdir()?;
    let worker = stripped.path().join("worker-orcd");
    process::run(Command::new("strip").arg("--strip-debug").arg("-o").arg(&worker).arg(binary))
        .context("strip comes with the compiler's binutils")?;
    let sbom = sbom::of_worker()?;
    let release = Release {
        version: sbom.version.clone(),
        glibc: glibc_needed(&fs::read(&worker)?).context("the binary names no version of glibc")?,
        worker,
        sbom: sbom.text,
        epoch: epoch()?,
        level,
    };
    pack(&release.plan(out)?)?;
    write(&out.join(release.sbom_name()), &release.sbom)?;
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

/// The newest version of glibc that symbols of a binary are of, as (major, minor).
fn glibc_needed(binary: &[u8]) -> Option<(u32, u32)> {
    const MARK: &[u8] = b"GLIBC_";
    let places = binary.windows(MARK.len()).enumerate().filter(|(_, bytes)| *bytes == MARK);
    let version = |at: usize| {
        let rest = binary.get(at + MARK.len()..)?;
        let end = rest.iter().position(|b| !b.is_ascii_digit() && *b != b'.')?;
        let (major, minor) = std::str::from_utf8(&rest[..end]).ok()?.split_once('.')?;
        Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
    };
    places.filter_map(|(at, _)| version(at)).max()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_glibc_is_compared_by_numbers() {
        assert_eq!(glibc_needed(b"\0GLIBC_2.9\0GLIBC_2.34\0GLIBC_2.2.5\0GLIBC_PRIVATE\0"), Some((2, 34)));
        assert_eq!(glibc_needed(b"static"), None);
    }
}
