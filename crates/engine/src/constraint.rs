//! Which tokens may come next, where that depends on the tokens so far?
//!
//! A [`Constraint`] is code of whoever asks, such as a grammar. What it does wrong ends its own request and no other: [`Guarded`] turns its
//! errors and panics into [`EngineError::Constraint`] and refuses masks of another vocabulary.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use device::sampling::TokenMask;

use crate::EngineError;
use crate::error::panic_message;
use crate::masks::{Mask, Masked, Pending};

/// Ends a call of [`Constraint::mask`], from another thread.
pub type Interrupt = Arc<dyn Fn() + Send + Sync>;

/// What restricts the tokens of one answer, such as a grammar. It is asked for a mask before each token and told each token but an end
/// id.
pub trait Constraint: Send + Sync + Debug {
    /// Another one in the same state.
    fn boxed_clone(&self) -> Box<dyn Constraint>;

    /// The tokens that may come next, as a mask over the executor's `n_vocab` ids. Where the answer may end, end ids are among them. Called on a
    /// thread for masks: its time delays its own answer, which it ends where it is longer than [`EngineOptions::mask_within`](crate::EngineOptions::mask_within).
    ///
    /// # Errors
    /// Ends the request with [`EngineError::Constraint`].
    fn mask(&mut self) -> Result<Arc<TokenMask>, String>;

    /// This token came next. Called on the engine's thread: its time is every request's time.
    ///
    /// # Errors
    /// Ends the request with [`EngineError::Constraint`].
    fn accept(&mut self, token: u32) -> Result<(), String>;

    /// Another one in the same state, to compute masks after tokens that were only guessed: whatever it does, this one gives the masks that it gives without. `None`
    /// where such a one is not cheap; then no token is guessed.
    fn ahead(&self) -> Option<Box<dyn Constraint>> {
        None
    }

    /// What ends a call of [`Constraint::mask`] that nobody wants any more, or the next one; `None` where nothing does.
    fn interrupt(&self) -> Option<Interrupt> {
        None
    }
}

impl Clone for Box<dyn Constraint> {
    fn clone(&self) -> Self {
        self.boxed_clone()
    }
}

/// A request's constraint on the engine's thread: whatever it does, it does not panic here, not even when it is dropped.
#[derive(Debug)]
pub(crate) struct Guarded {
    /// Gone only while it is dropped.
    inner: Option<Box<dyn Constraint>>,
    n_vocab: usize,
}

impl Guarded {
    pub(crate) fn new(inner: Box<dyn Constraint>, n_vocab: usize) -> Guarded {
        Guarded { inner: Some(inner), n_vocab }
    }

    /// The tokens that may come next.
    pub(crate) fn mask(&mut self) -> Result<Arc<TokenMask>, EngineError> {
        let mask = self.call(|inner| inner.mask())?;
        let (expected, found) = (self.n_vocab.div_ceil(32), mask.words().len());
        if found == expected {
            Ok(mask)
        } else {
            Err(EngineError::Constraint(format!("expected a mask of {expected} words, found {found} words")))
        }
    }

    /// This token came next.
    pub(crate) fn accept(&mut self, token: u32) -> Result<(), EngineError> {
        self.call(|inner| inner.accept(token))
    }

    /// One to look ahead with.
    pub(crate) fn ahead(&self) -> Option<Guarded> {
        let inner = self.inner.as_deref()?;
        let ahead = catch_unwind(AssertUnwindSafe(|| inner.ahead())).ok().flatten();
        ahead.map(|inner| Guarded::new(inner, self.n_vocab))
    }

    pub(crate) fn interrupt(&self) -> Option<Interrupt> {
        self.inner.as_ref()?.interrupt()
    }

    fn call<T>(
        &mut self,
        f: impl FnOnce(&mut dyn Constraint) -> Result<T, String>,
    ) -> Result<T, EngineError> {
        let Some(inner) = self.inner.as_deref_mut() else {
            return Err(EngineError::Constraint("it is gone".to_owned()));
        };
        catch_unwind(AssertUnwindSafe(|| f(inner)))
            .unwrap_or_else(|panic| Err(format!("panic: {}", panic_message(&*panic))))
            .map_err(EngineError::Constraint)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let inner = self.inner.take();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(inner))) {
            tracing::warn!(panic = panic_message(&*panic), "a constraint panicked as it was dropped");
        }
    }
}

/// A request's constraint, and the mask before its next token.
#[derive(Debug)]
pub(crate) enum Constrained {
    /// Here; with the mask, once that is computed.
    Here(Guarded, Option<Masked>),
    /// Where its mask is computed.
    Away(Pending),
}

impl Constrained {
    pub(crate) fn new(inner: Box<dyn Constraint>, n_vocab: usize) -> Constrained {
        Constrained::Here(Guarded::new(inner, n_vocab), None)
    }

    /// The mask, once it is computed.
    pub(crate) fn mask(&self) -> Option<&Mask> {
        match self {
            Constrained::Here(_, masked) => masked.as_ref().map(|masked| &masked.mask),
            Constrained::Away(_) => None,
        }
    }

    /// Tokens that may come next, one after the other, and the mask after each, as far as these are computed.
    pub(crate) fn ahead(&self) -> &[(u32, Arc<TokenMask>)] {
        match self {
            Constrained::Here(_, Some(masked)) => &masked.ahead,
            Constrained::Here(_, None) | Constrained::Away(_) => &[],
        }
    }

    /// Takes the mask, if it is computed.
    pub(crate) fn look(&mut self) {
        if let Constrained::Away(pending) = self
            && let Some((constraint, masked)) = pending.take()
        {
            *self = Constrained::Here(constraint, Some(masked));
        }
    }

    /// This token came next.
    pub(crate) fn accept(&mut self, token: u32) -> Result<(), EngineError> {
        match self {
            Constrained::Here(constraint, masked) => {
                *masked = None;
                constraint.accept(token)
            }
            Constrained::Away(_) => Err(EngineError::Failed("a token came before its mask".to_owned())),
        }
    }
}

/// Whether a mask allows more than these ids, which are sorted and without repetition.
pub(crate) fn allows_beyond(mask: &TokenMask, ids: &[u32]) -> bool {
    let n_allowed: u32 = mask.words().iter().map(|word| word.count_ones()).sum();
    n_allowed as usize > ids.iter().filter(|&&id| mask.allows(id)).count()
}
