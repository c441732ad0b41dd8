//! Byte-level byte-pair encoding: text -> ids by ranked merges.
//!
//! Radford et al. 2019 (GPT-2): the pre-tokeniser cuts text into words, each word starts as its bytes, and of all neighbouring
//! pairs that a merge names the one named first is joined, again and again. `tokenizer.ggml.merges` holds `left right` by rank.

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::borrow::Cow;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use crate::error::TokenizerError;
use crate::limits::MAX_MERGES;
use crate::merge::{Join, NONE, Rules, Scratch, Symbol};
use crate::pretokenize::PreTokenizer;
use crate::vocab::Vocab;
use crate::words::{KnownWords, WordEncoder, WordRules};

/// A byte-level BPE.
#[derive(Debug)]
pub(crate) struct Bpe {
    pre: PreTokenizer,
    merges: Merges,
    known: KnownWords,
}

/// What the ranked merges make of two tokens, and the token of each byte.
#[derive(Debug)]
struct Merges {
    by_pair: HashMap<u64, Join, RandomState>,
    bytes: Box<[u32; 256]>,
}

/// The merges as ids, and how many could not be used.
pub(crate) struct RankedMerges {
    by_pair: HashMap<u64, Join, RandomState>,
    /// Merges that name a token which is not in the vocabulary.
    pub(crate) unreachable: usize,
}

fn pair(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

/// Looks up the merges' tokens: `merges` are pairs of spellings in order of rank, `id_of` gives a spelling's id.
pub(crate) fn rank_merges<'a>(
    key: &str,
    merges: impl ExactSizeIterator<Item = (&'a str, &'a str)>,
    id_of: impl Fn(&str) -> Option<u32>,
) -> Result<RankedMerges, TokenizerError> {
    if merges.len() > MAX_MERGES {
        let (limit, found) = (MAX_MERGES as u64, merges.len() as u64);
        return Err(TokenizerError::TooLarge { what: "merges", limit, found });
    }
    let mut by_pair = HashMap::with_capacity_and_hasher(merges.len(), RandomState::default());
    let mut unreachable = 0;
    let mut joined = String::new();
    for (rank, (left, right)) in merges.enumerate() {
        if left.is_empty() || right.is_empty() {
            return Err(TokenizerError::Value {
                key: format!("{key}[{rank}]"),
                expected: "two tokens with a space between".to_owned(),
                found: format!("{:?}", format!("{left} {right}")),
            });
        }
        joined.clear();
        joined.push_str(left);
        joined.push_str(right);
        match (id_of(left), id_of(right), id_of(&joined)) {
            (Some(left), Some(right), Some(id)) => {
                // The first rank counts where a pair is named twice.
                by_pair.entry(pair(left, right)).or_insert(Join { key: rank as u32, id });
            }
            _ => unreachable += 1,
        }
    }
    Ok(RankedMerges { by_pair, unreachable })
}

impl Rules for Merges {
    #[inline]
    fn join(&self, _word: &[u8], left: Symbol, right: Symbol) -> Option<Join> {
        self.by_pair.get(&pair(left.id, right.id)).copied()
    }
}

impl WordRules for Merges {
    fn start(&self, word: &[u8], scratch: &mut Scratch) {
        scratch.symbols.clear();
        scratch.symbols.extend(word.iter().zip(0..).map(|(&byte, start)| Symbol {
            id: self.bytes[usize::from(byte)],
            start,
            len: 1,
        }));
    }
}

impl Bpe {
    /// A BPE over `vocab`, with which it must be used.
    pub(crate) fn new(vocab: &Vocab, pre: PreTokenizer, merges: RankedMerges) -> Bpe {
        let mut bytes = Box::new([NONE; 256]);
        for (byte, id) in (0..=255u8).zip(bytes.iter_mut()) {
            *id = vocab.id_of_byte(byte).unwrap_or(NONE);
        }
        Bpe {
            pre,
            merges: Merges { by_pair: merges.by_pair, bytes },
            known: KnownWords::new(vocab.len(), pre.ignore_merges),
        }
    }

    /// Appends the ids of a text without special tokens.
    pub(crate) fn encode(&self, vocab: &Vocab, unknown: Option<u32>, text: &str, out: &mut Vec<u32>) {
        let text = if self.pre.nfc { compose(text) } else { Cow::Borrowed(text) };
        let words = WordEncoder { vocab, rules: &self.merges, known: &self.known, unknown };
        let mut scratch = Scratch::default();
        self.pre.split(&text, &mut |word| words.encode(word.as_bytes(), &mut scratch, out));
    }
}

/// Unicode's composed form (NFC, UAX 15).
fn compose(text: &str) -> Cow<'_, str> {
    if text.is_ascii() || is_nfc_quick(text.chars()) == IsNormalized::Yes {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(text.nfc().collect())
    }
}
