//! llama-server's forms of a prompt: a text, token ids, both in one list, an object with a text, and lists of these.

use serde::Deserialize;
use worker::{Prompt, Work, Worker};

use crate::error::ApiError;
use crate::openai::refused;

/// One prompt, or a list of prompts.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Prompts {
    Text(String),
    Tokens(Vec<u32>),
    List(Vec<Entry>),
    Object(Object),
}

/// An entry of a list: a prompt, or where ids are among them a piece of the only prompt.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Entry {
    Id(u32),
    Text(String),
    Sequence(Vec<Piece>),
    Object(Object),
}

/// A piece of a prompt.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Piece {
    Id(u32),
    Text(String),
}

/// A prompt that could have images in llama-server.
#[derive(Debug, Deserialize)]
pub(super) struct Object {
    prompt_string: String,
}

impl Prompts {
    /// The ids of each prompt.
    pub(super) fn into_ids(self, by: (&Worker, &Work)) -> Result<Vec<Vec<u32>>, ApiError> {
        match self {
            Prompts::Text(text) | Prompts::Object(Object { prompt_string: text }) => {
                Ok(vec![ids(by, "prompt", vec![Piece::Text(text)])?])
            }
            Prompts::Tokens(ids) => Ok(vec![ids]),
            Prompts::List(entries) if entries.iter().any(|entry| matches!(entry, Entry::Id(_))) => {
                let piece = |(i, entry)| match entry {
                    Entry::Id(id) => Ok(Piece::Id(id)),
                    Entry::Text(text) => Ok(Piece::Text(text)),
                    Entry::Sequence(_) | Entry::Object(_) => {
                        let message = "expected a text or an id beside ids, found a prompt; lists of prompts have no bare ids";
                        Err(ApiError::invalid(format!("prompt[{i}]"), message))
                    }
                };
                let pieces: Result<Vec<Piece>, ApiError> =
                    entries.into_iter().enumerate().map(piece).collect();
                Ok(vec![ids(by, "prompt", pieces?)?])
            }
            Prompts::List(entries) => {
                let one = |(i, entry)| {
                    let pieces = match entry {
                        Entry::Id(id) => vec![Piece::Id(id)],
                        Entry::Text(text) | Entry::Object(Object { prompt_string: text }) => {
                            vec![Piece::Text(text)]
                        }
                        Entry::Sequence(pieces) => pieces,
                    };
                    ids(by, &format!("prompt[{i}]"), pieces)
                };
                entries.into_iter().enumerate().map(one).collect()
            }
        }
    }
}

/// The ids of pieces in their order. The begin token stands before a text that is the first of them.
fn ids((worker, work): (&Worker, &Work), field: &str, pieces: Vec<Piece>) -> Result<Vec<u32>, ApiError> {
    let mut all = Vec::new();
    for (i, piece) in pieces.into_iter().enumerate() {
        match piece {
            Piece::Id(id) => all.push(id),
            Piece::Text(text) => {
                let text = Prompt::Text { text, add_special: i == 0, parse_special: true };
                all.extend(worker.tokenize_within(&text, work).map_err(|error| refused(error, field))?);
            }
        }
    }
    Ok(all)
}
