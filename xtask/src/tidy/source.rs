//! What may stand in a Rust file? A header that says which question it answers, no more than 600 lines (80 in a model family, which is
//! data), `unsafe` only where memory maps and vector instructions need it and with its reason, nothing unfinished, nothing printed by a library.

use super::Finding;
use super::lexer::{Split, split};

const MAX_LINES: usize = 600;

/// The folder with one file for each model family, beside its `mod.rs`, and the most lines of such a file.
const FAMILIES: (&str, usize) = ("crates/model/src/architectures/", 80);

/// Where `unsafe` may stand: files, or folders with a closing slash.
const UNSAFE_ROOMS: [&str; 4] =
    ["crates/gguf/src/mapping.rs", "crates/cpu/src/simd/", "crates/cuda/", "crates/engine/src/priority.rs"];

/// Where printing is the point, is what a test has to say, or is how a build script speaks to cargo.
const PRINTING_ROOMS: [&str; 5] =
    ["crates/cli/", "crates/fuzzing/", "crates/testkit/", "xtask/", "/build.rs"];

/// Checks one file.
pub(super) fn check(path: &str, text: &str) -> Vec<Finding> {
    let split = split(text);
    let mut findings = Vec::new();
    let mut report = |line: usize, what: String, why| {
        findings.push(Finding { path: path.to_owned(), line: line + 1, what, why });
    };
    if !text.trim_start().starts_with("//!") {
        report(0, "no `//!` header".to_owned(), "a module starts with the question it answers");
    }
    let n_line = text.lines().count();
    if is_family(path) && n_line > FAMILIES.1 {
        let why = "a family has 80 at most: it is data, and what it computes belongs elsewhere";
        report(FAMILIES.1, format!("{n_line} lines"), why);
    } else if n_line > MAX_LINES {
        report(MAX_LINES, format!("{n_line} lines"), "a file has 600 at most: split it by question");
    }
    let prints_on_purpose = split.code.iter().any(|line| line.contains("clippy::print_std"));
    let tests_from =
        if prints_on_purpose || in_room(path, &["/tests/", "/benches/"]) || path.ends_with("/tests.rs") {
            0
        } else {
            split.code.iter().position(|line| line.contains("#[cfg(test)]")).unwrap_or(usize::MAX)
        };
    for (at, (code, comment)) in split.code.iter().zip(&split.comments).enumerate() {
        for unfinished in ["todo!", "unimplemented!", "dbg!"] {
            if has_word(code, unfinished) {
                report(at, format!("`{unfinished}`"), "finish it or remove it");
            }
        }
        for unfinished in
            [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("for", " now")]
        {
            if has_word(comment, unfinished) {
                report(at, format!("\"{unfinished}\" in a comment"), "finish it or remove it");
            }
        }
        if code.contains("#[ignore") {
            report(at, "an ignored test".to_owned(), "a test that never runs proves nothing");
        }
        if is_commented_code(comment) {
            report(at, "commented-out code".to_owned(), "git remembers it");
        }
        if has_word(code, "unsafe") {
            if !in_room(path, &UNSAFE_ROOMS) {
                report(
                    at,
                    "`unsafe`".to_owned(),
                    "only gguf's mapping.rs, cpu/src/simd, cuda and engine's priority.rs may use it",
                );
            } else if opens_unsafe(code) && !has_safety_comment(&split, at) {
                report(
                    at,
                    "`unsafe` without a `// SAFETY:` comment".to_owned(),
                    "name the fact it relies on",
                );
            }
        }
        let prints = ["print!", "println!", "eprint!", "eprintln!"].iter().any(|word| has_word(code, word));
        if prints && at < tests_from && !in_room(path, &PRINTING_ROOMS) {
            report(at, "a library prints".to_owned(), "return it, or use tracing");
        }
    }
    findings
}

/// Whether a file describes a model family.
fn is_family(path: &str) -> bool {
    path.strip_prefix(FAMILIES.0).is_some_and(|file| file != "mod.rs" && !file.contains('/'))
}

/// Whether a path is in one of the rooms; a room that begins with a slash may stand anywhere.
fn in_room(path: &str, rooms: &[&str]) -> bool {
    rooms.iter().any(|room| {
        if room.starts_with('/') { format!("/{path}").contains(room) } else { path.starts_with(room) }
    })
}

/// Whether a word stands in a line on its own, not inside a longer one.
fn has_word(line: &str, word: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        !line[..at].chars().next_back().is_some_and(inside)
            && !line[at + word.len()..].chars().next().is_some_and(inside)
    })
}

/// Whether the line opens an unsafe block or implementation, not merely declares a function.
fn opens_unsafe(code: &str) -> bool {
    code.match_indices("unsafe").any(|(at, word)| {
        let rest = code[at + word.len()..].trim_start();
        rest.starts_with('{') || rest.starts_with("impl")
    })
}

/// Whether the statement that line `at` belongs to has a SAFETY comment on it or directly above it.
fn has_safety_comment(split: &Split, at: usize) -> bool {
    let says = |line: usize| split.comments[line].contains("SAFETY:");
    let ends_statement = |line: usize| split.code[line].trim_end().ends_with([';', '}', '{']);
    says(at) || (0..at).rev().take_while(|&line| !ends_statement(line)).any(says)
}

/// A cheap guess: a plain comment that begins like a statement and ends like one.
fn is_commented_code(comment: &str) -> bool {
    let Some(text) = comment.trim().strip_prefix("//") else { return false };
    if text.starts_with(['/', '!']) {
        return false;
    }
    let text = text.trim();
    let begins = [
        "let ", "use ", "pub ", "fn ", "if ", "for ", "while ", "match ", "return", "impl ", "struct ",
        "mod ", "#[",
    ];
    let statement =
        text.ends_with(';') && (begins.iter().any(|b| text.starts_with(b)) || text.ends_with(");"));
    let opening = text.ends_with('{') && begins.iter().any(|b| text.starts_with(b));
    statement || opening || text.starts_with("#[") || text == "}"
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::super::listed;

    fn check(path: &str, text: &str, findings: &Expect) {
        findings.assert_eq(&listed(&super::check(path, text)));
    }

    #[test]
    fn a_file_has_a_header_and_an_end() {
        check("crates/a/src/b.rs", "//! Why?\nfn a() {}\n", &expect![""]);
        check(
            "crates/a/src/b.rs",
            "fn a() {}\n",
            &expect![[r#"
            crates/a/src/b.rs:1: no `//!` header; a module starts with the question it answers
        "#]],
        );
        check(
            "crates/a/src/b.rs",
            &("//! Long.\n".to_owned() + &"\n".repeat(600)),
            &expect![[r#"
            crates/a/src/b.rs:601: 601 lines; a file has 600 at most: split it by question
        "#]],
        );
    }

    #[test]
    fn a_family_is_short() {
        let text = "//! Llama.\n".to_owned() + &"\n".repeat(80);
        check(
            "crates/model/src/architectures/llama.rs",
            &text,
            &expect![[r#"
            crates/model/src/architectures/llama.rs:81: 81 lines; a family has 80 at most: it is data, and what it computes belongs elsewhere
        "#]],
        );
        for other in ["mod.rs", "keys/rope.rs"] {
            check(&format!("crates/model/src/architectures/{other}"), &text, &expect![""]);
        }
    }

    #[test]
    fn unsafe_has_a_room_and_a_reason() {
        let bare = "//! M.\nfn a() {\n    unsafe { b() }\n}\n";
        check(
            "crates/model/src/a.rs",
            bare,
            &expect![[r#"
            crates/model/src/a.rs:3: `unsafe`; only gguf's mapping.rs, cpu/src/simd, cuda and engine's priority.rs may use it
        "#]],
        );
        check(
            "crates/cpu/src/simd/a.rs",
            bare,
            &expect![[r#"
            crates/cpu/src/simd/a.rs:3: `unsafe` without a `// SAFETY:` comment; name the fact it relies on
        "#]],
        );
        let reasoned = "//! M.\nfn a() {\n    // SAFETY: b needs nothing.\n    let c = d(\n        unsafe { b() });\n}\n";
        check("crates/cpu/src/simd/a.rs", reasoned, &expect![""]);
        let stale = "//! M.\nfn a() {\n    // SAFETY: b needs nothing.\n    c();\n    unsafe { b() };\n}\n";
        check(
            "crates/gguf/src/mapping.rs",
            stale,
            &expect![[r#"
            crates/gguf/src/mapping.rs:5: `unsafe` without a `// SAFETY:` comment; name the fact it relies on
        "#]],
        );
        check("crates/model/src/a.rs", "//! No unsafe.\nconst A: &str = \"unsafe\";\n", &expect![""]);
    }

    #[test]
    fn nothing_unfinished_stays() {
        let text = "//! M.\nfn a() {\n    // TODO: more\n    // let x = 1;\n    // In order; then:\n    todo!()\n}\n#[ignore]\nfn b() {}\n";
        check(
            "crates/a/src/b.rs",
            text,
            &expect![[r#"
            crates/a/src/b.rs:3: "TODO" in a comment; finish it or remove it
            crates/a/src/b.rs:4: commented-out code; git remembers it
            crates/a/src/b.rs:6: `todo!`; finish it or remove it
            crates/a/src/b.rs:8: an ignored test; a test that never runs proves nothing
        "#]],
        );
    }

    #[test]
    fn only_programs_and_tests_print() {
        let text = "//! M.\nfn a() {\n    println!();\n}\n#[cfg(test)]\nfn b() {\n    println!();\n}\n";
        check(
            "crates/a/src/b.rs",
            text,
            &expect![[r#"
            crates/a/src/b.rs:3: a library prints; return it, or use tracing
        "#]],
        );
        check("crates/a/tests/it/main.rs", text, &expect![""]);
        check("crates/cli/src/main.rs", text, &expect![""]);
        let on_purpose = text.replace("fn a", "#[expect(clippy::print_stdout)]\nfn a");
        check("crates/a/src/b.rs", &on_purpose, &expect![""]);
    }
}
