//! Which ids does one word become? Shared by BPE and SentencePiece.
//!
//! Most words of real text are a token themselves, but only the merges say whether they come out as that token. So the answer is
//! remembered: one byte a token, which every thread may fill in, since all find the same.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::merge::{NONE, Rules, Scratch, merge};
use crate::vocab::Vocab;

/// Where may a text be cut before a space without changing what becomes of it? Behind a byte that no token has before a space:
/// nothing is ever joined across such a place.
#[derive(Debug)]
pub(crate) struct SpaceCuts {
    /// By byte: does some token have it before a space?
    joined: Box<[bool; 256]>,
}

impl SpaceCuts {
    pub(crate) fn new(vocab: &Vocab) -> SpaceCuts {
        let mut joined = Box::new([false; 256]);
        for (_, token) in vocab.text_tokens() {
            for neighbours in token.windows(2).filter(|neighbours| neighbours[1] == b' ') {
                joined[usize::from(neighbours[0])] = true;
            }
        }
        // Spaces stay together, so that a text of nothing else is one word.
        joined[usize::from(b' ')] = true;
        SpaceCuts { joined }
    }

    /// Calls `each` with the parts of `text`, none of them empty, in order.
    pub(crate) fn split<'a>(&self, text: &'a [u8], mut each: impl FnMut(&'a [u8])) {
        let mut start = 0;
        for (place, neighbours) in text.windows(2).enumerate() {
            if neighbours[1] == b' ' && !self.joined[usize::from(neighbours[0])] {
                each(text.get(start..=place).unwrap_or_default());
                start = place + 1;
            }
        }
        match text.get(start..) {
            Some(rest) if !rest.is_empty() => each(rest),
            _ => {}
        }
    }
}

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
