//! How fast is llama.cpp here and now? Runs its `llama-bench` on the same file, with the same number of threads.
//!
//! Source of the flags and of the JSON fields `n_prompt`, `n_gen`, `avg_ts`: llama.cpp, tools/llama-bench. It knows no batched
//! decode, so it answers for prefill and for decode of one sequence.

use std::io;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, anyhow};
use serde::Deserialize;

use super::measure::Test;

/// One result of `llama-bench -o json`.
#[derive(Deserialize)]
struct Row {
    n_prompt: usize,
    n_gen: usize,
    avg_ts: f64,
}

/// What is compared.
pub(crate) struct Peer<'a> {
    /// The program `llama-bench`.
    pub(crate) program: &'a Path,
    /// The GGUF file.
    pub(crate) model: &'a Path,
    /// Threads.
    pub(crate) threads: usize,
}

impl Peer<'_> {
    /// Whether the peer can run it.
    pub(crate) fn knows(test: Test) -> bool {
        !matches!(test, Test::Decode { batch, .. } if batch != 1)
    }

    /// Runs each test once: tokens per second, by test.
    pub(crate) fn run(&self, tests: &[Test]) -> anyhow::Result<Vec<(Test, f64)>> {
        let mut known: Vec<Test> = tests.iter().copied().filter(|&t| Peer::knows(t)).collect();
        let (mut prompts, mut gens) = (Vec::new(), Vec::new());
        for test in &known {
            match *test {
                Test::Prefill { n_prompt } => prompts.push(n_prompt.to_string()),
                Test::Decode { n_gen, .. } => gens.push(n_gen.to_string()),
            }
        }
        // 0 leaves a kind of test out.
        let list = |values: &[String]| if values.is_empty() { "0".into() } else { values.join(",") };
        let mut command = Command::new(self.program);
        command.arg("-m").arg(self.model).args(["-r", "1", "-o", "json", "-ngl", "0"]);
        command.args(["-t", &self.threads.to_string(), "-p", &list(&prompts), "-n", &list(&gens)]);
        let place = || self.program.display().to_string();
        let out = command.output().with_context(place)?;
        if !out.status.success() {
            let said = String::from_utf8_lossy(&out.stderr);
            let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().to_owned();
            return Err(anyhow!("ended with {}: {last}", out.status)).with_context(place);
        }
        let rows: Vec<Row> = serde_json::from_slice(&out.stdout)
            .map_err(|e| {
                io::Error::new(io::ErrorKind::InvalidData, format!("expected llama-bench's JSON: {e}"))
            })
            .with_context(place)?;
        let rate = |test: Test| {
            let (n_prompt, n_gen) = match test {
                Test::Prefill { n_prompt } => (n_prompt, 0),
                Test::Decode { n_gen, .. } => (0, n_gen),
            };
            rows.iter().find(|row| (row.n_prompt, row.n_gen) == (n_prompt, n_gen)).map(|row| row.avg_ts)
        };
        known.dedup();
        known
            .into_iter()
            .map(|test| {
                Ok((test, rate(test).ok_or_else(|| anyhow!("no result for {test:?}")).with_context(place)?))
            })
            .collect()
    }
}
