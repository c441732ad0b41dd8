//! A sequence's guesses: when it may have some, and what becomes of their rows.

use device::Limits;

use super::Sequence;
use crate::draft::Ask;
use crate::speculate::{Calibration, Candidate, Drafted, Guess, Guesser, Proposal, Speculation};

/// Guesses whose masks are worth computing are right with at least this chance, all before them being right.
const LEAST_CHANCE: f64 = 0.3;

/// What a sequence guesses from.
#[derive(Debug)]
pub(super) struct Guesses {
    /// From the sequence's own tokens.
    guesser: Box<dyn Guesser>,
    /// From the draft model, where there is one.
    drafted: Drafted,
    /// Tokens of the answer that both know.
    n_known: usize,
    /// Tokens of the answer after which the draft model was asked last.
    asked_at: Option<usize>,
    /// What may come next.
    next: Vec<Guess>,
    by: By,
}

/// Who guesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// The sequence's own guesser.
    Own,
    /// The draft model.
    Draft,
}

impl Guesses {
    /// Takes the tokens of the answer that are new.
    fn learn(&mut self, answer: &[u32]) {
        for &token in &answer[self.n_known..] {
            self.guesser.push(token);
            self.drafted.push(token);
        }
        self.n_known = answer.len();
    }

    /// At most `n` guesses and whose: the guesser's own, unless the draft model has likelier ones.
    fn best(&self, n: usize) -> (Vec<Guess>, By) {
        let (own, drafted) = (self.guesser.guess(n), self.drafted.guess(n));
        let chance = |guesses: &[Guess]| guesses.first().map_or(-1.0, |guess| guess.chance);
        if chance(&drafted) > chance(&own) { (drafted, By::Draft) } else { (own, By::Own) }
    }
}

impl Sequence {
    /// Whether its next row is of a token of its answer.
    pub(crate) fn is_generating(&self) -> bool {
        self.n_submitted >= self.request.prompt.len()
    }

    /// Guesses of its next tokens, at most `room`. None where its last token is not known yet, and where it has none that can be kept.
    pub(crate) fn guess(&mut self, speculation: &Speculation, room: usize) -> Option<Candidate> {
        let (guesses, by) = self.guesses_after_all(speculation, room)?;
        let n = match &self.constraint {
            // Masks are needed after each of them.
            Some(constraint) => {
                let known = constraint.ahead().iter().zip(&guesses);
                known.take_while(|((ahead, _), guess)| *ahead == guess.token).count()
            }
            None => guesses.len(),
        };
        let candidate = Candidate { chances: guesses[..n].iter().map(|guess| guess.chance).collect() };
        if let Some(kept) = &mut self.guesses {
            (kept.next, kept.by) = (guesses, by);
        }
        (n > 0).then_some(candidate)
    }

    /// Guesses after which masks are worth computing.
    pub(super) fn worth_masks(&mut self, (speculation, room): (&Speculation, usize)) -> Vec<u32> {
        let guesses = self.guesses_after_all(speculation, room).map_or_else(Vec::new, |(guesses, _)| guesses);
        let reach = guesses.iter().scan(1.0, |reach, guess| {
            *reach *= guess.chance;
            Some((guess.token, *reach))
        });
        reach.take_while(|&(_, reach)| reach >= LEAST_CHANCE).map(|(token, _)| token).collect()
    }

    /// Guesses of the tokens after the one that is under way, at most `room`, going by those of that one. A constrained sequence has none: it waits for
    /// each of its tokens anyway. `drafts` is how many a draft model is likely to be asked for, and their chance.
    pub(crate) fn later_guess(
        &mut self,
        speculation: &Speculation,
        room: usize,
        drafts: Option<(usize, f64)>,
    ) -> Option<Candidate> {
        let n_token = self.answer.tokens.len();
        if self.n_guess > 0 {
            return Some(Candidate { chances: self.under_way.clone() });
        }
        let is_behind = n_token > 0 && self.n_collected == n_token && self.n_asked() == n_token + 1;
        if !self.request.speculate || self.constraint.is_some() || !is_behind {
            return None;
        }
        let (guesses, _) = self.guesses_after(speculation, room + 1);
        let chances: Vec<f64> = guesses.iter().skip(1).map(|guess| guess.chance).collect();
        let drafted = || {
            let (n, chance) = drafts?;
            let n = n.min(room).min(self.request.max_tokens.saturating_sub(n_token + 2));
            (n > 0).then(|| Candidate { chances: vec![chance; n] })
        };
        if chances.is_empty() { drafted() } else { Some(Candidate { chances }) }
    }

    /// What may come after all of its tokens, and who says so.
    fn guesses_after_all(&mut self, speculation: &Speculation, room: usize) -> Option<(Vec<Guess>, By)> {
        self.is_up_to_date().then(|| self.guesses_after(speculation, room))
    }

    /// Whether it may have guesses, and no token of it is under way.
    fn is_up_to_date(&self) -> bool {
        let n_token = self.answer.tokens.len();
        self.request.speculate && n_token > 0 && self.n_collected == n_token && self.n_asked() == n_token
    }

    /// What may come after the tokens that are known.
    fn guesses_after(&mut self, speculation: &Speculation, room: usize) -> (Vec<Guess>, By) {
        // The step gives one token beside those that are guessed.
        let most = room.min(self.request.max_tokens.saturating_sub(self.answer.tokens.len() + 1));
        let (mut guesses, by) = self.known_guesses(speculation).best(most);
        // Nothing comes after an end.
        let may_stand = |guess: &Guess| {
            (guess.token as usize) < self.n_vocab && !self.request.end_ids.contains(&guess.token)
        };
        guesses.truncate(guesses.iter().take(most).take_while(|guess| may_stand(guess)).count());
        (guesses, by)
    }

    /// Takes over how often the draft model was right in other sequences.
    pub(crate) fn calibrate(&mut self, calibration: Calibration) {
        self.calibration = calibration;
    }

    /// What it guesses from, with all tokens that are known.
    fn known_guesses(&mut self, speculation: &Speculation) -> &mut Guesses {
        let guesses = self.guesses.get_or_insert_with(|| {
            let mut guesser = (speculation.guesser)();
            guesser.begin(&self.request.prompt);
            let drafted = Drafted::new(self.calibration);
            Guesses { guesser, drafted, n_known: 0, asked_at: None, next: Vec::new(), by: By::Own }
        });
        guesses.learn(&self.answer.tokens);
        guesses
    }

    /// What a draft model may be asked after its tokens: for at most `room` of the next ones. None where that was asked, where some are known still, and where what
    /// it has of its own is as likely.
    pub(crate) fn ask(&mut self, id: u64, (speculation, room): (&Speculation, usize)) -> Option<Ask<'_>> {
        let n_token = self.answer.tokens.len();
        let most = room.min(self.request.max_tokens.saturating_sub(n_token + 1));
        if most == 0 || !self.is_up_to_date() {
            return None;
        }
        let guesses = self.known_guesses(speculation);
        let own = guesses.guesser.guess(1).first().map_or(0.0, |guess| guess.chance);
        let calibration = guesses.drafted.calibration;
        let is_asked = guesses.asked_at == Some(n_token) || !guesses.drafted.is_empty();
        if is_asked || own > calibration.expected() {
            return None;
        }
        Some(Ask {
            id,
            prompt: &self.request.prompt,
            answer: &self.answer.tokens,
            n_left: self.request.max_tokens - n_token,
            most,
            calibration,
        })
    }

    /// Takes what a draft model answered.
    pub(crate) fn propose(&mut self, proposals: Vec<Proposal>) {
        if let Some(guesses) = &mut self.guesses {
            guesses.asked_at = Some(self.answer.tokens.len());
            guesses.drafted.propose(proposals);
        }
    }

    /// How often a draft model was right, if it was asked.
    pub(crate) fn calibration(&self) -> Option<Calibration> {
        let guesses = self.guesses.as_ref().filter(|guesses| guesses.asked_at.is_some())?;
        Some(guesses.drafted.calibration)
    }

    /// Its next span's guesses: the first ones of those that it had.
    pub(super) fn take_guesses(&mut self, n: usize) -> Vec<u32> {
        let kept = self.guesses.as_mut().map(|guesses| std::mem::take(&mut guesses.next));
        let mut next = kept.unwrap_or_default();
        next.truncate(n);
        self.n_guess = next.len();
        self.under_way = next.iter().map(|guess| guess.chance).collect();
        next.iter().map(|guess| guess.token).collect()
    }

    /// Who gave the guesses that were taken last.
    pub(crate) fn guessed_by(&self) -> By {
        self.guesses.as_ref().map_or(By::Own, |guesses| guesses.by)
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
