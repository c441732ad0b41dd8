//! What did the benchmark find? The fields of `bench --json`, and the table for people.
//!
//! Rates in tokens per second, bytes in bytes, GB as 10^9 bytes, `ratio` ours over theirs. The fields' names are part of the interface:
//! docs/src/benchmarks.md lists them.

use std::fmt;

use serde::Serialize;

use super::LocalArgs;
use super::measure::{StageLine, Test};
use super::samples::Samples;
use crate::chart::{self, Group};
use crate::device::Loaded;
use crate::units::{Bytes, Count};
use crate::{machine, version};

/// Everything that was measured.
#[derive(Serialize)]
pub(crate) struct Report {
    #[serde(flatten)]
    facts: Facts,
    /// Of the decode of one sequence; absent where that was not timed.
    gigabytes_per_second: Option<f64>,
    roofline_share: Option<f64>,
    roofline: Option<Roofline>,
    tests: Vec<Line>,
}

/// What the device's memory gives.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Roofline {
    pub(crate) gigabytes_per_second: f64,
    /// `given`, or measured by a `read` or a `copy`.
    pub(crate) source: &'static str,
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
    kv_type: &'static str,
    repetitions: usize,
    peer: Option<String>,
    load_seconds: f64,
    load_bytes: u64,
    load_copy_seconds: f64,
    load_gigabytes_per_second: f64,
    device_bytes: u64,
    resident: bool,
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
    bytes_per_step: Option<u64>,
    gigabytes_per_second: Option<f64>,
    roofline_share: Option<f64>,
    /// With `--stages`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stages: Vec<StageLine>,
}

impl Line {
    /// Ours beside theirs.
    pub(crate) fn new(test: Test, ours: Samples, theirs: Option<Samples>) -> Line {
        let ratio = theirs.as_ref().map(|theirs| ours.median / theirs.median);
        Line {
            test,
            tokens_per_second: ours,
            peer_tokens_per_second: theirs,
            ratio,
            bytes_per_step: None,
            gigabytes_per_second: None,
            roofline_share: None,
            stages: Vec::new(),
        }
    }

    /// With what its stages take.
    pub(crate) fn with_stages(self, stages: Vec<StageLine>) -> Line {
        Line { stages, ..self }
    }

    /// With what a step reads, where that is known.
    pub(crate) fn with_bandwidth(self, bytes_per_step: Option<u64>, roofline: Option<&Roofline>) -> Line {
        let batch = match self.test {
            Test::Decode { batch, .. } => batch,
            Test::Prefill { .. } => 1,
        };
        let steps = self.tokens_per_second.median / batch.max(1) as f64;
        let rate = bytes_per_step.map(|bytes| bytes as f64 * steps / 1e9);
        let share = rate.zip(roofline).map(|(rate, roofline)| rate / roofline.gigabytes_per_second);
        Line { bytes_per_step, gigabytes_per_second: rate, roofline_share: share, ..self }
    }
}

impl Facts {
    /// As they are after the measurements.
    pub(crate) fn of(loaded: &Loaded, args: &LocalArgs, weights_bytes_per_token: u64) -> Facts {
        let resident = machine::memory_resident();
        let tensors = loaded.gguf.tensors();
        let memory = loaded.executor.memory();
        Facts {
            version: env!("CARGO_PKG_VERSION"),
            commit: version::COMMIT,
            model: args
                .shape
                .as_ref()
                .and_then(|shape| shape.first_layers(args.layers).ok())
                .map_or_else(|| args.model.model.0.to_string(), |shape| format!("random {shape}")),
            parameters: tensors.iter().map(|tensor| tensor.n_values() as u64).sum(),
            weights_bytes: memory.weights,
            weights_bytes_per_token,
            device_bytes: memory.total(),
            device: memory.device,
            kernels: loaded.kernels.clone(),
            threads: loaded.threads,
            exact: args.model.device.exact,
            kv_type: args.model.shape().kv_type.name(),
            repetitions: args.reps.get(),
            peer: args.vs.as_ref().map(|path| path.display().to_string()),
            load_seconds: loaded.load_time.as_secs_f64(),
            load_bytes: loaded.copied.n_bytes,
            load_copy_seconds: loaded.copied.seconds,
            load_gigabytes_per_second: loaded.copied.gigabytes_per_second(),
            resident: memory.resident,
            resident_bytes: resident.map(|(now, _)| now),
            peak_resident_bytes: resident.map(|(_, peak)| peak),
        }
    }
}

impl Report {
    /// Puts the lines under their circumstances.
    pub(crate) fn new(facts: Facts, roofline: Option<Roofline>, tests: Vec<Line>) -> Report {
        let single = tests.iter().find(|line| matches!(line.test, Test::Decode { batch: 1, .. }));
        let (gigabytes_per_second, roofline_share) =
            single.map_or((None, None), |line| (line.gigabytes_per_second, line.roofline_share));
        Report { facts, gigabytes_per_second, roofline_share, roofline, tests }
    }
}

impl Report {
    /// Rates as bars, the peer's beside ours.
    pub(crate) fn svg(&self) -> String {
        let mut series = vec!["worker-orcd".to_owned()];
        series.extend(self.facts.peer.as_ref().map(|_| "peer".to_owned()));
        let median = |samples: &Samples| samples.median;
        let groups = self.tests.iter().map(|line| Group {
            name: line.name(),
            values: vec![
                Some(median(&line.tokens_per_second)),
                line.peer_tokens_per_second.as_ref().map(median),
            ],
        });
        let title = format!("{} on {}", self.facts.model, self.facts.device);
        chart::bars(&title, "tokens/s", &series, &groups.collect::<Vec<_>>())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let facts = &self.facts;
        writeln!(f, "model       {}", facts.model)?;
        writeln!(f, "parameters  {}, weights {}", Count(facts.parameters), Bytes(facts.weights_bytes))?;
        writeln!(f, "device      {} ({}), {} threads", facts.device, facts.kernels, facts.threads)?;
        let load = (Bytes(facts.load_bytes), facts.load_copy_seconds, facts.load_gigabytes_per_second);
        let (bytes, seconds, rate) = load;
        writeln!(f, "load        {:.2} s; {bytes} in {seconds:.2} s, {rate:.1} GB/s", facts.load_seconds)?;
        let spilled = if facts.resident { "" } else { ", NOT all of it in the device's own memory" };
        writeln!(f, "device has  {}{spilled}", Bytes(facts.device_bytes))?;
        if let (Some(now), Some(peak)) = (facts.resident_bytes, facts.peak_resident_bytes) {
            writeln!(f, "resident    {}, at most {}", Bytes(now), Bytes(peak))?;
        }
        writeln!(f, "a token     reads {} of weights", Bytes(facts.weights_bytes_per_token))?;
        if let Some(Roofline { gigabytes_per_second, source }) = &self.roofline {
            writeln!(f, "roofline    {gigabytes_per_second:.1} GB/s ({source})")?;
        }
        let heading = format!("{:>10} {:>22} {:>8} {:>6}", "tokens/s", "min .. max", "GB/s", "share");
        writeln!(f, "\n{:<27} {heading}{}", "test", self.peer_heading())?;
        self.tests.iter().try_for_each(|line| line.write(f))?;
        self.tests.iter().try_for_each(|line| line.write_stages(f))
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
    /// What was timed.
    fn name(&self) -> String {
        match self.test {
            Test::Prefill { n_prompt } => format!("prefill {n_prompt}"),
            Test::Decode { n_gen, batch, depth } => {
                let batch = if batch == 1 { String::new() } else { format!(", batch {batch}") };
                let depth = if depth == 0 { String::new() } else { format!(" at {depth}") };
                format!("decode {n_gen}{depth}{batch}")
            }
        }
    }

    fn write_stages(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.stages.is_empty() {
            return Ok(());
        }
        let of = match self.test {
            Test::Prefill { .. } => "the prompt",
            Test::Decode { .. } => "a step",
        };
        writeln!(
            f,
            "\n{:<27} {:>10} {:>6}",
            format!("{}: stages", self.name()),
            format!("ms of {of}"),
            "share"
        )?;
        for StageLine { name, milliseconds, share } in &self.stages {
            writeln!(f, "  {name:<25} {milliseconds:>10.3} {:>6}", format!("{:.0} %", 100.0 * share))?;
        }
        Ok(())
    }

    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name();
        let rates =
            |s: &Samples| format!(" {:>10.2} {:>22}", s.median, format!("{:.2} .. {:.2}", s.min, s.max));
        write!(f, "{name:<27}{}", rates(&self.tokens_per_second))?;
        let text = |value: Option<String>| value.unwrap_or_default();
        write!(f, " {:>8}", text(self.gigabytes_per_second.map(|rate| format!("{rate:.1}"))))?;
        write!(f, " {:>6}", text(self.roofline_share.map(|share| format!("{:.0} %", 100.0 * share))))?;
        if let (Some(theirs), Some(ratio)) = (&self.peer_tokens_per_second, self.ratio) {
            write!(f, "{} {ratio:>7.3}", rates(theirs))?;
        }
        writeln!(f)
    }
}
