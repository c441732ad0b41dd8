//! How fast is llama.cpp here and now? Runs its `llama-bench` on the same file, with the same number of threads, or on the same GPU.
//!
//! Source of the flags and of the JSON fields `n_prompt`, `n_gen`, `n_depth`, `avg_ts`: llama.cpp, tools/llama-bench. It knows no batched
//! decode, so it answers for prefill and for decode of one sequence. On a GPU it has all layers there (`-ngl 99`) and its flash attention.

use std::ffi::OsString;
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
    /// Older versions know no depth.
    #[serde(default)]
    n_depth: usize,
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
    /// The GPU that both run on, by its number; `None` for the CPU.
    pub(crate) gpu: Option<u32>,
}

impl Peer<'_> {
    /// Whether the peer can run it.
    pub(crate) fn knows(test: Test) -> bool {
        !matches!(test, Test::Decode { batch, .. } if batch != 1)
    }

    /// Runs each test once: tokens per second, by test.
    pub(crate) fn run(&self, tests: &[Test]) -> anyhow::Result<Vec<(Test, f64)>> {
        let mut known: Vec<Test> = tests.iter().copied().filter(|&t| Peer::knows(t)).collect();
        known.dedup();
        // Its depth holds for prompts too, so what differs in it takes a start of its own.
        let (shallow, deep): (Vec<Test>, Vec<Test>) = known.into_iter().partition(|&test| depth(test) == 0);
        let mut rates = Vec::new();
        for tests in [shallow, deep].iter().filter(|tests| !tests.is_empty()) {
            rates.extend(self.run_together(tests)?);
        }
        Ok(rates)
    }

    /// Runs tests of one depth.
    fn run_together(&self, tests: &[Test]) -> anyhow::Result<Vec<(Test, f64)>> {
        let place = || self.program.display().to_string();
        let out = Command::new(self.program).args(self.arguments(tests)).output().with_context(place)?;
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
            let wanted = match test {
                Test::Prefill { n_prompt } => (n_prompt, 0, 0),
                Test::Decode { n_gen, depth, .. } => (0, n_gen, depth),
            };
            rows.iter().find(|row| (row.n_prompt, row.n_gen, row.n_depth) == wanted).map(|row| row.avg_ts)
        };
        let rates = tests.iter().map(|&test| {
            Ok((test, rate(test).ok_or_else(|| anyhow!("no result for {test:?}")).with_context(place)?))
        });
        rates.collect()
    }

    fn arguments(&self, tests: &[Test]) -> Vec<OsString> {
        let (mut prompts, mut gens) = (Vec::new(), Vec::new());
        for test in tests {
            match *test {
                Test::Prefill { n_prompt } => prompts.push(n_prompt.to_string()),
                Test::Decode { n_gen, .. } => gens.push(n_gen.to_string()),
            }
        }
        // 0 leaves a kind of test out.
        let list = |values: &[String]| if values.is_empty() { "0".into() } else { values.join(",") };
        let mut arguments: Vec<String> = ["-r", "1", "-o", "json"].map(str::to_owned).into();
        let mut add = |flag: &str, value: String| arguments.extend([flag.to_owned(), value]);
        match self.gpu {
            None => add("-ngl", "0".to_owned()),
            Some(ordinal) => {
                add("-ngl", "99".to_owned());
                add("-sm", "none".to_owned());
                add("-mg", ordinal.to_string());
                add("-fa", "1".to_owned());
            }
        }
        add("-t", self.threads.to_string());
        add("-p", list(&prompts));
        add("-n", list(&gens));
        if let Some(deep) = tests.iter().map(|&test| depth(test)).find(|&depth| depth > 0) {
            add("-d", deep.to_string());
        }
        let model = [OsString::from("-m"), self.model.as_os_str().to_owned()];
        model.into_iter().chain(arguments.into_iter().map(OsString::from)).collect()
    }
}

fn depth(test: Test) -> usize {
    match test {
        Test::Decode { depth, .. } => depth,
        Test::Prefill { .. } => 0,
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(gpu: Option<u32>, tests: &[Test], expected: &Expect) {
        let peer = Peer { program: Path::new("llama-bench"), model: Path::new("m.gguf"), threads: 4, gpu };
        let arguments = peer.arguments(tests);
        let arguments: Vec<_> = arguments.iter().map(|argument| argument.to_string_lossy()).collect();
        expected.assert_eq(&arguments.join(" "));
    }

    #[test]
    fn the_peer_runs_on_the_same_device() {
        let tests = [Test::Prefill { n_prompt: 512 }, Test::Decode { n_gen: 64, batch: 1, depth: 0 }];
        check(None, &tests, &expect!["-m m.gguf -r 1 -o json -ngl 0 -t 4 -p 512 -n 64"]);
        let deep = [Test::Decode { n_gen: 64, batch: 1, depth: 8192 }];
        check(
            Some(1),
            &deep,
            &expect!["-m m.gguf -r 1 -o json -ngl 99 -sm none -mg 1 -fa 1 -t 4 -p 0 -n 64 -d 8192"],
        );
    }
}
