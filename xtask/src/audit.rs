//! Checks licences, sources, duplicates and known vulnerabilities of all dependencies with cargo-deny and `deny.toml`.

use anyhow::{Context, Result};

use crate::process::{self, cargo, works};

/// Runs cargo-deny, which it installs first where it is missing.
pub(crate) fn run() -> Result<()> {
    if !works(cargo().args(["deny", "--version"])) {
        println!("Installing cargo-deny");
        process::run(cargo().args(["install", "cargo-deny", "--locked"]))
            .context("cannot install cargo-deny")?;
    }
    process::run(cargo().args(["deny", "check", "--hide-inclusion-graph", "bans", "licenses", "sources"]))
        .context("see deny.toml for the policy")?;
    if !works(cargo().args(["deny", "fetch", "db"])) {
        println!("Advisories were not checked: the advisory database cannot be reached from here.");
        return Ok(());
    }
    process::run(cargo().args(["deny", "check", "advisories"]))
        .context("a dependency has a known vulnerability")
}
