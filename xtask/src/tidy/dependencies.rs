//! Do dependencies point one way? What each crate may depend on, of the workspace's own.
//!
//! Tests may use any crate, since a device is the best test of what drives one; testkit is for tests. anyhow is for the
//! programs: a library says what went wrong in types.

use anyhow::{Context, Result};
use serde_json::Value;

use super::Finding;
use crate::process::{cargo, output};

/// A crate, and the crates of this workspace that it may depend on.
const ROOMS: [(&str, &[&str]); 16] = [
    ("quant", &[]),
    ("gguf", &["quant"]),
    ("tokenizer", &["gguf"]),
    ("device", &[]),
    ("model", &["gguf", "quant"]),
    ("cpu", &["device", "model", "quant"]),
    ("cuda", &["device", "model", "gguf", "quant"]),
    ("engine", &["device"]),
    ("worker", &["engine", "device", "tokenizer", "model"]),
    ("hub", &[]),
    ("golden", &[]),
    ("server", &["worker"]),
    (
        "worker-orcd",
        &[
            "quant",
            "gguf",
            "tokenizer",
            "device",
            "model",
            "cpu",
            "cuda",
            "engine",
            "worker",
            "hub",
            "golden",
            "server",
        ],
    ),
    ("testkit", &["quant", "gguf", "device", "model", "golden"]),
    (
        "fuzzing",
        &["quant", "gguf", "tokenizer", "device", "model", "cpu", "engine", "worker", "server", "testkit"],
    ),
    ("xtask", &["quant", "gguf", "model"]),
];

const PROGRAMS: [&str; 2] = ["worker-orcd", "xtask"];

/// Checks the workspace as cargo sees it.
pub(super) fn check_workspace() -> Result<Vec<Finding>> {
    let json = output(cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    check(&serde_json::from_str(&json).context("cargo metadata printed no JSON")?)
}

/// Checks the answer of `cargo metadata`.
fn check(metadata: &Value) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for package in array(metadata, "packages")? {
        let name = string(package, "name")?;
        let mut report = |what, why| {
            findings.push(Finding { path: format!("{name}'s Cargo.toml"), line: 1, what, why });
        };
        let Some((_, allowed)) = ROOMS.iter().find(|(room, _)| *room == name) else {
            report(
                "a new crate".to_owned(),
                "give it a place in xtask/src/tidy/dependencies.rs and ARCHITECTURE.md",
            );
            continue;
        };
        for dependency in array(package, "dependencies")? {
            if dependency["kind"] == "dev" {
                continue;
            }
            let used = string(dependency, "name")?;
            if dependency["path"].is_string() && !allowed.contains(&used) {
                report(format!("depends on {used}"), "dependencies point one way: see ARCHITECTURE.md");
            }
            if used == "anyhow" && !PROGRAMS.contains(&name) {
                report(
                    "depends on anyhow".to_owned(),
                    "a library has one error type of its own, with thiserror",
                );
            }
        }
    }
    Ok(findings)
}

fn array<'a>(value: &'a Value, key: &str) -> Result<&'a Vec<Value>> {
    value[key].as_array().with_context(|| format!("cargo metadata has no list {key:?}"))
}

fn string<'a>(value: &'a Value, key: &str) -> Result<&'a str> {
    value[key].as_str().with_context(|| format!("cargo metadata has no text {key:?}"))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::super::listed;
    use super::check;

    #[test]
    fn dependencies_against_the_direction_are_found() {
        let on = |name: &str| json!({ "name": name, "path": "x", "kind": null });
        let metadata = json!({ "packages": [
            { "name": "gguf", "dependencies": [on("quant"), on("tokenizer"), { "name": "thiserror", "kind": null }] },
            { "name": "engine", "dependencies": [on("device"), { "name": "cpu", "path": "x", "kind": "dev" }] },
            { "name": "model", "dependencies": [{ "name": "anyhow", "kind": null }] },
            { "name": "extra", "dependencies": [] },
            { "name": "xtask", "dependencies": [{ "name": "anyhow", "kind": null }] },
        ] });
        expect![[r#"
            gguf's Cargo.toml:1: depends on tokenizer; dependencies point one way: see ARCHITECTURE.md
            model's Cargo.toml:1: depends on anyhow; a library has one error type of its own, with thiserror
            extra's Cargo.toml:1: a new crate; give it a place in xtask/src/tidy/dependencies.rs and ARCHITECTURE.md
        "#]]
        .assert_eq(&listed(&check(&metadata).unwrap()));
    }
}
