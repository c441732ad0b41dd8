//! Where do messages go? To stderr, as text for people or as one JSON object a line; stdout carries results alone.
//!
//! A thread of its own writes them ([`Sink`]): a stderr that cannot be written loses lines, and changes neither answers nor exit codes.
//! Prompts and answers are never logged: lengths and a hash at most.

mod marked;
mod sink;

use std::io::IsTerminal;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use clap::{Args, ValueEnum};
use tracing::level_filters::LevelFilter;

use self::marked::Marked;
use self::sink::Sink;

/// For the last lines to be written, at the end of the process.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What writes to stderr. One for the process, as stderr is.
static SINK: OnceLock<Sink> = OnceLock::new();

fn sink() -> &'static Sink {
    SINK.get_or_init(|| {
        Sink::spawn(std::io::stderr(), |n_lost| {
            tracing::warn!(
                event = "log_lost",
                n_lost,
                "lines of the log were lost: stderr could not be written"
            );
        })
    })
}

/// Writes a line that stands outside the log, in turn with the log's.
pub(crate) fn line(text: &str) {
    sink().push(format!("{text}\n").as_bytes());
}

/// Waits for what was said to be written, but not for long: before the process ends, and before something else is written to the terminal.
pub(crate) fn flush() {
    if let Some(sink) = SINK.get() {
        sink.flush(LAST_WORDS);
    }
}

/// How many lines were lost since the start; the number goes on changing.
pub(crate) fn n_lost() -> Arc<AtomicU64> {
    sink().n_lost()
}

/// The id of this worker, for each line of a log for programs.
pub(crate) fn identify(worker_id: Option<&str>) {
    if let Some(id) = worker_id {
        let _second = marked::WORKER.set(id.to_owned());
    }
}

/// The device that the model is on, for each line of a log for programs from now on.
pub(crate) fn on_device(name: String) {
    let _second = marked::DEVICE.set(name);
}

/// The flags every command takes.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Messages")]
pub(crate) struct LogArgs {
    /// Format of the messages on stderr
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text", global = true)]
    log: LogFormat,
    /// Print more messages (-v debug, -vv trace)
    #[arg(short, long, action = clap::ArgAction::Count, global = true, conflicts_with = "quiet")]
    verbose: u8,
    /// Print fewer messages (-q warnings and errors, -qq errors only)
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    quiet: u8,
}

/// How messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// One line a message: LEVEL message field=value, with `serve` after the time.
    Text,
    /// One JSON object a line.
    Json,
}

/// Whether stderr shows colour: on a terminal, unless NO_COLOR says otherwise (https://no-color.org).
pub(crate) fn has_colour() -> bool {
    std::io::stderr().is_terminal() && !is_plain()
}

/// Whether the environment asks for no colour.
pub(crate) fn is_plain() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

impl LogArgs {
    /// Whether stderr carries JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.log == LogFormat::Json
    }

    /// Whether fewer messages are wanted.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet > 0
    }

    /// Whether a progress bar would be welcome: a person watches, and did not ask for silence or JSON.
    pub(crate) fn wants_progress_bar(&self) -> bool {
        !self.is_json() && self.quiet == 0 && std::io::stderr().is_terminal()
    }

    /// Starts the log for this process. What a panic says goes there too. Lines of a service have their time; a person who waits for a
    /// command knows what time it is.
    pub(crate) fn start(&self, is_service: bool) {
        std::panic::set_hook(Box::new(|panic| line(&panic.to_string())));
        let level = match (self.quiet, self.verbose) {
            (0, 0) => LevelFilter::INFO,
            (0, 1) => LevelFilter::DEBUG,
            (0, _) => LevelFilter::TRACE,
            (1, _) => LevelFilter::WARN,
            (_, _) => LevelFilter::ERROR,
        };
        let log = tracing_subscriber::fmt().with_writer(|| sink().clone()).with_max_level(level);
        match self.log {
            LogFormat::Text => {
                let log = log.with_ansi(has_colour()).with_target(false);
                if is_service { log.init() } else { log.without_time().init() }
            }
            LogFormat::Json => log
                .json()
                .event_format(Marked(tracing_subscriber::fmt::format().json().flatten_event(true)))
                .init(),
        }
    }
}
