//! The tokenizer's vocabulary as llguidance reads it: a trie of the tokens' bytes.
//!
//! Special tokens stand there under a name after byte 0xff, which no text has, so that no text of a grammar allows one.
//!
//! A SentencePiece vocabulary spells most words with a space before them, and the text leaves this space out where it begins. There the
//! grammar must read the token as the text has it, so each such token stands in the trie a second time, without the space, under an
//! id past the vocabulary.

use std::collections::HashMap;
use std::sync::Arc;

use device::TokenMask;
use llguidance::toktrie::{ApproximateTokEnv, SimpleVob, TokEnv, TokRxInfo, TokTrie};
use tokenizer::Tokenizer;

use super::unique;

/// The trie, and what else a constraint must know of the tokens.
pub(super) struct Vocabulary {
    pub(super) trie: TokEnv,
    pub(super) words: Arc<Words>,
}

/// How tokens are written at the start of a text.
pub(super) struct Words {
    tokenizer: Arc<Tokenizer>,
    n_vocab: usize,
    /// By token with a space before it: its id without the space, or `None` where nothing is left.
    at_start: HashMap<u32, Option<u32>>,
    /// The trie's tokens with a quote.
    pub(super) quotes: Vec<u32>,
    /// Those with an array's start and what ends an item.
    pub(super) arrays: Vec<u32>,
}

impl Words {
    /// The mask over the vocabulary, from what llguidance allows. `at_start` says that the text leaves out a leading space here.
    pub(super) fn mask(&self, allowed: &SimpleVob, at_start: bool, stopped: bool) -> TokenMask {
        let mut mask = allowed.clone();
        if at_start && !stopped {
            for (&id, without) in &self.at_start {
                // A lone space adds nothing to the text, so it is always right, and it happens once.
                mask.set(id as usize, without.is_none_or(|without| allowed.is_allowed(without)));
            }
        }
        TokenMask::from_words(mask.as_slice().to_vec(), self.n_vocab)
    }

    /// The id that a token has in the trie, if it adds any text.
    pub(super) fn in_trie(&self, id: u32, at_start: bool) -> Option<u32> {
        if at_start { self.at_start.get(&id).copied().unwrap_or(Some(id)) } else { Some(id) }
    }

    /// Does a text begin after this token?
    pub(super) fn begins_after(&self, id: u32) -> bool {
        self.tokenizer.drops_space_after(&[id])
    }
}

/// Over `n_vocab` ids; those past the tokenizer's have no bytes and are never allowed.
pub(super) fn of(tokenizer: &Arc<Tokenizer>, n_vocab: usize) -> Result<Vocabulary, String> {
    let too_large = || "the vocabulary is too large for grammars".to_owned();
    let n_id = u32::try_from(n_vocab).map_err(|_| too_large())?;
    let ends: Vec<u32> = tokenizer.ends().iter().copied().filter(|&id| id < n_id).collect();
    let &[end, ..] = ends.as_slice() else {
        return Err("the model has no token that ends an answer, which a grammar needs".to_owned());
    };
    let mut words: Vec<Vec<u8>> = (0..n_id).map(|id| word(tokenizer, id)).collect();
    let mut at_start = HashMap::new();
    if tokenizer.drops_space_after(&[]) {
        for id in 0..n_id {
            if let Some(rest) = words.get(id as usize).and_then(|word| word.strip_prefix(b" ")) {
                let rest = rest.to_vec();
                let added = if rest.is_empty() {
                    None
                } else {
                    Some(u32::try_from(words.len()).map_err(|_| too_large())?)
                };
                at_start.insert(id, added);
                if added.is_some() {
                    words.push(rest);
                }
            }
        }
    }
    // The trie counts a token's bytes in 16 bits and an offset in 32.
    let total: usize = words.iter().map(Vec::len).sum();
    if u32::try_from(total).is_err() || words.iter().any(|word| word.len() > usize::from(u16::MAX)) {
        return Err("the vocabulary's tokens are too long for grammars".to_owned());
    }
    let n_words = u32::try_from(words.len()).map_err(|_| too_large())?;
    let trie = TokTrie::from(&TokRxInfo::new(n_words, end), &words).with_eos_tokens(&ends);
    // Answers are sampled token by token, nothing is forced: how a text would be tokenised is never asked.
    let kinds = words.iter().map(|word| unique::kinds(word));
    let (mut quotes, mut arrays) = (Vec::new(), Vec::new());
    for (id, (has_quote, has_array)) in (0..).zip(kinds) {
        quotes.extend(has_quote.then_some(id));
        arrays.extend(has_array.then_some(id));
    }
    let words = Arc::new(Words { tokenizer: Arc::clone(tokenizer), n_vocab, at_start, quotes, arrays });
    Ok(Vocabulary { trie: Arc::new(ApproximateTokEnv::new(trie)), words })
}

fn word(tokenizer: &Tokenizer, id: u32) -> Vec<u8> {
    let bytes = tokenizer.token_bytes(id).unwrap_or_default();
    if tokenizer.is_special(id) || tokenizer.is_end(id) {
        [&[TokTrie::SPECIAL_TOKEN_MARKER], bytes].concat()
    } else if tokenizer.is_unused(id) || bytes.first() == Some(&TokTrie::SPECIAL_TOKEN_MARKER) {
        // Unused tokens have no text, and no UTF-8 has this byte.
        Vec::new()
    } else {
        bytes.to_vec()
    }
}
