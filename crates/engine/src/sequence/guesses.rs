//! A sequence's guesses: when it may have some, and what becomes of their rows.

use device::Limits;

use super::Sequence;
use crate::speculate::{Candidate, Guesser, Speculation};

/// Guesses whose masks are worth computing are right with at least this chance, all before them being right.
const LEAST_CHANCE: f64 = 0.3;

/// What a sequence guesses from.
#[derive(Debug)]
pub(super) struct Guesses {
    guesser: Box<dyn Guesser>,
    /// Tokens of the answer that the guesser knows.
    n_known: usize,
    /// What may come next.
    next: Vec<u32>,
}

impl Sequence {
    /// Whether its next row is of a token of its answer.
    pub(crate) fn is_generating(&self) -> bool {
        self.n_submitted >= self.request.prompt.len()
    }

    /// Guesses of its next tokens, at most `room`. None where its last token is not known yet, and where it has none that can be kept.
    pub(crate) fn guess(&mut self, speculation: &Speculation, room: usize) -> Option<Candidate> {
        let (guesses, chance) = self.guesses_after_all(speculation, room)?;
        let n = match &self.constraint {
            // Masks are needed after each of them.
            Some(constraint) => {
                let known = constraint.ahead().iter().zip(&guesses);
                known.take_while(|((ahead, _), id)| ahead == *id).count()
            }
            None => guesses.len(),
        };
        if let Some(kept) = &mut self.guesses {
            kept.next = guesses;
        }
        (n > 0).then_some(Candidate { n, chance })
    }

    /// Guesses after which masks are worth computing.
    pub(super) fn worth_masks(&mut self, (speculation, room): (&Speculation, usize)) -> Vec<u32> {
        let Some((mut guesses, chance)) = self.guesses_after_all(speculation, room) else {
            return Vec::new();
        };
        let n = (1..=guesses.len()).take_while(|&n| chance.powf(n as f64) >= LEAST_CHANCE).count();
        guesses.truncate(n);
        guesses
    }

    /// Guesses of the tokens after the one that is under way, at most `room`, going by those of that one. A constrained sequence has none: it waits for
    /// each of its tokens anyway.
    pub(crate) fn later_guess(&mut self, speculation: &Speculation, room: usize) -> Option<Candidate> {
        let n_token = self.answer.tokens.len();
        let chance = |kept: &Guesses| kept.guesser.chance();
        if self.n_guess > 0 {
            return Some(Candidate { n: self.n_guess, chance: self.guesses.as_ref().map_or(0.0, chance) });
        }
        let is_behind = n_token > 0 && self.n_collected == n_token && self.n_asked() == n_token + 1;
        if !self.request.speculate || self.constraint.is_some() || !is_behind {
            return None;
        }
        let (guesses, chance) = self.guesses_after(speculation, room + 1);
        (guesses.len() > 1).then(|| Candidate { n: guesses.len() - 1, chance })
    }

    /// What may come after all of its tokens, and how likely each is where those before it are right.
    fn guesses_after_all(&mut self, speculation: &Speculation, room: usize) -> Option<(Vec<u32>, f64)> {
        let n_token = self.answer.tokens.len();
        let is_up_to_date = n_token > 0 && self.n_collected == n_token && self.n_asked() == n_token;
        if !self.request.speculate || !is_up_to_date {
            return None;
        }
        Some(self.guesses_after(speculation, room))
    }

    /// What may come after the tokens that are known, and how likely each is where those before it are right.
    fn guesses_after(&mut self, speculation: &Speculation, room: usize) -> (Vec<u32>, f64) {
        let n_token = self.answer.tokens.len();
        // The step gives one token beside those that are guessed.
        let most = room.min(self.request.max_tokens.saturating_sub(n_token + 1));
        let Guesses { guesser, n_known, .. } = self.guesses.get_or_insert_with(|| {
            let mut guesser = (speculation.guesser)();
            guesser.begin(&self.request.prompt);
            Guesses { guesser, n_known: 0, next: Vec::new() }
        });
        self.answer.tokens[*n_known..].iter().for_each(|&token| guesser.push(token));
        *n_known = n_token;
        // Nothing comes after an end.
        let may_stand = |id: &u32| (*id as usize) < self.n_vocab && !self.request.end_ids.contains(id);
        let guesses = guesser.guess(most).into_iter().take(most).take_while(may_stand).collect();
        (guesses, guesser.chance())
    }

    /// Its next span's guesses: the first ones of those that it had.
    pub(super) fn take_guesses(&mut self, n: usize) -> Vec<u32> {
        let kept = self.guesses.as_mut().map(|guesses| std::mem::take(&mut guesses.next));
        let mut next = kept.unwrap_or_default();
        next.truncate(n);
        self.n_guess = next.len();
        next
    }

    /// A span of a token and `n_guess` guesses gave `n_token` tokens: what was computed beyond them was not.
    pub(crate) fn settle(&mut self, n_guess: usize, n_token: usize, limits: &Limits) {
        self.n_submitted -= n_guess + 1 - n_token;
        self.n_guess = 0;
        self.answer.n_guessed += n_guess;
        self.answer.n_accepted += n_token - 1;
        self.window.give_back(self.n_submitted.div_ceil(limits.page_size));
    }
}
