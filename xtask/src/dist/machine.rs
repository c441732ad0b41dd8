//! For which processors are releases made, and what does a binary say that it needs?

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::process::output;

/// A kind of processor, by the names that each packaging format has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    /// Rust's, which the archive's name has too.
    pub(crate) triple: &'static str,
    /// In a wheel's tag.
    pub(super) wheel: &'static str,
    /// A Debian architecture.
    pub(super) debian: &'static str,
    /// In npm's `cpu`.
    pub(super) npm: &'static str,
    /// What `readelf` says.
    elf: &'static str,
    /// What is set for a build.
    pub(crate) environment: Option<(&'static str, &'static str)>,
}

const X86_64: Machine = Machine {
    triple: "x86_64-unknown-linux-gnu",
    wheel: "x86_64",
    debian: "amd64",
    npm: "x64",
    elf: "Advanced Micro Devices X86-64",
    environment: None,
};

/// Kernels for arm64 have pages of 4, 16 or 64 KiB; an allocator that is built for the largest runs on all.
pub(crate) const ARM64: Machine = Machine {
    triple: "aarch64-unknown-linux-gnu",
    wheel: "aarch64",
    debian: "arm64",
    npm: "arm64",
    elf: "AArch64",
    environment: Some(("JEMALLOC_SYS_WITH_LG_PAGE", "16")),
};

impl Machine {
    /// That of this program.
    pub(super) const HERE: Machine = if cfg!(target_arch = "aarch64") { ARM64 } else { X86_64 };

    /// By its name in an option.
    pub(super) fn named(name: &str) -> Result<Machine> {
        match name {
            "x86_64" => Ok(X86_64),
            "aarch64" => Ok(ARM64),
            other => bail!("--arch: expected x86_64 or aarch64, found {other}"),
        }
    }
}

/// What a binary needs of the system that it runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Needs {
    pub(super) machine: Machine,
    /// The newest version of glibc that its symbols are of, as (major, minor).
    pub(super) glibc: (u32, u32),
    /// Whether it has the unwinder of GCC's shared library.
    pub(super) libgcc: bool,
}

impl Needs {
    /// Those of a binary.
    pub(super) fn of(binary: &Path) -> Result<Needs> {
        let mut readelf = Command::new("readelf");
        let said =
            output(readelf.args(["--file-header", "--dynamic", "--version-info", "--wide"]).arg(binary))
                .context("readelf comes with the compiler's binutils")?;
        Needs::read(&said).with_context(|| binary.display().to_string())
    }

    /// From what `readelf` prints.
    fn read(said: &str) -> Result<Needs> {
        let elf =
            said.lines().find_map(|line| line.trim().strip_prefix("Machine:")).unwrap_or_default().trim();
        let machine = [X86_64, ARM64].into_iter().find(|machine| machine.elf == elf);
        let machine =
            machine.with_context(|| format!("expected a binary for x86-64 or arm64, found {elf:?}"))?;
        let mut libgcc = false;
        for line in said.lines().filter(|line| line.contains("(NEEDED)")) {
            let library = line.split(['[', ']']).nth(1).unwrap_or_default();
            let is_libgcc = library == "libgcc_s.so.1";
            libgcc |= is_libgcc;
            let of_glibc = ["libc.so.", "libm.so.", "libpthread.so.", "libdl.so.", "librt.so.", "ld-linux-"];
            ensure!(
                is_libgcc || of_glibc.iter().any(|name| library.starts_with(name)),
                "a release needs glibc and nothing else, this binary needs {library}"
            );
        }
        let versions = said.lines().filter_map(|line| line.split_once("Name: GLIBC_")?.1.split(' ').next());
        let numbers = versions.filter_map(|version| {
            let (major, minor) = version.split_once('.')?;
            Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
        });
        let glibc = numbers.max().context("the binary names no version of glibc")?;
        Ok(Needs { machine, glibc, libgcc })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "
  Machine:                           AArch64
 0x0000000000000001 (NEEDED)             Shared library: [libm.so.6]
 0x0000000000000001 (NEEDED)             Shared library: [ld-linux-aarch64.so.1]
  0x0050:   Name: GLIBC_2.9  Flags: none  Version: 20
  0x0070:   Name: GLIBC_2.28  Flags: none  Version: 7
  0x0060:   Name: GLIBC_2.2.5  Flags: none  Version: 29
  0x0060:   Name: GLIBC_PRIVATE  Flags: none  Version: 30
";

    #[test]
    fn the_newest_glibc_is_compared_by_numbers() {
        let needs = Needs::read(SAID).unwrap();
        assert_eq!(needs, Needs { machine: ARM64, glibc: (2, 28), libgcc: false });
        let newer = SAID.replace("GLIBC_2.9 ", "GLIBC_2.34 ").replace("libm.so.6", "libgcc_s.so.1");
        assert_eq!(Needs::read(&newer).unwrap(), Needs { machine: ARM64, glibc: (2, 34), libgcc: true });
    }

    #[test]
    fn other_libraries_and_processors_are_refused() {
        let error = |said: &str| Needs::read(said).unwrap_err().to_string();
        assert_eq!(
            error(&SAID.replace("libm.so.6", "libssl.so.3")),
            "a release needs glibc and nothing else, this binary needs libssl.so.3"
        );
        assert_eq!(
            error(&SAID.replace("AArch64", "RISC-V")),
            "expected a binary for x86-64 or arm64, found \"RISC-V\""
        );
        assert_eq!(error("Machine: AArch64"), "the binary names no version of glibc");
    }
}
