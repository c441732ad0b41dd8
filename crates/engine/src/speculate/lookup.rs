//! Prompt look-up: what followed the last time that a sequence's latest tokens stood in it?
//!
//! Answers repeat their prompts where they edit, quote or extract, and themselves where text is regular (github.com/apoorvumang/prompt-lookup-decoding). One place of
//! the sequence is followed as long as it is right. After a miss the next is one after which the last three tokens stood, or else the last two, or the last one: it
//! counts how often matches of each length go on, so short ones are guessed from where that pays. Of several places it is the latest, but for an answer
//! that goes through its prompt in order: there it is the next one after what it repeated last.
//! Memory and time are some 60 bytes and a few steps a token.

use super::measured::Measured;
use super::{Guess, Guesser};

/// At most so many tokens are looked up.
const N: usize = 3;

/// Matches by their length, below these and above all.
const LENGTHS: [usize; 5] = [2, 3, 6, 12, 24];

/// Longer matches count as this long.
const MAX_LENGTH: usize = 32;

/// How often matches of each length were right before anything is measured, of two. It is measured whether a guess is made or not, so
/// the short ones need no trial.
const FIRST_RIGHT: [f64; LENGTHS.len() + 1] = [0.3, 0.5, 0.8, 1.2, 1.5, 1.8];

/// So many tokens of the prompt come next where an answer goes through it in order.
const NEAR: usize = 32;

/// Follows a place of its sequence.
#[derive(Debug)]
pub struct Lookup {
    tokens: Vec<u32>,
    n_prompt: usize,
    /// Of one, two and three tokens, by their hash: the index after the latest such, beside that of others of the same hash; 0 for none.
    tables: [Vec<[u32; 2]>; N],
    followed: Option<Followed>,
    /// The index in the prompt after what was repeated from it last.
    repeated: Option<usize>,
    /// Of matches by length.
    measured: [Measured; LENGTHS.len() + 1],
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
        let tables = std::array::from_fn(|_| vec![[0; 2]; 32]);
        Lookup { tokens: Vec::new(), n_prompt: 0, tables, followed: None, repeated: None, measured }
    }
}

impl Lookup {
    /// Takes the tokens that come next: their places are looked up for the last one alone.
    fn append(&mut self, tokens: &[u32]) {
        let n_noted = self.tokens.len();
        self.tokens.extend_from_slice(tokens);
        let begin = if self.tokens.len() > self.tables[0].len() {
            let n = (self.tokens.len() + 1).next_power_of_two();
            self.tables.iter_mut().for_each(|table| *table = vec![[0; 2]; n]);
            1
        } else {
            n_noted + 1
        };
        (begin..self.tokens.len()).for_each(|end| self.note(end));
        if self.followed.is_none() {
            self.followed = (1..=N.min(self.tokens.len())).rev().find_map(|n| self.find(n));
        }
        self.note(self.tokens.len());
    }

    /// A place after which the last `n` tokens stood.
    fn find(&self, n: usize) -> Option<Followed> {
        let (rest, last) = self.tokens.split_at(self.tokens.len() - n);
        let near = self.repeated.and_then(|repeated| {
            let prompt = &rest[..self.n_prompt.min(rest.len())];
            (repeated.max(n)..prompt.len().min(repeated + NEAR)).find(|&at| prompt[at - n..at] == *last)
        });
        let latest = || {
            let places = self.tables[n - 1][self.bucket(self.tokens.len(), n)].map(|at| at as usize);
            places.into_iter().find(|&at| self.is_same(at, n, last))
        };
        let at = near.or_else(latest)?;
        Some(Followed { at, length: self.length(at) })
    }

    /// Whether these are the `n` tokens before an index; not so at index 0, which stands for none.
    fn is_same(&self, at: usize, n: usize, tokens: &[u32]) -> bool {
        at >= n && self.tokens[at - n..at] == *tokens
    }

    /// How many tokens before an index are the latest ones.
    fn length(&self, at: usize) -> usize {
        let (before, all) = (self.tokens[..at].iter().rev(), self.tokens.iter().rev());
        before.zip(all).take(MAX_LENGTH).take_while(|(a, b)| a == b).count()
    }

    /// Remembers the tokens before `end`.
    fn note(&mut self, end: usize) {
        for n in 1..=N.min(end) {
            let bucket = self.bucket(end, n);
            let [latest, other] = self.tables[n - 1][bucket];
            let is_same = self.is_same(latest as usize, n, &self.tokens[end - n..end]);
            // Sequences are far shorter; one that is not is not remembered from there on.
            let end = u32::try_from(end).unwrap_or(0);
            self.tables[n - 1][bucket] = [end, if is_same { other } else { latest }];
        }
    }

    /// Where the table of `n` tokens has those before `end`.
    fn bucket(&self, end: usize, n: usize) -> usize {
        // A multiplier of FNV-1a, and the high bits, which depend on all of them.
        let mix = |hash: u64, &token: &u32| (hash ^ u64::from(token)).wrapping_mul(0x0000_0100_0000_01b3);
        let hash = self.tokens[end - n..end].iter().fold(0xcbf2_9ce4_8422_2325, mix);
        (hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % self.tables[n - 1].len()
    }

    /// How often matches of a length are right.
    fn chance(&self, length: usize) -> f64 {
        self.measured[Lookup::class(length)].chance()
    }

    /// The index of a match's length.
    fn class(length: usize) -> usize {
        LENGTHS.iter().filter(|&&least| length >= least).count()
    }
}

impl Guesser for Lookup {
    fn begin(&mut self, prompt: &[u32]) {
        self.append(prompt);
        self.n_prompt = prompt.len();
    }

    fn push(&mut self, token: u32) {
        if let Some(Followed { at, length }) = self.followed.take() {
            let is_right = self.tokens[at] == token;
            self.measured[Lookup::class(length)].note(is_right);
            if is_right {
                self.followed = Some(Followed { at: at + 1, length: (length + 1).min(MAX_LENGTH) });
                self.repeated = if at + 1 < self.n_prompt { Some(at + 1) } else { self.repeated };
            }
        }
        self.append(&[token]);
    }

    fn guess(&self, n: usize) -> Vec<Guess> {
        let Some(Followed { at, length }) = self.followed else { return Vec::new() };
        // Where the place comes to the end of the sequence, what follows it is what it has guessed itself. A match is as much longer as it has gone on.
        let tokens = self.tokens[at..].iter().cycle().take(n).zip(length..);
        tokens.map(|(&token, length)| Guess { token, chance: self.chance(length) }).collect()
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

    fn push(lookup: &mut Lookup, tokens: &[u32]) {
        tokens.iter().for_each(|&token| lookup.push(token));
    }

    fn chance(lookup: &Lookup) -> f64 {
        lookup.guess(1)[0].chance
    }

    #[test]
    fn what_followed_the_same_tokens_is_guessed() {
        check(&[], 4, &[]);
        check(&[1, 2, 3], 4, &[]);
        check(&[1, 2, 3, 4, 5, 6, 1, 2, 3], 4, &[4, 5, 6, 1]);
        // The latest of several places.
        check(&[1, 2, 3, 4, 9, 1, 2, 3, 5, 9, 1, 2, 3], 2, &[5, 9]);
        check(&[1, 2, 3, 4, 9, 1, 2, 3, 5, 8, 1, 2, 3, 4], 2, &[9, 1]);
        // The longest match before a later one, and a shorter one where there is none.
        check(&[1, 2, 3, 4, 5, 7, 2, 3, 6, 1, 2, 3], 2, &[4, 5]);
        check(&[1, 2, 3, 4, 5, 6, 2, 3], 4, &[4, 5, 6, 2]);
        check(&[1, 2, 3, 4, 5, 6, 3], 4, &[4, 5, 6, 3]);
        // A repetition goes on beyond the end.
        check(&[7, 8, 9, 7, 8, 9], 7, &[7, 8, 9, 7, 8, 9, 7]);
        check(&[5, 5, 5, 5], 3, &[5, 5, 5]);
    }

    #[test]
    fn a_place_is_followed_while_it_is_right() {
        let mut lookup = Lookup::default();
        lookup.begin(&[1, 2, 3, 4, 5, 20, 1, 2, 3, 6, 7, 20, 4]);
        // The place after the 4, where the one after 4 and 5 is no other.
        push(&mut lookup, &[5, 20, 1]);
        assert_eq!(ids(&lookup, 3), [2, 3, 6]);
        lookup.push(9);
        assert!(ids(&lookup, 3).is_empty());
    }

    #[test]
    fn an_answer_that_goes_through_its_prompt_finds_what_comes_next() {
        // Three entries, whose values begin alike, and an answer with the first two.
        let entry = |name: u32, year: u32| [name, 50, 51, 1, 9, year];
        let mut lookup = Lookup::default();
        lookup.begin(&[entry(30, 70), entry(31, 71), entry(32, 72)].concat());
        for (name, year) in [(30, 70), (31, 71)] {
            lookup.push(60 + name);
            push(&mut lookup, &[name, 50]);
            // Not the year of the prompt's last entry, or of the answer's.
            push(&mut lookup, &[100 + year, 1]);
            assert_eq!(ids(&lookup, 2), [9, year]);
            push(&mut lookup, &[9, year]);
        }
        // An answer that has left its prompt finds its own words.
        push(&mut lookup, &[80, 81, 82, 83, 80, 81]);
        assert_eq!(ids(&lookup, 1), [82]);
    }

    #[test]
    fn the_table_grows_with_the_sequence() {
        let tokens: Vec<u32> = (0..5000).chain(17..90).collect();
        check(&tokens, 3, &[90, 91, 92]);
        let mut lookup = Lookup::default();
        lookup.begin(&tokens[..10]);
        push(&mut lookup, &tokens[10..]);
        assert_eq!(ids(&lookup, 3), [90, 91, 92]);
    }

    #[test]
    fn chances_are_those_of_this_sequence_by_the_length_of_the_match() {
        let mut lookup = Lookup::default();
        lookup.begin(&(0..100).collect::<Vec<u32>>());
        (10..60).for_each(|token| lookup.push(token));
        assert!(chance(&lookup) > 0.95, "{}", chance(&lookup));
        // Short matches that never go on.
        for i in 0..40 {
            push(&mut lookup, &[95, 96, 97, 1000 + i]);
        }
        push(&mut lookup, &[95, 96, 97]);
        assert_eq!(ids(&lookup, 1), [1039]);
        assert!(chance(&lookup) < 0.1, "{}", chance(&lookup));
        // One that is longer counts as what it is, and as longer where its first guesses are right.
        lookup.push(1039);
        (0..8).for_each(|i| lookup.push(2000 + i));
        (17..22).for_each(|token| lookup.push(token));
        let chances: Vec<f64> = lookup.guess(30).iter().map(|guess| guess.chance).collect();
        assert!(chances[0] < 0.3 && chances[29] > 0.9, "{chances:?}");
    }
}
