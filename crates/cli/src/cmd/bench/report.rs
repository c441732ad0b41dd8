//! What did the benchmark find? The fields of `bench --json`, and the table for people.
//!
//! Rates in tokens per second, bytes in bytes, GB as 10^9 bytes, `ratio` ours over theirs.

use std::fmt;

use model::architecture::FeedForwardKind;
use serde::Serialize;

use super::Args;
use super::measure::Test;
use super::samples::Samples;
use crate::device::Loaded;
use crate::units::{Bytes, Count};
use crate::{machine, version};

/// Everything that was measured.
#[derive(Serialize)]
pub(crate) struct Report {
    #[serde(flatten)]
    facts: Facts,
    /// Decode of one sequence times the weights that a token reads; absent where that was not timed.
    gigabytes_per_second: Option<f64>,
    tests: Vec<Line>,
}

/// Under what circumstances.
#[derive(Serialize)]
pub(crate) struct Facts {
    version: &'static str,
    commit: Option<&'static str>,
    model: String,
    parameters: u64,
    weights_bytes: u64,
    weights_bytes_per_token: u64,
    device: String,
    kernels: String,
    threads: usize,
    exact: bool,
    repetitions: usize,
    peer: Option<String>,
    load_seconds: f64,
    resident_bytes: Option<u64>,
    peak_resident_bytes: Option<u64>,
}

/// One test's result.
#[derive(Serialize)]
pub(crate) struct Line {
    #[serde(flatten)]
    test: Test,
    tokens_per_second: Samples,
    peer_tokens_per_second: Option<Samples>,
    ratio: Option<f64>,
}

impl Line {
    /// Ours beside theirs.
    pub(crate) fn new(test: Test, ours: Samples, theirs: Option<Samples>) -> Line {
        let ratio = theirs.as_ref().map(|theirs| ours.median / theirs.median);
        Line { test, tokens_per_second: ours, peer_tokens_per_second: theirs, ratio }
    }
}

impl Facts {
    /// As they are after the measurements.
    pub(crate) fn of(loaded: &Loaded, args: &Args) -> Facts {
        let resident = machine::memory_resident();
        let tensors = loaded.gguf.tensors();
        let memory = loaded.executor.memory();
        Facts {
            version: env!("CARGO_PKG_VERSION"),
            commit: version::COMMIT,
            model: args.model.model.display().to_string(),
            parameters: tensors.iter().map(|tensor| tensor.n_values() as u64).sum(),
            weights_bytes: memory.weights,
            weights_bytes_per_token: weights_bytes_per_token(loaded),
            device: memory.device,
            kernels: loaded.kernels.clone(),
            threads: loaded.threads,
            exact: args.model.exact,
            repetitions: args.reps.get(),
            peer: args.vs.as_ref().map(|path| path.display().to_string()),
            load_seconds: loaded.load_time.as_secs_f64(),
            resident_bytes: resident.map(|(now, _)| now),
            peak_resident_bytes: resident.map(|(_, peak)| peak),
        }
    }
}

/// Bytes of weights that one generated token reads: all but tables of which it needs a row, and experts that it does not use.
fn weights_bytes_per_token(loaded: &Loaded) -> u64 {
    let tied = loaded.gguf.tensor("output.weight").is_none();
    let read = |name: &str, bytes: u64| match (name, loaded.model.architecture.feed_forward.kind) {
        ("position_embd.weight", _) => 0,
        ("token_embd.weight", _) if !tied => 0,
        (name, FeedForwardKind::Experts { n_expert, n_used }) if name.contains("_exps.") => {
            bytes / n_expert.max(1) as u64 * n_used as u64
        }
        _ => bytes,
    };
    loaded.gguf.tensors().iter().map(|tensor| read(&tensor.name, tensor.n_bytes as u64)).sum()
}

impl Report {
    /// Puts the lines under their circumstances.
    pub(crate) fn new(facts: Facts, tests: Vec<Line>) -> Report {
        let single = tests.iter().find(|line| matches!(line.test, Test::Decode { batch: 1, .. }));
        let bytes = facts.weights_bytes_per_token as f64;
        let gigabytes_per_second = single.map(|line| line.tokens_per_second.median * bytes / 1e9);
        Report { facts, gigabytes_per_second, tests }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let facts = &self.facts;
        writeln!(f, "model       {}", facts.model)?;
        writeln!(f, "parameters  {}, weights {}", Count(facts.parameters), Bytes(facts.weights_bytes))?;
        writeln!(f, "device      {} ({}), {} threads", facts.device, facts.kernels, facts.threads)?;
        writeln!(f, "load        {:.2} s", facts.load_seconds)?;
        if let (Some(now), Some(peak)) = (facts.resident_bytes, facts.peak_resident_bytes) {
            writeln!(f, "resident    {}, at most {}", Bytes(now), Bytes(peak))?;
        }
        let a_token = Bytes(facts.weights_bytes_per_token);
        match self.gigabytes_per_second {
            Some(rate) => writeln!(f, "bandwidth   {rate:.1} GB/s: {a_token} of weights a token")?,
            None => writeln!(f, "bandwidth   {a_token} of weights a token")?,
        }
        writeln!(f, "\n{:<20} {:>10} {:>22}{}", "test", "tokens/s", "min .. max", self.peer_heading())?;
        self.tests.iter().try_for_each(|line| line.write(f))
    }
}

impl Report {
    fn peer_heading(&self) -> String {
        match self.facts.peer {
            Some(_) => format!(" {:>10} {:>22} {:>7}", "peer", "min .. max", "ratio"),
            None => String::new(),
        }
    }
}

impl Line {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.test {
            Test::Prefill { n_prompt } => format!("prefill {n_prompt}"),
            Test::Decode { n_gen, batch: 1 } => format!("decode {n_gen}"),
            Test::Decode { n_gen, batch } => format!("decode {n_gen}, batch {batch}"),
        };
        let rates =
            |s: &Samples| format!(" {:>10.2} {:>22}", s.median, format!("{:.2} .. {:.2}", s.min, s.max));
        write!(f, "{name:<20}{}", rates(&self.tokens_per_second))?;
        if let (Some(theirs), Some(ratio)) = (&self.peer_tokens_per_second, self.ratio) {
            write!(f, "{} {ratio:>7.3}", rates(theirs))?;
        }
        writeln!(f)
    }
}
