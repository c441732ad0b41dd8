//! A request's body as JSON, or an error that says what is wrong with it.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::error::ApiError;
use crate::state::App;

/// The body, parsed.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<App> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Json<T>, ApiError> {
        let limits = &app.options().limits;
        let bytes = read(request, app, limits.body_time, limits.body_bytes).await?;
        parse(&bytes).map(Json)
    }
}

async fn read(request: Request, app: &App, time: Duration, limit: usize) -> Result<Bytes, ApiError> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_json = |kind: &str| {
        let kind = kind.split(';').next().unwrap_or_default().trim();
        kind.eq_ignore_ascii_case("application/json") || kind.to_ascii_lowercase().ends_with("+json")
    };
    // A page of another site can send any type but JSON without asking first, so nothing else is read.
    if !kind.is_some_and(is_json) {
        return Err(ApiError::MediaType);
    }
    // None is asked for, so none is decoded (RFC 9110, 8.4).
    if let Some(encoding) = request.headers().get(header::CONTENT_ENCODING)
        && !encoding.as_bytes().eq_ignore_ascii_case(b"identity")
    {
        let name: String = String::from_utf8_lossy(encoding.as_bytes()).chars().take(32).collect();
        return Err(ApiError::ContentEncoding(name));
    }
    match timeout(time, Bytes::from_request(request, app)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(rejection)) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            Err(ApiError::TooLarge { limit })
        }
        Ok(Err(_)) => Err(ApiError::body("the body could not be read")),
        Err(_) => Err(ApiError::SlowBody),
    }
}

/// JSON into a value; an error says where, and never repeats the text.
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
