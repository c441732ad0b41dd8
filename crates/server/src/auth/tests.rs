//! Who is let in, and as whom.

use super::*;

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    lines.iter().map(|&(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

#[test]
fn a_file_of_keys_is_read_by_line() {
    let keys = Keys::parse("# ours\n\n  alice: secret-1 \nbob:se:cret\nbare-key\nalice:secret-2\n").unwrap();
    assert_eq!(keys.len(), 4);
    let client = |key: &str| {
        keys.client(&headers(&[("authorization", &format!("Bearer {key}"))]), "/", &Security::default())
    };
    let alice = client("secret-1").unwrap();
    assert_eq!(client("secret-2").unwrap(), alice);
    assert_eq!(alice.cache_scope, Some(alice.id));
    assert_ne!(client("se:cret").unwrap().id, alice.id);
    assert_ne!(client("bare-key").unwrap().id, alice.id);
    for wrong in ["", "secret", "secret-11", "alice:secret-1", "alice", "Secret-1"] {
        assert!(matches!(client(wrong), Err(ApiError::Unauthorized(_))), "{wrong}");
    }
}

#[test]
fn a_file_that_is_wrong_is_refused_by_line_and_without_its_text() {
    let check = |text: &str| Keys::parse(text).unwrap_err();
    assert_eq!(check("# none\n"), KeyError::None);
    assert_eq!(check("a\nb:\n"), KeyError::Length { line: 2, found: 0 });
    assert_eq!(check(":b"), KeyError::Length { line: 1, found: 0 });
    assert_eq!(check("\n a\u{7f}b"), KeyError::Character { line: 2, column: 2 });
    for wrong in [
        "b",
        "role=",
        "role=Admin",
        "role=root",
        "weight=0",
        "weight=1001",
        "weight=-1",
        "weight=1 weight=1",
        "rôle=admin",
    ] {
        assert_eq!(check(&format!("k\na:key {wrong}")), KeyError::Setting { line: 2 }, "{wrong}");
    }
    assert_eq!(check("a:1 weight=2\nb:2\na:3"), KeyError::Weight { line: 3, first: 1 });
    assert_eq!(check("a\nb\nx:a"), KeyError::Twice { line: 3, first: 1 });
    let long = "k".repeat(MAX_KEY_BYTES + 1);
    assert_eq!(check(&long), KeyError::Length { line: 1, found: MAX_KEY_BYTES + 1 });
    let many: String = (0..=MAX_KEYS).map(|n| format!("key-{n}\n")).collect();
    assert_eq!(check(&many), KeyError::TooMany);
}

#[test]
fn either_header_brings_a_key_and_another_scheme_does_not() {
    let keys = Keys::one("secret").unwrap();
    let check = |lines: &[(&'static str, &str)]| {
        keys.client(&headers(lines), "/v1/models", &Security::default()).is_ok()
    };
    assert!(check(&[("authorization", "bearer  secret")]));
    assert!(check(&[("x-api-key", "secret")]));
    assert!(check(&[("authorization", "Basic c2VjcmV0"), ("x-api-key", "secret")]));
    assert!(!check(&[("authorization", "Basic secret")]));
    assert!(!check(&[("authorization", "secret")]));
    assert!(!check(&[]));
}

#[test]
fn scopes_follow_the_option() {
    let with = |cache_scope| Security { cache_scope, ..Security::default() };
    let keys = Keys::parse("a:1\nb:2").unwrap();
    let scope = |key: &str, scope| {
        keys.client(&headers(&[("x-api-key", key)]), "/", &with(scope)).unwrap().cache_scope
    };
    assert_ne!(scope("1", CacheScope::Key), scope("2", CacheScope::Key));
    assert_eq!(scope("1", CacheScope::Shared), scope("2", CacheScope::Shared));
    assert_eq!(scope("1", CacheScope::Off), None);
    let open = Keys::default();
    let anybody =
        |scope| open.client(&headers(&[("x-api-key", "x")]), "/", &with(scope)).unwrap().cache_scope;
    assert_eq!(anybody(CacheScope::Key), Some(0));
    assert_eq!(anybody(CacheScope::Off), None);
}

/// Which of these paths a key may ask for, each by its first letter; `None` for a server without keys.
fn paths(keys: &str, key: &str, security: &Security) -> String {
    let keys = if keys.is_empty() { Keys::default() } else { Keys::parse(keys).unwrap() };
    let headers = headers(&[("x-api-key", key)]);
    let may = |path: &&str| keys.client(&headers, path, security).is_ok();
    ["/shutdown", "/metrics", "/v1/models"].iter().filter(|path| may(path)).map(|path| &path[1..2]).collect()
}

#[test]
fn roles_say_what_a_key_is_for() {
    let keys =
        "bare\na:1 weight=5\nadmin:2\nops:3 role=admin\nprobe:4 weight=2 role=monitor\nadmin:5 role=user";
    let normal = Security::default();
    let allowing = Security { allow_shutdown: true, ..Security::default() };
    let keeping = Security { metrics_for_admin: true, ..Security::default() };
    for (key, expected) in [
        ("bare", ["mv", "smv", "v"]),
        ("1", ["mv", "smv", "v"]),
        ("2", ["smv", "smv", "smv"]),
        ("3", ["smv", "smv", "smv"]),
        ("4", ["m", "m", "m"]),
        ("5", ["mv", "smv", "v"]),
        ("6", ["", "", ""]),
    ] {
        assert_eq!(
            [&normal, &allowing, &keeping].map(|security| paths(keys, key, security)),
            expected,
            "{key}"
        );
    }
    // Without keys everybody is a user.
    assert_eq!([&normal, &allowing, &keeping].map(|security| paths("", "x", security)), ["mv", "smv", "v"]);
}

#[test]
fn a_client_has_the_weight_of_its_keys() {
    let keys = Keys::parse("a:1 weight=3\na:2 role=admin weight=3\nb:3").unwrap();
    let weight =
        |key: &str| keys.client(&headers(&[("x-api-key", key)]), "/", &Security::default()).unwrap().weight;
    assert_eq!(["1", "2", "3"].map(weight), [3, 3, 1]);
}
