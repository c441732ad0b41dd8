//! Constraints of tests: what they allow depends on every token so far.

use std::sync::Arc;

use device::sampling::{TokenMask, philox};

use super::{core, enqueue, reason, run_until_idle, tokens};
use crate::{Constraint, EndReason, EngineError, EngineRequest};
use testkit::fake::{Fake, LIMITS};

/// What a [`Picky`] does wrong, at the token with this index.
#[derive(Clone, Copy, Debug)]
pub(super) enum Flaw {
    None,
    MaskError(usize),
    MaskPanic(usize),
    AcceptError(usize),
    AcceptPanic(usize),
    OtherVocabulary(usize),
    DropPanic,
}

/// Allows about a third of the ids, others after each token, and accepts nothing else.
#[derive(Clone, Debug)]
pub(super) struct Picky {
    so_far: Vec<u32>,
    pub(super) flaw: Flaw,
}

impl Picky {
    pub(super) fn new(flaw: Flaw) -> Picky {
        Picky { so_far: Vec::new(), flaw }
    }

    fn allows(&self, id: u32) -> bool {
        let hash = self.so_far.iter().fold(7, |hash, &token| philox::token_bits(hash, u64::from(token)));
        let always = u32::try_from(hash % LIMITS.n_vocab as u64).unwrap();
        id == always || philox::token_bits(hash, u64::from(id)).is_multiple_of(3)
    }
}

impl Constraint for Picky {
    fn boxed_clone(&self) -> Box<dyn Constraint> {
        Box::new(self.clone())
    }

    fn mask(&mut self) -> Result<Arc<TokenMask>, String> {
        let n = self.so_far.len();
        let n_vocab = match self.flaw {
            Flaw::MaskError(at) if at == n => return Err("no mask".to_owned()),
            Flaw::MaskPanic(at) if at == n => panic!("in the mask"),
            Flaw::OtherVocabulary(at) if at == n => 65,
            _ => LIMITS.n_vocab,
        };
        let mut mask = TokenMask::none(n_vocab);
        (0..40).filter(|&id| self.allows(id)).for_each(|id| mask.allow(id));
        Ok(Arc::new(mask))
    }

    fn ahead(&self) -> Option<Box<dyn Constraint>> {
        Some(self.boxed_clone())
    }

    fn accept(&mut self, token: u32) -> Result<(), String> {
        let n = self.so_far.len();
        match self.flaw {
            Flaw::AcceptError(at) if at == n => return Err("not this one".to_owned()),
            Flaw::AcceptPanic(at) if at == n => panic!("in accept"),
            _ => {}
        }
        if !self.allows(token) {
            return Err(format!("{token} after {:?}", self.so_far));
        }
        self.so_far.push(token);
        Ok(())
    }
}

impl Drop for Picky {
    fn drop(&mut self) {
        assert!(!matches!(self.flaw, Flaw::DropPanic) || self.so_far.is_empty(), "as it is dropped");
    }
}

fn constrained(flaw: Flaw) -> EngineRequest {
    EngineRequest { constraint: Some(Box::new(Picky::new(flaw))), ..EngineRequest::greedy([1, 2], 12) }
}

#[test]
fn a_failing_constraint_fails_its_request_alone() {
    let error = |text: &str| Err(EngineError::Constraint(text.to_owned()));
    for (flaw, n_token, expected) in [
        (Flaw::None, 12, Ok(EndReason::Length)),
        (Flaw::DropPanic, 12, Ok(EndReason::Length)),
        (Flaw::MaskError(0), 0, error("no mask")),
        (Flaw::MaskError(3), 3, error("no mask")),
        (Flaw::MaskPanic(3), 3, error("panic: in the mask")),
        (Flaw::AcceptError(3), 3, error("not this one")),
        (Flaw::AcceptPanic(0), 0, error("panic: in accept")),
        (Flaw::OtherVocabulary(2), 2, error("expected a mask of 2 words, found 3 words")),
    ] {
        for (n_in_flight, n_slot) in [(1, 1), (1, 3), (2, 1), (2, 3)] {
            let mut core = core(Fake::new(device::Limits { n_in_flight, n_slot, ..LIMITS }));
            let flawed = enqueue(&mut core, constrained(flaw));
            let others = [constrained(Flaw::None), EngineRequest::greedy([3], 30)];
            let others = others.map(|request| enqueue(&mut core, request));
            run_until_idle(&mut core);
            let events = super::drain(flawed);
            assert_eq!((tokens(&events).len(), reason(&events)), (n_token, expected.clone()), "{flaw:?}");
            for other in others {
                assert_eq!(reason(&super::drain(other)), Ok(EndReason::Length));
            }
            assert_eq!(core.pool().n_free(), LIMITS.n_page);
        }
    }
}

/// Allows these ids at every place.
#[derive(Clone, Debug)]
struct Only(&'static [u32]);

impl Constraint for Only {
    fn boxed_clone(&self) -> Box<dyn Constraint> {
        Box::new(self.clone())
    }

    fn mask(&mut self) -> Result<Arc<TokenMask>, String> {
        let mut mask = TokenMask::none(LIMITS.n_vocab);
        self.0.iter().for_each(|&id| mask.allow(id));
        Ok(Arc::new(mask))
    }

    fn accept(&mut self, _: u32) -> Result<(), String> {
        Ok(())
    }
}

#[test]
fn end_ids_before_min_tokens_are_banned_unless_nothing_else_is_allowed() {
    let check = |allowed, expected: (usize, EndReason)| {
        let events = super::alone(&EngineRequest {
            constraint: Some(Box::new(Only(allowed))),
            end_ids: [5, 5, 6].into(),
            min_tokens: 4,
            ..EngineRequest::greedy([1], 6)
        });
        assert_eq!((tokens(&events).len(), reason(&events)), (expected.0, Ok(expected.1)));
    };
    check(&[5], (0, EndReason::Stop(5)));
    check(&[6, 33], (4, EndReason::Stop(6)));
    // Where nothing is allowed at all, the ban is not why.
    let request = EngineRequest { constraint: Some(Box::new(Only(&[]))), ..EngineRequest::greedy([1], 6) };
    assert_eq!(reason(&super::alone(&request)), Err(EngineError::NothingAllowed { position: 1 }));
}
