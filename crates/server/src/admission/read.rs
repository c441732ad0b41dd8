//! A body's bytes: none beyond what was set aside for them, and none from a client that hardly sends any.

use axum::body::{Body as Bodies, Bytes};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use futures_util::StreamExt;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

use super::budget::Permit;
use crate::body::parse;
use crate::error::ApiError;
use crate::openai::{Body, read};
use crate::options::Limits;
use crate::state::App;

/// The most bytes of a body that only names something.
const SMALL: usize = 8 << 10;

/// What headers say of the body's length, if the body can be accepted.
pub(super) fn length(headers: &HeaderMap, limit: usize) -> Result<Option<usize>, ApiError> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_json = |kind: &str| {
        let kind = kind.split(';').next().unwrap_or_default().trim();
        kind.eq_ignore_ascii_case("application/json") || kind.to_ascii_lowercase().ends_with("+json")
    };
    // A page of another site can send any type but JSON without asking first, so nothing else is read.
    if !kind.is_some_and(is_json) {
        return Err(ApiError::MediaType);
    }
    // None is asked for, so none is decoded (RFC 9110, 8.4).
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING)
        && !encoding.as_bytes().eq_ignore_ascii_case(b"identity")
    {
        let name: String = String::from_utf8_lossy(encoding.as_bytes()).chars().take(32).collect();
        return Err(ApiError::ContentEncoding(name));
    }
    let Some(length) = headers.get(header::CONTENT_LENGTH) else { return Ok(None) };
    // One that is no number never gets here; one that is beyond all numbers is beyond the limit.
    let length = length.to_str().ok().and_then(|text| text.parse().ok()).unwrap_or(usize::MAX);
    if length > limit {
        return Err(ApiError::TooLarge { limit });
    }
    Ok(Some(length))
}

/// Reads a body. Where its length is not known, its bytes are set aside as they come.
pub(super) async fn body(
    body: Bodies,
    length: Option<usize>,
    limits: &Limits,
    permit: &mut Permit,
) -> Result<Vec<u8>, ApiError> {
    if let Some(length) = length {
        permit.reserve(length)?;
    }
    let mut bytes = Vec::with_capacity(length.unwrap_or_default());
    collect(body, limits, limits.body_bytes, |frame| {
        if length.is_none() {
            permit.reserve(frame.len())?;
        }
        bytes.extend_from_slice(frame);
        Ok(())
    })
    .await?;
    Ok(bytes)
}

/// Takes a body's bytes in, for as long as they come fast enough and are not too many.
async fn collect(
    body: Bodies,
    limits: &Limits,
    limit: usize,
    mut take: impl FnMut(&Bytes) -> Result<(), ApiError>,
) -> Result<(), ApiError> {
    let began = Instant::now();
    let mut frames = body.into_data_stream();
    let mut n_byte = 0;
    loop {
        // As long as there are bytes ahead of the least rate.
        let ahead = Duration::from_secs_f64(n_byte as f64 / limits.body_rate.max(1) as f64);
        let until = began + limits.body_time.min(limits.body_grace + ahead);
        match timeout_at(until, frames.next()).await {
            Ok(None) => return Ok(()),
            Ok(Some(Ok(frame))) => {
                n_byte += frame.len();
                if n_byte > limit {
                    return Err(ApiError::TooLarge { limit });
                }
                take(&frame)?;
            }
            Ok(Some(Err(_))) => return Err(ApiError::body("the body could not be read")),
            Err(_) => return Err(ApiError::SlowBody),
        }
    }
}

/// The body of a request that only names something: it is looked at on the spot, and also while nothing else is let in.
pub(crate) struct Small<T>(pub(crate) T);

impl<T: Body> FromRequest<App> for Small<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Small<T>, ApiError> {
        let limits = &app.options().limits;
        let limit = SMALL.min(limits.body_bytes);
        length(request.headers(), limit)?;
        let mut bytes = Vec::new();
        collect(request.into_body(), limits, limit, |frame| {
            bytes.extend_from_slice(frame);
            Ok(())
        })
        .await?;
        read(parse(&bytes)?).map(Small)
    }
}
