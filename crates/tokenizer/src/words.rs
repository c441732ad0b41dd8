//! Which ids does one word become? Shared by BPE and SentencePiece.
//!
//! Most words of real text are a token themselves, but only the merges say whether they come out as that token. So the answer is
//! remembered: one byte a token, which every thread may fill in, since all find the same.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::merge::{NONE, Rules, Scratch, merge};
use crate::vocab::Vocab;

/// Merge rules and how a word is cut before merging.
pub(crate) trait WordRules: Rules {
    /// Cuts `word` into the symbols that merging starts from.
    fn start(&self, word: &[u8], scratch: &mut Scratch);
}

/// For each token whether its own bytes, as a word, become it.
#[derive(Debug)]
pub(crate) struct KnownWords(Vec<AtomicU8>);

const UNKNOWN: u8 = 0;
const WHOLE: u8 = 1;
const BROKEN: u8 = 2;

impl KnownWords {
    /// Nothing known yet; or, with `all_whole`, that every token stays whole.
    pub(crate) fn new(n_vocab: usize, all_whole: bool) -> KnownWords {
        let first = if all_whole { WHOLE } else { UNKNOWN };
        KnownWords((0..n_vocab).map(|_| AtomicU8::new(first)).collect())
    }

    // Relaxed: the byte is the whole message.
    fn get(&self, id: u32) -> u8 {
        self.0.get(id as usize).map_or(BROKEN, |known| known.load(Ordering::Relaxed))
    }

    fn set(&self, id: u32, state: u8) {
        if let Some(known) = self.0.get(id as usize) {
            known.store(state, Ordering::Relaxed);
        }
    }
}

/// What encoding a word needs to know.
pub(crate) struct WordEncoder<'a, R> {
    pub(crate) vocab: &'a Vocab,
    pub(crate) rules: &'a R,
    pub(crate) known: &'a KnownWords,
    /// Stands for a byte that has no token; without it such bytes are left out.
    pub(crate) unknown: Option<u32>,
}

impl<R: WordRules> WordEncoder<'_, R> {
    /// Appends the ids of a word, which must not be empty.
    pub(crate) fn encode(&self, word: &[u8], scratch: &mut Scratch, out: &mut Vec<u32>) {
        let whole = self.vocab.id_of(word);
        if let Some(id) = whole
            && self.known.get(id) == WHOLE
        {
            out.push(id);
            return;
        }
        self.rules.start(word, scratch);
        merge(word, self.rules, scratch);
        for symbol in &scratch.symbols {
            if symbol.id != NONE {
                out.push(symbol.id);
                continue;
            }
            let start = symbol.start as usize;
            for &byte in word.get(start..start + symbol.len as usize).unwrap_or_default() {
                out.extend(self.vocab.id_of_byte(byte).or(self.unknown));
            }
        }
        if let Some(id) = whole {
            let became = matches!(scratch.symbols.as_slice(), [only] if only.id == id);
            self.known.set(id, if became { WHOLE } else { BROKEN });
        }
    }
}
