//! Which tokens may be chosen: one bit an id, in words of 32 so that a device reads them as they are.

use std::fmt;

/// The set of tokens that may be chosen: one bit an id.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenMask {
    words: Vec<u32>,
    len: usize,
}

impl TokenMask {
    /// A mask over `n_vocab` ids that allows none.
    #[must_use]
    pub fn none(n_vocab: usize) -> TokenMask {
        TokenMask { words: vec![0; n_vocab.div_ceil(32)], len: n_vocab }
    }

    /// A mask of these words, as [`words`](TokenMask::words) gives them: missing ones allow nothing, and bits past the vocabulary
    /// are cleared.
    #[must_use]
    pub fn from_words(mut words: Vec<u32>, n_vocab: usize) -> TokenMask {
        words.resize(n_vocab.div_ceil(32), 0);
        if let Some(last) = words.last_mut()
            && !n_vocab.is_multiple_of(32)
        {
            *last &= (1 << (n_vocab % 32)) - 1;
        }
        TokenMask { words, len: n_vocab }
    }

    /// Allows an id; one at or past the end of the vocabulary is not there to allow.
    pub fn allow(&mut self, id: u32) {
        if (id as usize) < self.len {
            self.words[id as usize / 32] |= 1 << (id % 32);
        }
    }

    /// Whether an id may be chosen.
    #[must_use]
    pub fn allows(&self, id: u32) -> bool {
        (id as usize) < self.len && self.words[id as usize / 32] >> (id % 32) & 1 == 1
    }

    /// Bit `i % 32` of word `i / 32` says whether id i may be chosen. `[ceil(n_vocab / 32)]`.
    #[must_use]
    pub fn words(&self) -> &[u32] {
        &self.words
    }
}

impl fmt::Debug for TokenMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let allowed: u32 = self.words.iter().map(|w| w.count_ones()).sum();
        write!(f, "TokenMask({allowed} of {})", self.len)
    }
}
