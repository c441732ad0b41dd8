//! Does the page work in a real browser? Builds the worker and runs `tests/page`, which drives Chromium over the page of a server with a real model.
//!
//! The browser is the machine's own; what drives it comes with the Node.js clients.

use std::env;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::process::{self, cargo, root, works};
use crate::{clients, fixtures};

/// Names of the browser, in the order in which they are tried.
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// What the checks need beside a worker and a model.
pub(crate) struct Installed {
    browser: PathBuf,
    node_modules: PathBuf,
}

/// Finds the browser, and makes sure that what drives it is there.
pub(crate) fn install() -> Result<Installed> {
    let browser = browser()?;
    Ok(Installed { browser, node_modules: clients::node_modules()? })
}

/// Builds the worker and runs the checks whose names match a pattern, or all; pictures of the page go to a folder.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let installed = install()?;
    process::run(cargo().args(["build", "--locked", "--package", "worker-orcd"]))
        .context("the worker does not build")?;
    try_all(&installed, arguments)
}

/// Runs the checks against the worker as it was last built for debugging.
pub(crate) fn try_all(installed: &Installed, arguments: &[&str]) -> Result<()> {
    // As with the other tests: a browser waits for much, on machines that are shared.
    if let Err(error) = try_once(installed, arguments) {
        eprintln!("warning: {error:#}; the page's checks run a second time");
        return try_once(installed, arguments);
    }
    Ok(())
}

fn try_once(installed: &Installed, arguments: &[&str]) -> Result<()> {
    let model = fixtures::fetch_smollm2()?;
    let mut node = Command::new("node");
    // The checks of trouble mostly wait, and have servers of their own.
    node.args(["--test", "--test-concurrency=2", "--test-reporter=spec"]);
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match *word {
            "--pictures" => {
                let folder = words.next().context("--pictures needs a folder")?;
                node.env("PAGE_SHOTS", std::path::absolute(folder)?);
            }
            name => {
                node.arg(format!("--test-name-pattern={name}"));
            }
        }
    }
    node.args(["main.mjs", "trouble.mjs"].map(|name| root().join("tests/page").join(name)));
    node.env("PAGE_WORKER", process::target_folder()?.join("debug/worker-orcd")).env("PAGE_MODEL", model);
    node.env("PAGE_CHROMIUM", &installed.browser).env("PAGE_NODE_MODULES", &installed.node_modules);
    process::run(node.stdin(Stdio::null())).context("the page does not do what it should")
}

/// The whole path of `$CHROMIUM`, or of the first browser that runs.
fn browser() -> Result<PathBuf> {
    let named = env::var("CHROMIUM");
    let names = named.as_ref().map_or_else(|_| BROWSERS.to_vec(), |name| vec![name.as_str()]);
    let folders: Vec<PathBuf> = env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect();
    // A name that is a path already stays what it is.
    let mut paths = names.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    paths.find(|path| works(Command::new(path).arg("--version"))).with_context(|| {
        format!(
            "found no Chromium to try the page in: {} (on Debian and Ubuntu: apt install chromium)",
            names.join(", ")
        )
    })
}
