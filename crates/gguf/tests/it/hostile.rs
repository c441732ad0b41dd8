//! Files made to hurt, and the reason each is refused.

use expect_test::{Expect, expect};
use gguf::Gguf;

use crate::raw::{Raw, small};
use crate::walk::open_and_walk;

fn check(bytes: Vec<u8>, expect: Expect) {
    let found = match open_and_walk(bytes) {
        Ok(_) => "read".to_owned(),
        Err(error) => error.to_string(),
    };
    expect.assert_eq(&found);
}

/// A file of one key with this value.
fn value(value_type: u32, bytes: &[u8]) -> Vec<u8> {
    Raw::new(3, 0, 1).key("key", value_type).bytes(bytes).bytes
}

/// A file of one tensor of Q8_0 or another type, with 64 bytes of data.
fn tensor(dims: &[u64], format: u32, offset: u64) -> Vec<u8> {
    Raw::new(3, 1, 0).tensor("t", dims, (format, offset)).pad(32).bytes(&[0; 64]).bytes
}

/// A file of tensors of 32 bytes at these offsets.
fn tensors(list: &[(&str, u64)]) -> Vec<u8> {
    let raw = Raw::new(3, list.len() as u64, 0);
    let raw = list.iter().fold(raw, |raw, (name, offset)| raw.tensor(name, &[8], (0, *offset)));
    raw.pad(32).bytes(&[0; 128]).bytes
}

#[test]
fn files_that_are_not_gguf() {
    check(vec![], expect![[r#"not a GGUF file: expected the bytes "GGUF" at byte 0, found """#]]);
    check(
        b"GGUF".to_vec(),
        expect!["truncated file: the header at byte 4 needs 4 bytes, found 0 to the end of the file"],
    );
    check(
        b"GGUF\x03\x00\x00\x00\x00".to_vec(),
        expect!["truncated file: the header at byte 8 needs 8 bytes, found 1 to the end of the file"],
    );
    check(
        b"PK\x03\x04 and so on".to_vec(),
        expect![[
            r#"not a GGUF file: expected the bytes "GGUF" at byte 0, found "PK\x03\x04", a zip archive, perhaps a PyTorch checkpoint"#
        ]],
    );
    check(
        b"version https://git-lfs.github.com/spec/v1".to_vec(),
        expect![[
            r#"not a GGUF file: expected the bytes "GGUF" at byte 0, found "vers", a Git LFS pointer: the model itself was not downloaded"#
        ]],
    );
    check(
        b"\x10\x00\x00\x00\x00\x00\x00\x00{\"__metadata__\"".to_vec(),
        expect![[
            r#"not a GGUF file: expected the bytes "GGUF" at byte 0, found "\x10\x00\x00\x00", perhaps a safetensors file"#
        ]],
    );
    check(
        Raw::new(0x0300_0000, 0, 0).bytes,
        expect![
            "big-endian GGUF file (version 3 with its bytes swapped at byte 4): only little-endian files are read"
        ],
    );
    check(Raw::new(0, 0, 0).bytes, expect!["expected GGUF version 1, 2 or 3 at byte 4, found 0"]);
    check(Raw::new(4, 0, 0).bytes, expect!["expected GGUF version 1, 2 or 3 at byte 4, found 4"]);
}

#[test]
fn counts_and_lengths() {
    check(
        Raw::new(1, 0xffff_ffff, 0).bytes,
        expect!["the header, byte 8: expected a number of tensors of at most 65536, found 4294967295"],
    );
    check(
        Raw::new(1, 0, 0xffff_ffff).bytes,
        expect!["the header, byte 12: expected a number of metadata keys of at most 65536, found 4294967295"],
    );
    check(
        Raw::new(3, 0xffff_ffff, 0).bytes,
        expect!["the header, byte 8: expected a number of tensors of at most 65536, found 4294967295"],
    );
    check(
        Raw::new(3, 0, 0xffff_ffff).bytes,
        expect!["the header, byte 16: expected a number of metadata keys of at most 65536, found 4294967295"],
    );
    check(
        Raw::new(3, u64::MAX, 0).bytes,
        expect![
            "the header, byte 8: expected a number of tensors of at most 65536, found 18446744073709551615"
        ],
    );
    check(
        Raw::new(3, 0, u64::MAX).bytes,
        expect![
            "the header, byte 16: expected a number of metadata keys of at most 65536, found 18446744073709551615"
        ],
    );
    check(
        Raw::new(3, 1, 0).bytes,
        expect!["truncated file: tensor number 0 at byte 24 needs 8 bytes, found 0 to the end of the file"],
    );
    check(
        Raw::new(3, 0, 1).bytes,
        expect![
            "truncated file: metadata key number 0 at byte 24 needs 8 bytes, found 0 to the end of the file"
        ],
    );
    check(
        Raw::new(3, 0, 1).u64(u64::MAX).bytes,
        expect![
            "metadata key number 0, byte 24: expected a key length of at most 65535, found 18446744073709551615"
        ],
    );
    check(
        Raw::new(3, 0, 1).u64(60_000).bytes(b"key").bytes,
        expect![
            "truncated file: metadata key number 0 at byte 32 needs 60000 bytes, found 3 to the end of the file"
        ],
    );
    check(
        Raw::new(3, 0, 1).string(b"").u32(0).bytes(&[0]).bytes,
        expect!["metadata key number 0, byte 32: expected a name, found an empty string"],
    );
    check(
        Raw::new(3, 0, 1).string(b"k\xff").u32(0).bytes(&[0]).bytes,
        expect![
            "metadata key number 0, byte 32: expected UTF-8, found an invalid sequence 1 bytes into the text"
        ],
    );
    check(
        Raw::new(3, 1, 0).u64(u64::MAX - 7).bytes,
        expect![
            "tensor number 0, byte 24: expected a name length of at most 256, found 18446744073709551608"
        ],
    );
    check(
        Raw::new(3, 1, 0).string(b"\xc3\x28").bytes,
        expect!["tensor number 0, byte 32: expected UTF-8, found an invalid sequence 0 bytes into the text"],
    );
}

#[test]
fn values() {
    let array = |element_type: u32, len: u64, bytes: &[u8]| {
        value(9, &[&element_type.to_le_bytes()[..], &len.to_le_bytes(), bytes].concat())
    };
    check(
        value(13, &[0; 64]),
        expect![[r#"key "key", byte 35: expected a value type from 0 to 12, found 13"#]],
    );
    check(
        value(8, &u64::MAX.to_le_bytes()),
        expect![[
            r#"key "key", byte 39: expected a string length of at most 268435456, found 18446744073709551615"#
        ]],
    );
    check(
        value(8, &1000u64.to_le_bytes()),
        expect![[r#"truncated file: key "key" at byte 47 needs 1000 bytes, found 0 to the end of the file"#]],
    );
    check(
        array(13, 1, &[0; 64]),
        expect![[r#"key "key", byte 39: expected a value type from 0 to 12, found 13"#]],
    );
    check(
        array(0, u64::MAX, &[]),
        expect![[
            r#"key "key", byte 43: expected an array length of at most 67108864, found 18446744073709551615"#
        ]],
    );
    check(
        array(12, 1 << 61, &[0; 64]),
        expect![[
            r#"key "key", byte 43: expected an array length of at most 67108864, found 2305843009213693952"#
        ]],
    );
    check(
        array(12, 1 << 26, &[0; 64]),
        expect![[
            r#"truncated file: key "key" at byte 51 needs 536870912 bytes, found 64 to the end of the file"#
        ]],
    );
    check(
        array(8, 1 << 26, &[0; 64]),
        expect![[r#"truncated file: key "key" at byte 115 needs 8 bytes, found 0 to the end of the file"#]],
    );
    check(
        array(8, 1, &u64::MAX.to_le_bytes()),
        expect![[
            r#"key "key", byte 51: expected a string length of at most 268435456, found 18446744073709551615"#
        ]],
    );
    // Arrays in arrays: four deep is read, five is not, and neither is a claim of very many.
    let nest = |depth: usize| {
        let level = [&9u32.to_le_bytes()[..], &1u64.to_le_bytes()].concat();
        value(9, &[&level.repeat(depth - 1)[..], &0u32.to_le_bytes(), &1u64.to_le_bytes(), &[7]].concat())
    };
    check(nest(4), expect!["read"]);
    check(
        nest(5),
        expect![[r#"key "key", byte 99: expected a depth of nested arrays of at most 4, found 5"#]],
    );
    check(
        nest(5000),
        expect![[r#"key "key", byte 99: expected a depth of nested arrays of at most 4, found 5"#]],
    );
    check(
        array(9, 1 << 26, &[0; 12]),
        expect![[r#"truncated file: key "key" at byte 63 needs 4 bytes, found 0 to the end of the file"#]],
    );
    check(
        Raw::new(3, 0, 2).key("same", 0).bytes(&[0]).key("same", 7).bytes(&[0]).bytes,
        expect![[r#"key "same" stands twice: at byte 24 and at byte 41"#]],
    );
}

#[test]
fn alignments() {
    let file = |value_type: u32, bytes: &[u8]| {
        Raw::new(3, 0, 1).key("general.alignment", value_type).bytes(bytes).bytes
    };
    check(
        file(4, &0u32.to_le_bytes()),
        expect![[r#"key "general.alignment", byte 24: expected a power of two from 1 to 2097152, found 0"#]],
    );
    check(
        file(4, &48u32.to_le_bytes()),
        expect![[r#"key "general.alignment", byte 24: expected a power of two from 1 to 2097152, found 48"#]],
    );
    check(
        file(4, &(1u32 << 31).to_le_bytes()),
        expect![[
            r#"key "general.alignment", byte 24: expected a power of two from 1 to 2097152, found 2147483648"#
        ]],
    );
    check(
        file(5, &(-32i32).to_le_bytes()),
        expect![[
            r#"key "general.alignment", byte 24: expected a power of two from 1 to 2097152, found -32"#
        ]],
    );
    check(
        file(6, &32f32.to_le_bytes()),
        expect![[
            r#"key "general.alignment", byte 24: expected an integer of 64 bits with a sign, found f32"#
        ]],
    );
    check(file(4, &1u32.to_le_bytes()), expect!["read"]);
    check(file(4, &(1u32 << 21).to_le_bytes()), expect!["read"]);
}

#[test]
fn tensor_shapes_and_types() {
    check(tensor(&[16], 0, 0), expect!["read"]);
    check(tensor(&[], 0, 0), expect!["read"]);
    check(tensor(&[2, 2, 2, 2], 0, 0), expect!["read"]);
    check(
        tensor(&[1, 1, 1, 1, 1], 0, 0),
        expect![[r#"tensor "t", byte 33: expected a number of dimensions of at most 4, found 5"#]],
    );
    check(
        tensor(&[0], 0, 0),
        expect![[r#"tensor "t", byte 24: expected no dimension of zero, found dimensions [0]"#]],
    );
    check(
        tensor(&[4, 0], 0, 0),
        expect![[r#"tensor "t", byte 24: expected no dimension of zero, found dimensions [4, 0]"#]],
    );
    check(
        tensor(&[33], 8, 0),
        expect![[
            r#"tensor "t", byte 24: expected a first dimension that is a multiple of 32 for Q8_0, found dimensions [33]"#
        ]],
    );
    check(
        tensor(&[8, 8], 8, 0),
        expect![[
            r#"tensor "t", byte 24: expected a first dimension that is a multiple of 32 for Q8_0, found dimensions [8, 8]"#
        ]],
    );
    check(
        tensor(&[1 << 63], 0, 0),
        expect![[
            r#"tensor "t", byte 24: expected a size that can be addressed, found dimensions [9223372036854775808]"#
        ]],
    );
    check(
        tensor(&[1 << 32, 1 << 32], 0, 0),
        expect![[
            r#"tensor "t", byte 24: expected a size that can be addressed, found dimensions [4294967296, 4294967296]"#
        ]],
    );
    check(
        tensor(&[u64::MAX, u64::MAX, u64::MAX, u64::MAX], 1, 0),
        expect![[
            r#"tensor "t", byte 24: expected a size that can be addressed, found dimensions [18446744073709551615, 18446744073709551615, 18446744073709551615, 18446744073709551615]"#
        ]],
    );
    check(
        tensor(&[32], 142, 0),
        expect![[
            r#"tensor "t", byte 24: expected a supported weight format, found type 142 (PQ2_0 of a fork of ggml)"#
        ]],
    );
    check(
        tensor(&[32], 26, 0),
        expect![[r#"tensor "t", byte 24: expected a supported weight format, found type 26 (I32)"#]],
    );
    check(
        tensor(&[32], 4, 0),
        expect![[
            r#"tensor "t", byte 24: expected a supported weight format, found type 4 (Q4_2, removed from ggml)"#
        ]],
    );
    check(
        tensor(&[32], 1000, 0),
        expect![[r#"tensor "t", byte 24: expected a supported weight format, found type 1000 (unknown)"#]],
    );
    check(
        Raw::new(3, 1, 0).string(b"t").u32(u32::MAX).bytes,
        expect![[r#"tensor "t", byte 33: expected a number of dimensions of at most 4, found 4294967295"#]],
    );
}

#[test]
fn tensor_places() {
    check(
        tensor(&[16], 0, 32),
        expect![[r#"truncated file: tensor "t" has 64 bytes at byte 96, found a file of 128 bytes"#]],
    );
    check(
        tensor(&[16], 0, 64),
        expect![[r#"truncated file: tensor "t" has 64 bytes at byte 128, found a file of 128 bytes"#]],
    );
    check(
        tensor(&[17], 0, 0),
        expect![[r#"truncated file: tensor "t" has 68 bytes at byte 64, found a file of 128 bytes"#]],
    );
    check(
        tensor(&[16], 0, 8),
        expect![[
            r#"tensor "t": expected an offset into the data at byte 64 that is a multiple of 32, found 8"#
        ]],
    );
    check(
        tensor(&[16], 0, u64::MAX - 31),
        expect![[
            r#"truncated file: tensor "t" has 64 bytes at byte 18446744073709551615, found a file of 128 bytes"#
        ]],
    );
    check(
        tensor(&[16], 0, 1 << 40),
        expect![[
            r#"truncated file: tensor "t" has 64 bytes at byte 1099511627840, found a file of 128 bytes"#
        ]],
    );
    check(tensors(&[("a", 0), ("b", 32), ("c", 96)]), expect!["read"]);
    check(tensors(&[("a", 32), ("b", 0)]), expect!["read"]);
    check(
        tensors(&[("a", 0), ("b", 0)]),
        expect![[r#"tensor "b" starts at byte 96, inside tensor "a" that ends at byte 128"#]],
    );
    check(
        tensors(&[("a", 0), ("b", 32), ("a", 64)]),
        expect![[r#"tensor "a" stands twice: its data at byte 128 and at byte 192"#]],
    );
    // A tensor of 64 bytes that begins before one of 32 ends.
    let raw = Raw::new(3, 2, 0).tensor("late", &[8], (0, 32)).tensor("long", &[16], (0, 0));
    check(
        raw.pad(32).bytes(&[0; 64]).bytes,
        expect![[r#"tensor "late" starts at byte 128, inside tensor "long" that ends at byte 160"#]],
    );
}

#[test]
fn paths_that_are_not_models() {
    let folder = tempfile::tempdir().unwrap();
    let error = |name: &str| {
        let error = Gguf::open(&folder.path().join(name)).unwrap_err().to_string();
        error.replace(folder.path().to_str().unwrap(), "FOLDER")
    };
    expect!["FOLDER/missing.gguf: No such file or directory (os error 2)"].assert_eq(&error("missing.gguf"));
    expect!["FOLDER/: expected a regular file"].assert_eq(&error(""));
    std::fs::write(folder.path().join("empty.gguf"), []).unwrap();
    expect![[r#"FOLDER/empty.gguf: not a GGUF file: expected the bytes "GGUF" at byte 0, found """#]]
        .assert_eq(&error("empty.gguf"));
    let whole = small(3);
    std::fs::write(folder.path().join("cut.gguf"), &whole[..whole.len() - 1]).unwrap();
    expect![[r#"FOLDER/cut.gguf: truncated file: tensor "b.bias" has 12 bytes at byte 632, found a file of 643 bytes"#]].assert_eq(&error("cut.gguf"));
}
