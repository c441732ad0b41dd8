//! Do hostile schemas, expressions and grammars come back? Each of these compiles in about a second at most, in some tens of megabytes.

use std::path::Path;
use std::sync::Arc;

use engine::Constraint;
use serde_json::{Value, json};
use tokenizer::Tokenizer;

use super::{GrammarConstraint, Grammars, Source};
use crate::{Format, Work};

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
        .and_then(|source| grammars.compile(&source, &Work::default()))
        .map_err(|error| error.to_string())?;
    let mut text = Vec::new();
    for _ in 0..200 {
        let mask = constraint.mask()?;
        let Some(id) = (0..grammars.compiler.tokenizer.n_vocab() as u32).rev().find(|&id| mask.allows(id))
        else {
            return Err("nothing is allowed".to_owned());
        };
        if grammars.compiler.tokenizer.is_end(id) {
            break;
        }
        constraint.accept(id)?;
        text.extend_from_slice(grammars.compiler.tokenizer.token_bytes(id).unwrap());
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Formats that come back as errors: while compiling, or when the answer gets to what is too much.
pub(super) fn check_refused(cases: Vec<(Format, &str)>) {
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

pub(super) fn schema(schema: Value) -> Format {
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

/// Definitions of which each holds the next one twice.
fn doubled(n: usize, last: &Value) -> Value {
    let name = |i: usize| format!("a{i}");
    let twice = |i| json!({ "allOf": [{ "$ref": format!("#/$defs/{}", name(i)) }, { "$ref": format!("#/$defs/{}", name(i)) }] });
    let mut defs: serde_json::Map<String, Value> = (0..n).map(|i| (name(i), twice(i + 1))).collect();
    defs.insert(name(n), last.clone());
    json!({ "$defs": defs, "$ref": "#/$defs/a0" })
}

/// Two trees at once, each node of one with each of the other.
fn trees() -> Value {
    let tree = |name: &str| {
        let child = json!({ "$ref": format!("#/$defs/{name}") });
        json!({ "type": "object", "properties": { "l": child, "r": child, "text": { "const": "x".repeat(20_000) } } })
    };
    json!({ "$defs": { "t": tree("t"), "u": tree("u") }, "allOf": [{ "$ref": "#/$defs/t" }, { "$ref": "#/$defs/u" }] })
}

fn counted(n: usize) -> Value {
    let mut object = optional(n);
    object["minProperties"] = 1.into();
    object["additionalProperties"] = false.into();
    object
}

fn divisors(range: std::ops::Range<u32>) -> Value {
    let one = |divisor| json!({ "type": "integer", "multipleOf": divisor });
    json!({ "type": "array", "prefixItems": range.map(one).collect::<Vec<_>>() })
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
        (schema(all_of_any(10, 10)), "allOf that combines more than 8388608 bytes, multiplied out"),
        (schema(doubled(40, &json!({ "const": "a" }))), "that combines more than"),
        (schema(doubled(40, &json!({ "type": "string", "pattern": "a" }))), "that combines more than"),
        (schema(trees()), "allOf that combines more than"),
        (schema(optional(201)), "properties with more than 200 names of one object that are not required"),
        (schema(optional(3000)), "properties with more than 2500 names in the whole schema"),
        (
            schema(json!({ "required": (0..3000).map(|i| format!("p{i}")).collect::<Vec<_>>() })),
            "required with",
        ),
        (schema(counted(51)), "minProperties in a schema with more than 50 properties of one object"),
        (schema(divisors(700..1000)), "multipleOf of more than 50000 together"),
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
        (schema(json!({ "$ref": "#" })), "must contain itself: #"),
        (
            schema(
                json!({ "type": "object", "properties": { "b": { "$ref": "#/properties/b" } }, "required": ["b"] }),
            ),
            "must contain itself: #/properties/b",
        ),
        (
            schema(json!({ "type": "object", "properties": { "c": { "$ref": "#" } }, "required": ["c"] })),
            "must contain itself: #",
        ),
        (
            schema(
                json!({ "type": "array", "minItems": 1, "items": { "anyOf": [{ "$ref": "#" }, { "$ref": "#" }] } }),
            ),
            "must contain itself: #",
        ),
        (
            schema(
                json!({ "$defs": { "a": { "$ref": "#/$defs/b" }, "b": { "$ref": "#/$defs/a" } }, "$ref": "#/$defs/a" }),
            ),
            "must contain itself: #/$defs/a",
        ),
        (schema(json!({ "$ref": "http://127.0.0.1:1/x" })), "$ref to another document: http://127.0.0.1:1/x"),
        (schema(json!({ "not": {} })), "Unimplemented keys"),
        (schema(json!({ "type": "string", "enum": [1] })), "Unsatisfiable schema"),
    ]);
    check_followed(vec![
        schema(all_of_any(4, 4)),
        schema(doubled(6, &json!({ "const": "a" }))),
        schema(counted(25)),
        schema(divisors(950..1000)),
        schema(
            json!({ "type": "string", "minLength": 1, "enum": (0..3000).map(|i| format!("{i}")).collect::<Vec<_>>() }),
        ),
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
        (lark("start: \"a\" root ::= \"a\" | [b-z]+"), "found GBNF"),
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

#[test]
fn an_object_of_as_many_optional_properties_as_there_may_be_is_answered() {
    let grammars = grammars();
    let member = |i: usize| format!("\"p{i}\":1");
    let all: Vec<String> = (0..200).map(member).collect();
    for names in [&all[..], &all[199..], &[]] {
        assert!(takes(&grammars, optional(200), &format!("{{{}}}", names.join(","))), "{names:?}");
    }
    // Required ones cost nothing of the kind.
    let mut schema = optional(900);
    let names: Vec<String> = (0..900).map(|i| format!("p{i}")).collect();
    schema["required"] = json!(names);
    let all: Vec<String> = (0..900).map(member).collect();
    assert!(takes(&grammars, schema, &format!("{{{}}}", all.join(","))));
}

/// Is a text a whole answer?
pub(super) fn takes(grammars: &Grammars, schema: Value, text: &str) -> bool {
    let source = Source::of_format(&Format::JsonSchema(schema)).unwrap();
    ends_with(
        grammars,
        grammars.compile(&source, &Work::default()).unwrap_or_else(|error| panic!("{error}")),
        text,
    )
}

/// Can the answer be this text, token by byte, and end there?
pub(super) fn ends_with(grammars: &Grammars, mut constraint: GrammarConstraint, text: &str) -> bool {
    let tokenizer = &grammars.compiler.tokenizer;
    for byte in text.bytes() {
        let id = id(grammars, byte);
        if !constraint.mask().unwrap().allows(id) || constraint.accept(id).is_err() {
            return false;
        }
    }
    constraint.mask().is_ok_and(|mask| {
        (0..grammars.compiler.tokenizer.n_vocab() as u32).any(|id| tokenizer.is_end(id) && mask.allows(id))
    })
}

/// The token of a byte.
pub(super) fn id(grammars: &Grammars, byte: u8) -> u32 {
    (0..grammars.compiler.tokenizer.n_vocab() as u32)
        .find(|&id| grammars.compiler.tokenizer.token_bytes(id) == Some(&[byte]))
        .unwrap()
}

/// A small model may prefer white space to everything else, and its answer must end all the same.
#[test]
fn white_space_in_json_is_bounded() {
    let grammars = grammars();
    let tokenizer = &grammars.compiler.tokenizer;
    let id = |byte: u8| (0..320).find(|&id| tokenizer.token_bytes(id) == Some(&[byte][..])).unwrap();
    let object =
        schema(json!({ "type": "object", "properties": { "a": { "type": "integer" } }, "required": ["a"] }));
    for format in [Format::JsonObject, object] {
        let source = Source::of_format(&format).unwrap();
        let mut constraint = grammars.compile(&source, &Work::default()).unwrap();
        for (text, first, most) in [("{", b' ', 1), ("\"a\"", b'\n', 22)] {
            text.bytes().for_each(|byte| constraint.accept(id(byte)).unwrap());
            let mut n = 0;
            for byte in [first, b'\n', b' ', b'\t'] {
                while n < 100 && constraint.mask().unwrap().allows(id(byte)) {
                    constraint.accept(id(byte)).unwrap();
                    n += 1;
                }
            }
            assert_eq!(n, most, "{format:?} after {text}");
        }
    }
}
