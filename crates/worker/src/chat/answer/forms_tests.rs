//! Calls in each of the forms that are read as a whole, as published models write them, wherever the stream is cut.

use serde_json::json;

use super::tests::parts;
use super::*;

fn tools() -> Vec<Tool> {
    let properties = json!({
        "city": { "type": "string" },
        "days": { "type": "integer" },
        "exact": { "type": "boolean" },
        "at": { "type": "array", "items": { "type": "number" } },
        "unit": { "anyOf": [{ "type": "string" }, { "type": "null" }] },
        "zip": { "type": ["string", "integer"] },
        "mode": { "enum": ["1", "x"] },
    });
    let parameters = json!({ "type": "object", "properties": properties });
    ["weather", "f"].map(|name| Tool { name: name.to_owned(), parameters: parameters.clone() }).to_vec()
}

fn answer(form: CallForm, tags: ThinkTags, start: ThinkStart, one_call: bool) -> Answer {
    Answer::Marked(Think::new(start, tags, Body::block(form, tools(), one_call).unwrap()))
}

/// The parts of a text, the same for every way to cut it in two and for single characters.
fn read(answer: &Answer, text: &str) -> String {
    let whole = parts(answer.clone(), &[text]).0;
    let places: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    for &at in &places {
        assert_eq!(parts(answer.clone(), &[&text[..at], &text[at..]]).0, whole, "cut at {at}");
    }
    let single: Vec<&str> = places.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
    assert_eq!(parts(answer.clone(), &single).0, whole);
    whole
}

fn check(form: CallForm, text: &str, content: &str, calls: &[&str]) {
    let answer = answer(form, ThinkTags::Think, ThinkStart::None, false);
    assert_eq!(
        read(&answer, text),
        format!("reasoning \"\"\ncontent {content:?}\ncalls {calls:?}\n"),
        "{text}"
    );
}

#[test]
fn xml_parameters_have_the_types_of_the_schema() {
    check(
        CallForm::Xml,
        "I look.\n\n<tool_call>\n<function=weather>\n<parameter=city>\nBern\n\"x\" <b>\n</parameter>\n<parameter=days>\n3\n</parameter>\n\
         <parameter=exact>\nTrue\n</parameter>\n<parameter=at>\n[1, 2.5]\n</parameter>\n<parameter=unit>\nNone\n</parameter>\n\
         <parameter=zip>\n3011\n</parameter>\n<parameter=mode>\n1\n</parameter>\n<parameter=more>\n{\"a\": 1}\n</parameter>\n</function>\n</tool_call>\n\
         <tool_call>\n<function=f>\n</function>\n</tool_call>",
        "I look.",
        &[
            r#"0: weather({"city":"Bern\n\"x\" <b>","days":3,"exact":true,"at":[1,2.5],"unit":null,"zip":3011,"mode":"1","more":{"a":1}})"#,
            "1: f({})",
        ],
    );
    // A number where a text is wanted, a text where a number is, and the form of Hermes.
    check(
        CallForm::Xml,
        "<tool_call>\n<function=weather>\n<parameter=city>\n5\n</parameter>\n<parameter=days>\nmany\n</parameter>\n</function>\n</tool_call>\n\
         <tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>",
        "",
        &[r#"0: weather({"city":"5","days":"many"})"#, r#"1: f({"a":1})"#],
    );
}

#[test]
fn keys_and_values_of_glm() {
    check(
        CallForm::ArgKeys,
        "Yes.\n<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Zürich\n</arg_value>\n<arg_key>days</arg_key>\n<arg_value>2</arg_value>\n</tool_call>\n\
         <tool_call>f<arg_key>zip</arg_key><arg_value>007</arg_value></tool_call><tool_call>f\n</tool_call>",
        "Yes.",
        &[r#"0: weather({"city":"Zürich\n","days":2})"#, r#"1: f({"zip":"007"})"#, "2: f({})"],
    );
}

#[test]
fn names_before_json() {
    check(
        CallForm::Mistral,
        "Sure. [TOOL_CALLS]weather[ARGS]{\"city\": \"a}b[\", \"days\":1}[TOOL_CALLS]f[CALL_ID]abc123def[ARGS]{}",
        "Sure.",
        &[r#"0: weather({"city": "a}b[", "days":1})"#, "1: f({})"],
    );
    check(
        CallForm::MistralList,
        "[TOOL_CALLS][{\"name\": \"weather\", \"arguments\": {\"city\": \"Bern\"}, \"id\": \"abcdefghi\"}, {\"name\": \"f\", \"arguments\": {}}]",
        "",
        &[r#"0: weather({"city":"Bern"})"#, "1: f({})"],
    );
    check(
        CallForm::Deepseek,
        "Ja.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>{\"city\": \"Bern\"}<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>f<｜tool▁sep｜>{}\
         <｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        "Ja.",
        &[r#"0: weather({"city": "Bern"})"#, "1: f({})"],
    );
    check(
        CallForm::DeepseekFenced,
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n{\"city\": \"Bern\"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        "",
        &[r#"0: weather({"city": "Bern"})"#],
    );
    check(
        CallForm::Kimi,
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.weather:0<|tool_call_argument_begin|>{\"days\": 1}<|tool_call_end|>\
         <|tool_call_begin|>functions.f:1<|tool_call_argument_begin|>{}<|tool_call_end|><|tool_calls_section_end|>",
        "",
        &[r#"0: weather({"days": 1})"#, "1: f({})"],
    );
    check(
        CallForm::Granite,
        "<|tool_call|>[{\"name\": \"weather\", \"arguments\": {\"city\": \"Bern\"}}]",
        "",
        &[r#"0: weather({"city":"Bern"})"#],
    );
}

#[test]
fn gemmas_and_pythons_literals() {
    check(
        CallForm::Gemma,
        "Let me see.<|tool_call>call:weather{city:<|\"|>Bern, {x}<|\"|>,days:3,exact:true,at:[1,-2.5],more:{a:<|\"|><|\"|>,<|\"|>b c<|\"|>:null}}<tool_call|>\
         <|tool_call>call:f{}<tool_call|>",
        "Let me see.",
        &[
            r#"0: weather({"city":"Bern, {x}","days":3,"exact":true,"at":[1,-2.5],"more":{"a":"","b c":null}})"#,
            "1: f({})",
        ],
    );
    check(
        CallForm::Lfm,
        "<|tool_call_start|>[weather(city=\"Bern (CH), \\\"x\\\"\", days=3, exact=True, at=[1, 2.5], more={'a': None}), f()]<|tool_call_end|>I wait.",
        "I wait.",
        &[
            r#"0: weather({"city":"Bern (CH), \"x\"","days":3,"exact":true,"at":[1,2.5],"more":{"a":null}})"#,
            "1: f({})",
        ],
    );
    check(
        CallForm::Lfm,
        "<|tool_call_start|>[{\"name\": \"f\", \"arguments\": {\"a\": 1}}]<|tool_call_end|>",
        "",
        &[r#"0: f({"a":1})"#],
    );
    check(
        CallForm::FunctionCalls,
        "<function_calls>\nweather(city='It\\'s \\u00e9', days=1,)\nf()\n</function_calls>",
        "",
        &[r#"0: weather({"city":"It's é","days":1})"#, "1: f({})"],
    );
}

#[test]
fn an_answer_may_end_before_the_closing_marker() {
    check(CallForm::Gemma, "<|tool_call>call:f{days:1}", "", &[r#"0: f({"days":1})"#]);
    check(CallForm::Xml, "<tool_call>\n<function=f>\n</function>", "", &["0: f({})"]);
    check(CallForm::Lfm, "<|tool_call_start|>[f()]", "", &["0: f({})"]);
}

#[test]
fn only_the_first_of_several_calls_counts_where_one_is_asked_for() {
    let answer = answer(CallForm::Lfm, ThinkTags::Think, ThinkStart::None, true);
    assert!(read(&answer, "<|tool_call_start|>[f(), f()]<|tool_call_end|>").contains("calls [\"0: f({})\"]"));
}

const FORMS: [CallForm; 11] = [
    CallForm::Xml,
    CallForm::ArgKeys,
    CallForm::Mistral,
    CallForm::MistralList,
    CallForm::Deepseek,
    CallForm::DeepseekFenced,
    CallForm::Kimi,
    CallForm::Gemma,
    CallForm::Granite,
    CallForm::Lfm,
    CallForm::FunctionCalls,
];

#[test]
fn what_only_looks_like_a_call_is_content() {
    for text in [
        "<tool_call>",
        " a < b <tool_call> is a tag </tool_call>, so",
        "<tool_call><tool_call>x",
        "<tool_call>\n<function=f>\n<parameter=a>\n1\n</function>\n</tool_call>",
        "<tool_call>\n<function=f\n</tool_call>",
        "<tool_call>f g\n</tool_call> ",
        "<tool_call>f<arg_key>a</arg_key></tool_call>",
        "[TOOL_CALLS]",
        "[TOOL_CALLS] f(1)",
        "[TOOL_CALLS]f[ARGS][1]",
        "[TOOL_CALLS][{\"name\": 1}]",
        "[TOOL_CALLS]f[ARGS]{\"a\": 1",
        "<｜tool▁calls▁begin｜>",
        "<｜tool▁calls▁begin｜>no<｜tool▁calls▁end｜>",
        "<｜tool▁call▁begin｜>f<｜tool▁call▁end｜>",
        "<|tool_call_begin|>f{}<|tool_call_end|> ",
        "<|tool_call>f{}<tool_call|>",
        "<|tool_call>call:f{a:<|\"|>b}<tool_call|>",
        "<|tool_call>call:f(a)<tool_call|> ",
        "<|tool_call|>x",
        "<|tool_call|>[1]",
        "<|tool_call_start|>[f(1)]<|tool_call_end|>",
        "<|tool_call_start|>[]<|tool_call_end|>",
        "<function_calls>\nf(a=)\n</function_calls>",
        "<function_calls> are written so",
        "<fun",
        "\n [",
        // Numbers that would be other ones in the call.
        "<tool_call>\n<function=f>\n<parameter=days>\n99999999999999999999\n</parameter>\n</function>\n</tool_call>",
        "<tool_call>f\n<arg_key>at</arg_key>\n<arg_value>[1, 99999999999999999999]</arg_value>\n</tool_call>",
        "<|tool_call>call:f{days:99999999999999999999}<tool_call|>",
        "<|tool_call|>[{\"name\": \"f\", \"arguments\": {\"days\": 99999999999999999999}}]",
        "<|tool_call_start|>[f(days=-99999999999999999999)]<|tool_call_end|>",
    ] {
        for form in FORMS {
            check(form, text, text, &[]);
        }
    }
    let deep = format!("<|tool_call>call:f{{a:{}1{}}}<tool_call|>", "[".repeat(2000), "]".repeat(2000));
    assert!(
        parts(answer(CallForm::Gemma, ThinkTags::Think, ThinkStart::None, false), &[&deep])
            .0
            .contains("calls []")
    );
}

#[test]
fn reasoning_in_other_tags() {
    let inside = |tags, start, text| read(&answer(CallForm::Gemma, tags, start, false), text);
    let expected = "reasoning \"hm\"\ncontent \"Yes.\"\ncalls [\"0: f({})\"]\n";
    let call = "<|tool_call>call:f{}<tool_call|>";
    let text = format!("<|channel>thought\nhm\n<channel|>Yes.{call}");
    assert_eq!(inside(ThinkTags::Channel, ThinkStart::Maybe, &text), expected);
    let text = format!("[THINK]hm[/THINK]Yes.{call}");
    assert_eq!(inside(ThinkTags::Brackets, ThinkStart::Maybe, &text), expected);
    let text = format!("\nhm\n[/THINK]\n\nYes.{call}");
    assert_eq!(inside(ThinkTags::Brackets, ThinkStart::Inside, &text), expected);
}
