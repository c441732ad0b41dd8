//! ids -> text, whole characters only.
//!
//! A token may end in the middle of a character, so its last bytes wait for the next token. Bytes that can no longer become a
//! character are U+FFFD, one for each maximal subpart (Unicode 16, section 3.9), exactly as in decoding all at once.

use crate::tokenizer::Tokenizer;

/// Turns a stream of ids into text; made by [`Tokenizer::decoder`].
#[derive(Clone, Debug)]
pub struct Decoder<'a> {
    tokenizer: &'a Tokenizer,
    special: bool,
    /// Is a space at the start of the next text token the one that encoding put there?
    strip_space: bool,
    /// The start of a character: at most 3 bytes between calls.
    pending: Vec<u8>,
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(tokenizer: &'a Tokenizer, special: bool, strip_space: bool) -> Decoder<'a> {
        Decoder { tokenizer, special, strip_space, pending: Vec::new() }
    }

    /// The text that is certain after this id. Unused ids and those past the vocabulary have none.
    pub fn push(&mut self, id: u32) -> String {
        let mut text = String::new();
        self.push_into(id, &mut text);
        text
    }

    /// What is left: U+FFFD if a character was never finished.
    #[must_use]
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.pending).into_owned()
    }

    pub(crate) fn push_into(&mut self, id: u32, text: &mut String) {
        if self.tokenizer.is_unused(id) {
            return;
        }
        let Some(mut bytes) = self.tokenizer.token_bytes(id) else { return };
        if self.tokenizer.is_special(id) {
            self.strip_space = self.tokenizer.drops_space_after(&[id]);
            if !self.special {
                return;
            }
        } else if std::mem::take(&mut self.strip_space) {
            bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
        }
        self.pending.extend_from_slice(bytes);
        self.take_certain(text);
    }

    fn take_certain(&mut self, text: &mut String) {
        let mut rest = self.pending.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    self.pending.clear();
                    return;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    match error.error_len() {
                        Some(len) => {
                            text.push(char::REPLACEMENT_CHARACTER);
                            rest = after.get(len..).unwrap_or_default();
                        }
                        None => {
                            self.pending = after.to_vec();
                            return;
                        }
                    }
                }
            }
        }
    }
}
