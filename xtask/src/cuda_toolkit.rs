//! Where does a machine without CUDA get its compiler? From NVIDIA's wheels on the Python package index, pinned by hash, installed into
//! `.cuda-toolkit/` in the repository. They need no GPU, no driver and no rights, but the host's own C++ compiler.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, Result, bail};

use crate::download;
use crate::process::{root, works};

const PINS: &str = "cuda.txt";

/// The list of what is installed; it stands in the folder, beside the packages.
const STAMP: &str = "pins.txt";

/// Installs the compiler, unless just this one is there.
pub(crate) fn install() -> Result<()> {
    if !cfg!(target_os = "linux") {
        bail!("NVIDIA publishes these wheels for Linux and Windows; only Linux is supported here");
    }
    let folder = root().join(".cuda-toolkit");
    let pins = fs::read_to_string(root().join("xtask/pins").join(PINS))?;
    let installed = fs::read_to_string(folder.join(STAMP)).is_ok_and(|stamp| stamp == pins);
    if installed && works(Command::new(nvcc()).arg("--version")) {
        println!("The CUDA compiler is {}", nvcc().display());
        return Ok(());
    }
    println!("Installing the CUDA compiler (105 MB to fetch, 271 MB on the disk)");
    let work = tempfile::Builder::new().prefix(".cuda-toolkit-").tempdir_in(root())?;
    let new = work.path().join("toolkit");
    download::install(PINS, &new)?;
    fs::write(new.join(STAMP), pins)?;
    if folder.exists() {
        fs::rename(&folder, work.path().join("old"))?;
    }
    fs::rename(&new, &folder).with_context(|| format!("cannot move to {}", folder.display()))?;
    if !works(Command::new(nvcc()).arg("--version")) {
        bail!("{} does not run", nvcc().display());
    }
    // A build that found no compiler is up to date until a file it watches changes: it cannot watch one that is not there.
    let build_script = root().join("crates/cuda/build.rs");
    File::options().append(true).open(build_script)?.set_modified(SystemTime::now())?;
    println!("The CUDA compiler is {}", nvcc().display());
    Ok(())
}

fn nvcc() -> PathBuf {
    root().join(".cuda-toolkit/nvidia/cu13/bin/nvcc")
}
