//! Prompt look-up: what followed the last time that a sequence's latest tokens stood in it?
//!
//! Answers repeat their prompts where they edit, quote or extract, and themselves where text is regular (github.com/apoorvumang/prompt-lookup-decoding). One place of
//! the sequence is followed as long as it is right. After a miss the latest place after which the last [`N`] tokens stood is the next.
//! Memory and time are a few bytes and a few steps a token.

use super::measured::Measured;
use super::{Guess, Guesser};

/// How many tokens must be the same.
const N: usize = 3;

/// Matches by their length, below these and above all.
const LENGTHS: [usize; 3] = [6, 12, 24];

/// Longer matches count as this long.
const MAX_LENGTH: usize = 32;

/// How often matches of each length were right before anything is measured, of two.
const FIRST_RIGHT: [f64; 4] = [0.8, 1.2, 1.5, 1.8];

/// Follows a place of its sequence.
#[derive(Debug)]
pub struct Lookup {
    tokens: Vec<u32>,
    /// By the hash of [`N`] tokens: the index after the latest such, or after others of the same hash; 0 for none.
    table: Vec<u32>,
    followed: Option<Followed>,
    /// Of matches by length.
    measured: [Measured; 4],
}

/// What may come next.
#[derive(Clone, Copy, Debug)]
struct Followed {
    /// Index of the token.
    at: usize,
    /// How many tokens before it are the latest ones; at most [`MAX_LENGTH`].
    length: usize,
}

impl Default for Lookup {
    fn default() -> Self {
        let measured = FIRST_RIGHT.map(Measured::begin);
        Lookup { tokens: Vec::new(), table: vec![0; 64], followed: None, measured }
    }
}

impl Lookup {
    fn append(&mut self, token: u32) {
        let goes_on = self.followed.filter(|followed| self.tokens[followed.at] == token);
        self.followed = goes_on
            .map(|Followed { at, length }| Followed { at: at + 1, length: (length + 1).min(MAX_LENGTH) });
        self.tokens.push(token);
        if self.tokens.len() > self.table.len() / 2 {
            self.table = vec![0; 2 * self.table.len()];
            (N..self.tokens.len()).for_each(|end| self.note(end));
        }
        if self.tokens.len() < N {
            return;
        }
        if self.followed.is_none() {
            let at = self.table[self.bucket(self.tokens.len())] as usize;
            let length = self.length(at);
            self.followed = (length >= N).then_some(Followed { at, length });
        }
        self.note(self.tokens.len());
    }

    /// How many tokens before an index are the latest ones.
    fn length(&self, at: usize) -> usize {
        let (before, all) = (self.tokens[..at].iter().rev(), self.tokens.iter().rev());
        before.zip(all).take(MAX_LENGTH).take_while(|(a, b)| a == b).count()
    }

    /// Remembers the tokens before `end`, at least [`N`].
    fn note(&mut self, end: usize) {
        let bucket = self.bucket(end);
        // Sequences are far shorter; one that is not is not remembered from there on.
        self.table[bucket] = u32::try_from(end).unwrap_or(0);
    }

    fn bucket(&self, end: usize) -> usize {
        // A multiplier of FNV-1a, and the high bits, which depend on all of them.
        let mix = |hash: u64, &token: &u32| (hash ^ u64::from(token)).wrapping_mul(0x0000_0100_0000_01b3);
        let hash = self.tokens[end - N..end].iter().fold(0xcbf2_9ce4_8422_2325, mix);
        (hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % self.table.len()
    }

    /// The index of a match's length.
    fn class(length: usize) -> usize {
        LENGTHS.iter().filter(|&&least| length >= least).count()
    }
}

impl Guesser for Lookup {
    fn begin(&mut self, prompt: &[u32]) {
        prompt.iter().for_each(|&token| self.append(token));
    }

    fn push(&mut self, token: u32) {
        if let Some(Followed { at, length }) = self.followed {
            self.measured[Lookup::class(length)].note(self.tokens[at] == token);
        }
        self.append(token);
    }

    fn guess(&self, n: usize) -> Vec<Guess> {
        let Some(Followed { at, length }) = self.followed else { return Vec::new() };
        let chance = self.measured[Lookup::class(length)].chance();
        // Where the place comes to the end of the sequence, what follows it is what it has guessed itself.
        self.tokens[at..].iter().cycle().take(n).map(|&token| Guess { token, chance }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(tokens: &[u32], n: usize, expected: &[u32]) {
        let mut lookup = Lookup::default();
        lookup.begin(tokens);
        assert_eq!(ids(&lookup, n), expected, "{tokens:?}");
    }

    fn ids(lookup: &Lookup, n: usize) -> Vec<u32> {
        lookup.guess(n).iter().map(|guess| guess.token).collect()
    }

    fn chance(lookup: &Lookup) -> f64 {
        lookup.guess(1)[0].chance
    }

    #[test]
    fn what_followed_the_same_tokens_is_guessed() {
        check(&[], 4, &[]);
        check(&[1, 2, 3, 4, 5, 6, 2, 3], 4, &[]);
        check(&[1, 2, 3, 4, 5, 6, 1, 2, 3], 4, &[4, 5, 6, 1]);
        // The latest of several places, and after a miss the one where that token was next.
        check(&[1, 2, 3, 4, 9, 1, 2, 3, 5, 9, 1, 2, 3], 2, &[5, 9]);
        check(&[1, 2, 3, 4, 9, 1, 2, 3, 5, 8, 1, 2, 3, 4], 2, &[9, 1]);
        // A repetition goes on beyond the end.
        check(&[7, 8, 9, 7, 8, 9], 7, &[7, 8, 9, 7, 8, 9, 7]);
        check(&[5, 5, 5, 5], 3, &[5, 5, 5]);
    }

    #[test]
    fn the_table_grows_with_the_sequence() {
        let tokens: Vec<u32> = (0..5000).chain(17..90).collect();
        check(&tokens, 3, &[90, 91, 92]);
    }

    #[test]
    fn chances_are_those_of_this_sequence_by_the_length_of_the_match() {
        let mut lookup = Lookup::default();
        lookup.begin(&(0..100).collect::<Vec<u32>>());
        (10..60).for_each(|token| lookup.push(token));
        assert!(chance(&lookup) > 0.95, "{}", chance(&lookup));
        // Short matches that never go on.
        for i in 0..40 {
            (70..73).for_each(|token| lookup.push(token));
            lookup.push(1000 + i);
        }
        (70..73).for_each(|token| lookup.push(token));
        assert_eq!(ids(&lookup, 1), [1039]);
        assert!(chance(&lookup) < 0.1, "{}", chance(&lookup));
    }
}
