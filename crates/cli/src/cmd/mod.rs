//! What can the program do? The commands, one file or folder each, and what they share.
//!
//! A command reads its flags, does its work and writes its result to stdout at the end or as it comes; whatever else it has to say
//! goes to the log. It returns its error and leaves the exit code to [`crate::exit`].

pub(crate) mod bench;
mod completions;
mod embed;
pub(crate) mod eval;
mod inspect;
mod models;
mod pull;
mod rm;
mod run;
mod serve;
mod show;
mod tokenize;
pub(crate) mod verify;

use clap::Subcommand;

use crate::log::LogArgs;
pub(crate) use crate::numbers::at_least_one;
pub(crate) use crate::output::{print, print_json, print_report};

/// What to do.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Answer a prompt, or chat in the terminal
    Run(run::Args),
    /// Serve the model over HTTP
    Serve(Box<serve::Args>),
    /// Show what is in a GGUF file and how much memory it needs
    Inspect(inspect::Args),
    /// Download a model and print the path of its file
    Pull(pull::Args),
    /// List the models in the cache, or the short names of models
    Models(models::Args),
    /// Show what a name means, and the model if it is in the cache
    Show(show::Args),
    /// Remove a model from the cache
    Rm(rm::Args),
    /// Compute the answer of a receipt again and compare
    Verify(verify::Args),
    /// Compute embeddings (vectors) of texts
    Embed(Box<embed::Args>),
    /// Convert text on stdin to token ids
    Tokenize(tokenize::TokenizeArgs),
    /// Convert token ids on stdin to text
    Detokenize(tokenize::DetokenizeArgs),
    /// Evaluate a model: perplexity, KL divergence, reproducibility, logits
    Eval(eval::Args),
    /// Measure the throughput of prefill and decode, or of a server
    Bench(Box<bench::Args>),
    /// Print completions for a shell
    Completions(completions::CompletionsArgs),
    /// Print or write manual pages
    Man(completions::ManArgs),
}

/// Runs the command.
pub(crate) fn dispatch(command: &Command, log: &LogArgs) -> anyhow::Result<()> {
    match command {
        Command::Run(args) => run::run(args, log),
        Command::Serve(args) => serve::run(args, log),
        Command::Inspect(args) => inspect::run(args, log),
        Command::Pull(args) => pull::run(args, log),
        Command::Models(args) => models::run(args),
        Command::Show(args) => show::run(args, log),
        Command::Rm(args) => rm::run(args),
        Command::Verify(args) => verify::run(args, log),
        Command::Embed(args) => embed::run(args, log),
        Command::Tokenize(args) => tokenize::tokenize(args, log),
        Command::Detokenize(args) => tokenize::detokenize(args, log),
        Command::Eval(args) => eval::run(args, log),
        Command::Bench(args) => bench::run(args, log),
        Command::Completions(args) => completions::completions(args),
        Command::Man(args) => completions::man(args),
    }
}
