//! The table of other clients' fields: each row does what it says, and the book has the same rows.

use serde_json::{Map, Value, json};

use super::{DOCUMENT, check, embedded};

/// The requests that take these fields, at their least.
fn requests() -> [(&'static str, Value); 6] {
    [
        ("ChatRequest", json!({"messages": [{"role": "user", "content": "a"}]})),
        ("CompletionRequest", json!({"prompt": "a"})),
        ("ResponseRequest", json!({"input": "a"})),
        ("EmbeddingRequest", json!({"input": "a"})),
        (
            "MessageRequest",
            json!({"model": "", "max_tokens": 1, "messages": [{"role": "user", "content": "a"}]}),
        ),
        ("RerankRequest", json!({"query": "a", "documents": ["b"]})),
    ]
}

fn rows() -> Map<String, Value> {
    let file = embedded(include_str!("fields.json"));
    let tables = ["OtherFields", "ResponseFields", "MessageFields"];
    tables.iter().flat_map(|table| file[*table]["properties"].as_object().unwrap().clone()).collect()
}

/// Values of each type; a row accepts some of them.
fn samples() -> Vec<Value> {
    let numbers = [json!(0), json!(1), json!(-1), json!(0.25), json!(3)];
    let texts = ["", "medium", "auto", "deepseek", "x"].map(Value::from);
    let others = [json!(false), json!(true), json!([]), json!(["x"]), json!({}), json!({"x": "y"})];
    numbers.into_iter().chain(texts).chain(others).collect()
}

/// Does the row say that it takes the value?
fn takes(row: &Value, value: &Value) -> bool {
    let kind = match value {
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        _ => "object",
    };
    let types: Vec<&Value> =
        row["type"].as_array().map_or(vec![&row["type"]], |types| types.iter().collect());
    let has_type = types.iter().any(|name| **name == kind || (kind == "integer" && **name == "number"));
    let is_empty =
        value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(Map::is_empty);
    let is_listed = row["enum"].as_array().is_none_or(|allowed| allowed.contains(value));
    has_type && is_listed && (is_empty || (row["maxItems"].is_null() && row["maxProperties"].is_null()))
}

#[test]
fn each_row_takes_what_it_says_and_refuses_the_rest_by_its_name() {
    for (name, row) in rows() {
        let mut n_taken = 0;
        for (schema, body) in requests() {
            // Some requests have a field of that name themselves.
            if DOCUMENT.value["components"]["schemas"][schema]["properties"][&name] != row {
                continue;
            }
            for value in samples().into_iter().chain([Value::Null]) {
                let mut body = body.clone();
                body[&name] = value.clone();
                let checked = check(schema, &mut body);
                if value.is_null() || takes(&row, &value) {
                    let is_named = row["x-ignored"] == true && !value.is_null();
                    let expected = if is_named { vec![name.clone()] } else { Vec::new() };
                    assert_eq!(checked, Ok(expected), "{schema} {name} {value}");
                    n_taken += 1;
                } else {
                    assert_eq!(checked.unwrap_err().path, name, "{schema} {value}");
                }
            }
        }
        assert!(n_taken > 0, "{name} is in no request");
    }
}

/// What a row accepts, as the book writes it.
fn accepted(row: &Value) -> String {
    if row["x-ignored"] == true {
        return format!("any {}, listed in `ignored_parameters`", row["type"][0].as_str().unwrap());
    }
    match row["enum"].as_array() {
        Some(allowed) => {
            let values: Vec<String> =
                allowed.iter().filter(|value| !value.is_null()).map(|value| format!("`{value}`")).collect();
            values.join(", ")
        }
        None if !row["maxItems"].is_null() => "`[]`".to_owned(),
        None if !row["maxProperties"].is_null() => "`{}`".to_owned(),
        None => "`null`".to_owned(),
    }
}

#[test]
fn the_book_has_the_same_rows() {
    let page = include_str!("../../../../docs/src/fields.md");
    let table: String = rows()
        .iter()
        .map(|(name, row)| {
            format!("| `{name}` | {} | {} |\n", accepted(row), row["description"].as_str().unwrap())
        })
        .collect();
    let (first, _) = page.split_once("## Lenient mode").unwrap();
    let found: String =
        first.lines().filter(|line| line.starts_with("| `")).map(|line| format!("{line}\n")).collect();
    assert_eq!(found, table);
}
