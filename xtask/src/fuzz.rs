//! Do the readers of hostile input hold for mutated seeds? Builds `crates/fuzzing` with the compiler at hand and runs each target in a process
//! of its own, whose memory is bounded.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use crate::process::{self, cargo, root, target_folder};

/// KiB of address space that a target's process has.
const MEMORY_KIB: u64 = 4 << 20;

/// Seconds for each target, where none are named.
const SECONDS: u64 = 20;

/// What to run.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    names: Vec<String>,
    seconds: u64,
    seed: u64,
}

/// Runs the targets that are named, or all, as many at once as there are processors; one that fails does not keep the others from running.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let plan = plan(arguments)?;
    let all = targets()?;
    if let Some(unknown) = plan.names.iter().find(|name| !all.contains(name)) {
        bail!("there is no target {unknown}: there are {}", all.join(", "));
    }
    // Of the whole workspace, so that dependencies have the features that they were built with.
    process::run(cargo().args(["build", "--locked", "--workspace", "--bin", "fuzzing"]))
        .context("the targets do not build")?;
    let program = target_folder()?.join("debug/fuzzing");
    let chosen = if plan.names.is_empty() { &all } else { &plan.names };
    let (rest, failed) = (Mutex::new(chosen.iter()), Mutex::new(Vec::new()));
    let next = || rest.lock().ok()?.next();
    let work = || {
        while let Some(name) = next() {
            if let Err(error) = try_target(&program, name, &plan) {
                println!("{name}: FAILED: {error:#}");
                failed.lock().expect("a list that no panic leaves half").push(name.as_str());
            }
        }
    };
    let n_thread = thread::available_parallelism().map_or(1, usize::from).min(chosen.len());
    thread::scope(|scope| (0..n_thread).for_each(|_| drop(scope.spawn(work))));
    let failed = failed.into_inner().expect("a list that no panic leaves half");
    ensure!(failed.is_empty(), "some inputs broke what must hold: {}", failed.join(", "));
    Ok(())
}

/// Names and their numbers, in any order.
fn plan(arguments: &[&str]) -> Result<Plan> {
    let mut plan = Plan { names: Vec::new(), seconds: SECONDS, seed: 1 };
    let mut words = arguments.iter();
    while let Some(&word) = words.next() {
        let mut number = || {
            let value = words.next().with_context(|| format!("{word} wants a number"))?;
            value.parse().with_context(|| format!("{word} wants a whole number, found {value:?}"))
        };
        match word {
            "--seconds" => plan.seconds = number()?,
            "--seed" => plan.seed = number()?,
            option if option.starts_with('-') => {
                bail!("expected --seconds, --seed or a target, found {option}")
            }
            name => plan.names.push(name.to_owned()),
        }
    }
    Ok(plan)
}

/// A target is a folder of seeds.
fn targets() -> Result<Vec<String>> {
    let folder = root().join("fuzz/seeds");
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn try_target(program: &Path, name: &str, plan: &Plan) -> Result<()> {
    let folder = root().join("fuzz/artifacts").join(name);
    fs::create_dir_all(&folder)?;
    let current = folder.join("current");
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -v {MEMORY_KIB}; ulimit -c 0; exec \"$0\" \"$@\"")]).arg(program);
    command.arg(name).args(["--seconds", &plan.seconds.to_string(), "--seed", &plan.seed.to_string()]);
    command.arg("--seeds").arg(root().join("fuzz/seeds").join(name)).arg("--current").arg(&current);
    let status = command.stdin(Stdio::null()).current_dir(root()).status().context("cannot run sh")?;
    if status.success() {
        return Ok(());
    }
    if !current.exists() {
        bail!("it ended before its first input ({status})");
    }
    let kept = folder.join(format!("failed-{}", name_of(&fs::read(&current)?)));
    fs::rename(&current, &kept)?;
    bail!("{status}; to repeat it:\n    {} {name} {}", program.display(), kept.display())
}

/// The beginning of its hash.
fn name_of(input: &[u8]) -> String {
    Sha256::digest(input)[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_told_apart() {
        let names = vec!["http".to_owned(), "keys".to_owned()];
        assert_eq!(
            plan(&["http", "--seconds", "5", "keys", "--seed", "9"]).unwrap(),
            Plan { names, seconds: 5, seed: 9 }
        );
        assert_eq!(plan(&[]).unwrap(), Plan { names: Vec::new(), seconds: SECONDS, seed: 1 });
        for wrong in [&["--seconds"][..], &["--seed", "x"], &["--minutes", "1"]] {
            assert!(plan(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn each_target_has_seeds_a_program_and_its_properties() {
        for name in targets().unwrap() {
            for path in
                [format!("fuzz/fuzz_targets/{name}.rs"), format!("crates/fuzzing/src/targets/{name}.rs")]
            {
                assert!(root().join(&path).exists(), "{path}");
            }
            let seeds = fs::read_dir(root().join("fuzz/seeds").join(&name)).unwrap();
            let n_bytes: u64 = seeds.map(|seed| seed.unwrap().metadata().unwrap().len()).sum();
            assert!((1..1 << 18).contains(&n_bytes), "{name}: {n_bytes} bytes of seeds");
        }
    }
}
