//! Answers whose form is given, sampled from a real model at a temperature at which it says anything at all.

use std::path::Path;
use std::sync::Arc;

use cpu::{CpuExecutor, Options};
use device::SamplingParams;
use engine::{Engine, EngineOptions, Speculation};
use model::Model;
use serde_json::{Value, json};
use tokenizer::Tokenizer;
use worker::{
    Chat, ChatEvent, Event, Finish, Format, Prompt, Request, StopReason, ToolChoice, Worker, WorkerOptions,
};

/// A worker on the processor; its template is SmolLM2's, without tools.
pub(crate) fn worker() -> Worker {
    guessing(None)
}

/// The same, with guesses.
pub(crate) fn guessing(speculation: Option<Speculation>) -> Worker {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/llama-q4_k_m.gguf");
    let file = gguf::Gguf::open(&path).unwrap();
    let template = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}\
                    {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
    let pairs = file.metadata().iter().map(|(key, value)| (key.to_owned(), value.clone()));
    let template = ("tokenizer.chat_template".to_owned(), gguf::Value::from(template));
    let metadata = gguf::Metadata::from_pairs(pairs.chain([template])).unwrap();
    let tokenizer = Arc::new(Tokenizer::from_gguf(&metadata, None).unwrap());
    let model = Arc::new(Model::load(&file).unwrap());
    let options = Options { threads: 2, n_ctx: 1024, n_slot: 4, ..Options::default() };
    let executor = CpuExecutor::new(model, &options).unwrap();
    let options = EngineOptions { speculation, ..EngineOptions::default() };
    let engine = Engine::spawn(Box::new(executor), options).unwrap();
    Worker::new(engine, tokenizer, WorkerOptions::default())
}

pub(crate) fn wild(prompt: Prompt, format: Option<Format>) -> Request {
    let sampling = SamplingParams { temperature: 1.5, ..SamplingParams::default() };
    Request { sampling, format, seed: Some(0), max_tokens: Some(400), ..Request::new(prompt) }
}

pub(crate) fn text() -> Prompt {
    Prompt::Text { text: "An answer: ".to_owned(), add_special: false, parse_special: false }
}

/// Answers with many seeds.
fn answers(worker: &Worker, format: Format, n: u64) -> Vec<(String, StopReason)> {
    let request = worker.check(wild(text(), Some(format))).unwrap();
    let started: Vec<_> = (0..n).map(|seed| worker.start(request.with_seed(seed)).unwrap()).collect();
    let answer = |mut generation: worker::Generation| {
        let mut text = String::new();
        loop {
            match generation.next_blocking().unwrap() {
                Event::Delta { text: more, .. } => text.push_str(&more),
                Event::End { reason, .. } => return (text, reason),
                Event::Error(error) => panic!("{error}"),
                Event::Started { .. } | Event::Prompt(_) => {}
            }
        }
    };
    started.into_iter().map(answer).collect()
}

#[test]
fn answers_follow_their_schema_for_any_seed() {
    let schema = json!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "maxLength": 12 },
            "age": { "type": "integer", "minimum": 0, "maximum": 150 },
            "kind": { "enum": ["cat", "dog"] },
            "tags": { "type": "array", "items": { "type": "boolean" }, "maxItems": 3 },
        },
        "required": ["name", "age", "kind", "tags"],
        "additionalProperties": false,
    });
    let mut distinct = std::collections::HashSet::new();
    for (text, reason) in answers(&worker(), Format::JsonSchema(schema), 24) {
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert!(matches!(reason, StopReason::Token(_)), "{reason:?}");
        assert_eq!(value.as_object().unwrap().len(), 4, "{text}");
        assert!(value["name"].as_str().unwrap().chars().count() <= 12, "{text}");
        assert!(value["age"].as_u64().unwrap() <= 150, "{text}");
        assert!(["cat", "dog"].contains(&value["kind"].as_str().unwrap()), "{text}");
        let tags = value["tags"].as_array().unwrap();
        assert!(tags.len() <= 3 && tags.iter().all(Value::is_boolean), "{text}");
        distinct.insert(text);
    }
    assert!(distinct.len() > 20, "{distinct:?}");
}

#[test]
fn expressions_and_grammars_bind_too() {
    let worker = worker();
    for (text, _) in answers(&worker, Format::Regex("[a-c]{3}-[0-9]{1,4}".to_owned()), 8) {
        let (letters, digits) = text.split_once('-').unwrap();
        assert!(letters.len() == 3 && letters.bytes().all(|b| (b'a'..=b'c').contains(&b)), "{text}");
        assert!((1..=4).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()), "{text}");
    }
    let lark = "start: (\"yes\" | \"no\") (\", \" (\"yes\" | \"no\")){2}\n";
    for (text, _) in answers(&worker, Format::Grammar(lark.to_owned()), 8) {
        assert_eq!(text.split(", ").filter(|word| ["yes", "no"].contains(word)).count(), 3, "{text}");
    }
    // Any object: some answers may be cut off by max_tokens, the others are whole.
    for (text, reason) in answers(&worker, Format::JsonObject, 8) {
        assert!(text.trim_start().starts_with('{'), "{text}");
        assert!(reason == StopReason::Length || serde_json::from_str::<Value>(&text).unwrap().is_object());
    }
}

pub(crate) fn chat(tool_choice: ToolChoice) -> Chat {
    let tool = |name: &str, parameters: Value| json!({ "type": "function", "function": { "name": name, "parameters": parameters } });
    let city = json!({
        "type": "object",
        "properties": { "city": { "$ref": "#/$defs/city" } },
        "required": ["city"],
        "additionalProperties": false,
        "$defs": { "city": { "enum": ["Paris", "Oslo"] } },
    });
    Chat {
        tools: vec![
            tool("weather", city),
            tool("clock", json!({ "type": "object", "additionalProperties": false })),
        ],
        tool_choice,
        ..Chat::new(vec![worker::chat::message("user", "hi")])
    }
}

/// The calls of an answer: name and arguments.
fn calls(worker: &Worker, chat: Chat, seed: u64) -> (Vec<(String, Value)>, String, Finish) {
    let request = worker.check(wild(Prompt::Chat(chat), None)).unwrap();
    let mut generation = worker.chat(request.with_seed(seed)).unwrap();
    let (mut calls, mut content) = (Vec::<(String, String)>::new(), String::new());
    let mut n_token = 0;
    loop {
        match generation.next_blocking().unwrap() {
            ChatEvent::Started { .. } | ChatEvent::Prompt(_) => {}
            ChatEvent::Delta(delta) => {
                content.push_str(&delta.content);
                n_token += delta.tokens.len();
                for call in delta.tool_calls {
                    if let Some(name) = call.name {
                        assert!(call.id.is_some() && call.index == calls.len());
                        calls.push((name, String::new()));
                    }
                    calls[call.index].1.push_str(&call.arguments);
                }
            }
            ChatEvent::End { finish, usage, reason, .. } => {
                // An end token is counted, but is none of the answer's.
                let n_end = usize::from(matches!(reason, StopReason::Token(_)));
                assert_eq!(n_token + n_end, usage.n_generated);
                let parsed = calls
                    .into_iter()
                    .map(|(name, arguments)| (name, serde_json::from_str(&arguments).unwrap()));
                return (parsed.collect(), content, finish);
            }
            ChatEvent::Error(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_call_that_must_be_made_is_made() {
    let worker = worker();
    let mut names = std::collections::HashSet::new();
    for seed in 0..12 {
        let once = Chat { parallel_tool_calls: false, ..chat(ToolChoice::Required) };
        let (calls, content, finish) = calls(&worker, once, seed);
        let [(name, arguments)] = calls.as_slice() else { panic!("{calls:?}") };
        match name.as_str() {
            "weather" => assert!(["Paris", "Oslo"].contains(&arguments["city"].as_str().unwrap())),
            name => assert_eq!((name, arguments), ("clock", &json!({}))),
        }
        assert_eq!((content.as_str(), finish), ("", Finish::ToolCalls));
        names.insert(name.clone());
    }
    assert_eq!(names.len(), 2);
    // One that is named is called once, whether several calls are allowed or not.
    let (calls, _, finish) = calls(&worker, chat(ToolChoice::Named("weather".to_owned())), 1);
    let [(name, _)] = calls.as_slice() else { panic!("{calls:?}") };
    assert_eq!((name.as_str(), finish), ("weather", Finish::ToolCalls));
}

#[test]
fn what_cannot_be_enforced_is_refused_by_name() {
    let worker = worker();
    let check = |request: Request, expected: &str| {
        let error = worker.check(request).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    };
    check(
        wild(text(), Some(Format::JsonSchema(json!({ "type": "strin" })))),
        "response_format: expected what can be enforced, found Invalid type",
    );
    check(wild(text(), Some(Format::JsonSchema(json!(true)))), "response_format: expected a JSON schema");
    check(wild(text(), Some(Format::Regex("(".to_owned()))), "regex: expected what can be enforced");
    check(
        wild(text(), Some(Format::Grammar("start: x".to_owned()))),
        "grammar: expected what can be enforced",
    );
    check(
        Request { ignore_eos: true, ..wild(text(), Some(Format::JsonObject)) },
        "ignore_eos: expected false where the answer's form says where it ends, found true",
    );
    let mut bad = chat(ToolChoice::Required);
    bad.tools[0]["function"]["parameters"] = json!({ "type": "object", "not": {} });
    check(wild(Prompt::Chat(bad), None), "tools: expected what can be enforced");
}
