//! A compiled grammar in the engine's terms: a mask before each token, and each token told.

use std::fmt;
use std::sync::Arc;

use engine::Constraint;
use llguidance::Matcher;
use model::TokenMask;

use super::bounded;

/// An answer's place in its grammar.
#[derive(Clone)]
pub(crate) struct GrammarConstraint {
    matcher: Matcher,
    n_vocab: usize,
}

impl GrammarConstraint {
    pub(super) fn new(matcher: Matcher, n_vocab: usize) -> GrammarConstraint {
        GrammarConstraint { matcher, n_vocab }
    }
}

impl Constraint for GrammarConstraint {
    fn boxed_clone(&self) -> Box<dyn Constraint> {
        // Answers share nothing, so that none can use up another's share of the bounds.
        Box::new(GrammarConstraint { matcher: self.matcher.deep_clone(), n_vocab: self.n_vocab })
    }

    fn mask(&mut self) -> Result<Arc<TokenMask>, String> {
        // A complete answer allows every token that ends one.
        let allowed = self.matcher.compute_mask_or_eos().map_err(|error| bounded(&error.to_string()))?;
        Ok(Arc::new(TokenMask::from_words(allowed.as_slice().to_vec(), self.n_vocab)))
    }

    fn accept(&mut self, token: u32) -> Result<(), String> {
        self.matcher.consume_token(token).map_err(|error| bounded(&error.to_string()))
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
