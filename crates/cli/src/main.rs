//! The binary `worker-orcd`: the only place that picks a device.
//!
//! Each command is a file in [`cmd`]; [`device`] turns a file and flags into a running executor; [`exit`] decides every exit
//! code. Results go to stdout, messages to stderr ([`log`]).

mod cmd;
mod device;
mod exit;
mod interrupt;
mod log;
mod machine;
mod memory;
mod npy;
mod progress;
mod single;
mod units;
mod version;

use std::process::ExitCode;

use clap::Parser;

/// Runs one GGUF language model on one device: all of it resident there, or a refusal.
#[derive(Parser, Debug)]
#[command(name = "worker-orcd", version = version::line(), after_help = exit::HELP, max_term_width = 110)]
struct Cli {
    #[command(flatten)]
    log: log::LogArgs,
    #[command(subcommand)]
    command: cmd::Command,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(refusal) => return exit::usage(&refusal),
    };
    cli.log.start();
    let result = interrupt::install().and_then(|()| cmd::dispatch(&cli.command, &cli.log));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::report(&error, &cli.log),
    }
}
