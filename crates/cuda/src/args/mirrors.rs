//! Have the structures that kernels are given the same fields on both sides? Sizes, which are asserted when either is compiled, are the same
//! for two fields in the wrong order. Both sources are read as text.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A field: its name and what it takes, in bytes, or the name of a structure; arrays by their elements.
type Field = (String, String);

/// The fields of structures, by name.
type Structures = BTreeMap<String, Vec<Field>>;

/// The texts of all files below a folder whose names end so, without comments.
fn texts(folder: &str, endings: &[&str]) -> Vec<String> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    let mut texts = Vec::new();
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let (below, files): (Vec<PathBuf>, Vec<PathBuf>) = entries.partition(|path| path.is_dir());
        folders.extend(below);
        for path in files.iter().filter(|path| {
            endings.iter().any(|ending| path.extension().is_some_and(|found| found == *ending))
        }) {
            let text = fs::read_to_string(path).unwrap();
            let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
            texts.push(lines.collect::<Vec<_>>().join("\n"));
        }
    }
    texts
}

/// The names and bodies of what `text` has from each `opening` on: `struct NAME { BODY }`, with the end on a line of its own.
fn bodies<'a>(text: &'a str, opening: &str) -> Vec<(&'a str, &'a str)> {
    let starts = text.match_indices(opening).map(|(at, _)| &text[at..]);
    starts
        .filter_map(|rest| {
            let rest = &rest[rest.find("struct ")? + "struct ".len()..];
            let (head, rest) = rest.split_once('{')?;
            Some((head.split_whitespace().last()?, rest.split("\n}").next()?))
        })
        .collect()
}

/// What a plain type takes, in bytes; a structure's name as it is.
fn of_type(name: &str) -> String {
    let size = match name {
        "i8" | "u8" | "int8_t" | "uint8_t" => 1,
        "i32" | "u32" | "f32" | "int32_t" | "uint32_t" | "float" | "unsigned" => 4,
        "u64" | "uint64_t" | "DevicePtr" => 8,
        "uint4" => return "16 of 1".to_owned(),
        name if name.ends_with('*') => 8,
        name => return name.to_owned(),
    };
    size.to_string()
}

/// `n` of a type; names of numbers without what only one side has.
fn array(n: &str, element: &str) -> String {
    let n = n.split_whitespace().next().unwrap_or_default().trim_start_matches("SAMPLE_");
    format!("{n} of {}", of_type(element))
}

fn rust_field(line: &str) -> Option<Field> {
    let (name, kind) = line.trim().trim_end_matches(',').split_once(": ")?;
    let name = name.split_whitespace().last()?;
    let kind = match kind.strip_prefix('[').and_then(|kind| kind.strip_suffix(']')?.split_once("; ")) {
        Some((element, n)) => array(n, element),
        None => of_type(kind),
    };
    Some((name.to_owned(), kind))
}

/// The fields of a declaration such as `const float *a, *b` or `int32_t reserved[3]`.
fn cpp_fields(declaration: &str) -> Vec<Field> {
    let declaration = declaration.split_whitespace().collect::<Vec<_>>().join(" ");
    if declaration.contains('(') {
        return Vec::new();
    }
    let Some((kind, first)) = declaration.split(", ").next().and_then(|first| first.rsplit_once(' ')) else {
        return Vec::new();
    };
    let names = std::iter::once(first).chain(declaration.split(", ").skip(1));
    names
        .map(|name| match name.trim_end_matches(']').split_once('[') {
            Some((name, n)) => (name.to_owned(), array(n, kind)),
            None => (name.to_owned(), of_type(kind)),
        })
        .collect()
}

#[test]
fn structures_have_the_fields_of_the_kernels() {
    let mut ours = Structures::new();
    for text in texts("src", &["rs"]) {
        for (name, body) in bodies(&text, "\n#[repr(C") {
            ours.insert(name.to_owned(), body.lines().filter_map(rust_field).collect());
        }
    }
    let mut theirs = Structures::new();
    for text in texts("kernels", &["cu", "cuh"]) {
        for (name, body) in bodies(&text, "\nstruct ") {
            theirs.insert(name.to_owned(), body.split(';').flat_map(cpp_fields).collect());
        }
    }
    assert!(ours.len() >= 35, "{} structures", ours.len());
    for (name, fields) in &mut ours {
        // What an alignment adds at the end.
        fields.retain(|(name, _)| name != "padding");
        assert_eq!(theirs.get(name), Some(&*fields), "{name}: the kernels' and ours");
    }
}
