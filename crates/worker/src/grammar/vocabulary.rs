//! The tokenizer's vocabulary as llguidance reads it: a trie of the tokens' bytes.
//!
//! Special tokens stand there under a name after byte 0xff, which no text has, so that no text of a grammar allows one.

use std::sync::Arc;

use llguidance::toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};
use tokenizer::Tokenizer;

/// Over `n_vocab` ids; those past the tokenizer's have no bytes and are never allowed.
pub(super) fn of(tokenizer: &Tokenizer, n_vocab: usize) -> Result<TokEnv, String> {
    let n_id = u32::try_from(n_vocab).map_err(|_| "the vocabulary is too large for grammars".to_owned())?;
    let ends: Vec<u32> = tokenizer.ends().iter().copied().filter(|&id| id < n_id).collect();
    let &[end, ..] = ends.as_slice() else {
        return Err("the model has no token that ends an answer, which a grammar needs".to_owned());
    };
    let words: Vec<Vec<u8>> = (0..n_id).map(|id| word(tokenizer, id)).collect();
    // The trie counts a token's bytes in 16 bits and an offset in 32.
    let total: usize = words.iter().map(Vec::len).sum();
    if u32::try_from(total).is_err() || words.iter().any(|word| word.len() > usize::from(u16::MAX)) {
        return Err("the vocabulary's tokens are too long for grammars".to_owned());
    }
    let trie = TokTrie::from(&TokRxInfo::new(n_id, end), &words).with_eos_tokens(&ends);
    // Answers are sampled token by token, nothing is forced: how a text would be tokenised is never asked.
    Ok(Arc::new(ApproximateTokEnv::new(trie)))
}

fn word(tokenizer: &Tokenizer, id: u32) -> Vec<u8> {
    let bytes = tokenizer.token_bytes(id).unwrap_or_default();
    if tokenizer.is_special(id) || tokenizer.is_end(id) {
        [&[TokTrie::SPECIAL_TOKEN_MARKER], bytes].concat()
    } else if bytes.first() == Some(&TokTrie::SPECIAL_TOKEN_MARKER) {
        // No UTF-8 has this byte.
        Vec::new()
    } else {
        bytes.to_vec()
    }
}
