//! What happens to every request, whatever its route? Who asks is found out, what must not pass is refused, and each response is counted
//! and gets the headers that all have.
//!
//! In order: the Host that is meant, the origin of the page that asks, the key. A refusal has the form of its path's errors.

use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use tokio::time::sleep;

use crate::compat::Ignored;
use crate::connections::Reserved;
use crate::context::{Arrived, Client};
use crate::correlation::CorrelationId;
use crate::cors::{self, Crossing};
use crate::error::{ApiError, Form, Refused, Reworded};
use crate::state::App;

/// What a page of this server may do: run its own scripts and styles, and talk to its own server.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// How long one waits to hear that there is no room, where there are several clients: one that asks again at once asks ten times a second, at
/// whatever point there was none.
const NO_ROOM: Duration = Duration::from_millis(100);

/// Headers of every response.
const HEADERS: [(HeaderName, HeaderValue); 5] = [
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY)),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
];

/// Stands around all routes.
pub(crate) async fn around(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let correlation = CorrelationId::of(request.headers());
    request.extensions_mut().insert(correlation.clone());
    request.extensions_mut().insert(Arrived(Instant::now()));
    let ignored = Ignored::default();
    request.extensions_mut().insert(ignored.clone());
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let route = matched.as_ref().map_or("none", MatchedPath::as_str);
    let mut crossing = HeaderMap::new();
    let form = Form::of(request.uri().path()).with(app.options().compat);
    let is_reserved = request.extensions().get::<Reserved>().is_some();
    let mut response = match admit(&app, &mut request, &mut crossing) {
        Ok(None) => next.run(request).await,
        Ok(Some(response)) => response,
        Err(error) => error.response(form),
    };
    if form == Form::Llama
        && let Some(Reworded(error)) = response.extensions_mut().remove()
    {
        response = error.response(form);
    }
    if response.status() == StatusCode::TOO_MANY_REQUESTS && app.keys().len() > 1 {
        sleep(NO_ROOM).await;
    }
    let status = response.status().as_u16();
    app.metrics().responded(route, status);
    if let Some(&Refused { code, reason }) = response.extensions().get() {
        if let Some(reason) = reason {
            app.metrics().refused(reason);
        }
        // Probes ask while there is nothing to say but that it loads.
        if route != "/health" {
            tracing::info!(event = "refused", status, code, route, %correlation, "request refused");
        }
    }
    // A place for probes is not one to stay on.
    if is_reserved {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let headers = response.headers_mut();
    headers.extend(crossing);
    if let Some(fields) = ignored.list() {
        tracing::info!(event = "ignored", status, route, %correlation, fields, "fields of the request were ignored");
        Ignored::write(&fields, headers);
    }
    for (name, value) in HEADERS {
        headers.entry(name).or_insert(value);
    }
    correlation.write(headers);
    response
}

/// Lets a request in, or has an answer for it.
fn admit(app: &App, request: &mut Request, crossing: &mut HeaderMap) -> Result<Option<Response>, ApiError> {
    let security = &app.options().security;
    app.hosts().check(request.version(), request.uri(), request.headers())?;
    match cors::check(request.method(), request.headers(), (&security.cors_origins, app.options().compat))? {
        Crossing::None => {}
        Crossing::Allowed(headers) => *crossing = headers,
        Crossing::Preflight(response) => return Ok(Some(response)),
    }
    let path = request.uri().path();
    if path != "/health" && request.extensions().get::<Reserved>().is_some() {
        return Err(ApiError::Crowded);
    }
    if !is_open(path) {
        let client = app.keys().client(request.headers(), path, security)?;
        request.extensions_mut().insert::<Client>(client);
    }
    Ok(None)
}

/// Whether a path needs no key: what probes ask, and the page, which asks for a key itself.
fn is_open(path: &str) -> bool {
    matches!(path, "/health" | "/version" | "/" | "/docs" | "/page") || path.starts_with("/page/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_is_open_and_whatever_is_new_is_not() {
        for path in ["/health", "/version", "/", "/docs", "/page/app.js"] {
            assert!(is_open(path), "{path}");
        }
        for path in [
            "/metrics",
            "/v1/models",
            "/execute",
            "/shutdown",
            "/health/",
            "//health",
            "/docs/",
            "/pages",
            "/x",
        ] {
            assert!(!is_open(path), "{path}");
        }
    }
}
