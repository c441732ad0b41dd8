//! Byte-pair encoding: text -> ids by ranked merges.
//!
//! Radford et al. 2019 (GPT-2): the pre-tokeniser cuts text into words, each word starts as its bytes, and of all neighbouring
//! pairs that a merge names the one named first is joined, again and again. `tokenizer.ggml.merges` holds `left right` by rank.
//! Gemma 4's starts as its characters and is not cut into words; what has no token becomes its bytes.

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::borrow::Cow;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use crate::error::TokenizerError;
use crate::limits::MAX_MERGES;
use crate::merge::{Join, NONE, Rules, Scratch, Symbol};
use crate::pretokenize::PreTokenizer;
use crate::spm::Text;
use crate::vocab::Vocab;
use crate::words::{KnownWords, SpaceCuts, WordEncoder, WordRules};

/// A BPE.
#[derive(Debug)]
pub(crate) struct Bpe {
    cuts: Cuts,
    merges: Merges,
    known: KnownWords,
}

/// How text is cut before merging.
#[derive(Debug)]
enum Cuts {
    Words(PreTokenizer),
    Spaces(SpaceCuts),
}

/// What the ranked merges make of two tokens, and what a word starts as.
#[derive(Debug)]
struct Merges {
    by_pair: HashMap<u64, Join, RandomState>,
    start: Start,
}

/// The tokens that merging starts from.
#[derive(Debug)]
enum Start {
    Bytes(Box<[u32; 256]>),
    Characters(HashMap<char, u32, RandomState>),
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
        match &self.start {
            Start::Bytes(ids) => scratch.symbols.extend(word.iter().zip(0..).map(|(&byte, start)| Symbol {
                id: ids[usize::from(byte)],
                start,
                len: 1,
            })),
            Start::Characters(ids) => {
                let text = std::str::from_utf8(word).unwrap_or_default();
                scratch.symbols.extend(text.char_indices().map(|(start, c)| Symbol {
                    id: ids.get(&c).copied().unwrap_or(NONE),
                    start: start as u32,
                    len: c.len_utf8() as u32,
                }));
            }
        }
    }
}

impl Bpe {
    /// A BPE over `vocab`, with which it must be used, that merges bytes within the words of a recipe.
    pub(crate) fn over_bytes(vocab: &Vocab, pre: PreTokenizer, merges: RankedMerges) -> Bpe {
        let mut bytes = Box::new([NONE; 256]);
        for (byte, id) in (0..=255u8).zip(bytes.iter_mut()) {
            *id = vocab.id_of_byte(byte).unwrap_or(NONE);
        }
        Bpe {
            cuts: Cuts::Words(pre),
            merges: Merges { by_pair: merges.by_pair, start: Start::Bytes(bytes) },
            known: KnownWords::new(vocab.len(), pre.ignore_merges),
        }
    }

    /// A BPE over `vocab`, with which it must be used, that merges characters, spaces among them.
    pub(crate) fn over_characters(vocab: &Vocab, merges: RankedMerges) -> Bpe {
        let only = |bytes| {
            let mut chars = std::str::from_utf8(bytes).ok()?.chars();
            chars.next().filter(|_| chars.next().is_none())
        };
        let characters = vocab.text_tokens().filter_map(|(id, bytes)| Some((only(bytes)?, id))).collect();
        Bpe {
            cuts: Cuts::Spaces(SpaceCuts::new(vocab)),
            merges: Merges { by_pair: merges.by_pair, start: Start::Characters(characters) },
            known: KnownWords::new(vocab.len(), false),
        }
    }

    /// A text as it is before it is cut.
    pub(crate) fn normalized<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match &self.cuts {
            Cuts::Words(pre) if pre.nfc => compose(text),
            Cuts::Words(_) | Cuts::Spaces(_) => Cow::Borrowed(text),
        }
    }

    /// Appends the ids of a text without special tokens.
    pub(crate) fn encode(&self, vocab: &Vocab, unknown: Option<u32>, text: &str, out: &mut Vec<u32>) {
        let words = WordEncoder { vocab, rules: &self.merges, known: &self.known, unknown };
        let mut scratch = Scratch::default();
        match &self.cuts {
            Cuts::Words(pre) => {
                let text = self.normalized(text);
                pre.split(&text, &mut |word| words.encode(word.as_bytes(), &mut scratch, out));
            }
            Cuts::Spaces(cuts) => {
                let text = Text { text, prefix: false }.prepared(false);
                cuts.split(text.as_bytes(), |word| words.encode(word, &mut scratch, out));
            }
        }
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
