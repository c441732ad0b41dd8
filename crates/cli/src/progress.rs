//! How far is the load? A bar for a person at a terminal; else one line in the log at 0, 25, 50, 75 and 100 %.
//!
//! Loading on the CPU reads every byte of the file once, so that the weights are in memory before the first token and a file that
//! cannot be read is found out now. Loading to a GPU tells how much it has copied.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use gguf::Gguf;
use indicatif::{ProgressBar, ProgressStyle};

use crate::log::LogArgs;
use crate::units::Bytes;

/// Bytes between two looks at the progress, unless something else is asked for.
const STRIDE: usize = 8 << 20;
/// A page of the smallest kind: touching one byte of each reads all.
const PAGE: usize = 4096;

/// How a bar shows bytes, and how it shows things that are counted.
const OF_BYTES: &str = "{prefix} [{bar:40}] {percent:>3} % {binary_bytes_per_sec}";
const OF_STEPS: &str = "{prefix} [{bar:40}] {pos}/{len}, {eta} left";

/// How much of the process's model is in the device's memory, in percent; the number goes on changing.
pub(crate) fn percent_loaded() -> Arc<AtomicU8> {
    static PERCENT: OnceLock<Arc<AtomicU8>> = OnceLock::new();
    Arc::clone(PERCENT.get_or_init(Arc::default))
}

/// The progress of a load, of a download, or of steps.
pub(crate) struct Progress {
    /// What is done, as in `fetching`.
    what: &'static str,
    /// Where else it is told, if it is a load.
    loaded: Option<Arc<AtomicU8>>,
    /// The event of its lines in a log for programs.
    event: Option<&'static str>,
    bar: Option<ProgressBar>,
    /// The last quarter that was logged.
    quarter: Option<u64>,
}

impl Progress {
    /// The progress of loading, with a bar where one is wanted.
    pub(crate) fn start(log: &LogArgs) -> Progress {
        let event = log.is_json().then_some("model_load_progress");
        Progress { loaded: Some(percent_loaded()), event, ..Progress::of("loading", log) }
    }

    /// The progress of what is named here, in bytes.
    pub(crate) fn of(what: &'static str, log: &LogArgs) -> Progress {
        Progress::with(what, OF_BYTES, log)
    }

    /// The progress of what is named here, in steps.
    pub(crate) fn count(what: &'static str, log: &LogArgs) -> Progress {
        Progress::with(what, OF_STEPS, log)
    }

    fn with(what: &'static str, template: &str, log: &LogArgs) -> Progress {
        let bar = log.wants_progress_bar().then(|| {
            let style = ProgressStyle::with_template(template);
            ProgressBar::new(0)
                .with_prefix(what)
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "))
        });
        Progress { what, loaded: None, event: None, bar, quarter: None }
    }

    /// Step `n` of so many is done, with what is known now: a bar, or a line in the log.
    pub(crate) fn step(&mut self, n: usize, total: usize, known: impl FnOnce() -> String) {
        match &self.bar {
            Some(bar) => {
                bar.set_length(total as u64);
                bar.set_position(n as u64 + 1);
            }
            None => tracing::info!("[{}/{total}] {}", n + 1, known()),
        }
    }

    /// Reads all tensors of a file into memory, with a look at the progress every `stride` bytes.
    pub(crate) fn read(mut self, gguf: &Gguf, stride: Option<usize>) -> Copied {
        let began = Instant::now();
        gguf.prefetch();
        let total: u64 = gguf.tensors().iter().map(|tensor| tensor.n_bytes as u64).sum();
        let mut done = 0;
        self.at(done, total);
        for info in gguf.tensors() {
            let Some(tensor) = gguf.tensor(&info.name) else { continue };
            for piece in tensor.bytes.chunks(stride.unwrap_or(STRIDE).max(1)) {
                let touched = piece.iter().step_by(PAGE).fold(0u8, |all, byte| all ^ byte);
                std::hint::black_box(touched);
                done += piece.len() as u64;
                self.at(done, total);
            }
        }
        self.finish();
        Copied { n_bytes: done, seconds: began.elapsed().as_secs_f64() }
    }

    /// So many bytes of so many are there.
    pub(crate) fn at(&mut self, done: u64, total: u64) {
        let percent = (done.min(total) * 100).checked_div(total).unwrap_or(100);
        if let Some(loaded) = &self.loaded {
            loaded.store(percent as u8, Ordering::Relaxed);
        }
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_position(done);
            return;
        }
        let quarter = percent / 25;
        if self.quarter.is_none_or(|last| quarter > last) {
            self.quarter = Some(quarter);
            let percent = quarter * 25;
            let for_programs = self.event.map(|_| percent);
            tracing::info!(
                event = self.event,
                percent = for_programs,
                "{}: {percent} % of {}",
                self.what,
                Bytes(total)
            );
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// What was moved into the device's memory, and in which time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Copied {
    pub(crate) n_bytes: u64,
    pub(crate) seconds: f64,
}

impl Copied {
    /// GB/s, 10^9 bytes each.
    pub(crate) fn gigabytes_per_second(&self) -> f64 {
        self.n_bytes as f64 / self.seconds.max(1e-9) / 1e9
    }
}

impl fmt::Display for Copied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = self.gigabytes_per_second();
        write!(f, "{} of weights in {:.2} s at {rate:.1} GB/s", Bytes(self.n_bytes), self.seconds)
    }
}
