//! The repository's chores, as `cargo xtask NAME`.
//!
//! One module a chore. Chores may use the network and other programs (cargo, git, python3 with pip, npm); the crates under
//! `crates/` never do at build or test time.

#![allow(clippy::print_stdout, clippy::print_stderr)] // A chore talks to a person at a terminal.

mod arm64;
mod audit;
mod clients;
mod demo;
mod dist;
mod download;
mod fixtures;
mod fuzz;
mod gpu_bundle;
mod page;
mod process;
mod support;
mod test;
mod tidy;
mod toolkit;

use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "\
Usage: cargo xtask <chore>

  demo                     build the worker, fetch a small model (98 MB) and stream an answer
  test [ARGUMENTS]         fetch the fixtures once, then run every test; arguments go to the test runner
  arm64 [ARGUMENTS]        run the tests of the crates that compute, compiled for arm64, under QEMU; arguments go to the test runner
  clients [NAMES] [--soak-seconds S] [--proof FOLDER]
                           install clients of the server (OpenAI's, the AI SDK, LangChain, litellm, llm, schemathesis) once and run them
                           against it; then faults, a soak and hostile clients, each of S (20) seconds; --proof keeps what each
                           check gave, on what, and the receipt of an answer; litellm-proxy and lm-eval run only where they are
                           named
  page [NAMES] [--pictures FOLDER]
                           try the web page in Chromium against a real server; NAMES choose among the checks
  fixtures [--with-qwen]   fetch the test fixtures into fixtures/ or $WORKER_ORCD_FIXTURES;
                           --with-qwen adds a 1.1 GB model for benchmarks
  cuda-toolkit             install the CUDA compiler into .cuda-toolkit/ (271 MB), for machines that have none
  gpu-bundle FOLDER [--release] [--without-golden]
                           build the GPU tests and the worker and copy them, with what they need and a run.sh, for a
                           machine that has a GPU and no cargo
  dist [--arch x86_64|aarch64] [--binary FILE [--any-glibc]] [--out FOLDER] [--try]
                           make a release in target/dist: archive, Python wheel, Debian package, SBOM, hashes, install.sh; of FILE, or of a
                           binary that is built for it and glibc 2.28, with Zig, which is installed into .zig-toolkit/ (415 MB); --any-glibc
                           packs a FILE that needs a newer one; --try installs each and asks it for an answer
  fuzz [NAMES] [--seconds S] [--seed N]
                           try each reader of hostile input with mutated seeds for S (20) seconds; NAMES choose among them
  support                  write the tables of what is supported into docs/src/support.md
  tidy                     check the house rules: dependency directions, unsafe, headers, words, golden files, tables of support
  audit                    check licences, sources and advisories of all dependencies with cargo-deny";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(args: &[String]) -> Result<()> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["demo"] => demo::run(),
        ["test", rest @ ..] => test::run(rest),
        ["arm64", rest @ ..] => arm64::run(rest),
        ["clients", rest @ ..] => clients::run(rest),
        ["page", rest @ ..] => page::run(rest),
        ["fixtures"] => fixtures::fetch_all(),
        ["fixtures", "--with-qwen"] => fixtures::fetch_all().and_then(|()| fixtures::fetch_qwen()),
        ["cuda-toolkit"] => toolkit::install_cuda(),
        ["gpu-bundle", folder, options @ ..] => gpu_bundle::make(folder, options),
        ["dist", rest @ ..] => dist::run(rest),
        ["fuzz", rest @ ..] => fuzz::run(rest),
        ["support"] => support::run(),
        ["tidy"] => tidy::run(),
        ["audit"] => audit::run(),
        [] | ["help" | "-h" | "--help"] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => bail!("no such chore: {}\n\n{USAGE}", args.join(" ")),
    }
}
