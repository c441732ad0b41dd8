//! What of a benchmark can be held against another run? What was timed and how much it read; rates stand beside each other.

use std::fmt::Write;

use serde_json::Value;

use super::{Found, LocalArgs, of_device};
use crate::device::ModelArgs;
use crate::log::LogArgs;
use crate::proof::{Input, Measure, Measured, OutputArgs};

impl Measure for LocalArgs {
    const COMMAND: &'static str = "bench";
    const UNREPEATABLE: &'static [&'static str] = &[
        "version",
        "commit",
        "model",
        "device",
        "kernels",
        "threads",
        "peer",
        "load_seconds",
        "load_bytes",
        "load_copy_seconds",
        "load_gigabytes_per_second",
        "device_bytes",
        "resident_bytes",
        "peak_resident_bytes",
        "gigabytes_per_second",
        "roofline_share",
        "roofline",
        "tokens_per_second",
        "peer_tokens_per_second",
        "ratio",
        "stages",
    ];

    fn output(&self) -> &OutputArgs {
        &self.output
    }

    fn flags(&self) -> Vec<String> {
        let list = |values: Vec<String>| values.join(",");
        let batches = self.batch.iter().map(ToString::to_string).collect();
        let mut flags = self.model.flags();
        flags.extend(self.shape.iter().map(|shape| format!("--shape={shape}")));
        flags.extend(self.layers.iter().map(|n| format!("--layers={n}")));
        flags.push(format!("--prompt={}", list(self.prompt.iter().map(ToString::to_string).collect())));
        flags.push(format!("--gen={}", self.generate));
        flags.push(format!("--batch={}", list(batches)));
        flags.push(format!("--depth={}", self.depth));
        flags.push(format!("--reps={}", self.reps));
        flags
    }

    fn inputs(&self, _log: &LogArgs) -> anyhow::Result<Vec<Input>> {
        Ok(Vec::new())
    }

    fn compute_as(&mut self, given: &ModelArgs) {
        self.model = given.computing(&self.model);
    }

    fn measure(&self, log: &LogArgs) -> anyhow::Result<Measured> {
        let Found { report, metadata, files } = of_device(self, log)?;
        Measured::new(&report, metadata, files, Ok(()))
    }

    fn beside(then: &Value, now: &Value) -> String {
        let median = |test: &Value| test["tokens_per_second"]["median"].as_f64();
        let tests = |report: &Value| report["tests"].as_array().cloned().unwrap_or_default();
        let mut text = String::from("tokens/s          then          now    ratio\n");
        for (then, now) in tests(then).iter().zip(tests(now)) {
            if let (Some(before), Some(after)) = (median(then), median(&now)) {
                let kind = now["kind"].as_str().unwrap_or_default();
                // Writing to a string cannot fail.
                let _written =
                    writeln!(text, "{kind:<10} {before:>11.1} {after:>12.1} {:>8.2}", after / before);
            }
        }
        text
    }
}
