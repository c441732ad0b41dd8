//! Which pages may talk to this server? Its own, and those of the origins that it was told (`--cors-origin`).
//!
//! A browser lets a page of any site send simple requests anywhere; it only keeps the answers from it. So a request that a page of another origin
//! has sent is refused rather than answered unread: it could start work or end the process. `Sec-Fetch-Site` says so where the browser
//! sends it, `Origin` otherwise; programs send neither. Source: WHATWG Fetch, "CORS protocol"; W3C Fetch Metadata.

use std::fmt;
use std::str::FromStr;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use thiserror::Error;

use crate::compat::Compat;
use crate::error::ApiError;

/// Seconds for which a browser may remember what it was allowed.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");
/// What a page may read of a response's headers.
const EXPOSED: HeaderValue =
    HeaderValue::from_static("x-correlation-id, x-request-id, x-ignored-fields, retry-after");

/// An origin whose pages may talk to this server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Any.
    Any,
    /// Any of this machine, at any port: `http` or `https`, and `localhost`, `127.0.0.1` or `[::1]`.
    Localhost,
    /// This one, as browsers write it: `https://chat.example`, `http://localhost:3000`.
    One(String),
}

/// A text is no origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "expected an origin such as https://chat.example or http://localhost:3000 (no path), localhost for any port of this machine, or *"
)]
pub struct OriginError;

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Origin, OriginError> {
        if text == "*" {
            return Ok(Origin::Any);
        }
        if text == "localhost" {
            return Ok(Origin::Localhost);
        }
        let (scheme, rest) = text.split_once("://").ok_or(OriginError)?;
        let is_plain = |c: char| c.is_ascii_graphic() && !"/?#@,\\*".contains(c);
        let is_authority = !rest.is_empty() && rest.chars().all(is_plain) && rest.parse::<Uri>().is_ok();
        if scheme.is_empty() || !scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) || !is_authority {
            return Err(OriginError);
        }
        Ok(Origin::One(text.to_ascii_lowercase()))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Origin::Any => "*",
            Origin::Localhost => "localhost",
            Origin::One(origin) => origin,
        })
    }
}

/// What the check of a request's origin found.
#[derive(Debug)]
pub(crate) enum Crossing {
    /// It comes from no other origin: nothing to add to the response.
    None,
    /// It comes from an origin that is allowed; these headers say so.
    Allowed(HeaderMap),
    /// It asks whether a request would be allowed; this is the answer.
    Preflight(Response),
}

/// Looks where a request comes from.
///
/// # Errors
/// [`ApiError::Forbidden`] for a page of an origin that is not allowed.
pub(crate) fn check(
    method: &Method,
    headers: &HeaderMap,
    (allowed, compat): (&[Origin], Compat),
) -> Result<Crossing, ApiError> {
    let Some(origin) = headers.get(header::ORIGIN) else { return without_origin(method, headers) };
    let is_preflight =
        *method == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let text = origin.to_str().unwrap_or_default();
    let is_any = allowed.contains(&Origin::Any);
    let is_named = |known: &Origin| match known {
        Origin::Any => true,
        Origin::Localhost => is_localhost(text),
        Origin::One(known) => known == text,
    };
    if !allowed.iter().any(is_named) {
        let is_own = match site(headers) {
            Some(site) => site == "same-origin",
            None => is_same(text, headers),
        };
        return match (is_own, compat) {
            (true, _) => Ok(Crossing::None),
            // A browser takes an answer that allows nothing for the refusal that it is.
            (false, Compat::LlamaServer) if is_preflight => {
                Ok(Crossing::Preflight(StatusCode::OK.into_response()))
            }
            (false, _) => Err(FOREIGN),
        };
    }
    let mut answer = HeaderMap::new();
    let value = if is_any { HeaderValue::from_static("*") } else { origin.clone() };
    answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, value);
    if !is_any {
        answer.insert(header::VARY, HeaderValue::from_static("Origin"));
    }
    if !is_preflight {
        answer.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        return Ok(Crossing::Allowed(answer));
    }
    answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, DELETE"));
    answer.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    // The origin is trusted with whatever headers its clients send; OpenAI's send a dozen of their own.
    if let Some(wanted) = wanted(headers) {
        answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted);
    }
    let status = if compat == Compat::LlamaServer { StatusCode::OK } else { StatusCode::NO_CONTENT };
    Ok(Crossing::Preflight((status, answer).into_response()))
}

const FOREIGN: ApiError =
    ApiError::Forbidden("this origin is not allowed; --cors-origin allows further ones");

/// Links and images of other sites lead here without an origin: they may read, and do nothing.
fn without_origin(method: &Method, headers: &HeaderMap) -> Result<Crossing, ApiError> {
    let is_safe = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    match site(headers) {
        Some("cross-site" | "same-site") if !is_safe => Err(FOREIGN),
        _ => Ok(Crossing::None),
    }
}

fn site(headers: &HeaderMap) -> Option<&str> {
    headers.get(HeaderName::from_static("sec-fetch-site")).map(|value| value.to_str().unwrap_or_default())
}

/// Whether an origin is the server's own by the Host that the request names.
fn is_same(origin: &str, headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    matches!((authority, host), (Some(authority), Some(host)) if authority.eq_ignore_ascii_case(host))
}

/// Whether an origin is of this machine, whatever its port. Only the whole host counts: `http://localhost.evil.example` is another.
fn is_localhost(origin: &str) -> bool {
    let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    let names = ["localhost", "127.0.0.1", "[::1]"];
    let rest = authority.and_then(|authority| names.iter().find_map(|name| authority.strip_prefix(name)));
    match rest {
        Some("") => true,
        Some(rest) => rest.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok()),
        None => false,
    }
}

/// The headers that a preflight asks for, if they are names of headers.
fn wanted(headers: &HeaderMap) -> Option<HeaderValue> {
    let wanted = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS)?;
    let is_list = wanted.to_str().ok()?.split(',').all(|name| name.trim().parse::<HeaderName>().is_ok());
    is_list.then(|| wanted.clone())
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(allowed: &str, method: &str, lines: &[(&'static str, &str)], expected: &Expect) {
        check_as(Compat::Strict, allowed, (method, lines), expected);
    }

    fn check_as(
        compat: Compat,
        allowed: &str,
        (method, lines): (&str, &[(&'static str, &str)]),
        expected: &Expect,
    ) {
        let allowed: Vec<Origin> = allowed.split_whitespace().map(|text| text.parse().unwrap()).collect();
        let headers =
            lines.iter().map(|&(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        let list = |headers: &HeaderMap| {
            headers.iter().map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap())).collect()
        };
        let found: String = match super::check(&method.parse().unwrap(), &headers, (&allowed, compat)) {
            Ok(Crossing::None) => "none".to_owned(),
            Ok(Crossing::Allowed(headers)) => list(&headers),
            Ok(Crossing::Preflight(response)) => {
                format!("{}\n{}", response.status(), list(response.headers()))
            }
            Err(error) => error.status().to_string(),
        };
        expected.assert_eq(&found);
    }

    #[test]
    fn a_program_and_the_own_page_pass_and_another_page_does_not() {
        let own = ("host", "localhost:8080");
        check("", "POST", &[own], &expect!["none"]);
        check("", "POST", &[own, ("origin", "http://localhost:8080")], &expect!["none"]);
        check("", "POST", &[own, ("origin", "http://evil.example")], &expect!["403 Forbidden"]);
        check("", "POST", &[own, ("origin", "null")], &expect!["403 Forbidden"]);
        check("", "POST", &[own, ("sec-fetch-site", "cross-site")], &expect!["403 Forbidden"]);
        check("", "GET", &[own, ("sec-fetch-site", "cross-site")], &expect!["none"]);
        check("", "GET", &[own, ("origin", "http://localhost:3000")], &expect!["403 Forbidden"]);
    }

    #[test]
    fn behind_a_proxy_the_browser_knows_better_than_the_host() {
        let site = |site| [("host", "10.0.0.1"), ("origin", "https://llm.example"), ("sec-fetch-site", site)];
        check("", "POST", &site("same-origin"), &expect!["none"]);
        check("", "POST", &site("same-site"), &expect!["403 Forbidden"]);
    }

    #[test]
    fn localhost_is_every_port_of_this_machine_and_nothing_else() {
        for (origin, is_local) in [
            ("http://localhost:3000", true),
            ("https://localhost", true),
            ("http://127.0.0.1:1", true),
            ("http://[::1]:65535", true),
            ("http://localhost.evil.example", false),
            ("http://localhost:3000.evil.example", false),
            ("http://evil.example:3000", false),
            ("http://127.0.0.10", false),
            ("ftp://localhost", false),
            ("localhost", false),
            ("null", false),
        ] {
            assert_eq!(is_localhost(origin), is_local, "{origin}");
        }
        let origin = [("host", "localhost:8080"), ("origin", "http://localhost:3000")];
        check(
            "localhost",
            "POST",
            &origin,
            &expect![[r#"
                access-control-allow-origin: http://localhost:3000
                vary: Origin
                access-control-expose-headers: x-correlation-id, x-request-id, x-ignored-fields, retry-after
            "#]],
        );
        check("localhost", "POST", &[("origin", "http://evil.example")], &expect!["403 Forbidden"]);
    }

    #[test]
    fn an_allowed_origin_may_ask_and_read() {
        let origin = ("origin", "https://chat.example");
        check(
            "https://chat.example http://localhost:3000",
            "POST",
            &[origin],
            &expect![[r#"
                access-control-allow-origin: https://chat.example
                vary: Origin
                access-control-expose-headers: x-correlation-id, x-request-id, x-ignored-fields, retry-after
            "#]],
        );
        let ask = ("access-control-request-method", "POST");
        let with = ("access-control-request-headers", "authorization,x-stainless-os");
        check(
            "https://chat.example",
            "OPTIONS",
            &[origin, ask, with],
            &expect![[r#"
                204 No Content
                access-control-allow-origin: https://chat.example
                vary: Origin
                access-control-allow-methods: GET, POST, DELETE
                access-control-max-age: 600
                access-control-allow-headers: authorization,x-stainless-os
            "#]],
        );
        check("https://other.example", "OPTIONS", &[origin, ask, with], &expect!["403 Forbidden"]);
        check(
            "*",
            "GET",
            &[origin],
            &expect![[r#"
                access-control-allow-origin: *
                access-control-expose-headers: x-correlation-id, x-request-id, x-ignored-fields, retry-after
            "#]],
        );
    }

    #[test]
    fn as_llama_server_a_preflight_is_never_an_error_and_still_allows_nothing_to_others() {
        let ask = ("access-control-request-method", "POST");
        let check = |origin, expected| {
            check_as(Compat::LlamaServer, "localhost", ("OPTIONS", &[("origin", origin), ask]), expected);
        };
        check(
            "http://localhost:3000",
            &expect![[r#"
                200 OK
                access-control-allow-origin: http://localhost:3000
                vary: Origin
                access-control-allow-methods: GET, POST, DELETE
                access-control-max-age: 600
            "#]],
        );
        check(
            "http://evil.example",
            &expect![[r#"
            200 OK
        "#]],
        );
        let foreign = [("origin", "http://evil.example")];
        check_as(Compat::LlamaServer, "localhost", ("POST", &foreign), &expect!["403 Forbidden"]);
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        let check = |text: &str| text.parse::<Origin>().is_ok();
        for right in ["https://chat.example", "http://[::1]:3000", "HTTP://Localhost:1", "*"] {
            assert!(check(right), "{right}");
        }
        for wrong in
            ["", "null", "chat.example", "https://", "https://a/", "https://a/b", "https://*.a", "a b://c"]
        {
            assert!(!check(wrong), "{wrong}");
        }
    }
}
