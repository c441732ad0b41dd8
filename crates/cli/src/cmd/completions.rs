//! Scripts for shells and pages for `man`, made from the definition of the flags, so that they cannot lag behind it.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;

use crate::{Cli, cmd};

/// The program's name, as shells know it.
const PROGRAM: &str = env!("CARGO_PKG_NAME");

/// `worker-orcd completions`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  \
    worker-orcd completions bash > ~/.local/share/bash-completion/completions/worker-orcd\n  \
    worker-orcd completions zsh > \"${fpath[1]}/_worker-orcd\"\n  \
    worker-orcd completions fish > ~/.config/fish/completions/worker-orcd.fish")]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// `worker-orcd man`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  worker-orcd man | man -l -\n  worker-orcd man --dir ~/.local/share/man/man1"
)]
pub(crate) struct ManArgs {
    /// Write a page for each command into this folder, instead of the program's own page to stdout
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Prints the script.
pub(crate) fn completions(args: &CompletionsArgs) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), PROGRAM, &mut script);
    cmd::print(&String::from_utf8(script)?)
}

/// Prints or writes the pages.
pub(crate) fn man(args: &ManArgs) -> anyhow::Result<()> {
    match &args.dir {
        Some(folder) => {
            let place = || folder.display().to_string();
            fs::create_dir_all(folder).with_context(place)?;
            clap_mangen::generate_to(Cli::command(), folder).with_context(place)
        }
        None => {
            // As `generate_to` has it: `help` needs no page.
            let mut command = Cli::command().disable_help_subcommand(true);
            command.build();
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page)?;
            cmd::print(&String::from_utf8(page)?)
        }
    }
}
