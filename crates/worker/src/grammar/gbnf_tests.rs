//! llama.cpp's grammars accept and refuse the same texts here: those of its folder `grammars/`, which are no part of the repository, and small ones
//! with what they are made of.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::tests::{check_refused, ends_with, grammars};
use super::{Grammars, Source};
use crate::{Format, Work};

/// Is a text a whole answer?
fn takes(grammars: &Grammars, gbnf: &str, text: &str) -> bool {
    let source =
        Source::of_format(&Format::Grammar(gbnf.to_owned())).unwrap_or_else(|error| panic!("{error}"));
    let constraint = grammars.compile(&source, &Work::default());
    ends_with(grammars, constraint.unwrap_or_else(|error| panic!("{error}")), text)
}

fn check(gbnf: &str, accepted: &[&str], refused: &[&str]) {
    let grammars = grammars();
    for text in accepted {
        assert!(takes(&grammars, gbnf, text), "{gbnf}\nshould accept {text:?}");
    }
    for text in refused {
        assert!(!takes(&grammars, gbnf, text), "{gbnf}\nshould refuse {text:?}");
    }
}

/// Texts of a grammar, and what llama.cpp's own parser says of them.
#[derive(Deserialize)]
struct Texts {
    accepted: Vec<String>,
    refused: Vec<String>,
}

/// The texts are a few of each grammar, changed in one or two characters at random.
#[test]
fn the_grammars_of_llama_cpp_accept_and_refuse_what_they_do_there() {
    let folder = std::env::var_os("WORKER_ORCD_FIXTURES")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures")), PathBuf::from);
    let folder = folder.join("grammars");
    if !folder.exists() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{} is missing", folder.display());
        #[expect(clippy::print_stderr, reason = "a skipped test says so")]
        {
            eprintln!("skipped: {} is not there (cargo xtask fixtures)", folder.display());
        }
        return;
    }
    let texts: BTreeMap<String, Texts> = serde_json::from_str(include_str!("gbnf_texts.json")).unwrap();
    for (name, texts) in &texts {
        let gbnf = std::fs::read_to_string(folder.join(format!("{name}.gbnf"))).unwrap();
        let [accepted, refused] = [&texts.accepted, &texts.refused]
            .map(|texts| texts.iter().map(String::as_str).collect::<Vec<_>>());
        check(&gbnf, &accepted, &refused);
    }
    assert_eq!(texts.len(), 8);
}

#[test]
fn expressions_are_recursive_and_blanks_go_anywhere() {
    check(
        "root ::= (sum \"=\" gap part \"\\n\")+\nsum ::= part ([-+*/] part)*\npart ::= name | count | \"(\" gap sum \")\" gap\n\
         name ::= [a-z] [a-z0-9_]* gap\ncount ::= [0-9]+ gap\ngap ::= [ \\t\\n]*",
        &["a=1\n", "(a +b_2)*3 = x\n", "1-2=((3))\na=b\n"],
        &["", "a=1", "a==1\n", "(a=1\n", "a + b=1\n", "2a=1\n", "a=A\n"],
    );
}

#[test]
fn words_may_begin_as_names_do() {
    // The longest terminal would be a name each time.
    check(
        "root ::= (step \";\")*\nstep ::= \"return\" gap name | name | \"if\" \"(\" step \")\" block\nblock ::= \"{\" step* \"}\"\n\
         name ::= [a-z] [a-z0-9]*\ngap ::= ([ \\n]+)",
        &["", "return x;", "returned;", "if(a){b};", "if;", "if(if(a){}){return b};iffy;"],
        &["return ;", "if(a;", "a", "if(a){;};"],
    );
    check(
        "root ::= [a-z]* \"end\" | root \"!\"",
        &["end", "endend", "xend!", "bend!!"],
        &["en", "end?", "!"],
    );
    check(
        "root ::= \"//\" [^\\n]* \"\\n\" | \"/*\" ([^*] | \"*\" [^/])* \"*/\"",
        &["// a\n", "/* a * b */", "/**/"],
        &["//", "/*/", "/* a"],
    );
}

#[test]
fn moves_of_a_game_have_optional_parts() {
    check(
        "# two moves, then more\nroot ::= \"1. \" move \" \" move \"\\n\" ([1-9] [0-9]? \". \" move \" \" move \"\\n\")+\n\
         move ::= (short | long | \"O-O\" \"-O\"?) [+#]?\nlong ::= [NBKQR] [a-h]? [1-8]? \"x\"? [a-h] [1-8]\n\
         short ::= ([a-h] \"x\")? [a-h] [1-8] (\"=\" [NBKQR])?",
        &["1. e4 e5\n2. Nf3 Nc6\n", "1. d4 O-O-O#\n12. exd8=Q+ Rad1\n"],
        &["1. e4 e5\n", "1. e4 e5\n0. e4 e5\n", "1. e9 e5\n2. e4 e5\n", "2. e4 e5\n2. e4 e5\n"],
    );
}

#[test]
fn classes_have_ranges_escapes_and_all_of_unicode() {
    check(
        "root ::= sign+ ([ \\t\\n] sign+)*\nsign ::= [a-zA-Z] | [0-9] | [!\"#$%&'()*+,-./:;<=>?@[\\\\\\]^_`{|}~]",
        &["Hello, [world]!", "a\tb\\c-d.", "{}~"],
        &["", " a", "a  b", "é"],
    );
    check(
        "root ::= kana+ ([ \\n] kana+)*\nkana ::= [\u{3041}-\u{309f}] | [\u{30a1}-\u{30ff}] | [\\u4E00-\\U00009fff]",
        &["ひらがな カタカナ", "漢字"],
        &["a", "ひ,"],
    );
    check(
        "root ::= item+\nitem ::= \"- \" [^\\r\\n\\x0b\\x85\\u2028]+ \"\\n\"",
        &["- a\n- é €\n"],
        &["- \n", "- a", "- a\rb\n", "- a\u{2028}b\n"],
    );
    check("root ::= . [a-] [^]", &["\n-x", "€a\n"], &["ab", "abcd", "xb-"]);
    check("root ::= \"\\x41\\u00e9\\\"\\[\" | \"\" \"b\"", &["Aé\"[", "b"], &["A", ""]);
}

#[test]
fn json_in_this_notation_is_json() {
    let json = |end: &str| {
        format!(
            "root ::= {end}\nvalue ::= object | array | string | number | (\"true\" | \"null\") ws\nobject ::=\n  \"{{\" ws (\n    string \":\" ws value\n\
             \x20   (\",\" ws string \":\" ws value)*\n  )? \"}}\" ws\narray ::= \"[\" ws ( value (\",\" ws value)* )? \"]\" ws\n\
             string ::=\n  \"\\\"\" (\n    [^\"\\\\\\x7F\\x00-\\x1F] |\n    \"\\\\\" ([\"\\\\bfnrt] | \"u\" [0-9a-fA-F]{{4}}) # escapes\n  )* \"\\\"\" ws\n\
             number ::= (\"-\"? ([0-9] | [1-9] [0-9]{{0,15}})) (\".\" [0-9]+)? ws\nws ::= | \" \" | \"\\n\" [ \\t]{{0,20}}"
        )
    };
    check(
        &json("object"),
        &["{}", "{\"a\": [1, -2.5, true], \"b\\u00e9\": {\"c\":null}}", "{\n  \"a\": \"é\\n\"\n}"],
        &["[]", "{\"a\":01}", "{\"a\":\"\\x\"}", "{\"a\":\"\n\"}", "{  }", "{\"a\":1,}"],
    );
    check(
        &json("\"[\\n\" ws (value (\",\\n\" ws value)*)? \"]\""),
        &["[\n]", "[\n1,\n {\"a\":[]}]"],
        &["[]", "[\n1,2]", "[\n] "],
    );
}

#[test]
fn repetitions_are_counted() {
    check(
        "root ::= \"ab\"{2} [0-9]{1,3} x{0,2} y{2,}\nx ::= \"x\"\ny ::= \"y\" | \"(\" y \")\"",
        &["abab1yy", "abab123xx(y)yy"],
        &["ab1yy", "abab1234yy", "abab1xxxyy", "abab1y"],
    );
    check("root ::= (\"a\"?)* \"b\"+ | \"c\"{,2} \"d\"", &["b", "aabb", "d", "ccd"], &["a", "cccd", ""]);
}

#[test]
fn what_cannot_be_translated_is_refused_with_its_place() {
    let gbnf = |text: &str| Format::Grammar(text.to_owned());
    let deep = format!("root ::= {}\"a\"{}", "(".repeat(65), ")".repeat(65));
    let chained: String = (0..1999).map(|i| format!("r{i} ::= r{}\n", i + 1)).collect();
    check_refused(vec![
        (gbnf("root ::= \"a"), "expected `\"` at line 1, column 12 of the GBNF, found the end"),
        (
            gbnf("root ::= a\n\n b ::= \"c\""),
            "the name of a rule that is defined at line 1, column 10 of the GBNF",
        ),
        (gbnf("root ::= \"a\"\n é"), "the name of a rule at line 2, column 2 of the GBNF, found 'é'"),
        (gbnf("root ::= \"a\"{2001}"), "at most 2000 repetitions at line 1, column 14"),
        (gbnf("root ::= \"a\"{3,2}"), "with m at most n at line 1, column 13"),
        (gbnf("rood ::= \"a\""), "expected a rule `root ::= ..`"),
        (gbnf("root ::= \"a\"\nroot ::= \"b\""), "one rule of a name at line 2, column 1"),
        (gbnf("root ::= <think>"), "found a token (`<..>`), which this server does not take"),
        (gbnf("root ::= *"), "an item before its repetition at line 1, column 10"),
        (gbnf("root ::= \"\\q\""), "found another escape"),
        (gbnf("root ::= \"\\ud800\""), "a character's number in 4 hexadecimal digits"),
        (gbnf("root ::= (\"a\""), "expected `)` at line 1, column 14"),
        (gbnf("root ::= \"a\" )"), "expected an item or the line's end at line 1, column 14"),
        (gbnf("root ::= [z-a]"), "a range from a lower to a higher character"),
        (gbnf("root ::= [\\]"), "expected `]`"),
        (gbnf(&deep), "at most 64 levels of brackets"),
        (gbnf(&format!("{chained}r1999 ::= r0\nr2000 ::= r0\nroot ::= r0")), "at most 2000 rules"),
        (gbnf(&"root ::= \"aaaaaaa\"\n# ".repeat(4000)), "at most 65536 bytes"),
        (gbnf(&format!("root ::= \"{}\" root", "é".repeat(20_000))), "at most 65536 bytes"),
    ]);
}

/// Rules that name others twice would be a very long expression.
#[test]
fn what_is_too_long_as_one_expression_is_not_written_as_one() {
    let mut gbnf: String = (0..40).map(|i| format!("r{i} ::= r{} r{}?\n", i + 1, i + 1)).collect();
    gbnf.push_str("r40 ::= \"a\"\nroot ::= r30 \"b\"");
    check(&gbnf, &["ab", "aaab"], &["b", "a"]);
}
