//! What is in the binary? All crates that are linked into it, as a CycloneDX document.
//!
//! Cargo says which crates these are, under which licences, and its lock file with which hashes. Source: the CycloneDX 1.5 JSON schema; the package URL
//! specification for `purl`. Times and serial numbers are left out, so that the same lock file gives the same bytes.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::process::{cargo, output, root};

/// The crate that is the binary.
const WORKER: &str = "worker-orcd";

/// The document, and the version of what it describes.
pub(super) struct Sbom {
    pub(super) version: String,
    pub(super) text: String,
}

/// The parts of the worker that is built for a target.
pub(super) fn of_worker(triple: &str) -> Result<Sbom> {
    let words = ["metadata", "--format-version", "1", "--locked", "--filter-platform", triple];
    let metadata: Value = serde_json::from_str(&output(cargo().args(words))?).context("cargo metadata")?;
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).context("Cargo.lock")?;
    describe(&metadata, &checksums(&lock))
}

fn describe(metadata: &Value, checksums: &BTreeMap<(String, String), String>) -> Result<Sbom> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let packages: BTreeMap<String, Value> =
        list(&metadata["packages"]).into_iter().map(|package| (text(&package["id"]), package)).collect();
    // What is linked in: neither build scripts' needs nor tests'.
    let is_linked = |dep: &Value| list(&dep["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
    let needs: BTreeMap<String, BTreeSet<String>> = list(&metadata["resolve"]["nodes"])
        .iter()
        .map(|node| {
            let deps = list(&node["deps"]);
            (
                text(&node["id"]),
                deps.iter().filter(|dep| is_linked(dep)).map(|dep| text(&dep["pkg"])).collect(),
            )
        })
        .collect();
    let worker = packages.iter().find(|(_, package)| package["name"] == WORKER);
    let (first, worker) = worker.context("cargo metadata has no worker")?;
    let (mut found, mut open) = (BTreeSet::from([first.clone()]), vec![first.clone()]);
    while let Some(id) = open.pop() {
        for need in needs.get(&id).into_iter().flatten() {
            if found.insert(need.clone()) {
                open.push(need.clone());
            }
        }
    }
    let mut parts: Vec<(String, String)> =
        found.iter().filter(|id| *id != first).map(|id| (purl(&packages[id]), id.clone())).collect();
    parts.sort();
    let part = |(_, id): &(String, String)| component("library", &packages[id], checksums);
    let reference = |id: &String| {
        let mut needed: Vec<String> = needs[id].iter().map(|need| purl(&packages[need])).collect();
        needed.sort();
        json!({ "ref": purl(&packages[id]), "dependsOn": needed })
    };
    let ids = [first].into_iter().chain(parts.iter().map(|(_, id)| id));
    let references: Vec<Value> = ids.map(reference).collect();
    let document = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": component("application", worker, checksums) },
        "components": parts.iter().map(part).collect::<Vec<_>>(),
        "dependencies": references,
    });
    Ok(Sbom { version: text(&worker["version"]), text: serde_json::to_string_pretty(&document)? + "\n" })
}

fn component(kind: &str, package: &Value, checksums: &BTreeMap<(String, String), String>) -> Value {
    let field = |name: &str| package[name].as_str().unwrap_or_default().to_owned();
    let mut component = json!({
        "type": kind,
        "bom-ref": purl(package),
        "name": field("name"),
        "version": field("version"),
        "purl": purl(package),
    });
    if let Some(licence) = package["license"].as_str() {
        // The form before SPDX expressions had a slash.
        component["licenses"] = json!([{ "expression": licence.replace('/', " OR ") }]);
    }
    if let Some(hash) = checksums.get(&(field("name"), field("version"))) {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": hash }]);
    }
    component
}

fn purl(package: &Value) -> String {
    let field = |name: &str| package[name].as_str().unwrap_or_default();
    format!("pkg:cargo/{}@{}", field("name"), field("version"))
}

/// The hashes of crates by name and version, from a lock file.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let value = |block: &str, key: &str| {
        let line = block.lines().find_map(|line| line.strip_prefix(&format!("{key} = \"")))?;
        line.strip_suffix('"').map(str::to_owned)
    };
    let entry =
        |block: &str| Some(((value(block, "name")?, value(block, "version")?), value(block, "checksum")?));
    lock.split("[[package]]").filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_linked_in_is_a_part_and_what_only_builds_or_tests_is_not() {
        let package =
            |name: &str| json!({ "id": name, "name": name, "version": "1.0.0", "license": "MIT/Apache-2.0" });
        let dep = |name: &str, kind: Value| json!({ "pkg": name, "dep_kinds": [{ "kind": kind }] });
        let packages = ["worker-orcd", "a", "b", "builds", "tests"].map(package);
        let metadata = json!({
            "packages": packages,
            "resolve": { "nodes": [
                { "id": "worker-orcd", "deps": [dep("a", Value::Null), dep("tests", json!("dev"))] },
                { "id": "a", "deps": [dep("b", Value::Null), dep("builds", json!("build"))] },
                { "id": "b", "deps": [] },
            ] },
        });
        let lock = "[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nchecksum = \"abc\"\n\n[[package]]\nname = \"b\"\nversion = \"1.0.0\"\n";
        let sbom = describe(&metadata, &checksums(lock)).unwrap();
        let document: Value = serde_json::from_str(&sbom.text).unwrap();
        let parts = document["components"].as_array().unwrap();
        let names: Vec<&Value> = parts.iter().map(|part| &part["purl"]).collect();
        assert_eq!(names, ["pkg:cargo/a@1.0.0", "pkg:cargo/b@1.0.0"]);
        assert_eq!(parts[0]["hashes"][0]["content"], "abc");
        assert_eq!(parts[0]["licenses"][0]["expression"], "MIT OR Apache-2.0");
        assert_eq!(document["dependencies"][0]["dependsOn"], json!(["pkg:cargo/a@1.0.0"]));
    }
}
