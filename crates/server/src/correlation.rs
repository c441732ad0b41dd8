//! Which request is this line of the log about? An id that the client gives (`X-Correlation-Id`), that of the trace that a gateway has
//! begun (`traceparent`), or one that is drawn, said in the log and in every response; also as `X-Request-Id`, where OpenAI's clients look
//! for it.

use std::convert::Infallible;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};

use crate::spans::Trace;

/// The most bytes of a client's id.
const MAX_BYTES: usize = 128;
/// Where a client gives its own, and where it reads it.
const HEADER: &str = "x-correlation-id";

/// Names a request: at most 128 visible ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorrelationId(Arc<str>);

impl CorrelationId {
    /// The client's, if it can be one, else a new one.
    pub(crate) fn of(headers: &HeaderMap) -> CorrelationId {
        headers
            .get(HEADER)
            .and_then(|value| value.to_str().ok())
            .filter(|id| {
                (1..=MAX_BYTES).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
            })
            .map(|id| CorrelationId(id.into()))
            .or_else(|| Trace::given(headers).map(|trace| CorrelationId(format!("{:032x}", trace.id).into())))
            .unwrap_or_else(CorrelationId::draw)
    }

    /// 128 bits that no other request has.
    fn draw() -> CorrelationId {
        let word = || RandomState::new().hash_one(0);
        CorrelationId(format!("{:016x}{:016x}", word(), word()).into())
    }

    /// Writes it into a response.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::from_str(&self.0) {
            headers.insert("x-request-id", value.clone());
            headers.insert(HEADER, value);
        }
    }
}

impl fmt::Display for CorrelationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<S: Sync> FromRequestParts<S> for CorrelationId {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<CorrelationId, Infallible> {
        Ok(parts.extensions.get().cloned().unwrap_or_else(|| CorrelationId::of(&parts.headers)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sane_id_is_taken_and_another_is_not() {
        let check = |given: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, HeaderValue::from_bytes(given).unwrap());
            CorrelationId::of(&headers).to_string()
        };
        assert_eq!(check(b"job-17/a"), "job-17/a");
        let longest = "x".repeat(MAX_BYTES);
        assert_eq!(check(longest.as_bytes()), longest);
        for wrong in [&b""[..], b"a b", "\u{e9}".as_bytes(), "x".repeat(MAX_BYTES + 1).as_bytes()] {
            assert_eq!(check(wrong).len(), 32);
        }
        assert_ne!(CorrelationId::draw(), CorrelationId::draw());
    }

    #[test]
    fn a_trace_names_a_request_that_has_no_other_name() {
        const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
        let check = |trace: &str, own: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert("traceparent", trace.parse().unwrap());
            if let Some(own) = own {
                headers.insert(HEADER, own.parse().unwrap());
            }
            CorrelationId::of(&headers).to_string()
        };
        let good = format!("00-{TRACE}-b7ad6b7169203331-01");
        assert_eq!(check(&good, None), TRACE);
        assert_eq!(check(&good, Some("mine")), "mine");
        // A later version may have more fields.
        assert_eq!(check(&format!("01-{TRACE}-b7ad6b7169203331-01-x"), None), TRACE);
        for wrong in [
            format!("ff-{TRACE}-b7ad6b7169203331-01"),
            format!("00-{}-b7ad6b7169203331-01", TRACE.to_uppercase()),
            format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)),
            format!("00-{TRACE}-b7ad6b7169203331"),
            format!("00-{TRACE}-b7ad-01"),
            TRACE.to_owned(),
        ] {
            let drawn = check(&wrong, None);
            assert!(drawn.len() == 32 && drawn != TRACE, "{wrong}: {drawn}");
        }
    }
}
