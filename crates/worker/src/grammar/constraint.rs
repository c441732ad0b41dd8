//! A compiled grammar in the engine's terms: a mask before each token, and each token told.
//!
//! The lexer, which is most of a grammar's memory, grows with the states that answers come to, and its work is bounded: a step's, and its states.
//! What is right is what an answer does with a lexer of its own. Answers share one where that cannot differ: as long as all of them together
//! have spent less in a lexer than one may spend in a step, none could have come to a bound alone, and the states are the same whoever comes first.
//! Beyond that an answer goes on with its own lexer, in which its steps so far are done again.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use device::TokenMask;
use engine::{Constraint, Interrupt};
use llguidance::api::StopReason;
use llguidance::toktrie::SimpleVob;
use llguidance::{CancellationHandle, TokenParser};

use crate::chat::ThinkStart;

use super::unique::{Repeated, Watch};
use super::vocabulary::Words;
use super::{MAX_STATES, STEP_FUEL, bounded};

/// What a shared lexer may spend, and how many states it may have. Half of a step's bounds: the library's shortcuts depend a little on what is
/// there already.
pub(super) const MAX_SHARED: Spent = Spent { fuel: STEP_FUEL as usize / 2, n_state: MAX_STATES / 2 };

/// What the library's estimate leaves out, measured.
const BYTES_FACTOR: usize = 3;

/// A grammar that answers can be held to.
pub(super) struct Compiled {
    /// At the start, with a lexer that has no state yet.
    origin: TokenParser,
    words: Arc<Words>,
    /// What no grammar can say, at the start.
    watch: Option<Watch>,
    /// What a shared lexer may spend.
    bounds: Spent,
    /// What its first mask takes.
    first: Spent,
    /// The lexer for answers that begin, at the start too.
    shared: Mutex<Arc<TokenParser>>,
}

/// What a lexer has spent since it was made, and its states.
#[derive(Clone, Copy)]
pub(crate) struct Spent {
    pub(super) fuel: usize,
    pub(super) n_state: usize,
}

impl Spent {
    fn between(origin: &TokenParser, now: &TokenParser) -> Spent {
        let (before, now) = (origin.parser.lexer_stats(), now.parser.lexer_stats());
        let fuel = now.total_fuel_spent.saturating_sub(before.total_fuel_spent);
        Spent { fuel, n_state: now.num_states }
    }
}

impl Compiled {
    /// The error says why no answer is possible.
    pub(super) fn new(
        origin: TokenParser,
        (words, watch): (Arc<Words>, Option<Watch>),
        bounds: Spent,
    ) -> Result<Compiled, String> {
        let mut root = origin.deep_clone();
        // Some of what is wrong with a grammar shows only here.
        match allowed(&mut root) {
            Ok(mask) if !mask.is_zero() => {}
            Err(error) if !error.contains("NoExtension") => return Err(error),
            _ => return Err("no token can start such an answer".to_owned()),
        }
        let first = Spent::between(&origin, &root);
        Ok(Compiled { origin, words, watch, bounds, first, shared: Mutex::new(Arc::new(root)) })
    }

    /// Bytes, as far as they can be told.
    pub(super) fn bytes(&self) -> usize {
        let one = |parser: &TokenParser| parser.parser.lexer_stats().num_bytes;
        (one(&self.origin) + guarded(|| Ok(one(&self.lock()))).unwrap_or_default()) * BYTES_FACTOR
    }

    /// The start of an answer that shares its lexer.
    fn start(&self) -> Place {
        let mut shared = self.lock();
        // Answers that begin leave those under way the rest.
        let fuel = self.first.fuel + self.bounds.fuel / 4;
        let n_state = self.first.n_state + self.bounds.n_state / 4;
        if self.is_beyond(&shared, Spent { fuel, n_state }) {
            *shared = Arc::new(self.origin.deep_clone());
        }
        Place { parser: TokenParser::clone(&shared), shares: Some(Arc::clone(&shared)) }
    }

    /// A lexer that failed is beyond all bounds.
    fn is_beyond(&self, shared: &TokenParser, bounds: Spent) -> bool {
        let is_beyond = guarded(|| {
            let Spent { fuel, n_state } = Spent::between(&self.origin, shared);
            Ok(shared.parser.get_error().is_some() || fuel > bounds.fuel || n_state > bounds.n_state)
        });
        is_beyond.unwrap_or(true)
    }

    fn lock(&self) -> MutexGuard<'_, Arc<TokenParser>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone)]
struct Place {
    parser: TokenParser,
    /// The start, in a lexer that others use too.
    shares: Option<Arc<TokenParser>>,
}

/// An answer's place in its grammar.
pub(crate) struct GrammarConstraint {
    grammar: Arc<Compiled>,
    /// The answer so far, by the trie's ids.
    tokens: Vec<u32>,
    /// How many of them the place is after; the others are read before its next mask.
    n_read: usize,
    halt: Arc<Halt>,
    /// Where it is; made when it is asked for.
    place: Option<Place>,
    is_stopped: bool,
    /// Does the text leave out a space before the next token?
    at_start: bool,
    /// What no grammar can say, now and where the answer began.
    watch: Option<Watch>,
    first_watch: Option<Watch>,
}

impl GrammarConstraint {
    pub(super) fn new(grammar: Arc<Compiled>) -> GrammarConstraint {
        let (watch, first_watch) = (grammar.watch.clone(), grammar.watch.clone());
        GrammarConstraint {
            grammar,
            tokens: Vec::new(),
            n_read: 0,
            halt: Arc::default(),
            place: None,
            is_stopped: false,
            at_start: false,
            watch,
            first_watch,
        }
    }

    /// For an answer whose text leaves out a space before its first token, or does not.
    #[must_use]
    pub(crate) fn starting(self, drops_space: bool) -> GrammarConstraint {
        GrammarConstraint { at_start: drops_space, ..self }
    }

    /// For an answer that starts like this.
    #[must_use]
    pub(crate) fn thinking(mut self, start: ThinkStart) -> GrammarConstraint {
        for watch in [&mut self.watch, &mut self.first_watch].into_iter().flatten() {
            watch.thinking(start);
        }
        self
    }

    /// What the grammar allows after the answer so far, as in a lexer of its own.
    fn allowed(&mut self) -> Result<SimpleVob, String> {
        let mut place = self.place.take().unwrap_or_else(|| self.grammar.start());
        let mut done = guarded(|| self.go_on(&mut place.parser));
        self.halt.check()?;
        if let Some(shared) = &place.shares
            && (done.is_err() || self.grammar.is_beyond(shared, self.grammar.bounds))
        {
            place = guarded(|| self.alone())?;
            done = guarded(|| restricted(&mut place.parser, self.watch.as_ref(), &self.grammar.words));
        }
        self.n_read = self.tokens.len();
        self.is_stopped = place.parser.stop_reason() != StopReason::NotStopped;
        self.place = Some(place);
        done
    }

    fn go_on(&self, parser: &mut TokenParser) -> Result<SimpleVob, String> {
        self.halt.also(parser);
        self.tokens.iter().skip(self.n_read).try_for_each(|&token| consume(parser, token))?;
        restricted(parser, self.watch.as_ref(), &self.grammar.words)
    }

    /// The place in a lexer that nobody shares, after all that the answer did to get there.
    fn alone(&self) -> Result<Place, String> {
        let (mut parser, mut watch) = (self.grammar.origin.deep_clone(), self.first_watch.clone());
        let words = &self.grammar.words;
        self.halt.also(&mut parser);
        restricted(&mut parser, watch.as_ref(), words)?;
        for &token in &self.tokens {
            consume(&mut parser, token)?;
            if let Some(watch) = &mut watch {
                let _accepted_before = watch.accept(token);
            }
            restricted(&mut parser, watch.as_ref(), words)?;
        }
        Ok(Place { parser, shares: None })
    }
}

/// Ends the work on an answer's masks, from another thread.
#[derive(Default)]
struct Halt(Mutex<(bool, Option<CancellationHandle>)>);

impl Halt {
    /// From now on it ends what this parser does; the one before it does nothing any more.
    fn also(&self, parser: &mut TokenParser) {
        let handle = parser.enable_cancellation();
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.0 {
            handle.cancel();
        }
        state.1 = Some(handle);
    }

    fn set(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 = true;
        state.1.iter().for_each(CancellationHandle::cancel);
    }

    fn check(&self) -> Result<(), String> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.0 { Err("the answer is not wanted any more".to_owned()) } else { Ok(()) }
    }
}

/// What the grammar allows, without what it cannot forbid.
fn restricted(parser: &mut TokenParser, watch: Option<&Watch>, words: &Words) -> Result<SimpleVob, String> {
    let mut mask = allowed(parser)?;
    if let Some(watch) = watch {
        watch.restrict(&mut mask, parser, words);
    }
    Ok(mask)
}

/// A complete answer allows every token that ends one.
pub(super) fn allowed(parser: &mut TokenParser) -> Result<SimpleVob, String> {
    if parser.stop_reason() != StopReason::NotStopped {
        return Ok(parser.token_env.tok_trie().eos_token_set());
    }
    parser.compute_mask().map_err(|error| error.to_string())
}

pub(super) fn consume(parser: &mut TokenParser, token: u32) -> Result<(), String> {
    parser.consume_token(token).and_then(|_| parser.check_stop()).map(drop).map_err(|error| error.to_string())
}

/// A panic in the library as an error.
fn guarded<T>(f: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|_| Err("the grammar's library failed".to_owned()))
}

impl Constraint for GrammarConstraint {
    fn boxed_clone(&self) -> Box<dyn Constraint> {
        let place = self.place.as_ref().map(|place| match &place.shares {
            Some(_) => place.clone(),
            None => Place { parser: place.parser.deep_clone(), shares: None },
        });
        Box::new(GrammarConstraint {
            grammar: Arc::clone(&self.grammar),
            tokens: self.tokens.clone(),
            n_read: self.n_read,
            halt: Arc::default(),
            place,
            is_stopped: self.is_stopped,
            at_start: self.at_start,
            watch: self.watch.clone(),
            first_watch: self.first_watch.clone(),
        })
    }

    fn mask(&mut self) -> Result<Arc<TokenMask>, String> {
        let mask = self.allowed().map_err(|error| match error.contains("NoExtension") {
            true => "no token can go on with the answer".to_owned(),
            false => bounded(&error),
        })?;
        Ok(Arc::new(self.grammar.words.mask(&mask, self.at_start, self.is_stopped)))
    }

    /// The library reads the token when the next mask is computed.
    fn accept(&mut self, token: u32) -> Result<(), String> {
        let id = self.grammar.words.in_trie(token, self.at_start);
        self.at_start = self.grammar.words.begins_after(token);
        let Some(id) = id else { return Ok(()) };
        self.tokens.push(id);
        if let Some(watch) = &mut self.watch {
            watch.accept(id).map_err(|Repeated| "an item that an array of different items has already")?;
        }
        Ok(())
    }

    /// Where it shares its lexer anyway: what that has of others changes no mask. One of its own would have to be copied, and what no grammar can say
    /// with it.
    fn ahead(&self) -> Option<Box<dyn Constraint>> {
        let shares = self.place.as_ref().is_some_and(|place| place.shares.is_some());
        (shares && self.watch.is_none()).then(|| self.boxed_clone())
    }

    fn interrupt(&self) -> Option<Interrupt> {
        let halt = Arc::clone(&self.halt);
        Some(Arc::new(move || halt.set()))
    }
}

/// Without the grammar.
impl fmt::Debug for GrammarConstraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrammarConstraint").field("stopped", &self.is_stopped).finish_non_exhaustive()
    }
}

#[cfg(test)]
impl GrammarConstraint {
    /// One that shares nothing from the start.
    pub(super) fn parted(self) -> Result<GrammarConstraint, String> {
        Ok(GrammarConstraint { place: Some(self.alone()?), ..self })
    }

    pub(super) fn is_alone(&self) -> bool {
        self.place.as_ref().is_some_and(|place| place.shares.is_none())
    }
}
