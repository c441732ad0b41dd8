//! Does a schema mean here what it means elsewhere, and is what cannot be enforced refused by name?

use serde_json::{Value, json};

use super::tests::{check_refused, grammars, schema, takes};
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
fn references_may_be_relative_to_a_part_with_a_name() {
    let grammars = grammars();
    let tree = json!({
        "$id": "T0", "type": "object", "properties": { "below": { "type": "array", "items": { "$ref": "T0" } } },
        "required": ["below"], "additionalProperties": false,
    });
    assert!(takes(&grammars, json!({ "properties": { "t": tree } }), r#"{"t":{"below":[{"below":[]}]}}"#));
    assert!(!takes(&grammars, json!({ "properties": { "t": tree } }), r#"{"t":{"below":[{}]}}"#));
    // `#` is the part that has the `$id`, and its anchors are its own.
    let defs = json!({
        "n": { "$anchor": "n", "enum": [0] },
        "part": { "$id": "sub/part.json", "$defs": { "n": { "$anchor": "n", "enum": [1] } }, "$ref": "PLACE" },
    });
    for (within, from_root) in [
        ("#/$defs/n", "#/$defs/part"),
        ("#n", "sub/part.json"),
        ("part.json#n", "http://a/b/sub/part.json"),
        ("../sub/./part.json#/$defs/n", "/b/sub/part.json"),
        ("/b/sub/../sub/part.json#n", "//a/b/sub/part.json#"),
    ] {
        let text = json!({ "$id": "http://a/b/c", "$defs": defs, "$ref": from_root }).to_string();
        let schema: Value = serde_json::from_str(&text.replace("PLACE", within)).unwrap();
        assert!(takes(&grammars, schema.clone(), "1"), "{within} {from_root}");
        assert!(!takes(&grammars, schema, "0"), "{within} {from_root}");
    }
    let old = "http://json-schema.org/draft-07/schema#";
    check_refused(vec![
        (schema(json!({ "$id": "http://a/b", "$ref": "c#n" })), "$ref to another document: c#n"),
        (
            schema(json!({ "$schema": old, "allOf": [{ "$id": "a", "$ref": "#n" }, { "$anchor": "n" }] })),
            "$id beside $ref",
        ),
        (
            schema(json!({ "allOf": [{ "$id": "a", "items": { "$ref": "#n" } }, { "$anchor": "n" }] })),
            "does not have: #n",
        ),
        (schema(json!({ "allOf": [{ "$id": "a" }, { "$id": "a" }] })), "two parts with the $id a"),
        (schema(json!({ "$dynamicRef": "#n" })), "Unimplemented keys: [\"$dynamicRef\"]"),
    ]);
}

#[test]
fn a_property_is_written_in_one_way_and_counted_once() {
    let grammars = grammars();
    let a = json!({ "type": "object", "properties": { "a": { "type": "integer" } } });
    let pattern = json!({ "type": "object", "patternProperties": { "^a": { "type": "integer" } } });
    for (schema, right, wrong) in [
        (a, r#"{"a":1,"b":""}"#, vec![r#"{"\u0061":""}"#, r#"{"a":1,"\u0061":""}"#]),
        (pattern, r#"{"ab":1,"b":""}"#, vec![r#"{"\u0061b":""}"#, r#"{"a\u0062":""}"#]),
        (
            json!({ "type": "object", "minProperties": 2 }),
            r#"{"a":1,"b":2}"#,
            vec![r#"{"a":1,"a":2}"#, r#"{"a":1}"#],
        ),
        (
            json!({ "type": "array", "items": { "type": "object", "minProperties": 2.0, "patternProperties": { "^a": {} }, "additionalProperties": false } }),
            r#"[{"a":1,"ab":1},{"a":1,"ac":{"a":{}}}]"#,
            vec![r#"[{"ab":1,"ab":1}]"#, r#"[{"a":1,"ab":1},{"a":1,"a":1}]"#],
        ),
    ] {
        assert!(takes(&grammars, schema.clone(), right), "{schema}: {right}");
        for text in wrong {
            assert!(!takes(&grammars, schema.clone(), text), "{schema}: {text}");
        }
    }
    check_refused(vec![(schema(json!({ "enum": ["a", "b\u{0}"] })), "enum with a control character")]);
}

#[test]
fn numbers_beyond_floats_are_exact_or_refused() {
    let grammars = grammars();
    let integer = |key: &str, bound: Value| json!({ "type": "integer", key: bound });
    let int64 = json!({ "type": "integer", "minimum": i64::MIN, "maximum": i64::MAX });
    for (schema, right, wrong) in [
        (json!({ "const": 9_007_199_254_740_992_u64 }), "9007199254740992", "9007199254740993"),
        (integer("minimum", json!(9_007_199_254_740_993_u64)), "9007199254740994", "9007199254740992"),
        (
            integer("exclusiveMinimum", json!(9_007_199_254_740_994_u64)),
            "9007199254740996",
            "9007199254740994",
        ),
        (integer("maximum", json!(9_007_199_254_740_995_u64)), "9007199254740994", "9007199254740996"),
        (
            integer("exclusiveMaximum", json!(9_007_199_254_740_996_u64)),
            "9007199254740992",
            "9007199254740996",
        ),
        (integer("maximum", json!(-9_007_199_254_740_995_i64)), "-9007199254740996", "-9007199254740994"),
        (integer("maximum", json!(1e30)), "1000000000000000000", "1000000000000000000000000000001"),
        (int64.clone(), "9223372036854774784", "9223372036854775808"),
        (int64, "-9223372036854774784", "-9223372036854775809"),
    ] {
        assert!(takes(&grammars, schema.clone(), right), "{schema}: {right}");
        assert!(!takes(&grammars, schema.clone(), wrong), "{schema}: {wrong}");
    }
    check_refused(vec![
        (
            schema(json!({ "const": 9_007_199_254_740_993_u64 })),
            "const with a number beyond 2^53: 9007199254740993",
        ),
        (schema(json!({ "enum": [1, { "a": [1e300] }] })), "enum with a number beyond 2^53: 1e+300"),
        (schema(integer("minimum", json!(u64::MAX))), "minimum beyond 2^63: 18446744073709551615"),
        (schema(integer("exclusiveMaximum", json!(-1e19))), "exclusiveMaximum beyond 2^63: -1e+19"),
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
    check_refused(vec![(
        schema(json!({ "oneOf": [{ "enum": [1] }, { "const": 1.0 }] })),
        "oneOf without a value that only one of its schemas allows",
    )]);
}

#[test]
fn values_in_one_list_alone_are_what_one_of_several_lists_allows() {
    let lists = json!([{ "enum": [1, "a", 2] }, { "const": 2.0, "title": "T" }, { "enum": ["b", "a", "b"] }]);
    let beside = json!({ "oneOf": lists, "allOf": [{ "enum": ["a", "b"] }] });
    for (schema, right, wrong) in [
        (json!({ "oneOf": lists }), vec!["1", r#""b""#], vec!["2", r#""a""#]),
        (beside, vec![r#""b""#], vec!["1", r#""a""#]),
    ] {
        for (texts, expected) in [(right, true), (wrong, false)] {
            for text in texts {
                assert_eq!(takes(&grammars(), schema.clone(), text), expected, "{schema}: {text}");
            }
        }
    }
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
