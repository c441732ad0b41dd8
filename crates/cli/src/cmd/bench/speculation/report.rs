//! The fields of `bench speculation --json`, and the table for people. docs/src/speculation.md lists the fields.

use std::fmt;
use std::time::Duration;

use engine::Timings;
use serde::Serialize;

use super::Args;
use crate::cmd::bench::samples::Samples;
use crate::device::Loaded;
use crate::exit::Failure;
use crate::version;

/// Everything that was measured.
#[derive(Serialize)]
pub(super) struct Report {
    #[serde(flatten)]
    pub(super) facts: Facts,
    pub(super) tests: Vec<Line>,
}

/// Under what circumstances.
#[derive(Serialize)]
pub(super) struct Facts {
    version: &'static str,
    commit: Option<&'static str>,
    model: String,
    draft_model: Option<String>,
    speculate: &'static str,
    device: String,
    kernels: String,
    threads: usize,
    n_gen: usize,
    temperature: f32,
    repetitions: usize,
}

impl Facts {
    pub(super) fn of(loaded: &Loaded, args: &Args) -> Facts {
        Facts {
            version: env!("CARGO_PKG_VERSION"),
            commit: version::COMMIT,
            model: args.model.model.0.to_string(),
            draft_model: args.speculate.draft_model().map(ToString::to_string),
            speculate: args.speculate.name(),
            device: loaded.executor.memory().device,
            kernels: loaded.kernels.clone(),
            threads: loaded.threads,
            n_gen: args.generate,
            temperature: args.temperature,
            repetitions: args.reps.get(),
        }
    }
}

/// Answers that were generated at once.
#[derive(Default)]
pub(super) struct Round {
    answers: Vec<Vec<u32>>,
    /// The longest of them took this from its first token to its end.
    decode: Duration,
    guessed: usize,
    accepted: usize,
}

impl Round {
    /// Adds an answer.
    pub(super) fn add(&mut self, answer: Vec<u32>, timings: Timings) {
        self.answers.push(answer);
        self.decode = self.decode.max(timings.decode);
        self.guessed += timings.n_guessed;
        self.accepted += timings.n_accepted;
    }

    fn n_token(&self) -> usize {
        self.answers.iter().map(Vec::len).sum()
    }

    /// Tokens a second after the first of each sequence.
    fn rate(&self) -> f64 {
        (self.n_token() - self.answers.len()) as f64 / self.decode.as_secs_f64()
    }
}

/// One text at one batch size.
#[derive(Serialize)]
pub(super) struct Line {
    text: String,
    batch: usize,
    /// Of all sequences, without guesses.
    off_tokens_per_second: Samples,
    /// With them.
    tokens_per_second: Samples,
    ratio: f64,
    /// Of the last repetition, of all sequences: tokens of the answers, of which these were guessed, and guessed right.
    tokens: usize,
    guessed: usize,
    accepted: usize,
    same_tokens: bool,
}

impl Line {
    /// `None` of no rounds.
    pub(super) fn of(text: String, batch: usize, without: &[Round], with: &[Round]) -> Option<Line> {
        let samples = |rounds: &[Round]| Samples::of(&rounds.iter().map(Round::rate).collect::<Vec<_>>());
        let (off, on, last) = (samples(without)?, samples(with)?, with.last()?);
        Some(Line {
            text,
            batch,
            ratio: on.median / off.median,
            off_tokens_per_second: off,
            tokens_per_second: on,
            tokens: last.n_token(),
            guessed: last.guessed,
            accepted: last.accepted,
            same_tokens: without.iter().chain(with).all(|round| round.answers == last.answers),
        })
    }
}

impl Report {
    /// Fails where a guess changed an answer.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let Some(Line { text, batch, .. }) = self.tests.iter().find(|line| !line.same_tokens) else {
            return Ok(());
        };
        let text = format!(
            "{text}, batch size {batch}: expected the same tokens with guesses and without, found others"
        );
        Err(Failure::OutOfBounds(text).into())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Facts { model, draft_model, speculate, device, kernels, threads, .. } = &self.facts;
        write!(f, "{model} on {device}, {kernels}, {threads} threads, --speculate {speculate}")?;
        if let Some(draft) = draft_model {
            write!(f, " --draft-model {draft}")?;
        }
        let width = self.tests.iter().map(|line| line.text.len()).max().unwrap_or(0).max(4);
        writeln!(
            f,
            "\n\n{:width$}  batch  tok/s without  tok/s with  ratio   tokens  guessed  accepted",
            "text"
        )?;
        for line in &self.tests {
            writeln!(
                f,
                "{:width$}  {:>5}  {:>13.1}  {:>10.1}  {:>5.2}  {:>7}  {:>7}  {:>8}{}",
                line.text,
                line.batch,
                line.off_tokens_per_second.median,
                line.tokens_per_second.median,
                line.ratio,
                line.tokens,
                line.guessed,
                line.accepted,
                if line.same_tokens { "" } else { "  OTHER TOKENS" }
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(token: u32, millis: u64) -> Round {
        let mut round = Round::default();
        for k in [1, 2] {
            let decode = Duration::from_millis(millis / k);
            round.add(
                vec![1, 2, token],
                Timings { decode, n_guessed: 2, n_accepted: 1, ..Timings::default() },
            );
        }
        round
    }

    #[test]
    fn rates_count_tokens_after_the_first_and_the_longest_time() {
        let line = Line::of("t".to_owned(), 2, &[round(3, 400)], &[round(3, 200)]).unwrap();
        assert_eq!(line.off_tokens_per_second.median, 10.0);
        assert_eq!((line.tokens_per_second.median, line.ratio), (20.0, 2.0));
        assert_eq!((line.tokens, line.guessed, line.accepted, line.same_tokens), (6, 4, 2, true));
    }

    #[test]
    fn another_token_is_a_failure() {
        let line = Line::of("t".to_owned(), 2, &[round(3, 400)], &[round(4, 200)]).unwrap();
        assert!(!line.same_tokens);
        assert!(Line::of("t".to_owned(), 2, &[], &[]).is_none());
    }
}
