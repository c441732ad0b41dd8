//! Who asks, and until when? What a route needs to know of a request beside its body.
//!
//! `X-Deadline` (milliseconds since 1970) bounds a request; so does the server's own limit.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::request::Parts;

use crate::compat::Compat;
use crate::correlation::CorrelationId;
use crate::error::ApiError;
use crate::spans::Trace;
use crate::state::App;
use crate::unsaid::Unsaid;

/// Whoever holds a key; without keys everybody is the same client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// Clients share the engine.
    pub id: u64,
    /// How large its share is beside others'.
    pub weight: u32,
    /// Prompts of the same scope share cached pages; `None` shares nothing.
    pub cache_scope: Option<u64>,
}

impl Default for Client {
    fn default() -> Self {
        Client { id: 0, weight: 1, cache_scope: Some(0) }
    }
}

/// What a route needs to know of a request beside its body.
#[derive(Clone, Debug)]
pub struct Context {
    /// Who asks.
    pub client: Client,
    /// How long the request may take from its arrival on, waiting and preparation included; an error where `X-Deadline` is not a time or has passed.
    pub timeout: Result<Duration, ApiError>,
    /// Names the request in the log.
    pub correlation: CorrelationId,
    /// When its headers were there.
    pub arrived: Instant,
    /// The trace that it is part of.
    pub trace: Trace,
    /// What holds where it does not say.
    pub unsaid: Arc<Unsaid>,
    /// In whose form it is answered where there is a choice.
    pub compat: Compat,
}

/// When a request's headers were there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrived(pub(crate) Instant);

impl Context {
    /// When its time is over; `None` where that is beyond the clock's end.
    pub(crate) fn deadline(&self) -> Result<Option<Instant>, ApiError> {
        self.timeout.clone().map(|timeout| self.arrived.checked_add(timeout))
    }

    /// What is left of its time.
    pub(crate) fn left(&self) -> Result<Duration, ApiError> {
        match self.timeout.clone()?.checked_sub(self.arrived.elapsed()) {
            Some(left) if !left.is_zero() => Ok(left),
            _ => Err(ApiError::Deadline),
        }
    }
}

impl FromRequestParts<App> for Context {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Context, Infallible> {
        let client = parts.extensions.get::<Client>().copied().unwrap_or_default();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let timeout = timeout(&parts.headers, now, app.options().limits.inference_time);
        let arrived = parts.extensions.get().map_or_else(Instant::now, |&Arrived(at)| at);
        let correlation = CorrelationId::from_request_parts(parts, app).await?;
        let options = app.options();
        let (unsaid, compat) = (Arc::clone(&options.unsaid), options.compat);
        let trace = Trace::of(&parts.headers);
        Ok(Context { client, timeout, correlation, arrived, trace, unsaid, compat })
    }
}

/// What `X-Deadline` is.
const A_TIME: &str = "milliseconds since 1970, as a whole number";

/// The most bytes of a header that an error repeats.
const MAX_SHOWN: usize = 32;

fn timeout(headers: &HeaderMap, now: Duration, limit: Duration) -> Result<Duration, ApiError> {
    let Some(value) = headers.get("x-deadline") else { return Ok(limit) };
    let at = value.to_str().ok().and_then(|text| text.trim().parse().ok()).map(Duration::from_millis);
    let Some(at) = at else {
        let found = value.to_str().ok().map(str::trim).filter(|text| (1..=MAX_SHOWN).contains(&text.len()));
        let found = found.map_or_else(|| format!("{} bytes", value.len()), |text| format!("{text:?}"));
        return Err(ApiError::invalid("X-Deadline", format!("expected {A_TIME}, found {found}")));
    };
    match at.checked_sub(now) {
        Some(left) if !left.is_zero() => Ok(left.min(limit)),
        _ => Err(ApiError::Deadline),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_runs_from_the_arrival() {
        let arrived = Instant::now().checked_sub(Duration::from_millis(300)).unwrap();
        let context = |timeout| Context {
            client: Client::default(),
            timeout,
            correlation: CorrelationId::of(&HeaderMap::new()),
            arrived,
            trace: Trace::of(&HeaderMap::new()),
            unsaid: Arc::default(),
            compat: Compat::Strict,
        };
        let long = context(Ok(Duration::from_secs(2)));
        assert!(long.left().unwrap() <= Duration::from_millis(1700));
        assert_eq!(long.deadline(), Ok(Some(arrived + Duration::from_secs(2))));
        assert_eq!(context(Ok(Duration::from_millis(300))).left(), Err(ApiError::Deadline));
        assert_eq!(context(Ok(Duration::MAX)).deadline(), Ok(None));
        let wrong = ApiError::invalid("X-Deadline", "expected another");
        assert_eq!(context(Err(wrong.clone())).deadline(), Err(wrong));
    }

    #[test]
    fn a_deadline_bounds_the_time_and_one_that_has_passed_is_an_error() {
        let check = |deadline: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(deadline) = deadline {
                headers.insert("x-deadline", deadline.parse().unwrap());
            }
            timeout(&headers, Duration::from_millis(1000), Duration::from_millis(500))
        };
        assert_eq!(check(None), Ok(Duration::from_millis(500)));
        assert_eq!(check(Some("1200")), Ok(Duration::from_millis(200)));
        assert_eq!(check(Some("9999")), Ok(Duration::from_millis(500)));
        assert_eq!(check(Some("1000")), Err(ApiError::Deadline));
        assert!(matches!(check(Some("soon")), Err(ApiError::Invalid { .. })));
    }
}
