//! What does the server accept and answer? The OpenAPI 3.1 document at GET /openapi.json.
//!
//! It is four files: `document.json` (routes), `requests.json`, `fields.json` (what other servers' clients send) and `responses.json` (schemas). Two
//! words of its own are resolved here: `x-merge` takes over the properties of other schemas, and `x-ignored` marks a field that is accepted
//! and not used, which answers name. Requests are held against the same schemas: see [`check`].

mod check;
#[cfg(test)]
mod fields_tests;

use std::sync::LazyLock;

use axum::body::Bytes;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};

pub(crate) use check::{Mismatch, readable, shown};
use check::{Schemas, Unknown};

/// The document; a constant that takes a moment to make.
static DOCUMENT: LazyLock<Document> = LazyLock::new(Document::new);

/// The files of schemas.
const FILES: [&str; 3] =
    [include_str!("requests.json"), include_str!("fields.json"), include_str!("responses.json")];

struct Document {
    value: Value,
    text: Bytes,
}

impl Document {
    fn new() -> Document {
        let mut value = embedded(include_str!("document.json"));
        let mut schemas = Map::new();
        for text in FILES {
            if let Value::Object(more) = embedded(text) {
                schemas.extend(more);
            }
        }
        merge(&mut schemas);
        value["info"]["version"] = env!("CARGO_PKG_VERSION").into();
        value["components"]["schemas"] = schemas.into();
        let text = Bytes::from(value.to_string());
        Document { value, text }
    }
}

/// A file that is part of the program; a test reads each.
fn embedded(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

/// Gives each schema the properties of those that its `x-merge` names; of the same name the first wins, and its own before all.
fn merge(schemas: &mut Map<String, Value>) {
    let others = schemas.clone();
    for schema in schemas.values_mut() {
        let Some(fields) = schema.as_object_mut() else { continue };
        let Some(Value::Array(names)) = fields.shift_remove("x-merge") else { continue };
        let Some(own) = fields["properties"].as_object_mut() else { continue };
        let more = names.iter().filter_map(|name| others[name.as_str()?]["properties"].as_object());
        for (name, schema) in more.flatten() {
            own.entry(name).or_insert_with(|| schema.clone());
        }
    }
}

/// GET /openapi.json.
pub(crate) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.text.clone()).into_response()
}

/// Holds a body against the schema of this name. Gives the fields at its top that are accepted and not used.
pub(crate) fn check(schema: &str, body: &mut Value) -> Result<Vec<String>, Mismatch> {
    let empty = Map::new();
    Schemas::new(schemas(&empty)).check(schema, body)?;
    Ok(without_use(schema, body))
}

/// The same, but fields that are not described are taken out of the body and named among those that are not used.
pub(crate) fn check_leniently(schema: &str, body: &mut Value) -> Result<Vec<String>, Mismatch> {
    let (empty, unknown) = (Map::new(), Unknown::default());
    Schemas::leniently(schemas(&empty), &unknown).check(schema, body)?;
    let mut names = unknown.into_inner();
    names.extend(without_use(schema, body));
    Ok(names)
}

/// Whether a schema has a field of this name, supported or not.
pub(crate) fn describes(schema: &str, field: &str) -> bool {
    !DOCUMENT.value["components"]["schemas"][schema]["properties"][field].is_null()
}

fn schemas(empty: &Map<String, Value>) -> &Map<String, Value> {
    DOCUMENT.value["components"]["schemas"].as_object().unwrap_or(empty)
}

/// The fields of a body that are accepted and not used.
fn without_use(schema: &str, body: &Value) -> Vec<String> {
    let ignored = &DOCUMENT.value["components"]["schemas"][schema]["properties"];
    let given = body.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    given.map(|(name, _)| name).filter(|name| ignored[name]["x-ignored"] == true).cloned().collect()
}

/// The paths that are described.
#[cfg(test)]
pub(crate) fn paths() -> std::collections::BTreeSet<String> {
    DOCUMENT.value["paths"].as_object().into_iter().flatten().map(|(path, _)| path.clone()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    #[test]
    fn the_files_are_json_and_every_reference_leads_somewhere() {
        for text in FILES.into_iter().chain([include_str!("document.json")]) {
            serde_json::from_str::<Value>(text).unwrap();
        }
        let mut n_reference = 0;
        walk(&DOCUMENT.value, &mut |value| {
            if let Some(path) = value["$ref"].as_str() {
                n_reference += 1;
                assert!(DOCUMENT.value.pointer(path.trim_start_matches('#')).is_some(), "{path}");
            }
        });
        assert!(n_reference > 50);
    }

    fn walk(value: &Value, visit: &mut impl FnMut(&Value)) {
        visit(value);
        match value {
            Value::Array(items) => items.iter().for_each(|item| walk(item, visit)),
            Value::Object(fields) => fields.values().for_each(|item| walk(item, visit)),
            _ => {}
        }
    }

    /// What the schemas of requests promise is what [`check`] reads, and nothing more.
    #[test]
    fn requests_use_no_keyword_that_is_not_checked() {
        let mut used = BTreeSet::new();
        for text in [include_str!("requests.json"), include_str!("fields.json")] {
            for (name, schema) in embedded(text).as_object().unwrap() {
                keywords(schema, &mut used);
                assert!(schema["type"].is_string(), "{name}");
            }
        }
        expect![[r#"
            {"$ref", "additionalProperties", "anyOf", "default", "description", "enum", "items", "maxItems", "maxLength", "maxProperties", "maximum", "minItems", "minLength", "minProperties", "minimum", "properties", "required", "type", "x-ignored", "x-merge"}"#]]
        .assert_eq(&format!("{used:?}"));
    }

    fn keywords(schema: &Value, used: &mut BTreeSet<String>) {
        for (keyword, value) in schema.as_object().unwrap() {
            used.insert(keyword.clone());
            match keyword.as_str() {
                "properties" => value.as_object().unwrap().values().for_each(|s| keywords(s, used)),
                "anyOf" => value.as_array().unwrap().iter().for_each(|s| keywords(s, used)),
                "items" => keywords(value, used),
                "additionalProperties" if value.is_object() => keywords(value, used),
                _ => {}
            }
        }
    }

    fn check_chat(body: Value, expected: &Expect) {
        let mut body = body;
        if body["messages"].is_null() {
            body["messages"] = json!([{"role": "user", "content": "hi"}]);
        }
        let result = check("ChatRequest", &mut body);
        expected.assert_eq(&match result {
            Ok(ignored) => format!("ignored: {}", ignored.join(", ")),
            Err(mismatch) => mismatch.to_string(),
        });
    }

    #[test]
    fn what_openai_clients_send_is_accepted() {
        check_chat(json!({}), &expect!["ignored: "]);
        check_chat(
            json!({"temperature": 1, "seed": 18_446_744_073_709_551_615u64, "top_k": -1, "n": 2.0, "stop": ["a"],
                   "logit_bias": {"7": -100}, "user": "me", "metadata": {"a": "b"}, "store": false, "tools": null,
                   "stream_options": {"include_usage": true}, "service_tier": null, "tool_choice": "auto"}),
            &expect!["ignored: user, metadata"],
        );
        check_chat(
            json!({"messages": [
                {"role": "developer", "content": [{"type": "text", "text": "a"}]},
                {"role": "assistant", "content": null, "refusal": null, "annotations": [], "audio": null,
                 "function_call": null, "tool_calls": [
                    {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
                {"role": "tool", "tool_call_id": "call_1", "content": "3"}]}),
            &expect!["ignored: "],
        );
    }

    #[test]
    fn what_is_wrong_is_named_by_its_path_and_not_repeated() {
        check_chat(
            json!({"temprature": 1}),
            &expect![
                "temprature: expected one of the fields that GET /openapi.json describes, found another; did you mean temperature?"
            ],
        );
        check_chat(json!({"temperature": 2.5}), &expect!["temperature: expected 0 to 2, found 2.5"]);
        check_chat(
            json!({"temperature": "hot"}),
            &expect!["temperature: expected a number or null, found a string"],
        );
        check_chat(
            json!({"n": 1.5}),
            &expect!["n: expected an integer or null, found a number with a fraction"],
        );
        check_chat(json!({"n": 0}), &expect!["n: expected 1 to 128, found 0"]);
        check_chat(
            json!({"seed": 1e30}),
            &expect!["seed: expected an integer or null, found a whole number that is too large"],
        );
        check_chat(
            json!({"stop": 3}),
            &expect!["stop: expected a string, an array or null, found an integer"],
        );
        check_chat(
            json!({"stop": ["a", "b".repeat(257)]}),
            &expect!["stop[1]: expected at most 256 characters, found 257"],
        );
        check_chat(json!({"messages": []}), &expect!["messages: expected 1 to 4096 items, found 0"]);
        check_chat(
            json!({"messages": [{"role": "king", "content": "a"}]}),
            &expect![[
                r#"messages[0].role: expected "system", "developer", "user", "assistant", "tool" or "function", found "king""#
            ]],
        );
        check_chat(
            json!({"messages": [{"role": "a secret, long text", "content": "a"}]}),
            &expect![[
                r#"messages[0].role: expected "system", "developer", "user", "assistant", "tool" or "function", found a string"#
            ]],
        );
        check_chat(
            json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}),
            &expect![[r#"messages[0].content[0].type: expected "text" or "refusal", found "image_url""#]],
        );
        check_chat(
            json!({"a text that is no name": 1}),
            &expect![
                "(a name of 22 characters): expected one of the fields that GET /openapi.json describes, found another"
            ],
        );
        check_chat(json!({"store": true}), &expect!["store: expected false or null, found true"]);
        check_chat(
            json!({"tool_choice": {"type": "function", "function": {}}}),
            &expect!["tool_choice.function.name: expected a value, found none"],
        );
        check_chat(
            json!({"logit_bias": {"7": 101}}),
            &expect!["logit_bias.7: expected -100 to 100, found 101"],
        );
    }

    #[test]
    fn integers_may_be_written_with_a_fraction_of_zero() {
        let mut body = json!({"prompt": [1.0, 2], "max_tokens": 3.0});
        assert_eq!(check("CompletionRequest", &mut body), Ok(vec![]));
        assert_eq!(body, json!({"prompt": [1, 2], "max_tokens": 3}));
        let mut body = json!({"prompt": [-1]});
        let mismatch = check("CompletionRequest", &mut body).unwrap_err();
        expect!["prompt[0]: expected 0 to 4294967295, found -1"].assert_eq(&mismatch.to_string());
    }
}
