//! A decoder that owns its tokenizer, so that a generation can outlive the call that started it.

use std::sync::Arc;

use self_cell::self_cell;
use tokenizer::{Decoder, Tokenizer};

self_cell!(
    struct Cell {
        owner: Arc<Tokenizer>,
        #[covariant]
        dependent: Decoder,
    }
);

/// Turns the ids of an answer into text, whole characters only.
pub(crate) struct AnswerText(Cell);

impl AnswerText {
    /// For the answer to this prompt. `special` shows special tokens by name.
    pub(crate) fn new(tokenizer: Arc<Tokenizer>, prompt: &[u32], special: bool) -> AnswerText {
        AnswerText(Cell::new(tokenizer, |tokenizer| tokenizer.decoder_after(prompt, special)))
    }

    /// The text that is certain after this id.
    pub(crate) fn push(&mut self, id: u32) -> String {
        self.0.with_dependent_mut(|_, decoder| decoder.push(id))
    }

    /// What is left before this special token, after which a new text begins: U+FFFD where a character was never finished.
    pub(crate) fn cut(&mut self, id: u32) -> String {
        let unfinished = self.0.borrow_dependent().clone().finish();
        let tokenizer = Arc::clone(self.0.borrow_owner());
        *self = AnswerText::new(tokenizer, &[id], false);
        unfinished
    }
}
