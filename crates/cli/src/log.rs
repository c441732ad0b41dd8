//! Where do messages go? To stderr, as text for people or as one JSON object a line; stdout carries results alone.
//!
//! Prompts and answers are never logged: lengths and a hash at most.

use std::io::IsTerminal;

use clap::{Args, ValueEnum};
use tracing::level_filters::LevelFilter;

/// The flags every command takes.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct LogArgs {
    /// How messages on stderr are written: text, or one JSON object a line
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text", global = true)]
    log: LogFormat,
    /// Say more (-v debug, -vv trace)
    #[arg(short, long, action = clap::ArgAction::Count, global = true, conflicts_with = "quiet")]
    verbose: u8,
    /// Say less (-q warnings and errors, -qq errors alone)
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    quiet: u8,
}

/// How messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// `LEVEL message field=value`.
    Text,
    /// One object a line.
    Json,
}

impl LogArgs {
    /// Whether stderr carries JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.log == LogFormat::Json
    }

    /// Whether a progress bar would be welcome: a person watches, and did not ask for silence or JSON.
    pub(crate) fn wants_progress_bar(&self) -> bool {
        !self.is_json() && self.quiet == 0 && std::io::stderr().is_terminal()
    }

    /// Starts the log for this process.
    pub(crate) fn start(&self) {
        let level = match (self.quiet, self.verbose) {
            (0, 0) => LevelFilter::INFO,
            (0, 1) => LevelFilter::DEBUG,
            (0, _) => LevelFilter::TRACE,
            (1, _) => LevelFilter::WARN,
            (_, _) => LevelFilter::ERROR,
        };
        let log = tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(level);
        match self.log {
            LogFormat::Text => {
                log.with_ansi(std::io::stderr().is_terminal()).without_time().with_target(false).init();
            }
            LogFormat::Json => log.json().flatten_event(true).init(),
        }
    }
}
