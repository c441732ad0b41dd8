//! A body that the document accepts, as the struct that its route reads.

use serde::de::DeserializeOwned;
use serde_json::Value;
use worker::integers;

use crate::admission::Held;
use crate::body::parse;
use crate::error::ApiError;
use crate::openapi;

/// Fields whose numbers a template may write into a prompt.
const IN_PROMPT: [&str; 4] = ["messages", "input", "tools", "chat_template_kwargs"];

/// The body of a route.
pub(crate) trait Body: DeserializeOwned {
    /// The name of its schema in the document.
    const SCHEMA: &'static str;
}

/// A body that was held against its schema.
#[derive(Debug)]
pub(crate) struct Checked<T> {
    /// What it says.
    pub(crate) body: T,
    /// Fields that cannot change the answer and are not used.
    pub(crate) ignored: Vec<String>,
}

impl<T: Body> Checked<T> {
    /// Reads what was let in.
    pub(crate) fn of(held: &mut Held) -> Result<Checked<T>, ApiError> {
        let bytes = held.bytes();
        let mut value: Value = parse(&bytes)?;
        if let Some(path) = integers::beyond_64_bits(&bytes, Some(&IN_PROMPT)) {
            let message = format!("expected {}, found a larger number", integers::EXPECTED);
            return Err(ApiError::invalid(path, message));
        }
        drop(bytes);
        let ignored = openapi::check(T::SCHEMA, &mut value).map_err(|mismatch| {
            let openapi::Mismatch { path, expected, found } = mismatch;
            let path = if path.is_empty() { "body".to_owned() } else { path };
            ApiError::invalid(path, format!("expected {expected}, found {found}"))
        })?;
        // The schema has asked for all that the struct does; were it not so, this would still be the client's to hear.
        let body = serde_path_to_error::deserialize(value).map_err(|error| {
            let path = error.path().to_string();
            ApiError::invalid(path, error.into_inner().to_string())
        })?;
        Ok(Checked { body, ignored })
    }
}
