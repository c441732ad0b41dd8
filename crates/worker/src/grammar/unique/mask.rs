//! Which tokens would write an item a second time, or leave nothing else to write?

use std::collections::HashMap;

use llguidance::TokenParser;
use llguidance::toktrie::{SimpleVob, TokTrie};

use super::json::Shape;
use super::{State, Watch};
use crate::grammar::constraint::{allowed, consume};
use crate::grammar::vocabulary::Words;

/// Up to so many allowed tokens are all tried. Where more are allowed, text is being written, which ends with a quote.
const MAX_TRIED: usize = 4_096;

/// The most tokens after each of which a whole mask is computed to see whether anything can follow.
const MAX_MASKS: usize = 16;

/// What was found out about the ways on from one mask.
#[derive(Default)]
struct Found {
    n_mask: usize,
    /// Tokens that differ in white space are as good as each other.
    can_go_on: HashMap<Shape, bool>,
}

impl Watch {
    /// Takes out of what the grammar allows next. What is left may be nothing: then the answer cannot be completed.
    pub(in crate::grammar) fn restrict(&self, allowed: &mut SimpleVob, parser: &TokenParser, words: &Words) {
        let mut found = Found::default();
        for token in self.tried(allowed, words) {
            if !self.may_come(token, (parser, words), &mut found) {
                allowed.disallow_token(token);
            }
        }
    }

    fn may_come(&self, token: u32, (parser, words): (&TokenParser, &Words), found: &mut Found) -> bool {
        let mut after = self.clone();
        if after.read(self.trie.tok_trie().token(token)).is_err() {
            return false;
        }
        let State::Inside(json) = &after.state else { return true };
        if json.is_hopeless() {
            return false;
        }
        if !json.is_at_risk() {
            return true;
        }
        let shape = json.shape();
        if let Some(&known) = found.can_go_on.get(&shape) {
            return known;
        }
        if found.n_mask == MAX_MASKS {
            return true;
        }
        found.n_mask += 1;
        // White space that leads here again is no way on.
        found.can_go_on.insert(shape.clone(), false);
        let mut parser = parser.clone();
        let can_go_on = match consume(&mut parser, token).and_then(|()| allowed(&mut parser)) {
            Ok(allowed) => {
                let tried = after.tried(&allowed, words);
                allowed.num_set() > tried.len()
                    || tried.iter().any(|&token| after.may_come(token, (&parser, words), found))
            }
            // This is the next step's to tell.
            Err(_) => true,
        };
        found.can_go_on.insert(shape, can_go_on);
        can_go_on
    }

    /// The allowed tokens that have to be tried.
    fn tried(&self, allowed: &SimpleVob, words: &Words) -> Vec<u32> {
        let among =
            |tokens: &[u32]| tokens.iter().copied().filter(|&token| allowed.is_allowed(token)).collect();
        let json = match &self.state {
            State::Inside(json) if json.is_in_unique() => json,
            State::Thinking(_) => return Vec::new(),
            // An array would have to begin and to have two items, all in one token.
            _ => return among(&words.arrays),
        };
        if !json.is_in_text() || allowed.num_set() <= MAX_TRIED {
            return allowed.iter().collect();
        }
        let mut tokens: Vec<u32> = among(&words.quotes);
        if let Some((seen, start)) = json.text_item() {
            // What completes an item but for its quote, which is forbidden then.
            let rests = seen.beyond(&start).filter_map(|item| item.get(start.len()..item.len() - 1));
            let rests = rests.filter(|rest| !rest.is_empty());
            let rests = rests.filter_map(|rest| self.trie.tok_trie().token_id(rest.as_bytes()));
            tokens.extend(rests.filter(|&token| allowed.is_allowed(token)).take(MAX_MASKS));
        }
        tokens
    }
}

/// Has a token's text a quote, or an array's start and what ends an item?
pub(in crate::grammar) fn kinds(word: &[u8]) -> (bool, bool) {
    let is_text = word.first() != Some(&TokTrie::SPECIAL_TOKEN_MARKER);
    let has = |byte| is_text && word.contains(&byte);
    (has(b'"'), has(b'[') && has(b','))
}
