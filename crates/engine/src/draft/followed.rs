//! How far is a sequence on the draft model's device?
//!
//! The draft model's pages have rows of the sequence's tokens and, behind them, rows of tokens that it proposed itself. Where a proposal was wrong, what is computed
//! from there on is computed again: spans may start before the position that a slot has reached, since nothing but pages is kept of a position.

use std::sync::Arc;

use device::batch::SlotId;
use device::sampling::TokenMask;
use device::{Choice, Input, Limits, Role, Span, Want};

use crate::pages::Pages;

/// A sequence's place on the draft model's device. Its pages go with it.
#[derive(Debug)]
pub(super) struct Followed {
    pub(super) slot: SlotId,
    pages: Pages,
    /// The tokens that have rows.
    computed: Vec<u32>,
    /// Of these, the first ones that are known to be the sequence's.
    n_true: usize,
    /// The token that was last sampled in the slot.
    last: Option<u32>,
    /// The most positions that it may have.
    n_position: usize,
}

impl Followed {
    pub(super) fn new(slot: SlotId, pages: Pages, n_position: usize) -> Followed {
        Followed { slot, pages, computed: Vec::new(), n_true: 0, last: None, n_position }
    }

    /// Forgets rows of tokens that turned out not to be the sequence's, and the last one where all are there; how many rows are lacking.
    pub(super) fn settle(&mut self, tokens: &[u32]) -> usize {
        let from = self.n_true.min(tokens.len());
        let same = self.computed[from..].iter().zip(&tokens[from..]).take_while(|(a, b)| a == b).count();
        // The row of the last token gives the next.
        self.n_true = (from + same).min(tokens.len().saturating_sub(1));
        self.computed.truncate(self.n_true);
        tokens.len() - self.n_true
    }

    /// How many tokens may still be proposed after so many.
    pub(super) fn room(&self, n_token: usize) -> usize {
        (self.n_position + 1).saturating_sub(n_token)
    }

    /// A span of the rows that are lacking, or of the first `most` of them; it samples if they are all, and may have a guess. Call after [`Followed::settle`].
    pub(super) fn catch_up(
        &mut self,
        tokens: &[u32],
        (most, may_guess): (usize, bool),
        (limits, greedy): (&Limits, &Choice),
    ) -> Span {
        let start = self.n_true;
        let end = tokens.len().min(start + most);
        let new = &tokens[start..end];
        let is_all = end == tokens.len();
        let sample = || if is_all { Want::Sample(greedy.clone()) } else { Want::Nothing };
        let (begin, input, role, want) = match *new {
            [token] if self.last.is_some() && is_all => {
                (None, Input::Tokens([token].into()), Role::Generated, sample())
            }
            // All proposals were right: the slot knows the last of them, and a mask leaves no choice of the token after it.
            [first, second] if self.last == Some(first) && is_all && may_guess => {
                let mut mask = TokenMask::none(limits.n_vocab);
                mask.allow(second);
                let forced = Choice { mask: Some(Arc::new(mask)), ..greedy.clone() };
                (
                    None,
                    Input::Guess([second].into()),
                    Role::Generated,
                    Want::Check([forced, greedy.clone()].into()),
                )
            }
            _ => (Some(tokens.into()), Input::Tokens(new.into()), Role::Prompt, sample()),
        };
        self.computed.extend(new);
        self.n_true = end;
        self.last = None;
        self.span(start, (begin, input), (role, want), limits)
    }

    /// A span of the token that was sampled last, which samples the one after it.
    pub(super) fn go_on(&mut self, (limits, greedy): (&Limits, &Choice)) -> Option<Span> {
        let start = self.computed.len();
        self.computed.push(self.last?);
        Some(self.span(start, (None, Input::Last), (Role::Generated, Want::Sample(greedy.clone())), limits))
    }

    fn span(
        &mut self,
        start: usize,
        (begin, input): (Option<Arc<[u32]>>, Input),
        (role, want): (Role, Want),
        limits: &Limits,
    ) -> Span {
        let end = start + input.len();
        self.pages.use_first(end.div_ceil(limits.page_size));
        let window = limits.own_window(self.slot as usize, start..end);
        let pages = self.pages.ids();
        Span { slot: self.slot, begin, start, input, pages, window, load: None, save: None, role, want }
    }

    /// This was sampled.
    pub(super) fn sampled(&mut self, token: u32) {
        self.last = Some(token);
    }
}
