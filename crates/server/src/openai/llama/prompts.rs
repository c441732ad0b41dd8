//! llama-server's forms of a prompt: a text, token ids, both in one list, an object with a text, and lists of these.

use serde::Deserialize;
use worker::{Prompt, Work, Worker};

use crate::error::ApiError;
use crate::openai::refused;

/// One prompt, or a list of prompts.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(in crate::openai) enum Prompts {
    Text(String),
    Tokens(Vec<u32>),
    List(Vec<Entry>),
    Object(Object),
}

/// An entry of a list: a prompt, or where ids are among them a piece of the only prompt.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(in crate::openai) enum Entry {
    Id(u32),
    Text(String),
    Tokens(Vec<u32>),
    Sequence(Vec<Piece>),
    Object(Object),
}

/// A piece of a prompt.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(in crate::openai) enum Piece {
    Id(u32),
    Text(String),
}

/// A prompt that could have images in llama-server.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(in crate::openai) enum Object {
    /// The whole text.
    Whole { prompt_string: String },
    /// The text in parts, as a message has it.
    Parts { content: Vec<Part> },
}

/// A part of a text.
#[derive(Debug, Deserialize)]
pub(in crate::openai) struct Part {
    text: String,
}

/// A prompt as it was written.
#[derive(Debug)]
pub(in crate::openai) enum Written {
    Text(String),
    Tokens(Vec<u32>),
    Mixed(Vec<Piece>),
}

impl From<Object> for Written {
    fn from(object: Object) -> Written {
        Written::Text(match object {
            Object::Whole { prompt_string } => prompt_string,
            Object::Parts { content } => content.into_iter().map(|part| part.text).collect(),
        })
    }
}

impl Prompts {
    /// Each prompt with the name of its field, which begins with `field`.
    ///
    /// # Errors
    /// A prompt within a prompt.
    pub(in crate::openai) fn into_list(self, field: &str) -> Result<Vec<(String, Written)>, ApiError> {
        let one = |written| Ok(vec![(field.to_owned(), written)]);
        match self {
            Prompts::Text(text) => one(Written::Text(text)),
            Prompts::Object(object) => one(object.into()),
            Prompts::Tokens(ids) => one(Written::Tokens(ids)),
            Prompts::List(entries) if entries.iter().any(|entry| matches!(entry, Entry::Id(_))) => {
                let piece = |(i, entry)| match entry {
                    Entry::Id(id) => Ok(Piece::Id(id)),
                    Entry::Text(text) => Ok(Piece::Text(text)),
                    Entry::Tokens(_) | Entry::Sequence(_) | Entry::Object(_) => {
                        let message = "expected a text or an id beside ids, found a prompt; lists of prompts have no bare ids";
                        Err(ApiError::invalid(format!("{field}[{i}]"), message))
                    }
                };
                let pieces: Result<Vec<Piece>, ApiError> =
                    entries.into_iter().enumerate().map(piece).collect();
                one(Written::Mixed(pieces?))
            }
            Prompts::List(entries) => {
                let each = |(i, entry)| {
                    let written = match entry {
                        Entry::Id(id) => Written::Tokens(vec![id]),
                        Entry::Text(text) => Written::Text(text),
                        Entry::Tokens(ids) => Written::Tokens(ids),
                        Entry::Sequence(pieces) => Written::Mixed(pieces),
                        Entry::Object(object) => object.into(),
                    };
                    (format!("{field}[{i}]"), written)
                };
                Ok(entries.into_iter().enumerate().map(each).collect())
            }
        }
    }

    /// The ids of each prompt.
    pub(super) fn into_ids(self, by: (&Worker, &Work)) -> Result<Vec<Vec<u32>>, ApiError> {
        let ids = |(field, written): (String, Written)| match written {
            Written::Tokens(ids) => Ok(ids),
            Written::Text(text) => joined(by, &field, vec![Piece::Text(text)]),
            Written::Mixed(pieces) => joined(by, &field, pieces),
        };
        self.into_list("prompt")?.into_iter().map(ids).collect()
    }
}

impl Written {
    /// The prompt. The vocabulary's own tokens stand around a text where `add_special` says so, and before a text that begins a list of both.
    ///
    /// # Errors
    /// A text that cannot be tokenised; it is the field's.
    pub(in crate::openai) fn into_prompt(
        self,
        by: (&Worker, &Work),
        field: &str,
        add_special: bool,
    ) -> Result<Prompt, ApiError> {
        Ok(match self {
            Written::Text(text) => Prompt::Text { text, add_special, parse_special: true },
            Written::Tokens(ids) => Prompt::Tokens(ids),
            Written::Mixed(pieces) => Prompt::Tokens(joined(by, field, pieces)?),
        })
    }
}

/// The ids of pieces in their order. The begin token stands before a text that is the first of them.
fn joined((worker, work): (&Worker, &Work), field: &str, pieces: Vec<Piece>) -> Result<Vec<u32>, ApiError> {
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
