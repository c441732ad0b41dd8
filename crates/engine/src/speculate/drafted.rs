//! What a draft model proposed for one sequence, and how often it was right.
//!
//! A draft model says how likely it takes its own tokens to be. How often tokens of which it is so sure are right is measured by classes of that
//! probability, since it depends on both models and on how the sequence is sampled.

use std::collections::VecDeque;

use super::measured::Measured;
use super::{Guess, Guesser};

/// Probabilities by class: below the first of these, and from each of them on.
const BOUNDS: [f64; 5] = [0.3, 0.5, 0.7, 0.85, 0.95];

/// Measurements that a sequence takes over from those before it.
const TAKEN_OVER: f64 = 6.0;

/// How often a draft model's tokens are right.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Calibration {
    of_class: [Measured; 6],
    of_all: Measured,
}

impl Default for Calibration {
    fn default() -> Self {
        let of_class = [0.3, 0.7, 1.1, 1.4, 1.7, 1.9].map(Measured::begin);
        Calibration { of_class, of_all: Measured::begin(1.3) }
    }
}

impl Calibration {
    fn class(probability: f64) -> usize {
        BOUNDS.iter().filter(|&&least| probability >= least).count()
    }

    /// How likely a token is right to which the draft model gives this probability, where those before it are.
    pub(crate) fn chance(&self, probability: f64) -> f64 {
        self.of_class[Calibration::class(probability)].chance()
    }

    /// The same of a token that is not drafted yet.
    pub(crate) fn expected(&self) -> f64 {
        self.of_all.chance()
    }

    fn note(&mut self, probability: f64, is_right: bool) {
        self.of_class[Calibration::class(probability)].note(is_right);
        self.of_all.note(is_right);
    }

    /// With what another sequence begins.
    pub(crate) fn for_next(self) -> Calibration {
        let of_class = self.of_class.map(|measured| measured.at_most(TAKEN_OVER));
        Calibration { of_class, of_all: self.of_all.at_most(TAKEN_OVER) }
    }
}

/// A token and the probability that the draft model gave it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Proposal {
    pub(crate) token: u32,
    pub(crate) probability: f64,
}

/// The draft model's proposals for one sequence: the guesser whose tokens come from outside.
#[derive(Debug)]
pub(crate) struct Drafted {
    next: VecDeque<Proposal>,
    pub(crate) calibration: Calibration,
}

impl Drafted {
    pub(crate) fn new(calibration: Calibration) -> Drafted {
        Drafted { next: VecDeque::new(), calibration }
    }

    /// These may come next, after the tokens that were pushed.
    pub(crate) fn propose(&mut self, proposals: Vec<Proposal>) {
        self.next = proposals.into();
    }

    /// Whether nothing is proposed.
    pub(crate) fn is_empty(&self) -> bool {
        self.next.is_empty()
    }
}

impl Guesser for Drafted {
    fn begin(&mut self, _prompt: &[u32]) {}

    fn push(&mut self, token: u32) {
        let Some(proposal) = self.next.pop_front() else { return };
        let is_right = proposal.token == token;
        self.calibration.note(proposal.probability, is_right);
        if !is_right {
            self.next.clear();
        }
    }

    fn guess(&self, n: usize) -> Vec<Guess> {
        let guess = |&Proposal { token, probability }: &Proposal| Guess {
            token,
            chance: self.calibration.chance(probability),
        };
        self.next.iter().take(n).map(guess).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proposals(tokens: &[u32]) -> Vec<Proposal> {
        tokens.iter().map(|&token| Proposal { token, probability: 0.9 }).collect()
    }

    fn ids(drafted: &Drafted) -> Vec<u32> {
        drafted.guess(9).iter().map(|guess| guess.token).collect()
    }

    #[test]
    fn proposals_last_as_long_as_they_are_right() {
        let mut drafted = Drafted::new(Calibration::default());
        drafted.propose(proposals(&[1, 2, 3]));
        drafted.push(1);
        assert_eq!(ids(&drafted), [2, 3]);
        drafted.push(7);
        assert!(ids(&drafted).is_empty() && drafted.is_empty());
        drafted.push(3);
        assert!(drafted.is_empty());
    }

    #[test]
    fn chances_are_measured_by_the_draft_model_s_own_probability() {
        let mut drafted = Drafted::new(Calibration::default());
        assert!((drafted.calibration.chance(0.9) - 0.85).abs() < 1e-9);
        for _ in 0..60 {
            // Sure and wrong, unsure and right.
            drafted.propose(vec![Proposal { token: 1, probability: 0.99 }]);
            drafted.push(2);
            drafted.propose(vec![Proposal { token: 1, probability: 0.1 }]);
            drafted.push(1);
        }
        let calibration = drafted.calibration;
        assert!(calibration.chance(0.99) < 0.1 && calibration.chance(0.1) > 0.9);
        assert!((calibration.expected() - 0.5).abs() < 0.1);
        // The next sequence begins with it, and learns faster than this one would.
        let mut next = Drafted::new(calibration.for_next());
        assert!(next.calibration.chance(0.99) < 0.1);
        for _ in 0..6 {
            next.propose(vec![Proposal { token: 1, probability: 0.99 }]);
            next.push(1);
        }
        assert!(next.calibration.chance(0.99) > 0.45);
    }
}
