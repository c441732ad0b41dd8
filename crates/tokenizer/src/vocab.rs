//! Which bytes does each id stand for, and which id do given bytes have?
//!
//! GGUF spells tokens in one of two ways. Byte-level BPE writes each byte as a printable character (GPT-2's table: `Ġ` is a
//! space). SentencePiece writes a space as U+2581 and single bytes as `<0x0A>`. Both are undone here once: the rest of the crate
//! works with bytes. Control, unknown, unused and byte tokens are never found by their bytes, so that no text can spell them.

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

use crate::error::TokenizerError;
use crate::limits::{MAX_TOKEN_BYTES, MAX_TOKENS, MAX_VOCAB_BYTES};
use crate::merge::NONE;

/// What a token is for: `tokenizer.ggml.token_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

impl TokenKind {
    /// From the number in the file; numbers without a meaning count as unused.
    pub(crate) fn from_number(number: i128) -> TokenKind {
        match number {
            1 => TokenKind::Normal,
            2 => TokenKind::Unknown,
            3 => TokenKind::Control,
            4 => TokenKind::UserDefined,
            6 => TokenKind::Byte,
            _ => TokenKind::Unused,
        }
    }

    /// Is it part of text, rather than about it?
    pub(crate) fn is_text(self) -> bool {
        matches!(self, TokenKind::Normal | TokenKind::UserDefined)
    }
}

/// How the file spells tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// One character a byte.
    ByteLevel,
    /// U+2581 for a space.
    SentencePiece,
}

/// All tokens.
#[derive(Debug)]
pub(crate) struct Vocab {
    bytes: Vec<u8>,
    /// By id: where its bytes end; they start where the one before ends.
    ends: Vec<u32>,
    kinds: Vec<TokenKind>,
    /// Ids of text tokens, found by their bytes.
    by_bytes: HashTable<u32>,
    hasher: RandomState,
    longest: usize,
    single_bytes: Box<[u32; 256]>,
}

impl Vocab {
    /// `kinds` has one entry a token.
    pub(crate) fn new(
        tokens: &[String],
        kinds: Vec<TokenKind>,
        spelling: Spelling,
    ) -> Result<Vocab, TokenizerError> {
        let too_large = |what, limit: usize, found: usize| {
            Err(TokenizerError::TooLarge { what, limit: limit as u64, found: found as u64 })
        };
        if tokens.len() > MAX_TOKENS {
            return too_large("tokens in the vocabulary", MAX_TOKENS, tokens.len());
        }
        let total = tokens.iter().map(String::len).sum();
        if total > MAX_VOCAB_BYTES {
            return too_large("bytes in the vocabulary", MAX_VOCAB_BYTES, total);
        }
        if let Some(longest) =
            tokens.iter().map(String::len).max().filter(|&longest| longest > MAX_TOKEN_BYTES)
        {
            return too_large("bytes in a token", MAX_TOKEN_BYTES, longest);
        }
        let mut vocab = Vocab {
            bytes: Vec::with_capacity(total),
            ends: Vec::with_capacity(tokens.len()),
            kinds,
            by_bytes: HashTable::with_capacity(tokens.len()),
            hasher: RandomState::default(),
            longest: 0,
            single_bytes: Box::new([NONE; 256]),
        };
        for (token, kind) in tokens.iter().zip(&vocab.kinds) {
            spell(token, *kind, spelling, &mut vocab.bytes);
            vocab.ends.push(vocab.bytes.len() as u32);
        }
        vocab.index();
        Ok(vocab)
    }

    fn index(&mut self) {
        let mut by_bytes = std::mem::take(&mut self.by_bytes);
        for id in 0..self.len() as u32 {
            let bytes = self.bytes_of(id).unwrap_or_default();
            match self.kinds.get(id as usize) {
                Some(kind) if kind.is_text() && !bytes.is_empty() => {
                    let same = |&other: &u32| self.bytes_of(other) == Some(bytes);
                    let hash = |&other: &u32| self.hasher.hash_one(self.bytes_of(other).unwrap_or_default());
                    by_bytes.entry(self.hasher.hash_one(bytes), same, hash).or_insert(id);
                    self.longest = self.longest.max(bytes.len());
                }
                _ => {}
            }
        }
        self.by_bytes = by_bytes;
        for id in (0..self.len() as u32).rev() {
            if let (Some(&[byte]), Some(TokenKind::Byte)) = (self.bytes_of(id), self.kind(id)) {
                self.single_bytes[usize::from(byte)] = id;
            }
        }
        for byte in 0..=255u8 {
            if self.single_bytes[usize::from(byte)] == NONE
                && let Some(id) = self.id_of(&[byte])
            {
                self.single_bytes[usize::from(byte)] = id;
            }
        }
    }

    /// How many tokens.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The bytes a token stands for; a control token's are its name.
    pub(crate) fn bytes_of(&self, id: u32) -> Option<&[u8]> {
        let end = *self.ends.get(id as usize)?;
        let start = match (id as usize).checked_sub(1) {
            Some(before) => *self.ends.get(before)?,
            None => 0,
        };
        self.bytes.get(start as usize..end as usize)
    }

    /// What a token is for.
    pub(crate) fn kind(&self, id: u32) -> Option<TokenKind> {
        self.kinds.get(id as usize).copied()
    }

    /// The text token of exactly these bytes.
    #[inline]
    pub(crate) fn id_of(&self, bytes: &[u8]) -> Option<u32> {
        if bytes.len() > self.longest {
            return None;
        }
        self.by_bytes.find(self.hasher.hash_one(bytes), |&id| self.bytes_of(id) == Some(bytes)).copied()
    }

    /// The token of one byte: SentencePiece's byte token, else the text token of that byte.
    pub(crate) fn id_of_byte(&self, byte: u8) -> Option<u32> {
        Some(self.single_bytes[usize::from(byte)]).filter(|&id| id != NONE)
    }

    /// Ids and bytes of the tokens that text can contain.
    pub(crate) fn text_tokens(&self) -> impl Iterator<Item = (u32, &[u8])> {
        self.by_bytes.iter().filter_map(|&id| Some((id, self.bytes_of(id)?)))
    }
}

/// Appends what a token stands for.
fn spell(token: &str, kind: TokenKind, spelling: Spelling, out: &mut Vec<u8>) {
    match (kind, spelling) {
        (TokenKind::Byte, _) => match named_byte(token) {
            Some(byte) => out.push(byte),
            None => out.extend_from_slice(token.as_bytes()),
        },
        (TokenKind::Normal | TokenKind::Unused, Spelling::ByteLevel) => {
            let start = out.len();
            for c in token.chars() {
                let Some(byte) = byte_of_char(c) else {
                    // Not in GPT-2's table: a token added later, which is spelt as it is.
                    out.truncate(start);
                    out.extend_from_slice(token.as_bytes());
                    return;
                };
                out.push(byte);
            }
        }
        (TokenKind::Normal | TokenKind::Unused, Spelling::SentencePiece) => {
            let mut parts = token.split('\u{2581}');
            out.extend_from_slice(parts.next().unwrap_or_default().as_bytes());
            for part in parts {
                out.push(b' ');
                out.extend_from_slice(part.as_bytes());
            }
        }
        _ => out.extend_from_slice(token.as_bytes()),
    }
}

/// `<0x0A>` is byte 10.
fn named_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() == 2 { u8::from_str_radix(digits, 16).ok() } else { None }
}

/// Bytes that GPT-2's table does not show as the character of the same number; they are U+0100 and up, in this order.
const SHIFTED: [u8; 68] = {
    let mut table = [0; 68];
    let (mut byte, mut count) = (0usize, 0);
    while byte < 256 {
        if !shown_as_itself(byte as u32) {
            table[count] = byte as u8;
            count += 1;
        }
        byte += 1;
    }
    table
};

const fn shown_as_itself(code: u32) -> bool {
    matches!(code, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff)
}

/// The byte that a character of GPT-2's table stands for.
fn byte_of_char(c: char) -> Option<u8> {
    let code = u32::from(c);
    if shown_as_itself(code) {
        return u8::try_from(code).ok();
    }
    SHIFTED.get(code.checked_sub(0x100)? as usize).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_one_character() {
        let mut bytes: Vec<u8> = ('\0'..'\u{200}').filter_map(byte_of_char).collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
        assert_eq!(byte_of_char('Ġ'), Some(b' '));
        assert_eq!(byte_of_char('Ċ'), Some(b'\n'));
    }

    #[test]
    fn control_tokens_are_not_found_by_their_text() {
        let tokens = ["<s>", "▁a", "<0x0A>", "a▁b", "▁"].map(str::to_owned);
        let kinds = vec![
            TokenKind::Control,
            TokenKind::Normal,
            TokenKind::Byte,
            TokenKind::Normal,
            TokenKind::UserDefined,
        ];
        let vocab = Vocab::new(&tokens, kinds, Spelling::SentencePiece).unwrap();
        assert_eq!(vocab.id_of(b"<s>"), None);
        assert_eq!(vocab.id_of(b" a"), Some(1));
        assert_eq!(vocab.id_of(b"a b"), Some(3));
        assert_eq!(vocab.id_of_byte(b'\n'), Some(2));
        assert_eq!(vocab.bytes_of(4), Some("▁".as_bytes()));
        assert_eq!(vocab.bytes_of(5), None);
    }
}
