//! The binary `worker-orcd`: the only place that picks a device.
//!
//! Each command is a file in [`cmd`]; [`device`] turns a file and flags into a running executor; [`exit`] decides every exit
//! code. Results go to stdout, messages to stderr ([`log`]).

mod chart;
mod cmd;
mod config;
mod device;
mod exit;
mod fetch;
mod input;
mod interrupt;
mod log;
mod machine;
mod memory;
mod named;
mod notify;
mod npy;
mod numbers;
mod output;
mod progress;
mod proof;
mod sampling;
mod single;
mod speculate;
mod tips;
mod typing;
mod units;
mod version;
mod whole;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser};
use tikv_jemallocator::Jemalloc;

/// What a burst of large requests took goes back to the system within seconds, whatever threads it was taken on.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Run one GGUF language model on one device, with all of it in the memory of that device.
#[derive(Parser, Debug)]
#[command(name = "worker-orcd", version = version::line(), after_help = exit::HELP, max_term_width = 110)]
struct Cli {
    #[command(flatten)]
    log: log::LogArgs,
    #[command(subcommand)]
    command: cmd::Command,
}

fn main() -> ExitCode {
    let code = run();
    log::flush();
    code
}

fn run() -> ExitCode {
    let (command, environment) = (Cli::command(), std::env::vars_os().collect::<Vec<_>>());
    let args = with_command(spelled_out(std::env::args_os().collect()));
    let parse = |args: Vec<OsString>| config::parse(&command, args, &environment, &config::read);
    let layered = match parse(args.clone()) {
        Ok(layered) => layered,
        Err(config::Refusal::Flags(refusal)) => {
            let meant =
                named::are_two(&refusal).then(|| named::as_word(&args).and_then(|args| parse(args).ok()));
            match meant.flatten().filter(|layered| !named::may_be_two(&layered.matches)) {
                Some(layered) => layered,
                None => return exit::usage(&tips::with_tip(refusal, &args)),
            }
        }
        Err(config::Refusal::Setting(error)) => return exit::early(&error),
    };
    if layered.is_to_print() {
        let mut in_effect = Vec::new();
        if let Some(serve) = layered.serve() {
            in_effect.extend(named::in_effect(serve));
            in_effect.extend(sampling::in_effect(serve));
        }
        let printed = cmd::print(&config::print(&command, &layered, &in_effect));
        return printed.map_or_else(|error| exit::early(&error), |()| ExitCode::SUCCESS);
    }
    let cli = match Cli::from_arg_matches(&layered.matches) {
        Ok(cli) => cli,
        Err(refusal) => return exit::usage(&refusal),
    };
    cli.log.start(matches!(cli.command, cmd::Command::Serve(_)));
    let result = interrupt::install().and_then(|()| cmd::dispatch(&cli.command, &cli.log));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::report(&error, &cli.log),
    }
}

/// Flags of one dash and several letters, which people know from llama.cpp, by their names in full: read as flags of one letter, their other
/// letters would be values. What there is not is refused by its name.
const SPELLED_OUT: [(&str, &str); 15] = [
    ("-np", "--slots"),
    ("-ngl", "--n-gpu-layers"),
    ("-md", "--draft-model"),
    ("-hff", "--hf-file"),
    ("-ctk", "--cache-type-k"),
    ("-ctv", "--cache-type-v"),
    ("-cb", "--cont-batching"),
    ("-tb", "--threads-batch"),
    ("-mg", "--main-gpu"),
    ("-mu", "--model-url"),
    ("-sm", "--split-mode"),
    ("-ts", "--tensor-split"),
    ("-cmoe", "--cpu-moe"),
    ("-cram", "--cache-ram"),
    ("-sp", "--special"),
];

fn spelled_out(args: Vec<OsString>) -> Vec<OsString> {
    let (mut is_over, mut names_repository) = (false, false);
    let spelled = |arg: OsString| {
        is_over |= arg == "--";
        if std::mem::take(&mut names_repository) && !arg.to_string_lossy().starts_with("hf:") {
            let mut reference = OsString::from("hf:");
            reference.push(arg);
            return reference;
        }
        let full = match arg.to_str() {
            _ if is_over => None,
            Some("-hf" | "-hfr" | "--hf-repo") => {
                names_repository = true;
                Some("--model")
            }
            Some(short) => SPELLED_OUT.iter().find(|(known, _)| *known == short).map(|(_, full)| *full),
            None => None,
        };
        full.map_or(arg, OsString::from)
    };
    args.into_iter().map(spelled).collect()
}

/// `worker-orcd --worker-id ID --model PATH ...` serves: flags of a worker without a command's name mean `serve`.
fn with_command(mut args: Vec<OsString>) -> Vec<OsString> {
    let names = |arg: &OsString, flag: &str| {
        arg.to_str()
            .and_then(|arg| arg.strip_prefix(flag))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    };
    let is_flag = args.get(1).is_some_and(|arg| arg.to_string_lossy().starts_with('-'));
    let is_command =
        |arg: &OsString| Cli::command().get_subcommands().any(|command| arg == command.get_name());
    let is_of_a_worker =
        args.iter().any(|arg| ["--model", "--worker-id", "--config"].iter().any(|flag| names(arg, flag)));
    if is_flag && is_of_a_worker && !args.iter().skip(1).any(is_command) {
        args.insert(1, "serve".into());
    }
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_that_people_know_are_spelled_out() {
        let args =
            ["w", "serve", "-np", "4", "-ngl", "0", "-n", "-npx", "--", "-np"].map(OsString::from).to_vec();
        let spelled = spelled_out(args).iter().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ");
        assert_eq!(spelled, "w serve --slots 4 --n-gpu-layers 0 -n -npx -- -np");
        let spelled =
            spelled_out(["w", "serve", "-hf", "a/b:Q4_K_M", "-c", "1"].map(OsString::from).to_vec());
        assert_eq!(spelled, ["w", "serve", "--model", "hf:a/b:Q4_K_M", "-c", "1"]);
        let same = spelled_out(["w", "run", "-hf", "hf:a/b"].map(OsString::from).to_vec());
        assert_eq!(same, ["w", "run", "--model", "hf:a/b"]);
        for (line, refused) in [
            ("w run -hff x", "--hf-file"),
            ("w serve m -ctk q8_0", "--cache-type-k"),
            ("w run m -mg 0", "--main-gpu"),
        ] {
            let args = spelled_out(line.split(' ').map(OsString::from).collect());
            let error = Cli::try_parse_from(args.clone()).unwrap_err();
            let error = tips::with_tip(error, &args).to_string();
            assert!(error.contains(&format!("unexpected argument '{refused}'")), "{line}: {error}");
            assert!(error.contains("tip: "), "{line}: {error}");
        }
        for line in [
            "w run m -c 64 -t 2 -n 3 -s 1 --temp 0 --n-gpu-layers -1",
            "w serve m -c 64 -t 2 --parallel 3 --temp 0",
        ] {
            Cli::try_parse_from(line.split(' ')).unwrap();
        }
        let error = Cli::try_parse_from(["w", "run", "m", "--n-gpu-layers", "20"]).unwrap_err().to_string();
        assert!(error.contains("expected 0 for the CPU, or all, -1 or 99 and more for a GPU"), "{error}");
        assert!(Cli::try_parse_from(["w", "run", "m", "--n-gpu-layers", "0", "--device", "cpu"]).is_err());
    }

    #[test]
    fn a_worker_needs_no_command() {
        let check = |line: &str| {
            let args = line.split(' ').map(OsString::from).collect();
            with_command(args).iter().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(check("w --worker-id a --model b"), "w serve --worker-id a --model b");
        assert_eq!(check("w --config c.toml"), "w serve --config c.toml");
        assert_eq!(check("w --log json --model=b"), "w serve --log json --model=b");
        for same in ["w", "w --help", "w run --model b", "w -v run --model b", "w --frob"] {
            assert_eq!(check(same), same);
        }
    }
}
