//! Why a file's metadata and tensors do not make a model.

use thiserror::Error;

/// Why a file's metadata and tensors do not make a model this project can run.
#[derive(Debug, Error)]
pub enum ModelError {
    /// The file itself.
    #[error(transparent)]
    Gguf(#[from] gguf::GgufError),
    /// `general.architecture` names no family that is known.
    #[error("unknown architecture {found:?}; known are {known}")]
    UnknownArchitecture {
        /// What the file says.
        found: String,
        /// The families that can be read.
        known: String,
    },
    /// The file holds no model that could answer, but what belongs to one.
    #[error("expected a language model, found {found}")]
    NotAModel {
        /// What it holds, and what is done with that.
        found: &'static str,
    },
    /// A tensor that the architecture needs is not there.
    #[error("missing tensor {name:?} of shape {shape:?}")]
    MissingTensor {
        /// The tensor's name.
        name: String,
        /// Its shape in ggml's order, rows last.
        shape: Vec<usize>,
    },
    /// A tensor has another shape than the metadata says.
    #[error("tensor {name:?}: expected shape {expected:?}, found {found:?}")]
    TensorShape {
        /// The tensor's name.
        name: String,
        /// In ggml's order, rows last.
        expected: Vec<usize>,
        /// In ggml's order, rows last.
        found: Vec<usize>,
    },
    /// The file has tensors that its architecture has no use for, so it holds another model than the one that would be computed.
    #[error("{count} tensor{} no part of {architecture} as its metadata describes it: {}", plural(*count), listed(names, *count))]
    UnusedTensors {
        /// The family.
        architecture: &'static str,
        /// The first of them.
        names: Vec<String>,
        /// How many there are.
        count: usize,
    },
    /// A value contradicts another or is outside what can be computed.
    #[error("{key}: expected {expected}, found {found}")]
    Value {
        /// The metadata key.
        key: String,
        /// What would be accepted.
        expected: String,
        /// What the file says.
        found: String,
    },
}

fn plural(count: usize) -> &'static str {
    if count == 1 { " is" } else { "s are" }
}

fn listed(names: &[String], count: usize) -> String {
    let mut text = names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    if count > names.len() {
        text.push_str(", ...");
    }
    text
}
