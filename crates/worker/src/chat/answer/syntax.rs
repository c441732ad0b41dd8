//! The forms of calls that are read as a whole: what opens and closes one, and what its text means.

use serde_json::{Map, Value};

use super::literal::{Dialect, Reader};
use super::typed::{Tool, argument};
use crate::chat::CallForm;
use crate::integers;

/// A call's name and its arguments as JSON.
pub(super) type Call = (String, String);

/// Where a call's text ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Close {
    /// Before this marker, or at the end of the answer.
    Marker(&'static [&'static str]),
    /// With its JSON value: a list, if the text begins with one, else the first object.
    Json,
}

/// One form.
#[derive(Debug)]
pub(super) struct Syntax {
    /// The marker of a call, then those around calls that mean nothing.
    pub(super) markers: &'static [&'static str],
    pub(super) close: Close,
    /// Other names of special tokens within a call.
    pub(super) within: &'static [&'static str],
    /// May this be the start of a call's text?
    pub(super) may_start: fn(&str) -> bool,
    /// The calls in a call's text; `None` if it is none.
    pub(super) parse: fn(&str, &[Tool]) -> Option<Vec<Call>>,
}

/// The form's syntax; `None` for those that are read character by character.
pub(super) fn of(form: CallForm) -> Option<&'static Syntax> {
    Some(match form {
        CallForm::Tagged | CallForm::Bare | CallForm::Harmony => return None,
        CallForm::Xml => &XML,
        CallForm::ArgKeys => &ARG_KEYS,
        CallForm::Mistral | CallForm::MistralList => &MISTRAL,
        CallForm::Deepseek | CallForm::DeepseekFenced => &DEEPSEEK,
        CallForm::Kimi => &KIMI,
        CallForm::Gemma => &GEMMA,
        CallForm::Granite => &GRANITE,
        CallForm::Lfm => &LFM,
        CallForm::FunctionCalls => &FUNCTION_CALLS,
    })
}

/// Qwen3-Coder and Qwen3.5: `<tool_call>\n<function=NAME>\n<parameter=KEY>\nVALUE\n</parameter>\n</function>\n</tool_call>`.
const XML: Syntax = Syntax {
    markers: &["<tool_call>"],
    close: Close::Marker(&["</tool_call>"]),
    within: &[],
    may_start: |text| starts(text, "<function=") || starts(text, "{"),
    parse: xml,
};

/// GLM: `<tool_call>NAME\n<arg_key>KEY</arg_key>\n<arg_value>VALUE</arg_value>\n</tool_call>`.
const ARG_KEYS: Syntax = Syntax {
    markers: &["<tool_call>"],
    close: Close::Marker(&["</tool_call>"]),
    within: &["<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"],
    may_start: |text| {
        let name = text.trim_start().split(['\n', '<']).next().unwrap_or_default();
        starts(text, "{") || (name.len() <= 128 && name.trim_end().chars().all(is_of_name))
    },
    parse: arg_keys,
};

/// Mistral: `[TOOL_CALLS]NAME[ARGS]{..}`, with an id as `[CALL_ID]ID` before the arguments, or `[TOOL_CALLS][{"name": ..}, ..]`.
const MISTRAL: Syntax = Syntax {
    markers: &["[TOOL_CALLS]"],
    close: Close::Json,
    within: &["[ARGS]", "[CALL_ID]"],
    may_start: |text| text.len() <= 256,
    parse: |text, _| {
        let (head, arguments) = match text.split_once("[ARGS]") {
            Some(parts) if !text.trim_start().starts_with('[') => parts,
            _ => return json(text),
        };
        named(head.split("[CALL_ID]").next()?, arguments)
    },
};

/// DeepSeek: `NAME<｜tool▁sep｜>{..}`, before V3.1 `function<｜tool▁sep｜>NAME\n```json\n{..}\n``` `.
const DEEPSEEK: Syntax = Syntax {
    markers: &["<｜tool▁call▁begin｜>", "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"],
    close: Close::Marker(&["<｜tool▁call▁end｜>"]),
    within: &["<｜tool▁sep｜>"],
    may_start: |_| true,
    parse: |text, _| {
        let (head, body) = text.split_once("<｜tool▁sep｜>")?;
        match body.split_once("```json") {
            Some((name, arguments)) if head.trim() == "function" => {
                named(name, arguments.trim_end().strip_suffix("```").unwrap_or(arguments))
            }
            _ => named(head, body),
        }
    },
};

/// Kimi K2: `functions.NAME:INDEX<|tool_call_argument_begin|>{..}`.
const KIMI: Syntax = Syntax {
    markers: &["<|tool_call_begin|>", "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"],
    close: Close::Marker(&["<|tool_call_end|>"]),
    within: &["<|tool_call_argument_begin|>"],
    may_start: |_| true,
    parse: |text, _| {
        let (head, arguments) = text.split_once("<|tool_call_argument_begin|>")?;
        let name = head.trim();
        let name = name.strip_prefix("functions.").unwrap_or(name);
        let is_index = |index: &str| index.bytes().all(|b| b.is_ascii_digit());
        named(
            name.rsplit_once(':').filter(|(_, index)| is_index(index)).map_or(name, |parts| parts.0),
            arguments,
        )
    },
};

/// Gemma 4: `<|tool_call>call:NAME{key:value,..}<tool_call|>`.
const GEMMA: Syntax = Syntax {
    markers: &["<|tool_call>"],
    close: Close::Marker(&["<tool_call|>"]),
    within: &["<|\"|>"],
    may_start: |text| starts(text, "call:"),
    parse: |text, _| {
        let mut reader = Reader { rest: text, dialect: Dialect::Gemma };
        if !reader.take("call:") {
            return None;
        }
        let name = reader.word(is_of_name)?;
        let arguments = if reader.take("{") { reader.pairs(":", "}", 0)? } else { return None };
        reader.rest.trim().is_empty().then(|| vec![(name.to_owned(), text_of(arguments))])
    },
};

/// Granite 3: `<|tool_call|>[{"name": .., "arguments": ..}, ..]`.
const GRANITE: Syntax = Syntax {
    markers: &["<|tool_call|>", "<|/tool_call|>"],
    close: Close::Json,
    within: &[],
    may_start: |text| text.len() <= 256 && text.trim_start().is_empty(),
    parse: |text, _| json(text),
};

/// LFM2: `<|tool_call_start|>[name(key=value, ..), ..]<|tool_call_end|>`, or the same as JSON.
const LFM: Syntax = Syntax {
    markers: &["<|tool_call_start|>"],
    close: Close::Marker(&["<|tool_call_end|>"]),
    within: &[],
    may_start: |_| true,
    parse: python,
};

/// OLMo 3: `<function_calls>\nname(key=value)\n..</function_calls>`.
const FUNCTION_CALLS: Syntax = Syntax {
    markers: &["<function_calls>"],
    close: Close::Marker(&["</function_calls>"]),
    within: &[],
    may_start: |text| {
        let name = text.trim_start().split(['(', '[', '{']).next().unwrap_or_default();
        name.len() <= 128 && name.chars().all(is_of_name)
    },
    parse: python,
};

/// Does the text begin with these words, as far as it goes?
fn starts(text: &str, words: &str) -> bool {
    let text = text.trim_start();
    text.starts_with(words) || words.starts_with(text)
}

/// What function names are made of, see [`Chat`](crate::Chat).
fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_-.:".contains(c)
}

fn is_name(name: &str) -> bool {
    (1..=128).contains(&name.len()) && name.chars().all(is_of_name)
}

fn text_of(arguments: Map<String, Value>) -> String {
    Value::Object(arguments).to_string()
}

/// A name, and arguments that are a JSON object: these stay as they were written.
fn named(name: &str, arguments: &str) -> Option<Vec<Call>> {
    let (name, arguments) = (name.trim(), arguments.trim());
    let is_object = arguments.starts_with('{') && serde_json::from_str::<Value>(arguments).is_ok();
    (is_name(name) && is_object).then(|| vec![(name.to_owned(), arguments.to_owned())])
}

/// One object with a name and arguments, or a list of them; none where a number in it would be another one.
fn json(text: &str) -> Option<Vec<Call>> {
    if integers::beyond_64_bits(text.as_bytes(), None).is_some() {
        return None;
    }
    let calls = match serde_json::from_str(text.trim()).ok()? {
        Value::Array(calls) => calls,
        call => vec![call],
    };
    calls.into_iter().map(object).collect()
}

fn object(call: Value) -> Option<Call> {
    let Value::Object(mut call) = call else { return None };
    let name = call.get("name")?.as_str().filter(|name| is_name(name))?.to_owned();
    let arguments = match call.shift_remove("arguments").or_else(|| call.shift_remove("parameters")) {
        None | Some(Value::Null) => "{}".to_owned(),
        // Some models write the arguments' JSON into a text.
        Some(Value::String(text)) => text,
        Some(Value::Object(arguments)) => text_of(arguments),
        Some(_) => return None,
    };
    Some((name, arguments))
}

fn xml(text: &str, tools: &[Tool]) -> Option<Vec<Call>> {
    let Some(rest) = text.trim().strip_prefix("<function=") else { return json(text) };
    let (name, mut rest) = rest.split_once('>')?;
    let name = name.trim();
    let mut arguments = Map::new();
    loop {
        rest = rest.trim_start();
        if rest.trim_end() == "</function>" {
            break;
        }
        let (key, after) = rest.strip_prefix("<parameter=")?.split_once('>')?;
        let (value, after) = after.split_once("</parameter>")?;
        // One line break at each end belongs to the form.
        let value = value.strip_prefix('\n').unwrap_or(value);
        let value = value.strip_suffix('\n').unwrap_or(value);
        arguments.insert(key.trim().to_owned(), argument(tools, name, key.trim(), value)?);
        rest = after;
    }
    is_name(name).then(|| vec![(name.to_owned(), text_of(arguments))])
}

fn arg_keys(text: &str, tools: &[Tool]) -> Option<Vec<Call>> {
    if text.trim_start().starts_with('{') {
        return json(text);
    }
    let (name, mut rest) = text.split_at(text.find("<arg_key>").unwrap_or(text.len()));
    let name = name.trim();
    let mut arguments = Map::new();
    while !rest.trim().is_empty() {
        let (key, after) = rest.trim_start().strip_prefix("<arg_key>")?.split_once("</arg_key>")?;
        let (value, after) = after.trim_start().strip_prefix("<arg_value>")?.split_once("</arg_value>")?;
        arguments.insert(key.trim().to_owned(), argument(tools, name, key.trim(), value)?);
        rest = after;
    }
    is_name(name).then(|| vec![(name.to_owned(), text_of(arguments))])
}

/// Calls as Python writes them, in a list or one after the other.
fn python(text: &str, _: &[Tool]) -> Option<Vec<Call>> {
    if let Some(calls) = json(text) {
        return Some(calls);
    }
    let mut reader = Reader { rest: text, dialect: Dialect::Python };
    let is_list = reader.take("[");
    let mut calls = Vec::new();
    while let Some(name) = reader.word(is_of_name) {
        if !reader.take("(") {
            return None;
        }
        calls.push((name.to_owned(), text_of(reader.pairs("=", ")", 0)?)));
        reader.take(",");
    }
    let ends = !is_list || reader.take("]");
    (ends && reader.rest.trim().is_empty()).then_some(calls)
}
