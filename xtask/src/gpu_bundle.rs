//! How do the GPU tests get onto a machine that has a GPU and nothing else? As a folder with the compiled tests of the CUDA crate and of the
//! worker's command line, the worker, the golden models, and a script that runs the tests and ends with a table.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::process::{cargo, output, root, run, works};

/// Builds what goes into the folder and copies it there; what stood there under the same names is replaced.
pub(crate) fn make(folder: &str, options: &[&str]) -> Result<()> {
    let (mut release, mut golden) = (false, true);
    for &option in options {
        match option {
            "--release" => release = true,
            "--without-golden" => golden = false,
            _ => bail!("gpu-bundle: no such option: {option}"),
        }
    }
    let folder = Path::new(folder);
    let tests = folder.join("tests");
    if tests.exists() {
        fs::remove_dir_all(&tests)?;
    }
    fs::create_dir_all(&tests).with_context(|| format!("cannot make {}", tests.display()))?;
    for (name, executable) in built(&["test", "--no-run", "--package", "cuda"], release)? {
        copy_stripped(&executable, &tests.join(format!("cuda-{name}")))?;
    }
    // Building these tests builds the worker too, which goes elsewhere.
    let of_worker = built(&["test", "--no-run", "--package", "worker-orcd", "--test", "it"], release)?;
    for (_, executable) in of_worker.iter().filter(|(name, _)| name == "it") {
        copy_stripped(executable, &tests.join("worker-it"))?;
    }
    for (name, executable) in built(&["build", "--package", "worker-orcd", "--bins"], release)? {
        copy_stripped(&executable, &folder.join(name))?;
    }
    if golden {
        copy_folder(&root().join("tests/golden"), &folder.join("golden"))?;
    }
    let script = folder.join("run.sh");
    fs::write(&script, include_str!("gpu_bundle.sh"))?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    println!("{} is complete: copy it to a machine with a GPU and start run.sh there", folder.display());
    Ok(())
}

/// Builds with cargo and gives the executables with their names: of a test, its crate's and its own.
fn built(arguments: &[&str], release: bool) -> Result<Vec<(String, PathBuf)>> {
    let mut command = cargo();
    command.args(arguments).args(["--locked", "--message-format", "json-render-diagnostics"]);
    if release {
        command.arg("--release");
    }
    let executables = executables(&output(&mut command)?)?;
    ensure!(!executables.is_empty(), "cargo {} built no executable", arguments.join(" "));
    Ok(executables)
}

/// The executables among cargo's messages, one JSON object a line.
fn executables(messages: &str) -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for line in messages.lines().filter(|line| line.starts_with('{')) {
        let message: Value = serde_json::from_str(line).context("cargo's messages are JSON")?;
        if message["reason"] != "compiler-artifact" {
            continue;
        }
        let (Some(executable), Some(name)) =
            (message["executable"].as_str(), message["target"]["name"].as_str())
        else {
            continue;
        };
        let kind = message["target"]["kind"][0].as_str().unwrap_or_default();
        let name = if kind == "lib" { "unit".to_owned() } else { name.to_owned() };
        found.push((name, PathBuf::from(executable)));
    }
    Ok(found)
}

/// Copies an executable without its symbols, where the machine can take them off: they are most of its size.
fn copy_stripped(from: &Path, to: &Path) -> Result<()> {
    if !works(Command::new("strip").arg("-o").arg(to).arg(from)) {
        fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    }
    Ok(())
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    let names = fs::read_dir(from)?.map(|entry| Ok(entry?.file_name())).collect::<Result<Vec<_>>>()?;
    run(Command::new("cp").arg("-p").args(names.iter().map(|name| from.join(name))).arg(to))
}

#[cfg(test)]
mod tests {
    use super::executables;

    #[test]
    fn executables_are_found_among_cargos_messages() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"cuda","kind":["lib"]},"executable":null}
{"reason":"compiler-artifact","target":{"name":"cuda","kind":["lib"]},"executable":"a/cuda-1"}
{"reason":"compiler-artifact","target":{"name":"it","kind":["test"]},"executable":"a/it-2"}
{"reason":"build-finished","success":true}
"#;
        let found = executables(messages).unwrap();
        let found: Vec<_> =
            found.iter().map(|(name, path)| (name.as_str(), path.to_str().unwrap())).collect();
        assert_eq!(found, [("unit", "a/cuda-1"), ("it", "a/it-2")]);
    }
}
