//! Which tokens may come next, and how many guesses of them pay?
//!
//! A guess changes no token and no log probability. A row's bits depend on its own sequence and position, so the row of a right guess is the row that the token would
//! have had in a step of its own; and a token is chosen by these bits, the tokens before it and the random number of its position. A guess is kept if it
//! is the token that was chosen before it, whatever the temperature. A wrong one costs the time of its row.
//!
//! So what is guessed, and how much, may follow from anything: what a sequence's tokens were ([`Guesser`]), and what rows and waiting cost now ([`RowCost`], [`Rhythm`]).

mod cost;
mod drafted;
mod lookup;
mod measured;
mod rhythm;

use std::fmt::Debug;

pub(crate) use self::cost::RowCost;
pub(crate) use self::drafted::{Calibration, Drafted, Proposal};
pub use self::lookup::Lookup;
pub(crate) use self::rhythm::Rhythm;

/// Guesses the next tokens of one sequence.
pub trait Guesser: Send + Debug {
    /// Its prompt, before anything else.
    fn begin(&mut self, prompt: &[u32]);

    /// The next token of its answer.
    fn push(&mut self, token: u32);

    /// At most `n` tokens that may come next, in order; none where nothing is known.
    fn guess(&self, n: usize) -> Vec<Guess>;
}

/// A token that may come next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guess {
    /// Its id.
    pub token: u32,
    /// How likely it is right where those before it are: between 0 and 1, as measured.
    pub chance: f64,
}

/// Guesses nothing by itself: for a draft model alone.
#[derive(Debug)]
struct Silent;

impl Guesser for Silent {
    fn begin(&mut self, _prompt: &[u32]) {}

    fn push(&mut self, _token: u32) {}

    fn guess(&self, _n: usize) -> Vec<Guess> {
        Vec::new()
    }
}

/// How an engine guesses.
#[derive(Clone, Copy, Debug)]
pub struct Speculation {
    /// Makes a sequence's guesser.
    pub guesser: fn() -> Box<dyn Guesser>,
    /// How many guesses a step has.
    pub extent: Extent,
}

impl Speculation {
    /// From what a sequence's own tokens were followed by before.
    #[must_use]
    pub fn lookup(extent: Extent) -> Speculation {
        Speculation { guesser: || Box::new(Lookup::default()), extent }
    }

    /// From the engine's draft model alone ([`crate::Engine::spawn_with_draft`]). Beside another guesser, a draft model is asked where that one has nothing, or
    /// nothing as likely.
    #[must_use]
    pub fn draft(extent: Extent) -> Speculation {
        Speculation { guesser: || Box::new(Silent), extent }
    }
}

/// How many guesses a step has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// As many as are worth their rows' time, as measured: none where rows are not nearly free.
    Paying,
    /// As many as there are and the executor takes, for measurements and tests.
    Most,
}

/// Guesses of a sequence.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Candidate {
    /// See [`Guess::chance`], of each.
    pub(crate) chances: Vec<f64>,
}

impl Candidate {
    /// How likely the first `n` are all right.
    fn reach(&self, n: usize) -> f64 {
        self.chances[..n].iter().product()
    }
}

/// How much more a guess must give than what its row costs.
pub(crate) const MARGIN: f64 = 1.1;

/// How many guesses each candidate has in a step of `n_generated` rows beside them, where there is room for so many. One after the other goes to whom it is likeliest to
/// give a token, as long as tokens a second rise by it.
pub(crate) fn share(
    candidates: &[Candidate],
    (n_generated, room): (usize, usize),
    cost: Option<&RowCost>,
) -> Vec<usize> {
    let mut counts = vec![0; candidates.len()];
    let (mut tokens, mut seconds) = (n_generated as f64, cost.map_or(0.0, |cost| cost.of(n_generated)));
    let of_row = cost.map_or(0.0, RowCost::of_row);
    // What one guess more gives: all up to it must be right.
    let mut gains: Vec<Option<f64>> = candidates.iter().map(|one| one.chances.first().copied()).collect();
    for _ in 0..room {
        let open = gains.iter().enumerate().filter_map(|(i, gain)| Some((i, (*gain)?)));
        let Some((best, more)) = open.max_by(|(_, a), (_, b)| a.total_cmp(b)) else { break };
        if cost.is_some() && more * seconds <= MARGIN * tokens * of_row {
            break;
        }
        counts[best] += 1;
        gains[best] = candidates[best].chances.get(counts[best]).map(|chance| more * chance);
        (tokens, seconds) = (tokens + more, seconds + of_row);
    }
    counts
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn check(chances: &[f64], (n_generated, room): (usize, usize), expected: &[usize]) {
        let candidates: Vec<Candidate> =
            chances.iter().map(|&chance| Candidate { chances: vec![chance; 8] }).collect();
        // A row costs a fifth of a step.
        let mut cost = RowCost::default();
        (0..200).for_each(|i| cost.measured(1 + i % 4, Duration::from_millis(40 + 10 * (1 + i % 4) as u64)));
        assert_eq!(share(&candidates, (n_generated, room), Some(&cost)), expected, "{chances:?}");
    }

    #[test]
    fn guesses_are_made_as_long_as_tokens_a_second_rise() {
        check(&[0.95], (1, 16), &[8]);
        check(&[0.95], (1, 3), &[3]);
        check(&[0.6], (1, 16), &[2]);
        check(&[0.2], (1, 16), &[0]);
        check(&[0.7, 0.9], (2, 4), &[1, 3]);
        // Where more sequences share a step, its time is that of its rows.
        check(&[0.95, 0.5], (10, 16), &[3, 0]);
        check(&[0.95, 0.5], (30, 16), &[0, 0]);
    }

    #[test]
    fn the_most_are_all_that_there_is_room_for() {
        let candidates = [0.1, 0.9].map(|chance| Candidate { chances: vec![chance; 3] });
        assert_eq!(share(&candidates, (2, 16), None), [3, 3]);
        assert_eq!(share(&candidates, (2, 4), None), [1, 3]);
    }
}
