//! Are items different, however they are written, and does an answer never get stuck where it need not?

use engine::Constraint;
use llguidance::api::GrammarWithLexer;
use serde_json::{Value, json};

use super::super::tests::{ends_with, grammars, id, takes};
use super::super::{Grammars, Source};
use crate::chat::ThinkStart;
use crate::{Format, Work};

fn check(schema: &Value, right: &[&str], wrong: &[&str]) {
    let grammars = grammars();
    for (texts, expected) in [(right, true), (wrong, false)] {
        for text in texts {
            assert_eq!(takes(&grammars, schema.clone(), text), expected, "{schema}: {text}");
        }
    }
}

fn set(items: &Value) -> Value {
    json!({ "type": "array", "items": items, "uniqueItems": true })
}

#[test]
fn texts_numbers_arrays_and_objects_differ() {
    check(
        &set(&json!({ "type": "string" })),
        &["[]", r#"["a"]"#, r#"["a", "b","ab" ]"#, r#"["","a"]"#],
        &[r#"["a","a"]"#, r#"["","b",""]"#, r#"["a\nb","c","a\nb"]"#],
    );
    check(
        &set(&json!({ "type": "number" })),
        &["[1,2]", "[1,10]", "[0,0.5,-1]"],
        &["[1,1.0]", "[0,-0]", "[10,1e1]", "[1, 2 ,1 ]", "[0.1,0.10000000000000000001]"],
    );
    check(
        &set(&json!({})),
        &[r#"[1,"1",[1],[],{}]"#, "[true,1,false,0,null]"],
        &["[true,true]", "[null ,1,null]"],
    );
    check(
        &set(&json!({ "type": "array", "items": { "type": "integer" } })),
        &["[[1,2],[2,1],[]]", "[[1,1]]"],
        &["[[1,2],[1, 2]]", "[[],[]]"],
    );
    check(
        &set(&json!({ "type": "object" })),
        &[r#"[{"a":1},{"a":2},{}]"#],
        &[r#"[{"a":1,"b":[2]},{"b":[2.0], "a":1}]"#, r#"[{"a":1,"a":2},{"a":2}]"#],
    );
}

#[test]
fn every_way_to_such_an_array_is_found() {
    let defs = json!({ "tags": set(&json!({ "type": "string" })) });
    let tags = json!({ "$ref": "#/$defs/tags" });
    let either = json!({ "anyOf": [tags, { "type": "null" }] });
    for (schema, before, after) in [
        (json!({ "properties": { "t": tags }, "required": ["t"] }), r#"{"t":"#, "}"),
        (json!({ "properties": { "t": either }, "required": ["t"] }), r#"{"t":"#, "}"),
        (json!({ "additionalProperties": tags }), r#"{"any":"#, "}"),
        (json!({ "patternProperties": { "^a": tags } }), r#"{"ab":"#, "}"),
        (json!({ "allOf": [{ "additionalProperties": tags }] }), r#"{"t":"#, "}"),
    ] {
        let mut schema = schema;
        schema["type"] = json!("object");
        schema["$defs"] = defs.clone();
        for (items, expected) in [(r#"["a","b"]"#, true), (r#"["a","a"]"#, false)] {
            let text = format!("{before}{items}{after}");
            assert_eq!(takes(&grammars(), schema.clone(), &text), expected, "{schema}: {text}");
        }
    }
    let nested = json!({ "type": "array", "prefixItems": [{ "type": "integer" }], "items": set(&tags), "$defs": defs });
    check(
        &nested,
        &[r#"[1,[["a"],["b"]],[["a"],["b"]]]"#],
        &[r#"[1,[["a"],["a"]]]"#, r#"[1,[["a","a"]]]"#, r#"[1,[],[["b","a"],["b","a"]]]"#],
    );
}

/// Follows the grammar by the text as long as it goes; what may come then, as text of single bytes?
fn next(grammars: &Grammars, schema: Value, text: &str) -> String {
    let source = Source::of_format(&Format::JsonSchema(schema)).unwrap();
    let mut constraint = grammars.compile(&source, &Work::default()).unwrap();
    let id = |byte| id(grammars, byte);
    for byte in text.bytes() {
        assert!(constraint.mask().unwrap().allows(id(byte)), "{text}: {}", char::from(byte));
        constraint.accept(id(byte)).unwrap();
    }
    let mask = constraint.mask().unwrap();
    (b'!'..=b'~').filter(|&byte| mask.allows(id(byte))).map(char::from).collect()
}

#[test]
fn nothing_begins_that_could_only_end_as_a_duplicate() {
    let grammars = grammars();
    let letters = |most: u32| set(&json!({ "type": "string", "maxLength": most }));
    let digit = set(&json!({ "type": "integer", "minimum": 0, "maximum": 3 }));
    let words = set(&json!({ "enum": ["ab", "ac", "b", 12, true] }));
    let flags = json!({ "$defs": { "f": { "type": "boolean" } }, "type": "array", "items": { "$ref": "#/$defs/f" }, "uniqueItems": true });
    let points = json!({ "type": "object", "properties": { "x": { "type": "string", "maxLength": 1 } }, "required": ["x"], "additionalProperties": false });
    for (schema, text, expected) in [
        (set(&json!({ "type": "integer" })), "[0,", "-123456789"),
        (digit.clone(), "[0,2,", "13"),
        (digit, "[0,2,1,3", "]"),
        (words.clone(), r#"["ab","ac","#, r#""1t"#),
        (words.clone(), r#"["ab","ac",""#, "b"),
        (words.clone(), r#"["ab","b",""#, "a"),
        (words, r#"["ab","b","a"#, "c"),
        (flags.clone(), "[true,", "f"),
        (flags, "[true,false", "]"),
    ] {
        assert_eq!(next(&grammars, schema.clone(), text), expected, "{schema}: {text}");
    }
    assert!(!next(&grammars, letters(1), r#"["a",""#).contains('a'));
    assert!(next(&grammars, letters(2), r#"["a",""#).contains('a'));
    assert!(!next(&grammars, letters(2), r#"["a","a"#).contains('"'));
    assert_eq!(next(&grammars, set(&points), r#"[{"x":"a"},{"x":""#).find('a'), None);
}

#[test]
fn more_items_than_there_are_values_cannot_be_asked_for() {
    let grammars = grammars();
    let mut schema = set(&json!({ "enum": ["a", "b", "a"] }));
    schema["minItems"] = json!(3);
    let source = Source::of_format(&Format::JsonSchema(schema)).unwrap();
    let error = grammars.compile(&source, &Work::default()).unwrap_err().to_string();
    assert!(error.contains("minItems (3) is greater than maxItems (2)"), "{error}");
}

#[test]
fn a_copy_knows_the_items_and_takes_no_others() {
    let grammars = grammars();
    let source = Source::of_format(&Format::JsonSchema(set(&json!({ "enum": [1, 2, 3] })))).unwrap();
    let mut constraint = grammars.compile(&source, &Work::default()).unwrap().boxed_clone();
    let id = |byte| id(&grammars, byte);
    for byte in *b"[1," {
        constraint.accept(id(byte)).unwrap();
    }
    let mut copy = constraint.boxed_clone();
    for byte in *b"2," {
        copy.accept(id(byte)).unwrap();
    }
    let may = |constraint: &mut dyn Constraint, byte| constraint.mask().unwrap().allows(id(byte));
    assert!(
        may(constraint.as_mut(), b'2') && may(constraint.as_mut(), b'3') && !may(constraint.as_mut(), b'1')
    );
    assert!(!may(copy.as_mut(), b'2') && may(copy.as_mut(), b'3'));
    constraint.accept(id(b'1')).unwrap();
    assert!(constraint.accept(id(b',')).unwrap_err().contains("has already"));
}

#[test]
fn reasoning_is_free_and_each_call_is_held() {
    let grammars = grammars();
    let lark = r#"
start: thought call+
thought[lazy]: /(.|\n)*/ "</think>"
call: "<tool_call>{\"name\": \"f\", \"arguments\": " @arguments_0 "}</tool_call>"
"#;
    let arguments = json!({ "type": "object", "properties": { "t": set(&json!({})) }, "required": ["t"] });
    let parts =
        vec![GrammarWithLexer::from_lark(lark.to_owned()), Source::schema_part("arguments_0", arguments)];
    let source = Source::of_parts("tools", parts);
    let call = |items| format!(r#"<tool_call>{{"name": "f", "arguments": {{"t":[{items}]}}}}</tool_call>"#);
    for (text, expected) in [
        (format!("</think>{}", call("1,2")), true),
        (format!("</think>{}", call("1,1")), false),
        (format!("{}{{\"t\":[\"</think>{}{}", call("1,1"), call("1,2"), call("1,2")), true),
        (format!("{{\"t\":[\"</think>{}{}", call("1,2"), call("2,1,2")), false),
    ] {
        let constraint = grammars.compile(&source, &Work::default()).unwrap().thinking(ThinkStart::Inside);
        assert_eq!(ends_with(&grammars, constraint, &text), expected, "{text}");
    }
}
