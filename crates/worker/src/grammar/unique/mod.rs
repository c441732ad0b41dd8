//! Arrays whose items must differ: no grammar can say so, hence the answer is read along with the grammar, and a token that would complete
//! an item a second time is taken out of the mask.
//!
//! Reading is sure to see each such array, and may see one where the schema has none: in reasoning that is no JSON, or where an
//! alternative of the schema without the demand holds. There it forbids more than it must, and never less.

mod json;
mod mask;
mod places;
#[cfg(test)]
mod tests;
mod value;

use std::sync::Arc;

use llguidance::toktrie::{TokEnv, TokTrie};

use crate::chat::ThinkStart;
use json::Json;
pub(super) use mask::kinds;
pub(super) use places::{Places, values};
pub(super) use value::of as text;

/// An item was completed that the array has already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Repeated;

const OPEN: &[u8] = b"<think>";
const CLOSE: &[u8] = b"</think>";

/// Reads an answer token by token.
#[derive(Clone)]
pub(super) struct Watch {
    trie: TokEnv,
    places: Arc<Places>,
    /// May reasoning come first?
    thinks: bool,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    /// Reasoning, with its last bytes.
    Thinking(Vec<u8>),
    /// Before or between JSON, with the last bytes.
    Outside(Vec<u8>),
    Inside(Json),
}

impl Watch {
    pub(super) fn new(trie: TokEnv, places: Arc<Places>) -> Watch {
        Watch { trie, places, thinks: false, state: State::Outside(Vec::new()) }
    }

    /// For an answer that starts like this.
    pub(super) fn thinking(&mut self, start: ThinkStart) {
        self.thinks = self.places.is_wrapped && start != ThinkStart::None;
        if self.thinks && start == ThinkStart::Inside {
            self.state = State::Thinking(Vec::new());
        }
    }

    /// Reads a token of the trie.
    pub(super) fn accept(&mut self, token: u32) -> Result<(), Repeated> {
        let trie = Arc::clone(&self.trie);
        self.read(trie.tok_trie().token(token))?;
        if let State::Inside(json) = &mut self.state {
            json.settle();
        }
        Ok(())
    }

    fn read(&mut self, token: &[u8]) -> Result<(), Repeated> {
        let Some(special) = token.strip_prefix(&[TokTrie::SPECIAL_TOKEN_MARKER]) else {
            return token.iter().try_for_each(|&byte| self.byte(byte));
        };
        // No JSON has one in it.
        if matches!(self.state, State::Inside(_)) {
            self.state = State::Outside(Vec::new());
        }
        special.iter().try_for_each(|&byte| self.byte(byte))
    }

    fn byte(&mut self, byte: u8) -> Result<(), Repeated> {
        match &mut self.state {
            State::Thinking(last) => {
                if ends(last, byte, CLOSE) {
                    self.state = State::Outside(Vec::new());
                }
            }
            State::Outside(last) => {
                if matches!(byte, b'{' | b'[' | b'"') {
                    let mut json = Json::new(self.places.root());
                    json.byte(byte, &self.places)?;
                    self.state = State::Inside(json);
                } else if self.thinks && ends(last, byte, OPEN) {
                    self.state = State::Thinking(Vec::new());
                }
            }
            State::Inside(json) => {
                json.byte(byte, &self.places)?;
                if json.is_over() {
                    self.state = State::Outside(Vec::new());
                }
            }
        }
        Ok(())
    }
}

/// Adds a byte to the last ones; do they end in the marker now?
fn ends(last: &mut Vec<u8>, byte: u8, marker: &[u8]) -> bool {
    if last.len() == CLOSE.len() {
        last.remove(0);
    }
    last.push(byte);
    last.ends_with(marker)
}
