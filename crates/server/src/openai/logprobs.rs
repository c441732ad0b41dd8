//! How likely was each token? In the form of chat completions, and in the older one of completions.
//!
//! Log probabilities are those of the model's own distribution. A token may hold part of a character: in a chat its `bytes` say
//! which; in completions it is then written as `bytes:\xe2\x82`.

use std::fmt::Write;

use serde::Serialize;
use serde_json::{Map, Number, Value};
use worker::{Sampled, Worker};

/// Stands for minus infinity, which JSON cannot write.
const LEAST: f32 = -9999.0;

/// Of a chat's delta or message.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct ChatLogprobs {
    content: Vec<TokenLogprob>,
    /// There are no refusals.
    refusal: (),
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct TokenLogprob {
    token: String,
    logprob: f32,
    bytes: Vec<u8>,
    top_logprobs: Vec<TopLogprob>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct TopLogprob {
    token: String,
    logprob: f32,
    bytes: Vec<u8>,
}

impl ChatLogprobs {
    /// Of these tokens.
    pub(super) fn new<'a>(worker: &Worker, tokens: impl Iterator<Item = &'a Sampled>) -> ChatLogprobs {
        let top = |&(id, logprob): &(u32, f32)| {
            let bytes = bytes_of(worker, id);
            TopLogprob { token: lossy(bytes), logprob: finite(logprob), bytes: bytes.to_vec() }
        };
        let one = |sampled: &Sampled| {
            let bytes = bytes_of(worker, sampled.token);
            TokenLogprob {
                token: lossy(bytes),
                logprob: finite(sampled.logprob),
                bytes: bytes.to_vec(),
                top_logprobs: sampled.alternatives.iter().map(top).collect(),
            }
        };
        ChatLogprobs { content: tokens.map(one).collect(), refusal: () }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.content.is_empty()
    }

    /// Each token's.
    pub(super) fn tokens(&self) -> &[TokenLogprob] {
        &self.content
    }

    pub(super) fn append(&mut self, mut more: ChatLogprobs) {
        self.content.append(&mut more.content);
    }
}

/// Of a completion's choice or chunk: lists of the same length.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct CompletionLogprobs {
    tokens: Vec<String>,
    token_logprobs: Vec<f32>,
    top_logprobs: Vec<Map<String, Value>>,
    text_offset: Vec<usize>,
}

impl CompletionLogprobs {
    /// Of these tokens, the first of which begins at character `offset`; that moves on to the end of the last.
    pub(super) fn new(worker: &Worker, tokens: &[Sampled], offset: &mut usize) -> CompletionLogprobs {
        let mut all = CompletionLogprobs::default();
        for sampled in tokens {
            let bytes = bytes_of(worker, sampled.token);
            let mut top = Map::new();
            // The likeliest of several that are written alike.
            for &(id, logprob) in &sampled.alternatives {
                top.entry(written(bytes_of(worker, id))).or_insert_with(|| number(logprob));
            }
            let token = written(bytes);
            top.entry(token.clone()).or_insert_with(|| number(sampled.logprob));
            all.tokens.push(token);
            all.token_logprobs.push(finite(sampled.logprob));
            all.top_logprobs.push(top);
            all.text_offset.push(*offset);
            let (tokenizer, id) = (worker.tokenizer(), sampled.token);
            if !tokenizer.is_special(id) && !tokenizer.is_unused(id) {
                *offset += bytes.iter().filter(|&&byte| starts_character(byte)).count();
            }
        }
        all
    }

    pub(super) fn append(&mut self, mut more: CompletionLogprobs) {
        self.tokens.append(&mut more.tokens);
        self.token_logprobs.append(&mut more.token_logprobs);
        self.top_logprobs.append(&mut more.top_logprobs);
        self.text_offset.append(&mut more.text_offset);
    }
}

/// Not a continuation byte of UTF-8.
fn starts_character(byte: u8) -> bool {
    byte & 0xC0 != 0x80
}

fn bytes_of(worker: &Worker, id: u32) -> &[u8] {
    worker.tokenizer().token_bytes(id).unwrap_or_default()
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn written(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().fold("bytes:".to_owned(), |mut text, byte| {
            // Writing to a string cannot fail.
            let _infallible = write!(text, "\\x{byte:02x}");
            text
        }),
    }
}

fn finite(logprob: f32) -> f32 {
    if logprob.is_finite() { logprob } else { LEAST }
}

/// By way of its shortest form, so that a number is written alike everywhere.
fn number(logprob: f32) -> Value {
    let logprob = finite(logprob);
    logprob.to_string().parse().ok().and_then(Number::from_f64).map_or(Value::Null, Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_json_cannot_write_is_written_otherwise() {
        assert_eq!(written("€".as_bytes()), "€");
        assert_eq!(written(&[0xE2, 0x82]), r"bytes:\xe2\x82");
        assert_eq!(finite(f32::NEG_INFINITY), LEAST);
        assert_eq!(number(-0.1).to_string(), "-0.1");
    }
}
