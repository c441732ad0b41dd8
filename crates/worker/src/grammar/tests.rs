//! Do hostile schemas, expressions and grammars come back? Each of these compiles in about a second at most, in some tens of megabytes.

use std::path::Path;
use std::sync::Arc;

use engine::Constraint;
use serde_json::{Value, json};
use tokenizer::Tokenizer;

use super::{GrammarConstraint, Grammars, Source};
use crate::Format;

pub(super) fn grammars() -> Grammars {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/llama-q4_0.gguf");
    let file = gguf::Gguf::open(&path).unwrap();
    let tokenizer = Arc::new(Tokenizer::from_gguf(file.metadata(), None).unwrap());
    let n_vocab = tokenizer.n_vocab();
    Grammars::new(tokenizer, n_vocab)
}

/// Compiles, then follows the grammar for some tokens, always by the highest id that is allowed: what a model at its worst would do.
fn run(grammars: &Grammars, format: &Format) -> Result<String, String> {
    let mut constraint = Source::of_format(format)
        .and_then(|source| grammars.compile(&source))
        .map_err(|error| error.to_string())?;
    let mut text = Vec::new();
    for _ in 0..200 {
        let mask = constraint.mask()?;
        let Some(id) = (0..grammars.n_vocab as u32).rev().find(|&id| mask.allows(id)) else {
            return Err("nothing is allowed".to_owned());
        };
        if grammars.tokenizer.is_end(id) {
            break;
        }
        constraint.accept(id)?;
        text.extend_from_slice(grammars.tokenizer.token_bytes(id).unwrap());
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Formats that come back as errors: while compiling, or when the answer gets to what is too much.
fn check_refused(cases: Vec<(Format, &str)>) {
    let grammars = grammars();
    for (i, (format, expected)) in cases.into_iter().enumerate() {
        let error = run(&grammars, &format).expect_err(expected);
        assert!(error.contains(expected), "case {i}: expected {expected:?}, found {error:?}");
        assert!(error.len() < 500, "case {i}: {} bytes", error.len());
    }
}

/// Formats of whatever size that can be followed within the bounds.
fn check_followed(cases: Vec<Format>) {
    let grammars = grammars();
    for (i, format) in cases.into_iter().enumerate() {
        run(&grammars, &format).unwrap_or_else(|error| panic!("case {i}: {error}"));
    }
}

fn schema(schema: Value) -> Format {
    Format::JsonSchema(schema)
}

fn lark(text: impl Into<String>) -> Format {
    Format::Grammar(text.into())
}

/// `n` schemas of which one each of `m` must hold, all at once.
fn all_of_any(n: usize, m: usize) -> Value {
    let one = |i: usize, j: usize| json!({ "properties": { format!("p{i}_{j}"): {} }, "required": [format!("p{i}_{j}")] });
    let any = |i| json!({ "anyOf": (0..m).map(|j| one(i, j)).collect::<Vec<_>>() });
    json!({ "type": "object", "allOf": (0..n).map(any).collect::<Vec<_>>() })
}

fn optional(n: usize) -> Value {
    let properties: serde_json::Map<String, Value> = (0..n).map(|i| (format!("p{i}"), json!({}))).collect();
    json!({ "type": "object", "properties": properties })
}

/// Terminals or rules `a0: a1 a1`, `a1: a2 a2` and so on.
fn doubling(name: char, n: usize) -> String {
    let rules: String = (0..n).map(|i| format!("{name}{i}: {name}{} {name}{}\n", i + 1, i + 1)).collect();
    format!("{rules}{name}{n}: \"x\" | \"xx\"\nstart: {name}0\n")
}

#[test]
fn hostile_schemas_come_back() {
    let mut nested = json!({});
    for _ in 0..100 {
        nested = json!({ "items": nested });
    }
    let pattern = |i: usize| json!({ "pattern": format!("^(.*a.{{{i}}}b)*$") });
    let combined = "at most 4 patterns of 512 bytes together where schemas are combined";
    check_refused(vec![
        (schema(nested), "at most 64 levels"),
        (schema(json!({ "description": "x".repeat(70_000) })), "at most 65536 bytes"),
        (schema(all_of_any(10, 10)), "schema too large"),
        (schema(optional(2000)), "Current row has"),
        (
            schema(json!({ "type": "string", "pattern": "^((a{1,100}){1,100}){1,100}$" })),
            "too many expressions",
        ),
        (schema(json!({ "type": "string", "allOf": (0..40).map(pattern).collect::<Vec<_>>() })), combined),
        (
            schema(
                json!({ "$defs": { "a": { "allOf": (0..9).map(pattern).collect::<Vec<_>>() } }, "$ref": "#/$defs/a" }),
            ),
            combined,
        ),
        (schema(json!({ "$ref": "#" })), "no token can start such an answer"),
        (
            schema(
                json!({ "$defs": { "a": { "$ref": "#/$defs/b" }, "b": { "$ref": "#/$defs/a" } }, "$ref": "#/$defs/a" }),
            ),
            "no token can start",
        ),
        (schema(json!({ "$ref": "http://127.0.0.1:1/x" })), "Only absolute $ref's"),
        (schema(json!({ "not": {} })), "Unimplemented keys"),
        (schema(json!({ "type": "string", "enum": [1] })), "Unsatisfiable schema"),
    ]);
    check_followed(vec![
        schema(all_of_any(4, 4)),
        schema(optional(150)),
        schema(
            json!({ "type": "array", "minItems": 1_000_000, "items": { "type": "array", "minItems": 100_000 } }),
        ),
        schema(json!({ "type": "string", "minLength": 1_000_000, "maxLength": 1_000_001 })),
        schema(json!({ "enum": (0..3000).map(|i| format!("value {i}")).collect::<Vec<_>>() })),
        // Many patterns are no trouble where none has to hold with another.
        schema(
            json!({ "type": "object", "properties": (0..9).map(|i| (format!("p{i}"), pattern(i))).collect::<serde_json::Map<_, _>>() }),
        ),
    ]);
}

#[test]
fn hostile_expressions_and_grammars_come_back() {
    let regex = |text: &str| Format::Regex(text.to_owned());
    let twice = |n: usize, text: &str| text.repeat(n);
    let intersection: Vec<String> = (0..60).map(|i| format!("/(.*a.{{{i}}}b)*/")).collect();
    check_refused(vec![
        (regex(&("(".repeat(30_000) + &")".repeat(30_000))), "invalid regex"),
        (regex(&("a".to_owned() + &"?".repeat(60_000))), "invalid regex"),
        (regex("(?=a)b"), "invalid regex"),
        (regex(&"a".repeat(70_000)), "at most 65536 bytes"),
        (lark(""), "no start rule found"),
        (lark("start: start"), "no token can start"),
        (lark("start: <|nothing|>"), "unknown special token"),
        (
            lark("start: ".to_owned() + &"(".repeat(30_000) + "\"a\"" + &")".repeat(30_000)),
            "levels of brackets",
        ),
        (lark("start: A\nA: ".to_owned() + &twice(60_000, "~") + "\"a\""), "without ~"),
        (lark(format!("start: A\nA: {}", intersection.join(" & "))), "without &"),
        (lark("# \"\nstart: A & B\n"), "without &"),
        (lark("start: A\nA: /a\n\"/ & \"\n/"), "without &"),
        (lark("start: <a\"b> & \"x\""), "without &"),
        (lark("start: %json { }"), "without %json"),
        (lark("root ::= \"a\" | [b-z]+"), "found GBNF"),
        (lark(doubling('A', 40)), "too big"),
    ]);
    let chain: String = (0..5000).map(|i| format!("A{i}: A{}\n", i + 1)).collect();
    check_followed(vec![
        regex("((((a{1,1000}){1,1000}){1,1000}){1,1000})"),
        regex("(a|b)*a(a|b){20000}"),
        regex("(.*a.{500}){20}"),
        lark(chain + "A5000: \"x\"\nstart: A0\n"),
        lark(doubling('a', 40)),
        lark("start: s\ns: s s | s s s | \"a\" | \"a\" s | "),
        lark("start: (\"a\"{1,100000}){1,100000}"),
        lark("start: /[^&~]+/ \"&\" ~ 2"),
        lark("start: \"a ::= b\" /::=/"),
    ]);
}

/// Is a text a whole answer?
pub(super) fn takes(grammars: &Grammars, schema: Value, text: &str) -> bool {
    let source = Source::of_format(&Format::JsonSchema(schema)).unwrap();
    ends_with(grammars, grammars.compile(&source).unwrap_or_else(|error| panic!("{error}")), text)
}

/// Can the answer be this text, token by byte, and end there?
pub(super) fn ends_with(grammars: &Grammars, mut constraint: GrammarConstraint, text: &str) -> bool {
    let tokenizer = &grammars.tokenizer;
    for byte in text.bytes() {
        let id = id(grammars, byte);
        if !constraint.mask().unwrap().allows(id) || constraint.accept(id).is_err() {
            return false;
        }
    }
    constraint
        .mask()
        .is_ok_and(|mask| (0..grammars.n_vocab as u32).any(|id| tokenizer.is_end(id) && mask.allows(id)))
}

/// The token of a byte.
pub(super) fn id(grammars: &Grammars, byte: u8) -> u32 {
    (0..grammars.n_vocab as u32).find(|&id| grammars.tokenizer.token_bytes(id) == Some(&[byte])).unwrap()
}

#[test]
fn excluded_bounds_are_never_answers() {
    let grammars = grammars();
    let texts =
        ["0", "-0", "0.0", "-0.00", "1", "1.0", "-1", "-1.0", "0.25", "-0.25", "1.0005", "0.5", "-0.5"];
    let cases = [
        (json!({ "exclusiveMinimum": 0, "maximum": 0.5 }), vec!["0.25", "0.5"]),
        (json!({ "minimum": 0, "exclusiveMinimum": true, "maximum": 0.5 }), vec!["0.25", "0.5"]),
        (json!({ "allOf": [{ "exclusiveMinimum": 0 }, { "maximum": 0.5 }] }), vec!["0.25", "0.5"]),
        (json!({ "exclusiveMinimum": 1, "maximum": 1.001 }), vec!["1.0005"]),
        (json!({ "minimum": -0.5, "exclusiveMaximum": 0 }), vec!["-0.25", "-0.5"]),
        (json!({ "minimum": -1.5, "exclusiveMaximum": -1 }), vec![]),
        (json!({ "exclusiveMinimum": 0, "maximum": 1 }), vec!["1", "1.0", "0.25", "0.5"]),
    ];
    for (mut schema, expected) in cases {
        schema["type"] = json!("number");
        let found: Vec<&str> =
            texts.into_iter().filter(|text| takes(&grammars, schema.clone(), text)).collect();
        let sorted = |mut texts: Vec<&'static str>| {
            texts.sort_unstable();
            texts
        };
        assert_eq!(sorted(found), sorted(expected), "{schema}");
    }
}

#[test]
fn what_demands_nothing_is_no_reason_to_refuse() {
    let grammars = grammars();
    let text = "\"ab\"";
    for schema in [
        json!({ "type": "string", "format": "json" }),
        json!({ "format": "int32" }),
        json!({ "type": "string", "minLength": 2.0 }),
    ] {
        assert!(takes(&grammars, schema.clone(), text), "{schema}");
    }
    assert!(!takes(&grammars, json!({ "type": "string", "minLength": 3.0 }), text));
    assert!(!takes(&grammars, json!({ "type": "string", "format": "date" }), text));
    assert!(takes(&grammars, json!({ "type": "array", "uniqueItems": false }), "[1,1]"));
    let record = json!({ "type": "object", "propertyNames": { "type": "string" } });
    assert!(takes(&grammars, record, "{\"a\":1}"));
}

#[test]
fn what_costs_too_much_or_is_not_the_clients_is_refused_by_name() {
    check_refused(vec![
        (schema(json!({ "type": "integer", "multipleOf": 9_999_991 })), "multipleOf larger than 1000"),
        (
            schema(json!({ "type": "integer", "allOf": [{ "multipleOf": 997 }, { "multipleOf": 991 }] })),
            "multipleOf larger than 1000",
        ),
        (
            schema(
                json!({ "type": "integer", "allOf": [{ "allOf": [{ "multipleOf": 997 }] }, { "multipleOf": 991 }] }),
            ),
            "multipleOf larger than 1000",
        ),
        (
            schema(json!({
                "allOf": [{ "$ref": "#/$defs/a" }, { "$ref": "#/$defs/b" }],
                "$defs": { "a": { "type": "integer", "multipleOf": 997 }, "b": { "type": "integer", "multipleOf": 991 } },
            })),
            "multipleOf larger than 1000",
        ),
        (schema(json!({ "type": "string", "x-guidance": {} })), "a schema without x-guidance"),
    ]);
    let grammars = grammars();
    // Of two places, neither holds for the other's number; a field may have the name of the keyword.
    let apart = json!({
        "type": "object",
        "properties": {
            "a": { "type": "integer", "multipleOf": 997 },
            "multipleOf": { "type": "integer", "multipleOf": 991 },
        },
        "required": ["a", "multipleOf"],
        "additionalProperties": false,
    });
    assert!(takes(&grammars, apart, "{\"a\":997,\"multipleOf\":991}"));
    assert!(takes(&grammars, json!({ "type": "integer", "multipleOf": 1_000_000 }), "3000000"));
    assert!(takes(&grammars, json!({ "type": "integer", "multipleOf": 997 }), "1994"));
    assert!(!takes(&grammars, json!({ "type": "integer", "multipleOf": 997 }), "1995"));
}

#[test]
fn references_may_have_escapes_and_anchors() {
    let grammars = grammars();
    let defs = json!({
        "x/y": { "enum": [1] }, "x~y": { "enum": [1] }, "x y": { "$ref": "#n" }, "n": { "$anchor": "n", "enum": [1] },
        "t/t": { "anyOf": [{ "enum": [1] }, { "type": "array", "items": { "$ref": "#/$defs/t~1t" } }] }, "reference-0": false
    });
    for reference in ["#/$defs/x~1y", "#/$defs/x~0y", "#/$defs/x%20y", "#n", "#/$defs/t~1t", "http://a/b#n"] {
        let schema = json!({ "$id": "http://a/b", "$defs": defs, "$ref": reference });
        assert!(takes(&grammars, schema.clone(), "1"), "{reference}");
        assert!(!takes(&grammars, schema, "2"), "{reference}");
    }
    let nested = json!({ "$defs": defs, "$ref": "#/$defs/t~1t" });
    assert!(takes(&grammars, nested, "[1,[1]]"));
    check_refused(vec![
        (schema(json!({ "$ref": "#none" })), "what the schema does not have: #none"),
        (schema(json!({ "$ref": "#/a%2" })), "what the schema does not have: #/a%2"),
    ]);
}

#[test]
fn reasons_say_what_to_change() {
    check_refused(vec![
        (
            schema(json!({ "oneOf": [{ "type": "string" }, { "type": "string", "minLength": 1 }] })),
            "oneOf whose schemas may hold at once: use anyOf",
        ),
        (schema(json!({ "type": "string", "pattern": "(?=a)b" })), "look-around"),
    ]);
    let apart = json!({ "oneOf": [{ "enum": [1] }, { "type": "string" }] });
    assert!(takes(&grammars(), apart, "1"));
}

#[test]
fn names_of_properties_can_be_few_or_of_a_form() {
    let grammars = grammars();
    let of = |names: Value| json!({ "type": "object", "propertyNames": names, "additionalProperties": { "type": "integer" } });
    let mut whole = of(json!({ "enum": ["a", "b"] }));
    whole["required"] = json!(["a", "b"]);
    let mut mixed = of(json!({ "enum": ["a", "b"] }));
    mixed["properties"] = json!({ "b": { "type": "boolean" }, "c": {} });
    let mut referred = of(json!({ "$ref": "#/$defs/n" }));
    referred["$defs"] = json!({ "n": { "anyOf": [{ "const": "a" }, { "enum": ["b"] }], "title": "N" } });
    let within = of(json!({ "enum": ["a", "b"] }));
    let within =
        json!({ "type": "object", "propertyNames": { "enum": ["x", "y"] }, "additionalProperties": within });
    for (schema, right, wrong) in [
        (of(json!({ "enum": ["a", "b"] })), vec!["{}", r#"{"b":1}"#, r#"{"a":1,"b":2}"#], vec![r#"{"c":1}"#]),
        (
            of(json!({ "type": "string", "const": "a" })),
            vec![r#"{"a":1}"#],
            vec![r#"{"b":1}"#, r#"{"a":""}"#],
        ),
        (whole, vec![r#"{"a":1,"b":2}"#], vec![r#"{"a":1}"#, r#"{"a":1,"b":2,"c":3}"#]),
        (mixed, vec![r#"{"a":1,"b":true}"#], vec![r#"{"b":1}"#, r#"{"c":1}"#]),
        (referred, vec![r#"{"a":1,"b":1}"#], vec![r#"{"n":1}"#]),
        (within, vec![r#"{"y":{"b":1}}"#], vec![r#"{"y":{"c":1}}"#, r#"{"a":{}}"#]),
        (of(json!({ "pattern": "^[a-c]+$" })), vec![r#"{"abc":1,"a":2}"#], vec![r#"{"d":1}"#, r#"{"a":""}"#]),
        (
            of(json!({ "minLength": 2, "maxLength": 3 })),
            vec![r#"{"ab":1,"abc":2}"#],
            vec![r#"{"a":1}"#, r#"{"abcd":1}"#],
        ),
        (of(json!(false)), vec!["{}"], vec![r#"{"a":1}"#]),
    ] {
        for (texts, expected) in [(right, true), (wrong, false)] {
            for text in texts {
                assert_eq!(takes(&grammars, schema.clone(), text), expected, "{schema}: {text}");
            }
        }
    }
    let mut beside = of(json!({ "pattern": "a" }));
    beside["properties"] = json!({ "a": {} });
    check_refused(vec![
        (schema(of(json!({ "not": {} }))), "propertyNames with not"),
        (
            schema(of(json!({ "pattern": "a", "maxLength": 3 }))),
            "propertyNames with both a pattern and a length",
        ),
        (schema(beside), "propertyNames with a pattern or a length beside properties"),
    ]);
}
