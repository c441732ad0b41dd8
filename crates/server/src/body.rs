//! JSON as values, or an error that says what is wrong with it.

use serde::de::DeserializeOwned;

use crate::error::ApiError;

/// JSON into a value; an error says where, and of the text repeats at most a name.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let message = error.into_inner().to_string();
        match path.as_str() {
            "." => ApiError::body(message),
            _ => ApiError::invalid(path, message),
        }
    })?;
    json.end().map_err(|error| ApiError::body(error.to_string()))?;
    Ok(value)
}
