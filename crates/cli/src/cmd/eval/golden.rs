//! Does this device compute what a reference implementation computes from the same file? Logits and a greedy answer, held against saved ones.
//!
//! Each sequence is computed twice: as a prompt, and token by token in the arithmetic of generated rows. Each has a context of just its
//! length, unless --ctx says otherwise, since LongRoPE's factors follow from the context.

use std::fmt;
use std::path::PathBuf;

use ::device::Executor;
use golden::{Case, Reference, nmse};
use serde::Serialize;
use worker::receipt::FileHashes;

use super::Soundness;
use super::score::most_likely;
use crate::device::{self, Loaded, ModelArgs, Shape};
use crate::exit::Failure;
use crate::fetch;
use crate::log::LogArgs;
use crate::proof::{Input, Measure, Measured, Metadata, OutputArgs};
use crate::single;

/// `worker-orcd eval golden`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example: worker-orcd eval golden tests/golden/qwen3-q4_0.gguf --device cuda:0 --max-nmse 1e-5\n\n\
    The reference of NAME.gguf is in NAME.json and NAME.logits.npz beside it, or beside --reference. NMSE is the mean square\n\
    error over the variance of the reference's logits. The exit code is 13 where a bound is not met."
)]
pub(crate) struct Args {
    /// The reference's NAME.json, with NAME.logits.npz beside it [default: beside the model]
    #[arg(long, value_name = "NAME.json")]
    reference: Option<PathBuf>,
    /// End with exit code 13 where the NMSE of prompt rows is above this
    #[arg(long, value_name = "X")]
    max_nmse: Option<f64>,
    /// End with exit code 13 where the NMSE of generated rows is above this
    #[arg(long, value_name = "X")]
    max_generated_nmse: Option<f64>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    model: ModelArgs,
}

/// The fields of `eval golden --json`.
#[derive(Serialize)]
struct Report {
    model: String,
    sequences: Vec<Sequence>,
    greedy: Greedy,
    exact: bool,
}

/// How one sequence's logits agree.
#[derive(Serialize)]
struct Sequence {
    name: &'static str,
    tokens: usize,
    prompt: Agreement,
    generated: Agreement,
}

/// How logits agree with the reference's.
#[derive(Serialize)]
struct Agreement {
    nmse: f64,
    /// Rows with the same most likely token.
    same_top: usize,
}

/// How many ids of the greedy answer are the reference's, up to the first that is not.
#[derive(Serialize)]
struct Greedy {
    same: usize,
    of: usize,
}

impl Measure for Args {
    const COMMAND: &'static str = "eval golden";
    const UNREPEATABLE: &'static [&'static str] = &["model"];

    fn output(&self) -> &OutputArgs {
        &self.output
    }

    fn flags(&self) -> Vec<String> {
        self.model.flags()
    }

    fn inputs(&self, log: &LogArgs) -> anyhow::Result<Vec<Input>> {
        Ok(vec![Input { flag: "--reference", paths: Reference::paths(&self.place(log)?).to_vec() }])
    }

    fn compute_as(&mut self, given: &ModelArgs) {
        self.model = given.computing(&self.model);
    }

    fn measure(&self, log: &LogArgs) -> anyhow::Result<Measured> {
        let reference = Reference::beside(&self.place(log)?)?;
        let files = FileHashes::open(device::open(&self.model, log)?.gguf.paths());
        let mut soundness = Soundness::default();
        let mut sequences = Vec::new();
        for case in &reference.cases {
            let mut loaded = self.load(case.tokens.len(), log)?;
            sequences.push(Sequence::measure(&mut loaded, case, &mut soundness)?);
        }
        let (prompt, expected) = (&reference.greedy_prompt, &reference.greedy);
        let mut loaded = self.load(prompt.len() + expected.len(), log)?;
        let same = same_ids(loaded.executor.as_mut(), prompt, expected)?;
        let report = Report {
            model: self.model.model.0.to_string(),
            sequences,
            greedy: Greedy { same, of: expected.len() },
            exact: self.model.device.exact,
        };
        let verdict = soundness.check().and_then(|()| self.judge(&report));
        Measured::new(&report, Metadata::of(&loaded), Some(files), verdict)
    }
}

impl Args {
    /// What the reference's files lie beside.
    fn place(&self, log: &LogArgs) -> anyhow::Result<PathBuf> {
        match &self.reference {
            Some(path) => Ok(path.clone()),
            None => fetch::path_of(&self.model.model.0, self.model.fetch, log),
        }
    }

    fn load(&self, n_token: usize, log: &LogArgs) -> anyhow::Result<Loaded> {
        let shape = self.model.shape();
        let shape = Shape { n_ctx: shape.n_ctx.or(Some(n_token)), ..shape };
        device::open(&self.model, log)?.load(shape, log)
    }

    fn judge(&self, report: &Report) -> anyhow::Result<()> {
        for Sequence { name, prompt, generated, .. } in &report.sequences {
            super::at_most(&format!("NMSE of the prompt rows of {name:?}"), prompt.nmse, self.max_nmse)?;
            let what = format!("NMSE of the generated rows of {name:?}");
            super::at_most(&what, generated.nmse, self.max_generated_nmse)?;
        }
        Ok(())
    }
}

/// How many ids of a greedy answer are the expected ones, up to the first that is not. The largest logit is the choice, the lowest id
/// among equals, as in the sampler.
fn same_ids(executor: &mut dyn Executor, prompt: &[u32], expected: &[u32]) -> anyhow::Result<usize> {
    let mut same = 0;
    single::generate(executor, prompt, |row| {
        let id = *expected.get(same)?;
        if most_likely(row) != id as usize {
            return None;
        }
        same += 1;
        (same < expected.len()).then_some(id)
    })?;
    Ok(same)
}

impl Sequence {
    fn measure(loaded: &mut Loaded, case: &Case, soundness: &mut Soundness) -> anyhow::Result<Sequence> {
        let executor = loaded.executor.as_mut();
        let (n_vocab, n_expected) = (executor.limits().n_vocab, case.logits.len() / case.tokens.len());
        if n_vocab != n_expected {
            let text = format!(
                "expected a reference with {n_vocab} logits a row, the model's vocabulary, found {n_expected}"
            );
            return Err(Failure::Request(text).into());
        }
        let mut compare = |found: Vec<f32>| {
            soundness.look(&found, n_vocab);
            Agreement::of(&found, &case.logits, n_vocab)
        };
        let mut rows = Vec::new();
        single::prompt_logits(executor, &case.tokens, 0..case.tokens.len(), |some| {
            rows.extend_from_slice(some);
            Ok(())
        })?;
        let prompt = compare(rows);
        let (mut rows, mut after) = (Vec::new(), case.tokens[1..].iter().copied());
        single::generate(executor, &case.tokens[..1], |row| {
            rows.extend_from_slice(row);
            after.next()
        })?;
        let generated = compare(rows);
        Ok(Sequence { name: case.name, tokens: case.tokens.len(), prompt, generated })
    }
}

impl Agreement {
    fn of(found: &[f32], expected: &[f32], n_vocab: usize) -> Agreement {
        let rows = found.chunks_exact(n_vocab).zip(expected.chunks_exact(n_vocab));
        let same_top = rows.filter(|(a, b)| most_likely(a) == most_likely(b)).count();
        Agreement { nmse: nmse(found, expected), same_top }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.model)?;
        writeln!(
            f,
            "{:<8} {:>6}  {:>20}  {:>20}",
            "", "tokens", "prompt rows: NMSE", "generated rows: NMSE"
        )?;
        for Sequence { name, tokens, prompt, generated } in &self.sequences {
            let one = |rows: &Agreement| format!("{:.1e}, top {}", rows.nmse, rows.same_top);
            writeln!(f, "{name:<8} {tokens:>6}  {:>20}  {:>20}", one(prompt), one(generated))?;
        }
        let Greedy { same, of } = self.greedy;
        writeln!(f, "greedy: the first {same} of {of} ids are the reference's")
    }
}
