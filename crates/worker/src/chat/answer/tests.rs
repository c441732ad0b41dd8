//! What each part of an answer is, for every family, wherever the stream is cut.

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

const IDS: HarmonyIds =
    HarmonyIds { start: 6, end: 7, message: 8, channel: 5, constrain: 3, result: 2, call: 12 };

/// The parts of an answer, as text; special tokens stand as `⟨6⟩`.
pub(super) fn parts(mut answer: Answer, pieces: &[&str]) -> (String, Out) {
    let mut out = Out::default();
    let mut whole = Out::default();
    let mut bytes = 0;
    for piece in pieces {
        match piece.strip_prefix('⟨').and_then(|rest| rest.strip_suffix('⟩')).and_then(|id| id.parse().ok())
        {
            Some(id) => answer.special(id, &mut out),
            None => {
                answer.text(piece, &mut out);
                bytes += piece.len();
            }
        }
        gather(&mut out, &mut whole);
    }
    answer.finish(&mut out);
    gather(&mut out, &mut whole);
    // Every byte is part of something.
    assert!(bytes == 0 || out.part_of(bytes - 1, bytes).is_some(), "{pieces:?}");
    let calls: Vec<String> = whole
        .tool_calls
        .iter()
        .map(|call| format!("{}: {}({})", call.index, call.name.as_deref().unwrap_or("?"), call.arguments))
        .collect();
    (format!("reasoning {:?}\ncontent {:?}\ncalls {calls:?}\n", whole.reasoning, whole.content), out)
}

fn gather(out: &mut Out, whole: &mut Out) {
    whole.content += &std::mem::take(&mut out.content);
    whole.reasoning += &std::mem::take(&mut out.reasoning);
    for call in std::mem::take(&mut out.tool_calls) {
        if call.name.is_some() {
            assert!(call.id.as_deref().is_some_and(|id| id.starts_with("call_") && id.len() == 29));
            whole.tool_calls.push(call);
        } else {
            whole.tool_calls.last_mut().unwrap().arguments += &call.arguments;
        }
    }
}

fn tagged() -> Answer {
    Answer::Marked(Think::new(ThinkStart::Maybe, ThinkTags::Think, Body::Tagged(Tagged::new())))
}

fn bare() -> Answer {
    Answer::Marked(Think::new(
        ThinkStart::None,
        ThinkTags::Think,
        Body::bare(vec!["f".to_owned(), "g".to_owned()]),
    ))
}

fn harmony() -> Answer {
    Answer::Harmony(Harmony::new(IDS, vec!["f".to_owned()]))
}

fn check(answer: Answer, text: &str, expected: &Expect) {
    expected.assert_eq(&parts(answer, &[text]).0);
}

#[test]
fn calls_in_tags() {
    check(
        tagged(),
        "<think>\nlet me see\n</think>\n\nI look.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"}<\\\"\"}}\n</tool_call>\n<tool_call>{\"arguments\":{},\"name\":\"g\"}</tool_call>\n",
        &expect![[r#"
            reasoning "let me see"
            content "I look."
            calls ["0: f({\"a\": \"}<\\\"\"})", "1: g({})"]
        "#]],
    );
    // No closing tag, no arguments, arguments as a text, keys that nobody asked for.
    check(
        tagged(),
        "<tool_call>{\"id\": 1, \"name\": \"f\"}<tool_call>{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":1}\", \"x\": [1]}",
        &expect![[r#"
            reasoning ""
            content ""
            calls ["0: f({})", "1: f({\"a\":1})"]
        "#]],
    );
}

#[test]
fn what_only_looks_like_a_call_is_content() {
    for text in [
        "<tool_call>",
        "a < b <tool_call> is a tag",
        "<tool_call>{\"name\": 7, \"arguments\": {}}</tool_call>",
        "<tool_call>{\"arguments\": {\"a\": 1}}</tool_call>",
        "<tool_call>{\"name\": \"f\"",
        "<tool_call>[]</tool_call>",
        " \n<too",
        "<tool_call><tool_call>x",
        "{\"name\": \"f\"}",
    ] {
        let (found, _) = parts(tagged(), &[text]);
        assert_eq!(found, format!("reasoning \"\"\ncontent {text:?}\ncalls []\n"));
    }
    for text in [
        "{\"name\": \"Bob\", \"age\": 3}",
        "{\"name\": \"f\"}",
        "{",
        " [1]",
        "<|python_tag|>print(1)",
        "x {\"name\": \"f\", \"parameters\": {}}",
    ] {
        let (found, _) = parts(bare(), &[text]);
        assert_eq!(found, format!("reasoning \"\"\ncontent {text:?}\ncalls []\n"));
    }
    // Once it is a call, broken arguments stay its arguments.
    check(
        tagged(),
        "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": </tool_call>done",
        &expect![[r#"
            reasoning ""
            content "done"
            calls ["0: f({\"a\": )"]
        "#]],
    );
}

#[test]
fn calls_alone() {
    check(
        bare(),
        "<|python_tag|>{\"name\": \"f\", \"parameters\": {\"a\": [1, {}]}}; {\"name\": \"g\", \"parameters\": {}}",
        &expect![[r#"
            reasoning ""
            content ""
            calls ["0: f({\"a\": [1, {}]})", "1: g({})"]
        "#]],
    );
}

fn check_harmony(pieces: &[&str], expected: &Expect) {
    expected.assert_eq(&parts(harmony(), pieces).0);
}

#[test]
fn messages_of_harmony() {
    check_harmony(
        &[
            "⟨5⟩",
            "analysis",
            "⟨8⟩",
            "hmm",
            "⟨7⟩",
            "⟨6⟩",
            "assistant",
            "⟨5⟩",
            "final",
            "⟨8⟩",
            "yes <|end|>",
            "⟨2⟩",
        ],
        &expect![[r#"
            reasoning "hmm"
            content "yes <|end|>"
            calls []
        "#]],
    );
    // The recipient stands in the channel or in the role.
    let call = [
        "⟨5⟩",
        "commentary to=functions.f ",
        "⟨3⟩",
        "json",
        "⟨8⟩",
        "{\"a\":",
        "1}",
        "⟨7⟩",
        "⟨6⟩",
        "assistant to=functions.f",
        "⟨5⟩",
        "commentary",
        "⟨8⟩",
        "{}",
        "⟨12⟩",
    ];
    check_harmony(
        &call,
        &expect![[r#"
            reasoning ""
            content ""
            calls ["0: f({\"a\":1})", "1: f({})"]
        "#]],
    );
    check_harmony(
        &[" to=functions.f", "⟨5⟩", "commentary json", "⟨8⟩", "{}"],
        &expect![[r#"
            reasoning ""
            content ""
            calls ["0: f({})"]
        "#]],
    );
    // A preamble is for the user.
    check_harmony(
        &["⟨5⟩", "commentary", "⟨8⟩", "I call f.", "⟨7⟩"],
        &expect![[r#"
            reasoning ""
            content "I call f."
            calls []
        "#]],
    );
}

#[test]
fn headers_that_are_not_understood_make_content() {
    for pieces in [
        &["⟨5⟩", "nonsense", "⟨8⟩", "text"][..],
        &["⟨8⟩", "text"],
        &["text"],
        &["⟨7⟩", "⟨6⟩", "⟨5⟩", "⟨5⟩", "⟨3⟩", "x", "⟨8⟩", "text", "⟨9⟩"],
        &["⟨5⟩", "commentary to=functions.", "⟨8⟩", "text"],
        &["⟨5⟩", "final to=elsewhere", "⟨8⟩", "text"],
    ] {
        assert_eq!(parts(harmony(), pieces).0, "reasoning \"\"\ncontent \"text\"\ncalls []\n", "{pieces:?}");
    }
    let long = "x".repeat(1000);
    assert!(parts(harmony(), &[&long]).0.contains(&long));
    // Cut off within a header: nothing of it was text.
    assert_eq!(parts(harmony(), &["⟨5⟩", "analy"]).0, "reasoning \"\"\ncontent \"\"\ncalls []\n");
}

/// Text that is likely to be markup, in pieces.
fn markup() -> impl Strategy<Value = Vec<&'static str>> {
    let piece = prop::sample::select(vec![
        "<think>",
        "</think>",
        "<tool_call>",
        "</tool_call>",
        "<",
        "tool_call>",
        "{",
        "}",
        "\"name\"",
        ":",
        "\"f\"",
        "\"h\"",
        ",",
        "\"arguments\"",
        "\"parameters\"",
        "{\"name\": \"f\", \"arguments\": {\"a\": 1}}",
        " ",
        "\n",
        "é",
        "\\\"",
        "\"",
        "[1",
        "]",
        "<|python_tag|>",
        ";",
        "word",
        "null",
        "3",
    ]);
    prop::collection::vec(piece, 0..24)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn the_cuts_of_a_stream_do_not_matter(pieces in markup(), cuts in prop::collection::vec(1usize..9, 1..20)) {
        let text = pieces.concat();
        let mut cut = Vec::new();
        let (mut rest, mut cuts) = (text.as_str(), cuts.iter().cycle());
        while !rest.is_empty() {
            let n = *cuts.next().unwrap();
            let end = rest.char_indices().map(|(i, _)| i).chain([rest.len()]).find(|&i| i >= n).unwrap_or(rest.len());
            let (piece, after) = rest.split_at(end);
            cut.push(piece);
            rest = after;
        }
        for answer in [tagged(), bare()] {
            prop_assert_eq!(parts(answer.clone(), &[&text]).0, parts(answer, &cut).0);
        }
    }

    /// Without a call nothing is lost.
    #[test]
    fn text_without_calls_is_content(pieces in markup()) {
        let text = pieces.concat();
        for body in [Body::Tagged(Tagged::new()), Body::bare(vec!["f".to_owned()])] {
            let mut answer = Answer::Marked(Think::new(ThinkStart::None, ThinkTags::Think, body));
            let mut out = Out::default();
            answer.text(&text, &mut out);
            answer.finish(&mut out);
            if out.calls().0 == 0 {
                prop_assert_eq!(&out.content, &text);
            }
        }
    }

    #[test]
    fn no_header_fails(pieces in prop::collection::vec(prop::sample::select(vec![
        "⟨2⟩", "⟨3⟩", "⟨5⟩", "⟨6⟩", "⟨7⟩", "⟨8⟩", "⟨12⟩", "⟨99⟩", "analysis", "final", "assistant", "commentary to=functions.f", "x\n", " to=", "é",
    ]), 0..20)) {
        let (_, mut out) = parts(harmony(), &pieces);
        let is_token = |piece: &&str| piece.starts_with('⟨');
        let decided = out.part_of(0, 0).is_some();
        prop_assert!(decided || pieces.iter().all(is_token), "{:?}", pieces);
    }
}
