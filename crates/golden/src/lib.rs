//! What does another implementation say of this very file? Reference logits that lie beside a model, and how far results are from them.
//!
//! Beside `NAME.gguf` are `NAME.json` and `NAME.logits.npz`; the README of `tests/golden` describes them. They are read like any file
//! of a stranger: what is wrong with them is an error that says where.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

mod npz;

/// Bytes of a JSON file that are read.
const MAX_JSON: u64 = 16 << 20;

/// Why a reference cannot be used.
#[derive(thiserror::Error, Debug)]
pub enum GoldenError {
    /// A file cannot be read.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{}: expected {expected}, found {found}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What should be there, and where.
        expected: String,
        /// What is there.
        found: String,
    },
}

/// Token ids and the logits after each of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// Its name, such as `text`.
    pub name: &'static str,
    /// The ids of the sequence.
    pub tokens: Vec<u32>,
    /// `[n_tokens, n_vocab]`.
    pub logits: Vec<f32>,
}

/// What a reference implementation computes from a model in float32.
#[derive(Clone, Debug, PartialEq)]
pub struct Reference {
    /// A text and random ids.
    pub cases: [Case; 2],
    /// A prompt.
    pub greedy_prompt: Vec<u32>,
    /// Its continuation at temperature 0.
    pub greedy: Vec<u32>,
}

impl Reference {
    /// The files of the reference that lies beside a model.
    #[must_use]
    pub fn paths(model: &Path) -> [PathBuf; 2] {
        [model.with_extension("json"), model.with_extension("logits.npz")]
    }

    /// Reads the reference that lies beside a model.
    ///
    /// # Errors
    /// If a file is not there, is too large or holds something else.
    pub fn beside(model: &Path) -> Result<Reference, GoldenError> {
        let [json_path, npz_path] = Reference::paths(model);
        let json = read_json(&json_path)?;
        let mut arrays = npz::read(&npz_path)?;
        let mut case = |name: &'static str| {
            let tokens = ids(&json, &["tokens", name], &json_path)?;
            let wrong = |expected: String, found: String| GoldenError::Malformed {
                path: npz_path.clone(),
                expected,
                found,
            };
            let Some(at) = arrays.iter().position(|array| array.name == name) else {
                let names: Vec<&str> = arrays.iter().map(|array| array.name.as_str()).collect();
                return Err(wrong(format!("an array {name:?}"), format!("{names:?}")));
            };
            let array = arrays.swap_remove(at);
            let [n_row, n_col] = array.shape[..] else {
                return Err(wrong(format!("{name:?} to have two dimensions"), format!("{:?}", array.shape)));
            };
            if n_row != tokens.len() || n_col == 0 {
                let expected = format!("{name:?} to have a row for each of {} tokens", tokens.len());
                return Err(wrong(expected, format!("{:?}", array.shape)));
            }
            Ok(Case { name, tokens, logits: array.values })
        };
        Ok(Reference {
            cases: [case("text")?, case("random")?],
            greedy_prompt: ids(&json, &["greedy_prompt"], &json_path)?,
            greedy: ids(&json, &["greedy"], &json_path)?,
        })
    }
}

fn read_json(path: &Path) -> Result<Value, GoldenError> {
    let text = read_file(path, MAX_JSON)?;
    serde_json::from_slice(&text).map_err(|error| GoldenError::Malformed {
        path: path.to_owned(),
        expected: "JSON".to_owned(),
        found: error.to_string(),
    })
}

/// The bytes of a regular file, if they are not too many. A device may have no length and no end.
fn read_file(path: &Path, most: u64) -> Result<Vec<u8>, GoldenError> {
    let io = |error| GoldenError::Io { path: path.to_owned(), error };
    let wrong = |expected: String, found| GoldenError::Malformed { path: path.to_owned(), expected, found };
    let facts = fs::metadata(path).map_err(io)?;
    if !facts.is_file() {
        return Err(wrong("a regular file".to_owned(), "another kind".to_owned()));
    }
    if facts.len() > most {
        return Err(wrong(format!("at most {most} bytes"), facts.len().to_string()));
    }
    fs::read(path).map_err(io)
}

/// The array of token ids at a path of keys; not an empty one.
fn ids(json: &Value, keys: &[&str], path: &Path) -> Result<Vec<u32>, GoldenError> {
    let wrong = |expected: &str, found: String| GoldenError::Malformed {
        path: path.to_owned(),
        expected: format!("{expected} in {:?}", keys.join(".")),
        found,
    };
    let found = keys.iter().try_fold(json, |value, key| value.get(key));
    let found = found.ok_or_else(|| wrong("an array of token ids", "no such key".to_owned()))?;
    let array = found.as_array().ok_or_else(|| wrong("an array of token ids", kind(found).to_owned()))?;
    if array.is_empty() {
        return Err(wrong("at least one token id", "none".to_owned()));
    }
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    let one = |value: &Value| id(value).ok_or_else(|| wrong("token ids", kind(value).to_owned()));
    array.iter().map(one).collect()
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "another number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// Normalised mean squared error: `sum((a - b)^2) / sum((b - mean(b))^2)`, in float64.
///
/// # Panics
/// If the lengths differ.
#[must_use]
pub fn nmse(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let mean = b.iter().map(|&b| f64::from(b)).sum::<f64>() / b.len() as f64;
    let error: f64 = a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
    error / b.iter().map(|&b| (f64::from(b) - mean).powi(2)).sum::<f64>()
}

#[cfg(test)]
mod tests;
