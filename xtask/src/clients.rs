//! Do the clients that people have work with the server? Installs them, pinned, into `fixtures/clients`, builds the worker, and runs
//! `tests/clients/main.py`, which says what is tried.
//!
//! Five Python environments, as litellm, instructor and frameworks of agents each want an older `openai` than the others and gateways are no
//! clients, and a `node_modules`, which has what drives a browser too. Clients that need much have one each, made where they are named. Each is
//! made anew when its pins change.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::fixtures;
use crate::process::{self, cargo, python, root, works};

/// The pins that a finished installation was made from; written last.
const STAMP: &str = ".pins";

/// Clients that run only where they are named, since what they need is half a gigabyte each.
const NAMED: [&str; 2] = ["litellm-proxy", "lm-eval"];

/// Installs what is missing, builds the worker and runs the clients; arguments choose among them.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let installed = install()?;
    for name in NAMED.iter().filter(|name| arguments.contains(name)) {
        python_packages(&format!("requirements-{name}.txt"), &environment(&installed, name))?;
    }
    process::run(cargo().args(["build", "--locked", "--package", "worker-orcd"]))
        .context("the worker does not build")?;
    try_all(&installed, arguments)
}

/// Runs clients that are installed against the worker as it was last built for debugging.
pub(crate) fn try_all(installed: &Path, arguments: &[&str]) -> Result<()> {
    let model = fixtures::fetch_smollm2()?;
    let worker = process::target_folder()?.join("debug/worker-orcd");
    let mut command = Command::new(environment(installed, "python").join("bin/python"));
    command.arg(source().join("main.py")).arg("--worker").arg(worker).arg("--model").arg(model);
    command.arg("--installed").arg(installed).args(arguments).env("PYTHONDONTWRITEBYTECODE", "1");
    process::run(command.stdin(Stdio::null())).context("some client did not get what it should")
}

/// Makes sure that the clients are there, and gives their folder.
pub(crate) fn install() -> Result<PathBuf> {
    let folder = folder()?;
    python_packages("requirements.txt", &environment(&folder, "python"))?;
    python_packages("requirements-litellm.txt", &environment(&folder, "litellm"))?;
    python_packages("requirements-typed.txt", &environment(&folder, "typed"))?;
    python_packages("requirements-agents.txt", &environment(&folder, "agents"))?;
    python_packages("requirements-gateways.txt", &environment(&folder, "gateways"))?;
    node_packages(&folder)?;
    Ok(folder)
}

/// Makes sure that the packages of Node.js are there, and gives their folder.
pub(crate) fn node_modules() -> Result<PathBuf> {
    let folder = folder()?;
    node_packages(&folder)?;
    Ok(folder.join("node_modules"))
}

fn folder() -> Result<PathBuf> {
    let folder = fixtures::folder()?.join("clients");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

fn source() -> PathBuf {
    root().join("tests/clients")
}

fn environment(folder: &Path, name: &str) -> PathBuf {
    folder.join(name)
}

/// An environment with just these packages. The list is complete, so nothing is resolved, and only wheels are taken, so nothing is built but what the
/// list names.
fn python_packages(pins: &str, folder: &Path) -> Result<()> {
    let path = source().join(pins);
    let text = fs::read_to_string(&path)?;
    if is_installed(folder, &text) {
        return Ok(());
    }
    println!("Installing the Python clients of tests/clients/{pins}");
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    process::run(Command::new(python()?).args(["-m", "venv"]).arg(folder))
        .context("cannot make a Python environment (on Debian and Ubuntu: apt install python3-venv)")?;
    let mut pip = Command::new(folder.join("bin/python"));
    pip.args(["-m", "pip", "install", "--no-deps", "--only-binary", ":all:", "--no-compile", "--quiet"]);
    pip.args(["--disable-pip-version-check", "--no-input", "--requirement"]).arg(path);
    process::run(pip.stdin(Stdio::null()))
        .with_context(|| format!("pip could not install what tests/clients/{pins} asks for"))?;
    Ok(fs::write(folder.join(STAMP), text)?)
}

/// `node_modules` as the lock file says. Scripts of packages are not run.
fn node_packages(folder: &Path) -> Result<()> {
    let lock = fs::read_to_string(source().join("package-lock.json"))?;
    let modules = folder.join("node_modules");
    if is_installed(&modules, &lock) {
        return Ok(());
    }
    ensure!(
        works(Command::new("npm").arg("--version")),
        "found no npm, with which Node.js clients are fetched (it comes with Node.js)"
    );
    println!("Installing the Node.js clients of tests/clients/package-lock.json");
    for name in ["package.json", "package-lock.json"] {
        fs::copy(source().join(name), folder.join(name))?;
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]).current_dir(folder);
    process::run(npm.stdin(Stdio::null()))
        .context("npm could not install what tests/clients/package-lock.json asks for")?;
    Ok(fs::write(modules.join(STAMP), lock)?)
}

fn is_installed(folder: &Path, pins: &str) -> bool {
    fs::read_to_string(folder.join(STAMP)).is_ok_and(|stamp| stamp == pins)
}
