//! Who is let in? Keys, hosts and origins, seen from outside.

use serde_json::Value;
use server::{Keys, Security, Server, ServerError, ServerOptions};

use crate::served::{Running, ids, says};
use testkit::scripted::Scripted;

const KEY: &str = "Authorization: Bearer alice's-long-secret";

fn guarded(security: Security) -> Running {
    let keys = Keys::parse("alice:alice's-long-secret\nbob:bob's-long-secret").unwrap();
    let options = ServerOptions { security: Security { keys, ..security }, ..ServerOptions::default() };
    Running::with(Scripted::new(ids("x")), options)
}

#[test]
fn every_route_wants_a_key_but_for_health_version_and_page() {
    let server = guarded(Security::default());
    let (status, _, text) = server.ask("GET", "/openapi.json", &[KEY]);
    assert_eq!(status, 200);
    let document: Value = serde_json::from_str(&text).unwrap();
    let mut n_closed = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let (method, path) = (method.to_uppercase(), path.replace("{model}", "org/tiny"));
            let (status, head, body) = server.ask(&method, &path, &[]);
            if path == "/health" || path == "/version" {
                assert_eq!(status, 200, "{path}");
                continue;
            }
            n_closed += 1;
            assert_eq!(status, 401, "{path}");
            assert!(head.contains("\r\nwww-authenticate: bearer"), "{head}");
            assert!(body.contains("expected an API key: send Authorization: Bearer KEY"), "{path}: {body}");
        }
    }
    assert!(n_closed > 10);
    assert_eq!(server.ask("GET", "/", &[]).0, 200);
    assert_eq!(server.ask("GET", "/page/app.js", &[]).0, 200);
    let (status, head, page) = server.ask("GET", "/docs", &[]);
    assert_eq!(status, 200);
    assert!(head.contains("\r\ncontent-type: text/html; charset=utf-8"), "{head}");
    assert!(page.contains("<h1>API reference</h1>") && page.contains("page/docs.js"), "{page}");
    // What is not there is not told to strangers.
    assert_eq!(server.ask("GET", "/nothing", &[]).0, 401);
    assert_eq!(server.ask("GET", "/nothing", &[KEY]).0, 404);
    assert_eq!(server.ask("GET", "/page/../v1/models", &[]).0, 404);
    assert_eq!(server.ask("GET", "/v1/models", &["X-Api-Key: bob's-long-secret"]).0, 200);
    assert_eq!(server.ask("GET", "/v1/models", &["Authorization: Bearer alice's-long-secre"]).0, 401);
}

#[test]
fn keys_change_while_it_runs() {
    let server = guarded(Security::default());
    assert_eq!(server.ask("GET", "/v1/models", &[KEY]).0, 200);
    server.app().set_keys(Keys::parse("alice:another-long-secret").unwrap());
    assert_eq!(server.ask("GET", "/v1/models", &[KEY]).0, 401);
    assert_eq!(server.ask("GET", "/v1/models", &["X-Api-Key: another-long-secret"]).0, 200);
}

#[test]
fn only_an_admin_ends_the_process_unless_all_users_may() {
    let keys = "alice:alice's-long-secret\nops:the-long-secret-of-ops role=admin\nprobe:the-long-secret-of-probe role=monitor";
    let with = |keys, allow_shutdown| {
        let security = Security { keys, allow_shutdown, metrics_for_admin: true, ..Security::default() };
        Running::with(Scripted::new(ids("x")), ServerOptions { security, ..ServerOptions::default() })
    };
    let server = with(Keys::parse(keys).unwrap(), false);
    let (status, _, body) = server.ask("POST", "/shutdown", &[KEY]);
    assert_eq!(status, 403);
    assert!(body.contains("expected a key whose role is admin"), "{body}");
    let (ops, probe) = ("X-Api-Key: the-long-secret-of-ops", "X-Api-Key: the-long-secret-of-probe");
    let metrics = |key: &str| server.ask("GET", "/metrics", &[key]).0;
    assert_eq!([KEY, ops, probe].map(metrics), [403, 200, 200]);
    assert_eq!(server.ask("GET", "/v1/models", &[probe]).0, 403);
    assert_eq!(server.ask("GET", "/health", &[]).0, 200);
    assert_eq!(server.ask("POST", "/shutdown", &[ops]).0, 202);

    assert_eq!(says("x").ask("POST", "/shutdown", &[]).0, 403);
    assert_eq!(with(Keys::default(), true).ask("POST", "/shutdown", &[]).0, 202);
    assert_eq!(with(Keys::parse(keys).unwrap(), true).ask("POST", "/shutdown", &[KEY]).0, 202);
}

#[test]
fn another_host_or_another_page_is_turned_away() {
    let server = says("x");
    assert_eq!(server.ask("GET", "/health", &["Host: evil.example"]).0, 403);
    let (status, head, _) = server.ask("POST", "/shutdown", &["Origin: http://evil.example"]);
    assert_eq!(status, 403);
    assert!(!head.contains("access-control"), "{head}");
    // It is still there.
    assert_eq!(server.ask("GET", "/health", &[]).0, 200);
}

#[test]
fn a_known_page_may_ask_and_can_read_the_refusal() {
    let security =
        Security { cors_origins: vec!["https://chat.example".parse().unwrap()], ..Security::default() };
    let server = guarded(security);
    let origin = "Origin: https://chat.example";
    let ask = "Access-Control-Request-Method: POST";
    let headers = "Access-Control-Request-Headers: authorization";
    let (status, head, _) = server.ask("OPTIONS", "/v1/chat/completions", &[origin, ask, headers]);
    assert_eq!(status, 204);
    assert!(head.contains("\r\naccess-control-allow-headers: authorization\r\n"), "{head}");
    let (status, head, _) = server.ask("GET", "/v1/models", &[origin]);
    assert_eq!(status, 401);
    assert!(head.contains("\r\naccess-control-allow-origin: https://chat.example\r\n"), "{head}");
    assert_eq!(server.ask("OPTIONS", "/v1/chat/completions", &["Origin: https://x.example", ask]).0, 403);
}

#[test]
fn each_response_has_a_correlation_id_and_the_headers_of_all() {
    let server = says("x");
    for (method, path, status) in
        [("GET", "/health", 200), ("GET", "/nothing", 404), ("POST", "/execute", 415)]
    {
        let (found, head, _) = server.ask(method, path, &["X-Correlation-Id: a/b-7"]);
        assert_eq!(found, status);
        for line in [
            "x-correlation-id: a/b-7",
            "x-request-id: a/b-7",
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
        ] {
            assert!(head.contains(&format!("\r\n{line}\r\n")), "{path}: {head}");
        }
        assert!(head.contains("content-security-policy: default-src 'none'; script-src 'self'"), "{head}");
    }
    let drawn = |head: &str| {
        head.lines().find_map(|line| line.strip_prefix("x-correlation-id: ")).unwrap().to_owned()
    };
    let (first, second) = (server.ask("GET", "/health", &[]).1, server.ask("GET", "/health", &[]).1);
    assert_ne!(drawn(&first), drawn(&second));
}

#[test]
fn an_open_address_needs_keys_or_a_word() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bind = |keys: Keys, no_auth| {
        let security = Security { keys, no_auth, ..Security::default() };
        let options = ServerOptions { bind: ([0, 0, 0, 0], 0).into(), security, ..ServerOptions::default() };
        runtime.block_on(Server::bind(options)).map(|_| ())
    };
    assert!(matches!(bind(Keys::default(), false), Err(ServerError::Open { .. })));
    assert!(bind(Keys::default(), true).is_ok());
    assert!(bind(Keys::one("secret").unwrap(), false).is_ok());
}

#[test]
fn a_compressed_body_is_refused_by_the_name_of_its_encoding() {
    let server = says("x");
    for path in ["/v1/chat/completions", "/v1/completions", "/execute", "/tokenize"] {
        let headers = ["Content-Type: application/json", "Content-Encoding: gzip"];
        let (status, _, body) = server.ask("POST", path, &headers);
        assert_eq!(status, 415, "{path}: {body}");
        assert!(body.contains(r#"without a content encoding, found \"gzip\""#), "{path}: {body}");
        let (status, _, body) =
            server.ask("POST", path, &["Content-Type: application/json", "Content-Encoding: identity"]);
        assert_eq!(status, 400, "{path}: {body}");
    }
}
