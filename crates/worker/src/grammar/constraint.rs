//! A compiled grammar in the engine's terms: a mask before each token, and each token told.

use std::fmt;
use std::sync::Arc;

use device::TokenMask;
use engine::Constraint;
use llguidance::Matcher;

use crate::chat::ThinkStart;

use super::bounded;
use super::unique::{Repeated, Watch};
use super::vocabulary::Words;

/// An answer's place in its grammar.
#[derive(Clone)]
pub(crate) struct GrammarConstraint {
    matcher: Matcher,
    words: Arc<Words>,
    /// Does the text leave out a space before the next token?
    at_start: bool,
    /// What no grammar can say.
    watch: Option<Watch>,
}

impl GrammarConstraint {
    pub(super) fn new(matcher: Matcher, words: Arc<Words>, watch: Option<Watch>) -> GrammarConstraint {
        GrammarConstraint { matcher, words, at_start: false, watch }
    }

    /// For an answer whose text leaves out a space before its first token, or does not.
    #[must_use]
    pub(crate) fn starting(self, drops_space: bool) -> GrammarConstraint {
        GrammarConstraint { at_start: drops_space, ..self }
    }

    /// For an answer that starts like this.
    #[must_use]
    pub(crate) fn thinking(mut self, start: ThinkStart) -> GrammarConstraint {
        if let Some(watch) = &mut self.watch {
            watch.thinking(start);
        }
        self
    }
}

impl Constraint for GrammarConstraint {
    fn boxed_clone(&self) -> Box<dyn Constraint> {
        // Answers share nothing, so that none can use up another's share of the bounds.
        let (matcher, words) = (self.matcher.deep_clone(), Arc::clone(&self.words));
        Box::new(GrammarConstraint { matcher, words, at_start: self.at_start, watch: self.watch.clone() })
    }

    fn mask(&mut self) -> Result<Arc<TokenMask>, String> {
        // A complete answer allows every token that ends one.
        let mut allowed = self.matcher.compute_mask_or_eos().map_err(|error| bounded(&error.to_string()))?;
        if let Some(watch) = &self.watch {
            watch.restrict(&mut allowed, &self.matcher, &self.words);
        }
        Ok(Arc::new(self.words.mask(&allowed, self.at_start, self.matcher.is_stopped())))
    }

    fn accept(&mut self, token: u32) -> Result<(), String> {
        let id = self.words.in_trie(token, self.at_start);
        self.at_start = self.words.begins_after(token);
        let Some(id) = id else { return Ok(()) };
        if let Some(watch) = &mut self.watch {
            watch.accept(id).map_err(|Repeated| "an item that an array of different items has already")?;
        }
        self.matcher.consume_token(id).map_err(|error| bounded(&error.to_string()))
    }
}

/// Without the grammar.
impl fmt::Debug for GrammarConstraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrammarConstraint")
            .field("stopped", &self.matcher.is_stopped())
            .finish_non_exhaustive()
    }
}
