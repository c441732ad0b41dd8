//! How likely was each token? In the form of chat completions, and in the older one of completions.
//!
//! Log probabilities are those of the model's own distribution. A token may hold part of a character: in a chat its `bytes` say
//! which; in completions it is then written as `bytes:\xe2\x82`.

use std::fmt::Write;

use serde::Serialize;
use serde_json::{Map, Number, Value, json};
use worker::{Sampled, Scored, Worker};

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
    logprob: Value,
    bytes: Vec<u8>,
    top_logprobs: Vec<TopLogprob>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct TopLogprob {
    token: String,
    logprob: Value,
    bytes: Vec<u8>,
}

impl ChatLogprobs {
    /// Of these tokens.
    pub(super) fn new<'a>(worker: &Worker, tokens: impl Iterator<Item = &'a Sampled>) -> ChatLogprobs {
        let top = |&(id, logprob): &(u32, f32)| {
            let bytes = bytes_of(worker, id);
            TopLogprob { token: lossy(bytes), logprob: number(logprob), bytes: bytes.to_vec() }
        };
        let one = |sampled: &Sampled| {
            let bytes = bytes_of(worker, sampled.token);
            TokenLogprob {
                token: lossy(bytes),
                logprob: number(sampled.logprob),
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
    /// Null for a prompt's first token, which nothing is before.
    token_logprobs: Vec<Value>,
    top_logprobs: Vec<Option<Map<String, Value>>>,
    text_offset: Vec<usize>,
}

impl CompletionLogprobs {
    /// Of these tokens, the first of which begins at character `offset`; that moves on to the end of the last.
    pub(super) fn new(worker: &Worker, tokens: &[Sampled], offset: &mut usize) -> CompletionLogprobs {
        let mut all = CompletionLogprobs::default();
        for sampled in tokens {
            let mut top = Map::new();
            // The likeliest of several that are written alike.
            for &(id, logprob) in &sampled.alternatives {
                top.entry(written(bytes_of(worker, id))).or_insert_with(|| number(logprob));
            }
            top.entry(written(bytes_of(worker, sampled.token))).or_insert_with(|| number(sampled.logprob));
            all.push(worker, sampled.token, Some((number(sampled.logprob), top)));
            all.text_offset.push(*offset);
            let (tokenizer, id) = (worker.tokenizer(), sampled.token);
            if !tokenizer.is_special(id) && !tokenizer.is_unused(id) {
                *offset += n_character(bytes_of(worker, id));
            }
        }
        all
    }

    /// Of a prompt's first token, which nothing is before.
    pub(super) fn first(worker: &Worker, token: u32) -> CompletionLogprobs {
        let mut all = CompletionLogprobs::default();
        all.push(worker, token, None);
        all.text_offset.push(0);
        all
    }

    /// Without where it begins.
    fn push(&mut self, worker: &Worker, token: u32, likely: Option<(Value, Map<String, Value>)>) {
        let (logprob, top) = likely.unzip();
        self.tokens.push(written(bytes_of(worker, token)));
        self.token_logprobs.push(logprob.unwrap_or_default());
        self.top_logprobs.push(top);
    }

    /// Says where each of a prompt's tokens begins.
    pub(super) fn at(mut self, offsets: &[usize]) -> CompletionLogprobs {
        self.text_offset = offsets.to_vec();
        self
    }

    pub(super) fn append(&mut self, mut more: CompletionLogprobs) {
        self.tokens.append(&mut more.tokens);
        self.token_logprobs.append(&mut more.token_logprobs);
        self.top_logprobs.append(&mut more.top_logprobs);
        self.text_offset.append(&mut more.text_offset);
    }
}

/// A prompt's token in vLLM's form: by their ids, it and the likeliest others, each with its rank. A token that is not UTF-8 by itself has
/// replacement characters in its text.
pub(super) fn by_id(worker: &Worker, Scored { sampled, rank }: &Scored) -> Value {
    let entry = |id: u32, logprob: f32, rank: usize| json!({"logprob": number(logprob), "rank": rank, "decoded_token": lossy(bytes_of(worker, id))});
    let mut all = Map::new();
    all.insert(sampled.token.to_string(), entry(sampled.token, sampled.logprob, *rank));
    for (&(id, logprob), rank) in sampled.alternatives.iter().zip(1..) {
        all.entry(id.to_string()).or_insert_with(|| entry(id, logprob, rank));
    }
    all.into()
}

/// A token in llama-server's form, which has its id.
pub(super) fn llama(worker: &Worker, sampled: &Sampled) -> Value {
    let entry = |id: u32, logprob: f32| {
        let bytes = bytes_of(worker, id);
        json!({"id": id, "token": lossy(bytes), "bytes": bytes, "logprob": number(logprob)})
    };
    let mut token = entry(sampled.token, sampled.logprob);
    token["top_logprobs"] = sampled.alternatives.iter().map(|&(id, logprob)| entry(id, logprob)).collect();
    token
}

/// Where each token of a prompt begins in its text, in characters, and as the last the text's end. A token that is not written there, such
/// as a begin token that was put first or the space that SentencePiece does, takes no room.
pub(super) fn prompt_offsets(worker: &Worker, tokens: &[u32], text: &str) -> Vec<usize> {
    let (mut rest, mut offset) = (text.as_bytes(), 0);
    let mut offsets = Vec::with_capacity(tokens.len() + 1);
    for &id in tokens {
        offsets.push(offset);
        let bytes = bytes_of(worker, id);
        let bytes =
            if rest.starts_with(bytes) { bytes } else { bytes.strip_prefix(b" ").unwrap_or_default() };
        if let Some(after) = rest.strip_prefix(bytes) {
            offset += n_character(bytes);
            rest = after;
        }
    }
    offsets.push(text.chars().count());
    offsets
}

fn n_character(bytes: &[u8]) -> usize {
    bytes.iter().filter(|&&byte| starts_character(byte)).count()
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
