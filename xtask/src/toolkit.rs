//! Where does a machine without a compiler get one? From wheels on the Python package index, pinned by hash, installed into a folder of the
//! repository. They need no GPU, no driver and no rights. nvcc also needs the host's own C++ compiler.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, Result, bail};

use crate::download;
use crate::process::{root, works};

/// The list of what is installed; it stands in the folder, beside the packages.
const STAMP: &str = "pins.txt";

/// Wheels with programs, and where they go.
struct Toolkit {
    what: &'static str,
    /// To fetch, and on the disk.
    sizes: &'static str,
    /// The requirements, in `xtask/pins`.
    pins: &'static str,
    /// Of the repository.
    folder: &'static str,
    /// Programs in the folder, with an argument that makes each say its version.
    programs: &'static [(&'static str, &'static str)],
}

const CUDA: Toolkit = Toolkit {
    what: "CUDA compiler",
    sizes: "105 MB to fetch, 271 MB on the disk",
    pins: "cuda.txt",
    folder: ".cuda-toolkit",
    programs: &[("nvidia/cu13/bin/nvcc", "--version")],
};

const ZIG: Toolkit = Toolkit {
    what: "Zig compiler, which links for an old glibc",
    sizes: "103 MB to fetch, 415 MB on the disk",
    pins: "zig.txt",
    folder: ".zig-toolkit",
    programs: &[("ziglang/zig", "version"), ("bin/cargo-zigbuild", "--version")],
};

/// Installs nvcc, unless just this one is there.
pub(crate) fn install_cuda() -> Result<()> {
    let (folder, is_new) = CUDA.install()?;
    if is_new {
        // A build that found no compiler is up to date until a file it watches changes: it cannot watch one that is not there.
        let build_script = root().join("crates/cuda/build.rs");
        File::options().append(true).open(build_script)?.set_modified(SystemTime::now())?;
    }
    println!("The CUDA compiler is {}", folder.join(CUDA.programs[0].0).display());
    Ok(())
}

/// The folder with `ziglang/zig` and `bin/cargo-zigbuild`, which are installed there unless they are.
pub(crate) fn zig() -> Result<PathBuf> {
    Ok(ZIG.install()?.0)
}

impl Toolkit {
    /// The folder, and whether it is new.
    fn install(&self) -> Result<(PathBuf, bool)> {
        if !cfg!(target_os = "linux") {
            bail!("the {} is installed on Linux alone", self.what);
        }
        let folder = root().join(self.folder);
        let pins = fs::read_to_string(root().join("xtask/pins").join(self.pins))?;
        let broken = || {
            let mut programs = self.programs.iter();
            programs.find(|(program, argument)| !works(Command::new(folder.join(program)).arg(argument)))
        };
        let installed = fs::read_to_string(folder.join(STAMP)).is_ok_and(|stamp| stamp == pins);
        if installed && broken().is_none() {
            return Ok((folder, false));
        }
        println!("Installing the {} ({})", self.what, self.sizes);
        let work = tempfile::Builder::new().prefix(&format!("{}-", self.folder)).tempdir_in(root())?;
        let new = work.path().join("toolkit");
        download::install(self.pins, &new)?;
        fs::write(new.join(STAMP), pins)?;
        if folder.exists() {
            fs::rename(&folder, work.path().join("old"))?;
        }
        fs::rename(&new, &folder).with_context(|| format!("cannot move to {}", folder.display()))?;
        if let Some((program, _)) = broken() {
            bail!("{} does not run", folder.join(program).display());
        }
        Ok((folder, true))
    }
}
