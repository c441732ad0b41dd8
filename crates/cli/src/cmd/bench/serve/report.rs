//! What did the load show? The fields of `bench serve --json`, the table for people, and the picture.
//!
//! Times in milliseconds, rates in tokens or requests a second. Goodput is the rate of requests whose first token and mean time of a token
//! are within the objective.

use std::fmt;

use serde::Serialize;

use super::load::{Level, Round};
use crate::chart::{self, Series};

/// What a user is content with, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Objective {
    /// Until the first token.
    pub(super) first_ms: f64,
    /// A token after the first.
    pub(super) per_token_ms: f64,
}

/// Everything that was measured.
#[derive(Serialize)]
pub(super) struct Report {
    pub(super) url: String,
    pub(super) peer: Option<String>,
    pub(super) words: usize,
    pub(super) tokens: usize,
    pub(super) objective: Objective,
    pub(super) levels: Vec<Pair>,
}

/// One level, of one server or both.
#[derive(Serialize)]
pub(super) struct Pair {
    pub(super) level: Level,
    pub(super) ours: Figures,
    pub(super) peer: Option<Figures>,
    /// Ours over the peer's tokens a second.
    pub(super) ratio: Option<f64>,
}

/// One server at one level.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Figures {
    requests: usize,
    errors: usize,
    first_error: Option<String>,
    prompt_tokens: u64,
    tokens: u64,
    seconds: f64,
    pub(super) tokens_per_second: f64,
    requests_per_second: f64,
    goodput: f64,
    first_token_ms: Quantiles,
    /// Mean time of a token after the first, of each request.
    per_token_ms: Quantiles,
    /// Between a piece of text and the next, of all requests.
    between_ms: Quantiles,
}

/// A distribution; zeros of nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
struct Quantiles {
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
}

impl Quantiles {
    /// By nearest rank.
    fn of(mut values: Vec<f64>) -> Quantiles {
        values.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let rank = (share * values.len() as f64).ceil() as usize;
            values.get(rank.max(1) - 1).copied().unwrap_or(0.0)
        };
        Quantiles { p50: at(0.5), p90: at(0.9), p99: at(0.99), max: at(1.0) }
    }
}

impl Figures {
    /// Of rounds at one level.
    pub(super) fn of(rounds: &[Round], objective: Objective) -> Figures {
        let seen: Vec<_> = rounds.iter().flat_map(|round| &round.seen).collect();
        let errors: Vec<_> = rounds.iter().flat_map(|round| &round.errors).collect();
        let seconds: f64 = rounds.iter().map(|round| round.seconds).sum();
        let tokens: u64 = seen.iter().map(|seen| seen.n_token).sum();
        let is_good = |first: f64, per_token: Option<f64>| {
            first <= objective.first_ms && per_token.is_none_or(|time| time <= objective.per_token_ms)
        };
        let n_good = seen.iter().filter(|seen| is_good(seen.first, seen.per_token())).count();
        let rate = |n: f64| n / seconds.max(1e-9);
        Figures {
            requests: seen.len(),
            errors: errors.len(),
            first_error: errors.first().map(|error| (*error).clone()),
            prompt_tokens: seen.iter().map(|seen| seen.n_prompt).sum(),
            tokens,
            seconds,
            tokens_per_second: rate(tokens as f64),
            requests_per_second: rate(seen.len() as f64),
            goodput: rate(n_good as f64),
            first_token_ms: Quantiles::of(seen.iter().map(|seen| seen.first).collect()),
            per_token_ms: Quantiles::of(seen.iter().filter_map(|seen| seen.per_token()).collect()),
            between_ms: Quantiles::of(seen.iter().flat_map(|seen| seen.gaps.iter().copied()).collect()),
        }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
        let pair = |q: Quantiles| format!("{:.1} / {:.1}", q.p50, q.p99);
        write!(
            f,
            "{name:<24} {:>9.1} {:>7.2} {:>7.2}",
            self.tokens_per_second, self.requests_per_second, self.goodput
        )?;
        write!(
            f,
            " {:>17} {:>15} {:>15}",
            pair(self.first_token_ms),
            pair(self.per_token_ms),
            pair(self.between_ms)
        )?;
        match &self.first_error {
            Some(error) => writeln!(f, "  {} errors: {error}", self.errors),
            None => writeln!(f),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "server      {}", self.url)?;
        if let Some(peer) = &self.peer {
            writeln!(f, "peer        {peer}")?;
        }
        writeln!(f, "a request   {} words, answered by {} tokens", self.words, self.tokens)?;
        let Objective { first_ms, per_token_ms } = self.objective;
        writeln!(f, "objective   first token within {first_ms} ms, then {per_token_ms} ms a token")?;
        write!(f, "\n{:<24} {:>9} {:>7} {:>7}", "", "tokens/s", "req/s", "good/s")?;
        writeln!(f, " {:>17} {:>15} {:>15}", "first p50 / p99", "token p50 / p99", "gap p50 / p99")?;
        for pair in &self.levels {
            let name = match pair.level {
                Level::Closed { clients: 1 } => "1 client".to_owned(),
                Level::Closed { clients } => format!("{clients} clients"),
                Level::Open { rate } => format!("{rate} requests/s"),
            };
            pair.ours.write(f, &name)?;
            if let (Some(peer), Some(ratio)) = (&pair.peer, pair.ratio) {
                peer.write(f, &format!("  peer (ratio {ratio:.2})"))?;
            }
        }
        Ok(())
    }
}

impl Report {
    /// Tokens a second over the load.
    pub(super) fn svg(&self) -> String {
        let line = |name: &str, value: &dyn Fn(&Pair) -> Option<f64>| Series {
            name: name.to_owned(),
            points: self.levels.iter().filter_map(|pair| Some((pair.level.value(), value(pair)?))).collect(),
        };
        let mut series = vec![line(&self.url, &|pair| Some(pair.ours.tokens_per_second))];
        if let Some(peer) = &self.peer {
            series.push(line(peer, &|pair| pair.peer.as_ref().map(|peer| peer.tokens_per_second)));
        }
        let axis = match self.levels.first().map(|pair| pair.level) {
            Some(Level::Open { .. }) => "requests a second",
            _ => "clients",
        };
        chart::lines("Throughput of the server", (axis, "tokens/s"), &series)
    }
}

#[cfg(test)]
mod tests {
    use super::super::ask::Seen;
    use super::*;

    #[test]
    fn goodput_counts_who_was_served_in_time() {
        let seen =
            |first: f64, last: f64| Seen { first, last, gaps: vec![last - first], n_token: 11, n_prompt: 3 };
        // 10 ms a token, then a late first token, then 100 ms a token.
        let seen = vec![seen(100.0, 200.0), seen(900.0, 1000.0), seen(100.0, 1100.0)];
        let round = Round { seen, errors: vec!["x".to_owned()], seconds: 2.0 };
        let figures = Figures::of(&[round], Objective { first_ms: 500.0, per_token_ms: 50.0 });
        assert_eq!((figures.requests, figures.errors, figures.goodput), (3, 1, 0.5));
        assert_eq!((figures.tokens_per_second, figures.requests_per_second), (16.5, 1.5));
        assert_eq!(figures.first_token_ms.p50, 100.0);
        assert_eq!(figures.per_token_ms.max, 100.0);
    }

    #[test]
    fn quantiles_are_values_that_were_seen() {
        let all = Quantiles::of((1..=100).rev().map(f64::from).collect());
        assert_eq!(all, Quantiles { p50: 50.0, p90: 90.0, p99: 99.0, max: 100.0 });
        assert_eq!(Quantiles::of(Vec::new()), Quantiles::default());
    }
}
