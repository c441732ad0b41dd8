//! What lies where in the archives of a release? The list that `pack.py` writes them from.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::machine::Needs;
use crate::process::root;

const SUMMARY: &str = "Run one GGUF language model on one device, in the terminal or as a server";
const LICENCES: [&str; 2] = ["LICENSE-APACHE", "LICENSE-MIT"];

/// What a release is made of.
pub(super) struct Release {
    pub(super) version: String,
    /// Without debugging information.
    pub(super) worker: PathBuf,
    pub(super) needs: Needs,
    /// CycloneDX.
    pub(super) sbom: String,
    /// Seconds since 1970.
    pub(super) epoch: u64,
    /// Of compression, 1 to 9.
    pub(super) level: u32,
}

impl Release {
    pub(super) fn sbom_name(&self) -> String {
        format!("worker-orcd-{}-{}.cdx.json", self.version, self.needs.machine.triple)
    }

    /// The archives with their entries, as paths or texts.
    pub(super) fn plan(&self, out: &Path) -> Result<Value> {
        let Release { version, needs: Needs { machine, glibc: (major, minor), .. }, .. } = self;
        let name = format!("worker-orcd-{version}-{}", machine.triple);
        let tag = format!("py3-none-manylinux_{major}_{minor}_{}", machine.wheel);
        let archives = json!([
            {
                "kind": "tar.gz",
                "path": out.join(format!("{name}.tar.gz")),
                "entries": self.archive(&name)?,
            },
            {
                "kind": "wheel",
                "path": out.join(format!("worker_orcd-{version}-{tag}.whl")),
                "record": format!("worker_orcd-{version}.dist-info/RECORD"),
                "entries": self.wheel(&tag)?,
            },
            {
                "kind": "tar.gz",
                "path": out.join(format!("worker-orcd-{version}-linux-{}.tgz", machine.npm)),
                "entries": self.npm()?,
            },
            {
                "kind": "deb",
                "path": out.join(format!("worker-orcd_{version}_{}.deb", machine.debian)),
                "control": [text("./control", &self.control()?)],
                "entries": self.debian()?,
            },
        ]);
        Ok(json!({ "epoch": self.epoch, "level": self.level, "archives": archives }))
    }

    fn archive(&self, folder: &str) -> Result<Vec<Value>> {
        let mut entries = vec![self.program(&format!("{folder}/worker-orcd"))];
        for name in ["CHANGELOG.md", "README.md", "deploy/worker-orcd.service", "deploy/worker-orcd.toml"] {
            entries.push(file(&format!("{folder}/{name}"), &root().join(name)));
        }
        entries.extend(licences(&format!("{folder}/")));
        entries.push(text(&format!("{folder}/{}", self.sbom_name()), &self.sbom));
        Ok(entries)
    }

    /// Sources: "Binary distribution format" and "Core metadata" of the Python packaging guide; PEP 639 for licences, PEP 770 for the SBOM.
    fn wheel(&self, tag: &str) -> Result<Vec<Value>> {
        let version = &self.version;
        let readme = std::fs::read_to_string(root().join("README.md")).context("README.md")?;
        let named = LICENCES.map(|name| format!("License-File: {name}\n")).concat();
        let metadata = format!(
            "Metadata-Version: 2.4\nName: worker-orcd\nVersion: {version}\nSummary: {SUMMARY}\n\
             License-Expression: Apache-2.0 OR MIT\n{named}Description-Content-Type: text/markdown\n\n{readme}"
        );
        let wheel =
            format!("Wheel-Version: 1.0\nGenerator: worker-orcd xtask\nRoot-Is-Purelib: false\nTag: {tag}\n");
        let info = format!("worker_orcd-{version}.dist-info");
        let mut entries = vec![
            self.program(&format!("worker_orcd-{version}.data/scripts/worker-orcd")),
            text(&format!("{info}/METADATA"), &metadata),
            text(&format!("{info}/WHEEL"), &wheel),
            text(&format!("{info}/sboms/{}", self.sbom_name()), &self.sbom),
        ];
        entries.extend(licences(&format!("{info}/licenses/")));
        Ok(entries)
    }

    /// Source: "package.json" and "npm pack" of npm's documentation: a gzipped tar archive of the folder `package`.
    fn npm(&self) -> Result<Vec<Value>> {
        let package = json!({
            "name": "worker-orcd",
            "version": self.version,
            "description": SUMMARY,
            "license": "(Apache-2.0 OR MIT)",
            "bin": { "worker-orcd": "worker-orcd" },
            "os": ["linux"],
            "cpu": [self.needs.machine.npm],
            "libc": ["glibc"],
        });
        let mut entries = vec![
            self.program("package/worker-orcd"),
            text("package/package.json", &(serde_json::to_string_pretty(&package)? + "\n")),
            file("package/README.md", &root().join("README.md")),
            text(&format!("package/{}", self.sbom_name()), &self.sbom),
        ];
        entries.extend(licences("package/"));
        Ok(entries)
    }

    /// Source: deb(5), deb-control(5) and the Debian Policy Manual.
    fn debian(&self) -> Result<Vec<Value>> {
        let folder = "./usr/share/doc/worker-orcd";
        let mut copyright = "License: Apache-2.0 or MIT\n".to_owned();
        for name in LICENCES {
            let licence = std::fs::read_to_string(root().join(name)).with_context(|| name.to_owned())?;
            copyright += &format!("\n{name}:\n\n{licence}");
        }
        Ok(vec![
            self.program("./usr/bin/worker-orcd"),
            text(&format!("{folder}/copyright"), &copyright),
            text(&format!("{folder}/{}", self.sbom_name()), &self.sbom),
            file(
                &format!("{folder}/examples/worker-orcd.service"),
                &root().join("deploy/worker-orcd.service"),
            ),
            file(&format!("{folder}/examples/worker-orcd.toml"), &root().join("deploy/worker-orcd.toml")),
        ])
    }

    fn control(&self) -> Result<String> {
        let Needs { machine, glibc: (major, minor), libgcc } = self.needs;
        // It was renamed in Debian 11.
        let libgcc = if libgcc { ", libgcc-s1 | libgcc1" } else { "" };
        let kib = std::fs::metadata(&self.worker).context("the binary")?.len().div_ceil(1024);
        Ok(format!(
            "Package: worker-orcd\nVersion: {}\nArchitecture: {}\nMaintainer: The worker-orcd authors\n\
             Installed-Size: {kib}\nDepends: libc6 (>= {major}.{minor}){libgcc}\nSection: utils\nPriority: optional\n\
             Description: {SUMMARY}\n The whole model is in the memory of that device, or it is refused. GPUs need NVIDIA's driver\n \
             and nothing else.\n",
            self.version, machine.debian
        ))
    }

    fn program(&self, name: &str) -> Value {
        json!({ "name": name, "mode": 0o755, "source": self.worker })
    }
}

fn licences(folder: &str) -> [Value; 2] {
    LICENCES.map(|name| file(&format!("{folder}{name}"), &root().join(name)))
}

fn file(name: &str, source: &Path) -> Value {
    json!({ "name": name, "mode": 0o644, "source": source })
}

fn text(name: &str, text: &str) -> Value {
    json!({ "name": name, "mode": 0o644, "text": text })
}
