//! A body that the document accepts, as the struct that its route reads.

use std::borrow::Cow;

use serde::de::DeserializeOwned;
use serde_json::Value;
use worker::integers;

use crate::admission::{Held, Lenient};
use crate::body::parse;
use crate::compat;
use crate::error::ApiError;
use crate::openai::models;
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
        let mut value = parse(&bytes)?;
        if let Some(path) = integers::beyond_64_bits(&bytes, Some(&IN_PROMPT)) {
            let message = format!("expected {}, found a larger number", integers::EXPECTED);
            return Err(ApiError::invalid(path, message));
        }
        // Python reads the whole number -0 as 0, and a template would write it so.
        if bytes.windows(2).any(|two| two == b"-0")
            && let Ok(text) = std::str::from_utf8(&bytes)
            && let Cow::Owned(plain) = integers::with_plain_zeros(text)
        {
            value = parse(plain.as_bytes())?;
        }
        drop(bytes);
        let ignored = match held.lenient() {
            None => openapi::check(T::SCHEMA, &mut value).map_err(refused)?,
            Some(lenient) => leniently(T::SCHEMA, &mut value, lenient)?,
        };
        Ok(Checked { body: typed(value)?, ignored })
    }
}

/// Reads a body that only names something, and of which nothing is ignored.
pub(crate) fn read<T: Body>(mut value: Value) -> Result<T, ApiError> {
    openapi::check(T::SCHEMA, &mut value).map_err(refused)?;
    typed(value)
}

/// The struct of what the schema accepts, which has asked for all that the struct does; were it not so, this would still be the client's to hear.
fn typed<T: Body>(value: Value) -> Result<T, ApiError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        ApiError::invalid(path, error.into_inner().to_string())
    })
}

/// The same, for a server that takes what it does not know. Gives the fields that are not used.
fn leniently(schema: &str, value: &mut Value, lenient: &Lenient) -> Result<Vec<String>, ApiError> {
    let mut ignored = match lenient.served.template_names(compat::THINKING) {
        true => Vec::new(),
        false => compat::without_thinking(schema, value),
    };
    ignored.extend(compat::translate(schema, value)?);
    let model = value.get_mut("model").filter(|_| openapi::describes(schema, "model"));
    if let Some(Value::String(name)) = model
        && models::check(Some(name.as_str()), &lenient.served).is_err()
    {
        // The empty name is that of the one that is served.
        name.clear();
        ignored.push("model".to_owned());
    }
    ignored.extend(openapi::check_leniently(schema, value).map_err(refused)?);
    lenient.ignored.add(ignored.iter().cloned());
    ignored.truncate(compat::MAX_NAMES);
    Ok(ignored)
}

fn refused(mismatch: openapi::Mismatch) -> ApiError {
    let openapi::Mismatch { path, expected, found } = mismatch;
    let path = if path.is_empty() { "body".to_owned() } else { path };
    ApiError::invalid(path, format!("expected {expected}, found {found}"))
}
