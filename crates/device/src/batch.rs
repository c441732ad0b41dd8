//! What one step computes, as plain data: spans of tokens of several sequences, and what comes back.
//!
//! There is no prefill phase and no decode phase. A [`Span`] says which tokens of which sequence are computed, and its
//! [`Role`] picks the arithmetic, so that a token's bits depend on its sequence and position alone.

use std::sync::Arc;

use crate::executor::{ExecutorError, Limits};
use crate::hidden::HiddenRows;
use crate::sampling::{ParamError, SamplingParams, TokenMask};

/// Index of a page of the KV cache, below `Limits::n_page`; in [`WindowPages`] below `Window::n_page`.
pub type PageId = u32;

/// Index of a sequence's place on the device, below `Limits::n_slot`.
pub type SlotId = u32;

/// Index of a kept copy of a sequence's state, below `Limits::n_snapshot`.
pub type SnapshotId = u32;

/// How far the sequence in a slot is, for [`Batch::check`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The position after the last that was submitted.
    pub position: usize,
    /// Whether a token was sampled since it began.
    pub has_last: bool,
}

/// One step's work. Spans are computed as if one after the other; a slot appears at most once, and a snapshot that is saved in
/// no other span.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// In order.
    pub spans: Vec<Span>,
}

impl Batch {
    /// Rows (tokens) computed by this step.
    #[must_use]
    pub fn n_row(&self) -> usize {
        self.spans.iter().map(|s| s.input.len()).sum()
    }

    /// Whether the batch is within these limits and consistent; `progress` says how far a slot's sequence is before it.
    ///
    /// # Errors
    /// [`ExecutorError::Batch`] for the first span that is not.
    pub fn check(&self, limits: &Limits, progress: impl Fn(SlotId) -> Progress) -> Result<(), ExecutorError> {
        let mut seen = vec![false; limits.n_slot];
        let mut snapshots = vec![false; limits.n_snapshot.unwrap_or(0)];
        for id in self.spans.iter().filter_map(|span| span.load) {
            snapshots.get_mut(id as usize).into_iter().for_each(|is_used| *is_used = true);
        }
        for (index, span) in self.spans.iter().enumerate() {
            let wrong =
                |expected: String, found: String| Err(ExecutorError::Batch { span: index, expected, found });
            let slot = span.slot as usize;
            if slot >= limits.n_slot {
                return wrong(format!("a slot below {}", limits.n_slot), slot.to_string());
            }
            if std::mem::replace(&mut seen[slot], true) {
                return wrong("each slot once".to_owned(), format!("slot {slot} again"));
            }
            if span.input.is_empty() {
                return wrong("at least one token".to_owned(), "none".to_owned());
            }
            let Some(end) = span.start.checked_add(span.input.len()).filter(|&end| end <= limits.n_ctx)
            else {
                let found = format!("{} tokens from position {}", span.input.len(), span.start);
                return wrong(format!("at most {} positions", limits.n_ctx), found);
            };
            if span.pages.len() < end.div_ceil(limits.page_size) {
                let expected = format!("{} pages for {end} positions", end.div_ceil(limits.page_size));
                return wrong(expected, span.pages.len().to_string());
            }
            if let Some(page) = span.pages.iter().find(|&&page| page as usize >= limits.n_page) {
                return wrong(format!("pages below {}", limits.n_page), page.to_string());
            }
            if let Some((expected, found)) = span.wrong_window(limits, end) {
                return wrong(expected, found);
            }
            if let Some((expected, found)) = span.wrong_guesses(limits) {
                return wrong(expected, found);
            }
            if let (Want::Hidden(_), Some((expected, found))) = (&span.want, span.wrong_hidden(limits)) {
                return wrong(expected, found);
            }
            let prompt = span.begin.as_deref().unwrap_or_default();
            if prompt.len() > limits.n_ctx {
                let expected = format!("a prompt of at most {} tokens", limits.n_ctx);
                return wrong(expected, prompt.len().to_string());
            }
            let ids: &[u32] = match &span.input {
                Input::Tokens(ids) => ids,
                Input::Last | Input::Guess(_) if span.begin.is_some() || !progress(span.slot).has_last => {
                    return wrong("a token sampled in this slot".to_owned(), "none yet".to_owned());
                }
                Input::Last => &[],
                Input::Guess(guesses) => guesses,
            };
            if let Some(id) = ids.iter().chain(prompt).find(|&&id| id as usize >= limits.n_vocab) {
                return wrong(format!("token ids below {}", limits.n_vocab), id.to_string());
            }
            if let Some((expected, found)) = span.wrong_state(limits, progress(span.slot).position) {
                return wrong(expected, found);
            }
            let saved_twice = |&id: &SnapshotId| std::mem::replace(&mut snapshots[id as usize], true);
            if let Some(id) = span.save.filter(saved_twice) {
                return wrong("a snapshot of no other span's".to_owned(), format!("snapshot {id}"));
            }
            let choices = match &span.want {
                Want::Sample(choice) => std::slice::from_ref(choice),
                Want::Check(choices) => choices,
                Want::Nothing | Want::Logits | Want::Hidden(_) => &[],
            };
            if let Some((expected, found)) = choices.iter().find_map(|choice| choice.wrong(limits.n_vocab)) {
                return wrong(expected, found);
            }
        }
        let n_guess: usize = self.spans.iter().map(|span| span.input.n_guess()).sum();
        if n_guess > limits.n_guess {
            let (span, expected) =
                (self.spans.len() - 1, format!("at most {} guesses in all", limits.n_guess));
            return Err(ExecutorError::Batch { span, expected, found: n_guess.to_string() });
        }
        let n_row = self.n_row();
        if n_row > limits.n_row {
            let (span, expected) = (self.spans.len() - 1, format!("at most {} rows in all", limits.n_row));
            return Err(ExecutorError::Batch { span, expected, found: n_row.to_string() });
        }
        Ok(())
    }
}

/// Consecutive tokens of one sequence.
#[derive(Clone, Debug)]
pub struct Span {
    /// Where the sequence lives on the device.
    pub slot: SlotId,
    /// Given with the first span of a new sequence in this slot: the whole prompt, from which the slot's penalty counts start
    /// (also when a prefix of it is already in the cache). Everything the slot held before is forgotten.
    pub begin: Option<Arc<[u32]>>,
    /// Position of the span's first token in its sequence. Positions before it are already in `pages`. Where sequences have no state, it may be before the position
    /// that the slot has reached: what was computed from there on is forgotten.
    pub start: usize,
    /// The tokens.
    pub input: Input,
    /// The sequence's pages in order, enough for `start + input.len()` positions.
    pub pages: Arc<[PageId]>,
    /// Where layers with a window have pages of their own, those of what its tokens see and of what they write.
    pub window: WindowPages,
    /// Where the slot's sequence has a state and does not begin at 0: the snapshot of that state after `start` tokens, with which it
    /// begins. At 0 it begins with zeros, and without `begin` it goes on.
    pub load: Option<SnapshotId>,
    /// Where the state after the span's last token is copied to.
    pub save: Option<SnapshotId>,
    /// Which arithmetic computes it.
    pub role: Role,
    /// What comes back.
    pub want: Want,
}

/// Consecutive pages of a sequence in the layers with a window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WindowPages {
    /// How many pages of the sequence are before them.
    pub first: usize,
    /// In order.
    pub ids: Arc<[PageId]>,
}

impl WindowPages {
    /// A page by its number in the sequence, which must be one of them.
    #[must_use]
    pub fn page(&self, number: usize) -> PageId {
        self.ids[number - self.first]
    }
}

impl Span {
    /// What is wrong with how many tokens it has for its role and what it wants of them, as what was expected and found.
    fn wrong_guesses(&self, limits: &Limits) -> Option<(String, String)> {
        let n = self.input.len();
        match (&self.input, &self.want) {
            (Input::Guess(guesses), _) if guesses.is_empty() || limits.n_guess == 0 => {
                let most = limits.n_guess;
                Some((format!("a number of guesses from 1 to {most}"), guesses.len().to_string()))
            }
            (Input::Guess(_), _) if self.role != Role::Generated => {
                Some(("guesses in a generated span".to_owned(), "a prompt's".to_owned()))
            }
            (Input::Guess(_), Want::Check(choices)) if choices.len() != n => {
                Some((format!("{n} choices, one for each row"), choices.len().to_string()))
            }
            (Input::Guess(_), Want::Check(_)) => None,
            (Input::Guess(_), _) => Some(("guesses that are checked".to_owned(), "others".to_owned())),
            (_, Want::Check(_)) => Some(("guesses to check".to_owned(), "none".to_owned())),
            _ if self.role == Role::Generated && n != 1 => {
                Some(("one token in a generated span".to_owned(), n.to_string()))
            }
            _ => None,
        }
    }

    /// What is wrong with wanting hidden rows of it, as what was expected and found.
    fn wrong_hidden(&self, limits: &Limits) -> Option<(String, String)> {
        if limits.n_embd == 0 {
            return Some(("no hidden rows, which this device does not give".to_owned(), "some".to_owned()));
        }
        (self.role != Role::Prompt)
            .then(|| ("hidden rows of a prompt's span".to_owned(), "a generated one's".to_owned()))
    }

    /// What is wrong with its window's pages, as what was expected and found.
    fn wrong_window(&self, limits: &Limits, end: usize) -> Option<(String, String)> {
        let WindowPages { first, ids } = &self.window;
        let Some(window) = limits.window else {
            let found = || ("no pages of windows".to_owned(), ids.len().to_string());
            return (!ids.is_empty()).then(found);
        };
        let wanted = window.first_page(self.start, limits.page_size)..end.div_ceil(limits.page_size);
        if *first > wanted.start || first.saturating_add(ids.len()) < wanted.end {
            let expected = format!("the window's pages {wanted:?}");
            return Some((expected, format!("{:?}", *first..first.saturating_add(ids.len()))));
        }
        let beyond = ids.iter().find(|&&page| page as usize >= window.n_page)?;
        Some((format!("the window's pages below {}", window.n_page), beyond.to_string()))
    }

    /// What is wrong with where its state comes from and goes to, as what was expected and found.
    fn wrong_state(&self, limits: &Limits, position: usize) -> Option<(String, String)> {
        let n_snapshot = limits.n_snapshot.unwrap_or(0);
        if let Some(id) = self.load.into_iter().chain(self.save).find(|&id| id as usize >= n_snapshot) {
            return Some((format!("snapshots below {n_snapshot}"), id.to_string()));
        }
        let begins_inside = self.begin.is_some() && self.start > 0;
        if self.load.is_some() != (begins_inside && limits.n_snapshot.is_some()) {
            let (expected, found) = match self.load {
                None => (format!("a snapshot of the state at position {}", self.start), "none".to_owned()),
                Some(id) => {
                    ("a snapshot only where a sequence begins after its start".to_owned(), id.to_string())
                }
            };
            return Some((expected, found));
        }
        let goes_on = self.begin.is_some() || self.start == position || limits.n_snapshot.is_none();
        (!goes_on)
            .then(|| (format!("position {position}, where the slot's state is"), self.start.to_string()))
    }
}

/// A span's tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// These ids.
    Tokens(Arc<[u32]>),
    /// One token: the one last sampled in this slot, which the host may not know yet.
    Last,
    /// The same, and guesses of the tokens after it, at least one: each is computed as if it had been sampled, after the rows before it. Only in a
    /// generated span that wants [`Want::Check`].
    Guess(Arc<[u32]>),
}

impl Input {
    /// How many tokens.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Input::Tokens(ids) => ids.len(),
            Input::Last => 1,
            Input::Guess(guesses) => guesses.len().saturating_add(1),
        }
    }

    /// How many of them are guesses.
    #[must_use]
    pub fn n_guess(&self) -> usize {
        match self {
            Input::Guess(guesses) => guesses.len(),
            Input::Tokens(_) | Input::Last => 0,
        }
    }

    /// Whether there are none; such a span is refused.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Which arithmetic computes a token: always the same for the same token of a sequence, whatever shares its step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The sequence's prompt: the kernels for many rows, even for one.
    Prompt,
    /// A sampled token: the kernels for few rows, however many sequences. A span of this role has one token, and guesses if it says so.
    Generated,
}

/// What a span gives back.
#[derive(Clone, Debug)]
pub enum Want {
    /// Only the KV cache is filled.
    Nothing,
    /// The next token, sampled from the logits of the span's last row.
    Sample(Choice),
    /// Of [`Input::Guess`]: the tokens after its rows, each sampled with the choice of its row as if the rows before it had been steps of their own, up to and with
    /// the first that is not the guess after its row. The slot is then as after as many steps: the rows of wrong guesses count for nothing, and the
    /// sequence goes on at the position after the last row that was right.
    Check(Arc<[Choice]>),
    /// The logits of every row of the span.
    Logits,
    /// Rows of the residual stream after the norm before the output. Of a prompt's span alone.
    Hidden(HiddenRows),
}

/// How a token is chosen.
#[derive(Clone, Debug)]
pub struct Choice {
    /// The sampler's parameters.
    pub params: Arc<SamplingParams>,
    /// Tokens that may be chosen; all where absent.
    pub mask: Option<Arc<TokenMask>>,
}

impl Choice {
    /// What is wrong with it for a vocabulary of so many ids, as what was expected and found.
    fn wrong(&self, n_vocab: usize) -> Option<(String, String)> {
        if let Err(ParamError { field, expected, found }) = self.params.validate(n_vocab) {
            return Some((format!("{field}: {expected}"), found));
        }
        let (n_word, n_found) = (n_vocab.div_ceil(32), self.mask.as_ref()?.words().len());
        (n_found != n_word).then(|| (format!("a mask of {n_word} words"), format!("{n_found} words")))
    }
}

/// What a span that wanted something gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Picked {
    /// The span's slot.
    pub slot: SlotId,
    /// What was wanted.
    pub output: Output,
}

/// What a span gave, by what it wanted.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// For [`Want::Sample`].
    Token(Sampled),
    /// For [`Want::Check`]: at least one, at most as many as the span's rows.
    Tokens(Vec<Sampled>),
    /// For [`Want::Logits`]: `[rows of the span, n_vocab]`.
    Logits(Vec<f32>),
    /// For [`Want::Hidden`]: `[rows that were wanted, n_embd]`.
    Hidden(Vec<f32>),
}

/// A sampled token. Log probabilities are natural logarithms of the softmax of the model's own logits, before any sampling
/// parameter is applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampled {
    /// The chosen id.
    pub token: u32,
    /// Its log probability.
    pub logprob: f32,
    /// The likeliest ids with their log probabilities, best first; as many as the parameters asked for.
    pub alternatives: Vec<(u32, f32)>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::Window;

    const LIMITS: Limits = Limits {
        page_size: 4,
        n_page: 8,
        window: None,
        n_slot: 2,
        n_row: 6,
        n_ctx: 8,
        n_vocab: 40,
        n_embd: 2,
        n_snapshot: None,
        n_guess: 3,
        n_in_flight: 2,
    };

    fn prompt(slot: SlotId, tokens: &[u32]) -> Span {
        Span {
            slot,
            begin: Some(tokens.into()),
            start: 0,
            input: Input::Tokens(tokens.into()),
            pages: [2 * slot, 2 * slot + 1].into(),
            window: WindowPages::default(),
            load: None,
            save: None,
            role: Role::Prompt,
            want: Want::Nothing,
        }
    }

    /// What is wrong with these spans, where a token was sampled in slot 0 alone.
    fn check(spans: Vec<Span>) -> String {
        check_in(&LIMITS, spans)
    }

    fn check_in(limits: &Limits, spans: Vec<Span>) -> String {
        let progress = |slot| Progress { position: 3, has_last: slot == 0 };
        let result = Batch { spans }.check(limits, progress);
        result.err().map_or_else(String::new, |error| error.to_string())
    }

    fn sample(params: SamplingParams, mask: Option<TokenMask>) -> Want {
        Want::Sample(Choice { params: Arc::new(params), mask: mask.map(Arc::new) })
    }

    #[test]
    fn what_an_executor_can_compute_is_accepted() {
        assert_eq!(check(vec![]), "");
        let last =
            Span { begin: None, input: Input::Last, role: Role::Generated, start: 7, ..prompt(0, &[]) };
        let want = sample(SamplingParams::default(), Some(TokenMask::none(40)));
        assert_eq!(check(vec![last, Span { want, ..prompt(1, &[1, 39]) }]), "");
    }

    #[test]
    fn the_first_span_that_is_wrong_is_named() {
        let good = || prompt(0, &[1]);
        let last = |slot| Span { begin: None, input: Input::Last, start: 1, ..prompt(slot, &[]) };
        let generated = Span { role: Role::Generated, ..prompt(1, &[1, 2]) };
        let params = SamplingParams { n_alternatives: 21, ..SamplingParams::default() };
        for (span, expected) in [
            (prompt(2, &[1]), "a slot below 2, found 2"),
            (prompt(0, &[1]), "each slot once, found slot 0 again"),
            (prompt(1, &[]), "at least one token, found none"),
            (prompt(1, &[1; 9]), "at most 8 positions, found 9 tokens from position 0"),
            (
                Span { start: usize::MAX, ..prompt(1, &[1]) },
                "at most 8 positions, found 1 tokens from position 18446744073709551615",
            ),
            (Span { pages: [2].into(), ..prompt(1, &[1; 5]) }, "2 pages for 5 positions, found 1"),
            (Span { pages: [8].into(), ..prompt(1, &[1]) }, "pages below 8, found 8"),
            (generated, "one token in a generated span, found 2"),
            (Span { begin: Some([1; 9].into()), ..prompt(1, &[1]) }, "a prompt of at most 8 tokens, found 9"),
            (last(1), "a token sampled in this slot, found none yet"),
            (Span { begin: Some([1].into()), ..last(1) }, "a token sampled in this slot, found none yet"),
            (prompt(1, &[40]), "token ids below 40, found 40"),
            (Span { begin: Some([41].into()), ..prompt(1, &[1]) }, "token ids below 40, found 41"),
            (Span { want: sample(params, None), ..prompt(1, &[1]) }, "n_alternatives: at most 20, found 21"),
            (
                Span {
                    want: sample(SamplingParams::default(), Some(TokenMask::none(65))),
                    ..prompt(1, &[1])
                },
                "a mask of 2 words, found 3 words",
            ),
            (prompt(1, &[1; 6]), "at most 6 rows in all, found 7"),
        ] {
            assert_eq!(check(vec![good(), span]), format!("invalid batch: span 1: expected {expected}"));
        }
    }

    #[test]
    fn guesses_are_checked_row_by_row_in_a_generated_span() {
        let choice = |params| Choice { params: Arc::new(params), mask: None };
        let check_of = |n| Want::Check(vec![choice(SamplingParams::default()); n].into());
        let guess = |slot, ids: &[u32], want| Span {
            begin: None,
            input: Input::Guess(ids.into()),
            role: Role::Generated,
            want,
            ..prompt(slot, &[])
        };
        let good = || guess(0, &[1, 39], check_of(3));
        assert_eq!(check(vec![good()]), "");
        let unfit = SamplingParams { temperature: -1.0, ..SamplingParams::default() };
        for (span, expected) in [
            (guess(0, &[], check_of(1)), "a number of guesses from 1 to 3, found 0"),
            (Span { role: Role::Prompt, ..good() }, "guesses in a generated span, found a prompt's"),
            (guess(0, &[1], check_of(1)), "2 choices, one for each row, found 1"),
            (guess(0, &[1], Want::Nothing), "guesses that are checked, found others"),
            (Span { input: Input::Last, ..good() }, "guesses to check, found none"),
            (guess(1, &[1], check_of(2)), "a token sampled in this slot, found none yet"),
            (guess(0, &[40], check_of(2)), "token ids below 40, found 40"),
            (
                guess(0, &[1], Want::Check([choice(SamplingParams::default()), choice(unfit)].into())),
                "temperature: 0 to 100, found -1",
            ),
            (guess(0, &[1; 4], check_of(5)), "at most 3 guesses in all, found 4"),
        ] {
            assert_eq!(check(vec![span]), format!("invalid batch: span 0: expected {expected}"));
        }
        let none = Limits { n_guess: 0, ..LIMITS };
        let expected = "invalid batch: span 0: expected a number of guesses from 1 to 0, found 2";
        assert_eq!(check_in(&none, vec![good()]), expected);
    }

    #[test]
    fn hidden_rows_are_a_prompt_s() {
        let wants = |rows, span| Span { want: Want::Hidden(rows), ..span };
        for rows in [HiddenRows::All, HiddenRows::First, HiddenRows::Last] {
            assert_eq!(check(vec![wants(rows, prompt(0, &[1, 2]))]), "");
        }
        let generated = Span { begin: None, input: Input::Last, role: Role::Generated, ..prompt(0, &[]) };
        let expected =
            "invalid batch: span 0: expected hidden rows of a prompt's span, found a generated one's";
        assert_eq!(check(vec![wants(HiddenRows::Last, generated)]), expected);
        let without = Limits { n_embd: 0, ..LIMITS };
        let expected =
            "invalid batch: span 0: expected no hidden rows, which this device does not give, found some";
        assert_eq!(check_in(&without, vec![wants(HiddenRows::All, prompt(0, &[1]))]), expected);
        assert_eq!(
            [HiddenRows::All, HiddenRows::First, HiddenRows::Last].map(|rows| rows.of(3)),
            [0..3, 0..1, 2..3]
        );
    }

    #[test]
    fn a_state_begins_at_zero_or_from_a_snapshot_and_goes_on_where_it_is() {
        let begins = |start, load| Span { start, load, ..prompt(1, &[1]) };
        let goes_on = |start| Span { begin: None, ..begins(start, None) };
        let with = |span: Span, n_snapshot| check_in(&Limits { n_snapshot, ..LIMITS }, vec![span]);
        for (span, n_snapshot, expected) in [
            (begins(0, None), Some(0), ""),
            (begins(4, Some(1)), Some(2), ""),
            (goes_on(3), Some(0), ""),
            (Span { save: Some(1), ..goes_on(3) }, Some(2), ""),
            (begins(4, None), None, ""),
            (goes_on(5), None, ""),
            (begins(4, Some(2)), Some(2), "snapshots below 2, found 2"),
            (Span { save: Some(0), ..goes_on(3) }, None, "snapshots below 0, found 0"),
            (begins(4, None), Some(2), "a snapshot of the state at position 4, found none"),
            (begins(0, Some(1)), Some(2), "a snapshot only where a sequence begins after its start, found 1"),
            (
                Span { load: Some(1), ..goes_on(3) },
                Some(2),
                "a snapshot only where a sequence begins after its start, found 1",
            ),
            (
                Span { save: Some(1), ..begins(4, Some(1)) },
                Some(2),
                "a snapshot of no other span's, found snapshot 1",
            ),
            (goes_on(5), Some(2), "position 3, where the slot's state is, found 5"),
        ] {
            let expected = match expected {
                "" => String::new(),
                expected => format!("invalid batch: span 0: expected {expected}"),
            };
            assert_eq!(with(span, n_snapshot), expected);
        }
    }
    #[test]
    fn a_window_has_the_pages_that_a_span_sees_and_writes() {
        let limits = Limits { window: Some(Window { n_page: 5, n_position: 3 }), ..LIMITS };
        // Positions 5 and 6 see 3 to 6.
        let span = |first, ids: &[PageId]| Span {
            start: 5,
            window: WindowPages { first, ids: ids.into() },
            ..prompt(0, &[1, 2])
        };
        for (limits, span, expected) in [
            (limits, span(0, &[4, 0]), ""),
            (limits, span(0, &[4, 0, 2]), ""),
            (limits, span(1, &[4]), "the window's pages 0..2, found 1..2"),
            (limits, span(0, &[4]), "the window's pages 0..2, found 0..1"),
            (limits, span(0, &[5, 1]), "the window's pages below 5, found 5"),
            (LIMITS, span(0, &[1, 2]), "no pages of windows, found 2"),
        ] {
            let expected = match expected {
                "" => String::new(),
                expected => format!("invalid batch: span 0: expected {expected}"),
            };
            assert_eq!(check_in(&limits, vec![span]), expected);
        }
    }
}
