//! Compiles the kernels ahead of time, when the machine has a CUDA compiler, and embeds them.
//!
//! Each file `*.cu` under `kernels/` becomes one fat binary with machine code for every target; `modules.rs` in `OUT_DIR` lists them by the
//! files' names without folder and extension, of which no two are the same. Without nvcc the build succeeds with a warning and an empty list.
//! What was compiled is kept under the hash of all that went into it, so that only what changed is compiled again, and once for all of
//! cargo's builds of a profile: with other packages or features chosen, this script runs anew.
//!
//! Environment: `NVCC` or `CUDA_HOME` name the compiler; `WORKER_ORCD_CUDA_TARGETS` is `dev`, `release`, `check` or a list such as
//! `89,90a+ptx` (see `build/recipe.rs`). Unset, it is `release` for release builds and `dev` for all others. With `check` kernels are
//! compiled without optimisation and no GPU runs them.

#[path = "build/recipe.rs"]
mod recipe;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use recipe::{CHECK, KERNELS, Recipe, Target};

/// Where `cargo xtask cuda-toolkit` puts the compiler, relative to the workspace's root.
const TOOLKIT: &str = ".cuda-toolkit/nvidia/cu13/bin/nvcc";

const TARGETS: &str = "WORKER_ORCD_CUDA_TARGETS";

fn main() {
    for name in ["NVCC", "CUDA_HOME", TARGETS] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    for path in ["build.rs", "build/recipe.rs", KERNELS] {
        println!("cargo::rerun-if-changed={path}");
    }
    if let Err(message) = build() {
        for line in message.lines() {
            println!("cargo::error={line}");
        }
        std::process::exit(1);
    }
}

fn build() -> Result<(), String> {
    let out = PathBuf::from(variable("OUT_DIR")?);
    let Some((nvcc, version)) = find_nvcc() else {
        println!(
            "cargo::warning=found no nvcc (in $NVCC, $CUDA_HOME/bin, PATH or .cuda-toolkit), so this build has no CUDA kernels and runs \
             on processors alone; `cargo xtask cuda-toolkit` installs one into the repository"
        );
        return write(&out.join("modules.rs"), &list_of_modules(&[], None));
    };
    let release = variable("PROFILE")? == "release";
    let wanted = std::env::var(TARGETS).ok().filter(|targets| !targets.is_empty());
    let wanted = wanted.unwrap_or_else(|| if release { "release" } else { "dev" }.to_owned());
    let targets = Target::parse_list(&wanted).map_err(|error| format!("{TARGETS}: {error}"))?;
    let is_check = wanted == CHECK;
    if is_check && release {
        return Err(format!(
            "{TARGETS}={CHECK} compiles kernels that no GPU runs: expected architectures for a release build"
        ));
    }
    let names: Vec<String> = match is_check {
        // No architecture's name, so that no GPU is taken for one that these kernels are for.
        true => vec![CHECK.to_owned()],
        false => targets.iter().map(ToString::to_string).collect(),
    };
    // Of its own, so that changing the targets back and forth compiles nothing twice.
    let fatbins = kept(&out).join(names.join("-"));
    fs::create_dir_all(&fatbins).map_err(|error| format!("cannot make {}: {error}", fatbins.display()))?;
    let recipe = Recipe { nvcc_version: version, targets, line_info: !release, is_check };
    let mut sources = BTreeMap::new();
    read_sources(Path::new(KERNELS), "", &mut sources)?;
    recipe::check_includes(&sources)?;
    let kernels: Vec<Kernel> = recipe::modules(&sources)?
        .into_iter()
        .map(|(name, source)| {
            let hash = recipe.hash(&source, &sources);
            Kernel { fatbin: fatbins.join(format!("{name}-{hash:016x}.fatbin")), name, source }
        })
        .collect();
    compile_all(&nvcc, &recipe, &kernels, &sources)?;
    remove_stale(&fatbins, &kernels);
    write(&out.join("modules.rs"), &list_of_modules(&kernels, Some(&names)))
}

/// Where results are kept: a folder of the profile, whose builds cargo lets in one by one; else the script's own. A build for another kind of
/// processor (`--target`) uses the same one, since kernels do not depend on it, and cargo holds the profile's lock then too.
fn kept(out: &Path) -> PathBuf {
    // target/PROFILE/build/cuda-HASH/out, or target/TRIPLE/PROFILE/build/cuda-HASH/out
    let (Some(build), Some(profile)) = (out.ancestors().nth(2), out.ancestors().nth(3)) else {
        return out.to_owned();
    };
    let (Some(folder), Some(name)) = (profile.parent(), profile.file_name()) else { return out.to_owned() };
    let is_cross = std::env::var_os("TARGET").is_some_and(|triple| folder.ends_with(triple));
    match (build.ends_with("build"), folder.parent()) {
        (true, Some(target)) if is_cross => target.join(name).join("cuda-kernels"),
        (true, _) => profile.join("cuda-kernels"),
        _ => out.to_owned(),
    }
}

/// A file to compile and where the result goes.
struct Kernel {
    /// Of the module.
    name: String,
    /// The file's path in the folder of kernels.
    source: String,
    fatbin: PathBuf,
}

fn compile_all(
    nvcc: &Path,
    recipe: &Recipe,
    kernels: &[Kernel],
    sources: &BTreeMap<String, String>,
) -> Result<(), String> {
    let mut missing: Vec<&Kernel> = kernels.iter().filter(|kernel| !kernel.fatbin.exists()).collect();
    // The longest first, so that none of them starts when the others are done.
    missing.sort_by_key(|kernel| std::cmp::Reverse(sources[&kernel.source].len()));
    let n_job = std::env::var("NUM_JOBS").ok().and_then(|n| n.parse().ok()).unwrap_or(1usize).max(1);
    let next = AtomicUsize::new(0);
    let n_thread = n_job.min(missing.len());
    let threads_each = n_job / n_thread.max(1);
    let failures: Vec<String> = thread::scope(|scope| {
        let work = || {
            let mut failures = Vec::new();
            while let Some(kernel) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                let text = &sources[&kernel.source];
                failures.extend(compile(nvcc, recipe, kernel, (text, threads_each)).err());
            }
            failures
        };
        let threads: Vec<_> = (0..n_thread).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a compiling thread")).collect()
    });
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) }
}

fn compile(
    nvcc: &Path,
    recipe: &Recipe,
    kernel: &Kernel,
    (text, n_thread): (&str, usize),
) -> Result<(), String> {
    let path = format!("{KERNELS}/{}", kernel.source);
    // Under its final name only once it is whole.
    let part = kernel.fatbin.with_extension("part");
    let mut command = Command::new(nvcc);
    command.args(recipe.flags(text)).arg(format!("--threads={n_thread}"));
    command.arg("-o").arg(&part).arg(&path);
    let output = command.output().map_err(|error| format!("cannot run {}: {error}", nvcc.display()))?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    if !output.status.success() {
        return Err(format!("nvcc cannot compile {path} ({})\n{said}", output.status));
    }
    // What the compiler says of speed means nothing where it may not optimise.
    let is_told =
        |line: &&str| !(line.trim().is_empty() || recipe.is_check && line.starts_with("ptxas info"));
    for line in said.lines().filter(is_told) {
        println!("cargo::warning={line}");
    }
    fs::rename(&part, &kernel.fatbin)
        .map_err(|error| format!("cannot write {}: {error}", kernel.fatbin.display()))
}

/// The compiler's path and what it says of its version.
fn find_nvcc() -> Option<(PathBuf, String)> {
    let named = std::env::var_os("NVCC").map(PathBuf::from);
    let home = std::env::var_os("CUDA_HOME").map(|home| Path::new(&home).join("bin/nvcc"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|folder| folder.join("nvcc")).find(|nvcc| nvcc.is_file());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2)?;
    let candidates = [named, home, in_path, Some(root.join(TOOLKIT))];
    candidates.into_iter().flatten().find_map(|nvcc| {
        let output = Command::new(&nvcc).arg("--version").output().ok()?;
        let version = output.status.success().then_some(output.stdout)?;
        // Watched, so that a compiler that goes or changes is noticed. One that comes is not: no file of it can be watched yet.
        if nvcc.is_absolute() {
            println!("cargo::rerun-if-changed={}", nvcc.display());
        }
        Some((nvcc, String::from_utf8_lossy(&version).into_owned()))
    })
}

/// The text of every file of a folder, and of the folders in it, by its path from the first of them.
fn read_sources(folder: &Path, prefix: &str, sources: &mut BTreeMap<String, String>) -> Result<(), String> {
    let error = |path: &Path, error| format!("cannot read {}: {error}", path.display());
    if !folder.exists() {
        return Ok(());
    }
    let entries = fs::read_dir(folder).map_err(|e| error(folder, e))?;
    for entry in entries {
        let path = entry.map_err(|e| error(folder, e))?.path();
        let name = format!("{prefix}{}", path.file_name().unwrap_or_default().to_string_lossy());
        if path.is_dir() {
            read_sources(&path, &format!("{name}/"), sources)?;
        } else if path.extension().is_some_and(|extension| extension == "cu" || extension == "cuh") {
            sources.insert(name, fs::read_to_string(&path).map_err(|e| error(&path, e))?);
        }
    }
    Ok(())
}

/// What earlier builds left and this one does not use. A file that cannot be removed costs space, nothing else.
fn remove_stale(out: &Path, kernels: &[Kernel]) {
    let Ok(entries) = fs::read_dir(out) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let is_ours = path.extension().is_some_and(|extension| extension == "fatbin" || extension == "part");
        if is_ours && !kernels.iter().any(|kernel| kernel.fatbin == path) {
            let _ = fs::remove_file(path);
        }
    }
}

/// The generated source: the modules, and for what they were compiled (nothing without nvcc).
fn list_of_modules(kernels: &[Kernel], targets: Option<&[String]>) -> String {
    let mut text = String::new();
    if !kernels.is_empty() {
        let _ = writeln!(text, "/// Puts bytes where the driver may read them as words.");
        let _ = writeln!(text, "#[repr(C, align(16))]\nstruct Aligned<const N: usize>([u8; N]);\n");
    }
    let _ = writeln!(text, "/// The kernels: file name without extension, fat binary.");
    let _ = writeln!(text, "pub static MODULES: &[(&str, &[u8])] = &[");
    for Kernel { name, fatbin, .. } in kernels {
        let _ = writeln!(text, "    ({name:?}, &Aligned(*include_bytes!({fatbin:?})).0),");
    }
    let _ = writeln!(text, "];");
    let _ = writeln!(
        text,
        "pub(crate) const TARGETS: Option<&[&str]> = {};",
        match targets {
            Some(targets) => format!("Some(&{targets:?})"),
            None => "None".to_owned(),
        }
    );
    text
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

fn variable(name: &str) -> Result<String, String> {
    std::env::var(name).map_err(|error| format!("{name}: {error}"))
}
