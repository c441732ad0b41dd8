//! How is a release's binary built? Against an old glibc, so that it runs where an old one is, and with no path of this machine in it.
//!
//! cargo-zigbuild has Zig compile the C parts and link with a table of the symbols that an old glibc had. Everything else is cargo's own. The
//! kernels for GPUs do not depend on the processor that the worker runs on, and are compiled once for all of them.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};

use super::machine::Machine;
use crate::process::{self, root, works};
use crate::toolkit;

/// The newest glibc that a release may need: that of Debian 10, RHEL 8 and Amazon Linux 2023's predecessors.
pub(super) const GLIBC: (u32, u32) = (2, 28);

/// Builds the worker for a kind of processor; the binary's path.
pub(super) fn build(machine: Machine) -> Result<PathBuf> {
    let started = Instant::now();
    let toolkit = toolkit::zig()?;
    let target = process::target_folder()?;
    add_target(machine)?;
    println!(
        "Building worker-orcd for {}; without a warm target folder this takes many minutes",
        machine.triple
    );
    let (major, minor) = GLIBC;
    let mut zigbuild = std::process::Command::new(toolkit.join("bin/cargo-zigbuild"));
    process::as_from_a_shell(&mut zigbuild);
    zigbuild
        .env("CARGO_ZIGBUILD_ZIG_COMMAND", toolkit.join("ziglang/zig"))
        .env("CARGO_ZIGBUILD_CACHE_DIR", target.join("zig-cache/cargo-zigbuild"))
        .env("ZIG_GLOBAL_CACHE_DIR", target.join("zig-cache/zig"))
        .args(["zigbuild", "--release", "--locked", "--package", "worker-orcd"])
        .arg(format!("--target={}.{major}.{minor}", machine.triple))
        .args(["--config", &remapped()?]);
    if let Some((name, value)) = machine.environment {
        zigbuild.env(name, value);
    }
    process::run(&mut zigbuild).context("the worker does not build")?;
    println!("Built in {} s", started.elapsed().as_secs());
    Ok(target.join(machine.triple).join("release/worker-orcd"))
}

/// Has rustup fetch the standard library, where there is a rustup; without it, it must be there.
pub(crate) fn add_target(machine: Machine) -> Result<()> {
    let mut rustup = std::process::Command::new("rustup");
    if works(std::process::Command::new("rustup").arg("--version")) {
        process::run(rustup.current_dir(root()).args(["target", "add", machine.triple]))?;
    }
    Ok(())
}

/// The flags that keep this machine's paths out of the binary, as a setting of cargo's.
fn remapped() -> Result<String> {
    let home = std::env::var("CARGO_HOME").map_or_else(
        |_| std::env::home_dir().context("there is no home folder").map(|home| home.join(".cargo")),
        |home| Ok(home.into()),
    )?;
    let remap = |from: &Path, to: &str| format!("\"--remap-path-prefix={}={to}\"", from.display());
    Ok(format!("build.rustflags=[{},{}]", remap(&home, "/cargo"), remap(root(), "/worker-orcd")))
}
