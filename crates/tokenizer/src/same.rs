//! Do two vocabularies give every id the same meaning?

use thiserror::Error;

use crate::tokenizer::Tokenizer;

/// The first difference of two vocabularies, as what was expected and found.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Difference {
    /// One has more tokens than the other, beside rows that no token has.
    #[error("expected {expected} tokens, found {found}")]
    Count {
        /// Tokens of this one.
        expected: usize,
        /// Tokens of the other.
        found: usize,
    },
    /// An id stands for other text.
    #[error("token {id}: expected {expected:?}, found {found:?}")]
    Text {
        /// The first such id.
        id: u32,
        /// Its text here; bytes that are no UTF-8 are replaced.
        expected: String,
        /// Its text in the other one.
        found: String,
    },
    /// An id is a control token in one of them alone.
    #[error("token {id}, {text:?}: expected {}, found {}", kind(*.expected), kind(!.expected))]
    Control {
        /// The first such id.
        id: u32,
        /// Its text.
        text: String,
        /// Whether it is one here.
        expected: bool,
    },
    /// An id ends an answer in one of them alone.
    #[error("token {id}, {text:?}: expected {}, found {}", role(*.expected), role(!.expected))]
    End {
        /// The first such id.
        id: u32,
        /// Its text.
        text: String,
        /// Whether it does here.
        expected: bool,
    },
    /// Another token begins a text.
    #[error("the token that begins a text: expected {expected:?}, found {found:?}")]
    Begin {
        /// Its id here.
        expected: Option<u32>,
        /// Its id in the other one.
        found: Option<u32>,
    },
}

fn kind(is_control: bool) -> &'static str {
    if is_control { "a control token" } else { "text" }
}

fn role(is_end: bool) -> &'static str {
    if is_end { "an end of the answer" } else { "none" }
}

impl Tokenizer {
    /// The first way in which another vocabulary differs from this one, if any. Rows at the end that no token has, with which files are padded, count for
    /// nothing.
    ///
    /// # Errors
    /// The [`Difference`].
    pub fn same_ids(&self, other: &Tokenizer) -> Result<(), Difference> {
        let (n, n_other) = (self.n_vocab(), other.n_vocab());
        let n_both = n.min(n_other);
        let longer = if n > n_other { self } else { other };
        if ids(n_both..n.max(n_other)).any(|id| !longer.is_unused(id)) {
            return Err(Difference::Count { expected: n, found: n_other });
        }
        let text = |tokenizer: &Tokenizer, id| {
            String::from_utf8_lossy(tokenizer.token_bytes(id).unwrap_or_default()).into_owned()
        };
        for id in ids(0..n_both).filter(|&id| !(self.is_unused(id) && other.is_unused(id))) {
            if self.token_bytes(id) != other.token_bytes(id) {
                return Err(Difference::Text { id, expected: text(self, id), found: text(other, id) });
            }
            if self.is_special(id) != other.is_special(id) {
                return Err(Difference::Control { id, text: text(self, id), expected: self.is_special(id) });
            }
            if self.is_end(id) != other.is_end(id) {
                return Err(Difference::End { id, text: text(self, id), expected: self.is_end(id) });
            }
        }
        let (expected, found) = (self.special().bos, other.special().bos);
        if expected != found {
            return Err(Difference::Begin { expected, found });
        }
        Ok(())
    }
}

fn ids(range: std::ops::Range<usize>) -> impl Iterator<Item = u32> {
    // Vocabularies are far below 2^32.
    range.filter_map(|id| u32::try_from(id).ok())
}
