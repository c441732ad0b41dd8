//! The accessors: what they take, and what they say when they cannot.

use expect_test::{Expect, expect};
use gguf::{Array, Gguf, GgufError, Metadata, Value};

use crate::raw::small;

fn check<T: std::fmt::Debug>(found: Result<T, GgufError>, expect: Expect) {
    expect.assert_eq(&match found {
        Ok(value) => format!("{value:?}"),
        Err(error) => format!("error: {error}"),
    });
}

#[test]
fn accessors_take_what_fits_and_name_what_does_not() {
    let gguf = Gguf::from_bytes(small(3)).unwrap();
    let metadata = gguf.metadata();
    check(metadata.usize_of("missing"), expect!["None"]);
    check(metadata.usize_of("u8"), expect!["Some(200)"]);
    check(metadata.usize_of("u64"), expect!["Some(9223372036854775808)"]);
    check(
        metadata.usize_of("i8"),
        expect![[r#"error: key "i8", byte 84: expected a non-negative integer, found -128"#]],
    );
    check(
        metadata.usize_of("f32"),
        expect![[r#"error: key "f32", byte 171: expected a non-negative integer, found f32"#]],
    );
    check(
        metadata.u32_of("u64"),
        expect![[
            r#"error: key "u64", byte 207: expected an integer from 0 to 4294967295, found 9223372036854775808"#
        ]],
    );
    check(metadata.u32_of("u32"), expect!["Some(4000000000)"]);
    check(metadata.i64_of("i64"), expect!["Some(-1)"]);
    check(
        metadata.i64_of("u64"),
        expect![[
            r#"error: key "u64", byte 207: expected an integer of 64 bits with a sign, found 9223372036854775808"#
        ]],
    );
    check(metadata.f32_of("f64"), expect!["Some(-2.5)"]);
    check(metadata.f32_of("u32"), expect![[r#"error: key "u32", byte 133: expected f32 or f64, found u32"#]]);
    check(metadata.bool_of("bool"), expect!["Some(true)"]);
    check(metadata.bool_of("u8"), expect![[r#"error: key "u8", byte 69: expected bool, found u8"#]]);
    check(metadata.str_of("general.architecture"), expect![[r#"Some("llama")"#]]);
    check(
        metadata.str_of("tokens"),
        expect![[r#"error: key "tokens", byte 276: expected string, found string array of 3"#]],
    );
    check(
        metadata.array_of("tokens"),
        expect![
            "Some(Array { element_type: String, len: 3, width: Wide, bytes: TensorBytes(27 bytes at 306) })"
        ],
    );
    check(metadata.array_of("u8"), expect![[r#"error: key "u8", byte 69: expected array, found u8"#]]);
}

#[test]
fn strings_that_are_not_text_keep_their_bytes() {
    let gguf = Gguf::from_bytes(small(3)).unwrap();
    let strings = gguf.metadata().array_of("tokens").unwrap().unwrap().strings().unwrap();
    assert_eq!(strings.iter().collect::<Vec<_>>(), [&b"a"[..], b"", b"\xff\xfe"]);
    check(strings.get_str(0).unwrap(), expect![[r#""a""#]]);
    check(
        strings.get_str(2).unwrap(),
        expect![
            "error: string 2 of an array, byte 331: expected UTF-8, found an invalid sequence 0 bytes into the text"
        ],
    );
    assert!(strings.get_str(3).is_none());

    let metadata = Metadata::from_pairs([("key", &b"ok\xff"[..])]).unwrap();
    check(
        metadata.str_of("key"),
        expect![[
            r#"error: key "key", byte 0: expected UTF-8, found an invalid sequence 2 bytes into the text"#
        ]],
    );
}

#[test]
fn typed_views_are_given_for_their_type_alone() {
    let array = Array::from(vec![1i32, -2]);
    assert_eq!(array.i32s().unwrap().collect::<Vec<_>>(), [1, -2]);
    assert_eq!(array.integers().unwrap().collect::<Vec<_>>(), [1, -2]);
    assert!(array.u32s().is_none() && array.f32s().is_none() && array.strings().is_none());
    let array = Array::from(vec![0.5f32]);
    assert_eq!(array.f32s().unwrap().collect::<Vec<_>>(), [0.5]);
    assert!(array.integers().is_none() && array.f64s().is_none());
    assert_eq!(Array::bool_array(&[true, false]).bools().unwrap().collect::<Vec<_>>(), [true, false]);
}

#[test]
fn metadata_without_a_file() {
    let pairs = [("b", Value::from(1u32)), ("a", Value::from("text"))];
    let metadata = Metadata::from_pairs(pairs).unwrap();
    assert_eq!(metadata.iter().map(|(key, _)| key).collect::<Vec<_>>(), ["b", "a"]);
    assert_eq!(metadata.str_of("a").unwrap(), Some("text"));
    check(
        Metadata::from_pairs([("a", 1u8), ("b", 2), ("a", 3)]),
        expect![[r#"error: key "a" stands twice: at byte 0 and at byte 2"#]],
    );
}
