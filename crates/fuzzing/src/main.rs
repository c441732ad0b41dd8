//! Does a target hold for mutated seeds, under a stable compiler? `cargo xtask fuzz` runs this, one process a target.
//!
//!     fuzzing TARGET --seconds S --seed N --seeds FOLDER --current FILE
//!     fuzzing TARGET FILE
//!
//! The second form repeats one input. An input lies in the file `--current` before it is tried, so it is there whatever becomes of the process.

#![allow(clippy::print_stdout, clippy::print_stderr)] // A chore talks to a person at a terminal.

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fuzzing::mutate::{Random, mutate};
use fuzzing::{TARGETS, Target};

/// An input that takes longer hangs.
const HANG: Duration = Duration::from_secs(10);

/// The most bytes of an input.
const MAX_LEN: usize = 1 << 16;

/// Longer seeds make each execution slow, and mutation seldom reaches what matters in them.
const MAX_SEED_LEN: u64 = 1 << 20;

const USAGE: &str =
    "usage: fuzzing TARGET FILE, or: fuzzing TARGET --seconds S --seed N --seeds FOLDER --current FILE";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let Some(target) = words.first().and_then(|name| TARGETS.iter().find(|target| target.name == *name))
    else {
        let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        eprintln!("{USAGE}\ntargets: {}", names.join(" "));
        return ExitCode::from(2);
    };
    let done = match words[1..] {
        [file] => fs::read(file).map(|input| {
            end_on_panic();
            (target.run)(&input);
        }),
        ["--seconds", seconds, "--seed", seed, "--seeds", folder, "--current", current] => {
            match (seconds.parse(), seed.parse()) {
                (Ok(seconds), Ok(seed)) => fuzz(target, seconds, seed, Path::new(folder), Path::new(current)),
                _ => Err(std::io::Error::other("--seconds and --seed are whole numbers")),
            }
        }
        _ => Err(std::io::Error::other(USAGE)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn fuzz(target: &Target, seconds: u64, seed: u64, folder: &Path, current: &Path) -> std::io::Result<()> {
    end_on_panic();
    let seeds = read_seeds(folder)?;
    let began = Instant::now();
    let clock = Arc::new(AtomicU64::new(0));
    watch(began, Arc::clone(&clock), current.display().to_string());
    let mut random = Random::new(seed);
    let (mut n_run, mut slowest) = (0_u64, Duration::ZERO);
    let mut try_one = |input: &[u8]| -> std::io::Result<()> {
        fs::write(current, input)?;
        let start = Instant::now();
        clock.store(millis(began), Ordering::Relaxed);
        (target.run)(input);
        slowest = slowest.max(start.elapsed());
        n_run += 1;
        Ok(())
    };
    for seed in &seeds {
        try_one(seed)?;
    }
    let longest = seeds.iter().map(Vec::len).max().unwrap_or(0).max(MAX_LEN);
    while began.elapsed() < Duration::from_secs(seconds) {
        try_one(&mutate(&seeds, target.words, longest, &mut random))?;
    }
    fs::remove_file(current)?;
    println!(
        "{}: {n_run} inputs from {} seeds in {:.0} s, the slowest {:.2} s, at most {} MiB",
        target.name,
        seeds.len(),
        began.elapsed().as_secs_f64(),
        slowest.as_secs_f64(),
        peak_mib()
    );
    Ok(())
}

/// Threads of the server are not waited for, so a panic in any ends the process. The compiler of grammars is a library whose panics
/// become errors on purpose.
fn end_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if thread::current().name() != Some("grammar") {
            print(info);
            std::process::abort();
        }
    }));
}

/// Ends the process when one input takes too long.
fn watch(began: Instant, clock: Arc<AtomicU64>, current: String) {
    thread::spawn(move || {
        loop {
            thread::sleep(Duration::from_millis(500));
            let since = clock.load(Ordering::Relaxed);
            if millis(began).saturating_sub(since) > millis_of(HANG) {
                eprintln!("an input takes longer than {} s: {current}", HANG.as_secs());
                std::process::abort();
            }
        }
    });
}

fn millis(began: Instant) -> u64 {
    millis_of(began.elapsed())
}

fn millis_of(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// In the order of their names, so that a run can be repeated.
fn read_seeds(folder: &Path) -> std::io::Result<Vec<Vec<u8>>> {
    let mut paths =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.sort();
    paths.retain(|path| fs::metadata(path).is_ok_and(|facts| facts.is_file() && facts.len() <= MAX_SEED_LEN));
    paths.iter().map(fs::read).collect()
}

/// The most memory that the process had, by Linux's count; 0 elsewhere.
fn peak_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|rest| rest.trim().split(' ').next()?.parse::<u64>().ok()).unwrap_or(0) / 1024
}
