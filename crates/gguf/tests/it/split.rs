//! Models in several files.

use std::path::Path;

use expect_test::{Expect, expect};
use gguf::{Gguf, Writer};
use quant::Format;

/// Part `no` (from 0) of `count`, with one tensor of its own and the claimed number of tensors in all.
fn part((no, count): (u16, u16), n_tensors: i32, tensor: &str) -> Vec<u8> {
    let mut writer = Writer::new();
    if no == 0 {
        writer.set("general.architecture", "llama");
    }
    writer.set("split.no", no).set("split.count", count).set("split.tensors.count", n_tensors);
    writer.tensor(tensor, Format::F32, &[2], vec![no as u8; 8]);
    writer.to_bytes().unwrap()
}

fn write(folder: &Path, parts: &[(&str, Vec<u8>)]) {
    for (name, bytes) in parts {
        std::fs::write(folder.join(name), bytes).unwrap();
    }
}

#[test]
fn any_part_opens_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["m-00001-of-00003.gguf", "m-00002-of-00003.gguf", "m-00003-of-00003.gguf"];
    for (no, name) in (0..).zip(names) {
        write(folder.path(), &[(name, part((no, 3), 3, &format!("t{no}")))]);
    }
    for name in names {
        let gguf = Gguf::open(&folder.path().join(name)).unwrap();
        assert_eq!(gguf.metadata().str_of("general.architecture").unwrap(), Some("llama"));
        assert_eq!(gguf.paths(), names.map(|name| folder.path().join(name)));
        let found: Vec<_> = gguf.tensors().iter().map(|info| (info.name.as_str(), info.file)).collect();
        assert_eq!(found, [("t0", 0), ("t1", 1), ("t2", 2)]);
        assert_eq!(gguf.tensor("t2").unwrap().bytes[..], [2; 8]);
        assert_eq!(gguf.file_len(), (0..3).map(|no| part((no, 3), 3, "t0").len() as u64).sum::<u64>());
    }
}

#[test]
fn parts_of_two_models_are_told_apart() {
    let named = |no: u16, keys: &[(&str, &str)], n_tensors: u32| {
        let mut writer = Writer::new();
        for (key, value) in keys {
            writer.set(*key, *value);
        }
        writer.set("split.no", no).set("split.count", 2u32).set("split.tensors.count", n_tensors);
        writer.tensor(format!("t{no}"), Format::F32, &[2], vec![0; 8]);
        writer.to_bytes().unwrap()
    };
    let check = |second: Vec<u8>, expect: Expect| {
        let folder = tempfile::tempdir().unwrap();
        let first = named(0, &[("general.architecture", "llama"), ("general.name", "A")], 2);
        write(folder.path(), &[("m-00001-of-00002.gguf", first), ("m-00002-of-00002.gguf", second)]);
        let opened = Gguf::open(&folder.path().join("m-00002-of-00002.gguf"));
        expect.assert_eq(
            &opened.map_or_else(|error| error.to_string(), |gguf| gguf.tensors().len().to_string()),
        );
    };
    check(named(1, &[], 2), expect!["2"]);
    check(named(1, &[("general.name", "A"), ("general.author", "x")], 2), expect!["2"]);
    // The same number as another type.
    check(part((1, 2), 2, "t1"), expect!["2"]);
    check(
        named(1, &[("general.name", "B")], 2),
        expect![[
            r#"split model: expected parts of one model, with general.name = "A" as in part 1, found "B" in part 2"#
        ]],
    );
    check(
        named(1, &[("general.architecture", "qwen2")], 2),
        expect![[
            r#"split model: expected parts of one model, with general.architecture = "llama" as in part 1, found "qwen2" in part 2"#
        ]],
    );
    check(
        named(1, &[], 3),
        expect![
            "split model: expected parts of one model, with split.tensors.count = 2 as in part 1, found 3 in part 2"
        ],
    );
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let check = |parts: &[(&str, Vec<u8>)], expect: Expect| {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), parts);
        let error = Gguf::open(&folder.path().join(parts[0].0)).unwrap_err().to_string();
        expect.assert_eq(&error.replace(folder.path().to_str().unwrap(), "FOLDER"));
    };
    let (one, two) = ("m-00001-of-00002.gguf", "m-00002-of-00002.gguf");
    let first = || (one, part((0, 2), 2, "a"));
    check(&[first()], expect!["FOLDER/m-00002-of-00002.gguf: No such file or directory (os error 2)"]);
    check(
        &[first(), (two, part((0, 2), 2, "b"))],
        expect!["split model: expected part 2 of 2, found part 1 of 2"],
    );
    check(
        &[first(), (two, part((1, 3), 2, "b"))],
        expect!["split model: expected part 2 of 2, found part 2 of 3"],
    );
    check(
        &[first(), (two, part((0, 1), 2, "b"))],
        expect!["split model: expected part 2 of 2, found a model in one file"],
    );
    check(
        &[first(), (two, part((1, 2), 2, "a"))],
        expect![[r#"tensor "a" stands twice: its data at byte 192 and at byte 160"#]],
    );
    check(
        &[(one, part((0, 2), 3, "a")), (two, part((1, 2), 3, "b"))],
        expect!["split model: expected split.tensors.count of 2, the tensors in all files, found 3"],
    );
    check(
        &[("renamed.gguf", part((0, 2), 2, "a"))],
        expect![[
            r#"FOLDER/renamed.gguf: split model: expected a file name that ends in "-00001-of-00002.gguf", as its metadata says, found "renamed.gguf""#
        ]],
    );
    check(
        &[(two, part((0, 2), 2, "a"))],
        expect![[
            r#"FOLDER/m-00002-of-00002.gguf: split model: expected a file name that ends in "-00001-of-00002.gguf", as its metadata says, found "m-00002-of-00002.gguf""#
        ]],
    );
    check(
        &[(one, part((2, 2), 2, "a"))],
        expect![
            "FOLDER/m-00001-of-00002.gguf: split model: expected a split.no below split.count, and that at most 1024, found split.no 2 and split.count 2"
        ],
    );
    check(
        &[(one, part((0, u16::MAX), 2, "a"))],
        expect![
            "FOLDER/m-00001-of-00002.gguf: split model: expected a split.no below split.count, and that at most 1024, found split.no 0 and split.count 65535"
        ],
    );
    let alone = Gguf::from_bytes(part((0, 2), 2, "a")).unwrap_err().to_string();
    expect!["split model: expected a whole model, found part 1 of 2"].assert_eq(&alone);
}
