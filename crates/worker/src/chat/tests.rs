//! Published vocabularies and templates: is each family recognised, does a conversation with calls render, and is whatever its grammar lets
//! a model say read back as the calls and the content that were asked for?

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use engine::Constraint;
use gguf::Metadata;
use serde_json::{Value, json};
use tokenizer::{EncodeOptions, Tokenizer};

use super::answer::{Out, ThinkTags};
use super::family::Form;
use super::{CallForm, Chat, ToolChoice, grammar, message, render};
use crate::grammar::Grammars;
use crate::{Format, Work};

/// Templates whose calls are read as a whole, in which form, and the tags of reasoning.
const WHOLE: [(&str, CallForm, Option<ThinkTags>); 14] = [
    ("Qwen3-Coder", CallForm::Xml, None),
    ("Qwen3.5-4B", CallForm::Xml, Some(ThinkTags::Think)),
    ("GLM-4.6", CallForm::ArgKeys, Some(ThinkTags::Think)),
    ("GLM-4.7-Flash", CallForm::ArgKeys, Some(ThinkTags::Think)),
    ("mistralai-Ministral-3-14B-Reasoning-2512", CallForm::Mistral, Some(ThinkTags::Brackets)),
    ("Mistral-Small-3.2-24B-Instruct-2506", CallForm::Mistral, None),
    ("mistralai-Mistral-Nemo-Instruct-2407", CallForm::MistralList, None),
    ("deepseek-ai-DeepSeek-V3.1", CallForm::Deepseek, Some(ThinkTags::Think)),
    ("deepseek-ai-DeepSeek-R1-Distill-Qwen-32B", CallForm::DeepseekFenced, Some(ThinkTags::Think)),
    ("moonshotai-Kimi-K2", CallForm::Kimi, None),
    ("google-gemma-4-31B-it", CallForm::Gemma, Some(ThinkTags::Channel)),
    ("ibm-granite-granite-3.3-2B-Instruct", CallForm::Granite, Some(ThinkTags::Think)),
    ("LFM2-8B-A1B", CallForm::Lfm, None),
    ("LFM2.5-8B-A1B", CallForm::Lfm, Some(ThinkTags::Think)),
];

/// Vocabulary, template, and how its family is called.
const PUBLISHED: [(&str, &str, &str); 3] = [
    ("tokenizers/qwen2_5/tokenizer.json", "Qwen-Qwen2.5-7B-Instruct", "tagged"),
    ("tokenizers/llama3/tokenizer.json", "meta-llama-Llama-3.1-8B-Instruct", "bare"),
    ("tokenizers/gptoss/tokenizer.json", "openai-gpt-oss-120b", "harmony"),
];

fn published(fixture: &str, template: &str, more: &str) -> Option<Grammars> {
    let path = testkit::fixture(fixture)?;
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tokenizer/tests/data/chat_cases.json");
    let cases: Value = serde_json::from_str(&std::fs::read_to_string(cases).unwrap()).unwrap();
    let source = format!("{}{more}", cases["templates"][template]["source"].as_str().unwrap());
    let template = ("tokenizer.chat_template".to_owned(), gguf::Value::from(source.as_str()));
    let metadata = Metadata::from_pairs([template]).unwrap();
    let tokenizer = Arc::new(Tokenizer::from_gguf(&metadata, Some(&path)).unwrap());
    let n_vocab = tokenizer.n_vocab();
    Some(Grammars::new(tokenizer, n_vocab))
}

/// The next of a sequence of numbers (splitmix64).
fn next(state: &mut u64) -> usize {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed >> 33) as usize
}

fn tool(name: &str) -> Value {
    let parameters = json!({
        "type": "object",
        "properties": { "city": { "enum": ["Paris", "Oslo"] }, "days": { "type": "integer", "minimum": 1, "maximum": 9 } },
        "required": ["city", "days"],
        "additionalProperties": false,
    });
    json!({ "type": "function", "function": { "name": name, "description": "?", "parameters": parameters } })
}

fn chat(tool_choice: ToolChoice) -> Chat {
    Chat {
        tools: vec![tool("weather"), tool("forecast")],
        tool_choice,
        parallel_tool_calls: false,
        ..Chat::new(vec![message("user", "hi")])
    }
}

/// What a model at random says under the grammar; control tokens are likely, so that free text ends.
fn babble(grammars: &Grammars, chat: &Chat, format: Option<&Format>, seed: u64) -> Out {
    let tokenizer = &grammars.compiler.tokenizer;
    let written = render(tokenizer, chat, &Work::default()).unwrap();
    let source =
        grammar(tokenizer, chat, format.map(|format| (format, None)), (&written.family, &written.text))
            .unwrap()
            .unwrap();
    let mut constraint = grammars.compile(&source, &Work::default()).unwrap();
    let mut reading = written.family.answer(&written.text, chat).reading(tokenizer).unwrap();
    let mut out = Out::default();
    let mut decoder = tokenizer.decoder(true);
    let mut state = seed;
    let close = written.family.thinks.unwrap_or_default().close()[0];
    let close = tokenizer.encode(close, EncodeOptions { add_special: false, parse_special: true }).unwrap();
    let mut closing = VecDeque::new();
    for _ in 0..400 {
        let mask = constraint.mask().unwrap();
        let allowed: Vec<u32> = (0..tokenizer.n_vocab() as u32).filter(|&id| mask.allows(id)).collect();
        let special: Vec<u32> = allowed.iter().copied().filter(|&id| tokenizer.is_special(id)).collect();
        let random = next(&mut state);
        let from = if !special.is_empty() && random.is_multiple_of(3) { &special } else { &allowed };
        // Where any text goes, reasoning among it, it ends soon.
        if closing.is_empty() && allowed.len() * 2 > tokenizer.n_vocab() && random.is_multiple_of(2) {
            closing.extend(&close);
        }
        let said = || *from.get(next(&mut state) % from.len().max(1)).expect("something is allowed");
        let id = closing.pop_front().unwrap_or_else(said);
        if tokenizer.is_end(id) {
            reading.parser.finish(&mut out);
            return out;
        }
        constraint.accept(id).unwrap();
        if tokenizer.is_special(id) && reading.marker(tokenizer, id).is_none() {
            reading.parser.special(id, &mut out);
        } else {
            reading.parser.text(&decoder.push(id), &mut out);
        }
    }
    panic!("no end: {out:?}")
}

#[test]
fn families_are_recognised_and_their_histories_rendered() {
    for (fixture, template, family) in PUBLISHED {
        let Some(grammars) = published(fixture, template, "") else { return };
        let call = |id: &str, city: &str| json!({ "id": id, "type": "function", "function": { "name": "weather", "arguments": format!("{{\"city\": \"{city}\"}}") } });
        let history = Chat {
            messages: vec![
                message("system", "Be brief."),
                message("developer", "In French."),
                message("user", "hi"),
                json!({ "role": "assistant", "content": null, "reasoning_content": "I wonder.", "tool_calls": [call("1", "Paris"), call("2", "Oslo")] }),
                json!({ "role": "tool", "tool_call_id": "2", "content": "rainy!" }),
                json!({ "role": "tool", "tool_call_id": "1", "content": "sunny!" }),
            ],
            ..chat(ToolChoice::Auto)
        };
        let written = render(&grammars.compiler.tokenizer, &history, &Work::default()).unwrap();
        let found = match written.family.form {
            Form::Tagged => "tagged",
            Form::Bare => "bare",
            Form::Harmony(_) => "harmony",
            Form::Whole(_) => "whole",
        };
        assert_eq!((found, written.family.template_has_tools), (family, true));
        let at =
            |text: &str| written.text.find(text).unwrap_or_else(|| panic!("no {text:?} in {}", written.text));
        assert!(at("Be brief.") < at("In French.") && at("\"Paris\"}") < at("\"Oslo\"}"));
        if family != "tagged" {
            // One call a message, each with its own answer.
            assert!(
                at("\"Paris\"}") < at("sunny!")
                    && at("sunny!") < at("\"Oslo\"}")
                    && at("\"Oslo\"}") < at("rainy!")
            );
        }
        if family == "harmony" {
            assert!(
                at("<|channel|>analysis<|message|>I wonder.<|end|>") < at("to=functions.weather<|channel|>")
            );
        }
    }
}

/// A user's question, two calls and what their tools said.
fn history() -> Chat {
    let call = |id: &str, city: &str| json!({ "id": id, "type": "function", "function": { "name": "weather", "arguments": format!("{{\"city\": \"{city}\"}}") } });
    Chat {
        messages: vec![
            message("system", "Be brief."),
            message("user", "hi"),
            json!({ "role": "assistant", "content": null, "tool_calls": [call("call_1", "Paris"), call("call_2", "Oslo")] }),
            json!({ "role": "tool", "name": "weather", "tool_call_id": "call_1", "content": "sunny!" }),
            json!({ "role": "tool", "name": "weather", "tool_call_id": "call_2", "content": "rainy!" }),
        ],
        ..chat(ToolChoice::Auto)
    }
}

#[test]
fn forms_are_told_from_published_templates() {
    for (template, form, tags) in WHOLE {
        let Some(grammars) = published("tokenizers/qwen2_5/tokenizer.json", template, "") else { return };
        let asked = render(&grammars.compiler.tokenizer, &chat(ToolChoice::Auto), &Work::default());
        let asked = asked.unwrap_or_else(|error| panic!("{template}: {error}"));
        let Form::Whole(found) = asked.family.form else { panic!("{template}: {:?}", asked.family.form) };
        assert_eq!((found, asked.family.thinks), (form, tags), "{template}");
        let said = render(&grammars.compiler.tokenizer, &history(), &Work::default());
        let said = said.unwrap_or_else(|error| panic!("{template}: {error}")).text;
        assert!(said.contains("sunny!") && said.contains("rainy!"), "{template}: {said}");
        // Two of these templates write no calls themselves.
        if !matches!(form, CallForm::Granite | CallForm::Lfm) {
            assert!(said.contains("Paris") && said.contains("Oslo"), "{template}: {said}");
        }
    }
    for (template, tagged) in [("ibm-granite-granite-4.0", true), ("google-gemma-2-2b-it", false)] {
        let Some(grammars) = published("tokenizers/qwen2_5/tokenizer.json", template, "") else { return };
        let asked = render(&grammars.compiler.tokenizer, &chat(ToolChoice::Auto), &Work::default()).unwrap();
        assert_eq!(
            (asked.family.form, asked.family.template_has_tools),
            (Form::Tagged, tagged),
            "{template}"
        );
    }
}

#[test]
fn a_forced_call_in_each_form_is_read_back_as_one() {
    for (template, form, _) in WHOLE {
        let Some(grammars) = published("tokenizers/qwen2_5/tokenizer.json", template, "") else { return };
        let chosen = chat(ToolChoice::Named("forecast".to_owned()));
        let out = babble(&grammars, &chosen, None, 0);
        let [call] = out.tool_calls.as_slice() else { panic!("{form:?}: {out:?}") };
        assert_eq!(call.name.as_deref(), Some("forecast"));
        let arguments: Value = serde_json::from_str(&call.arguments).unwrap();
        assert!((1..=9).contains(&arguments["days"].as_u64().unwrap()), "{form:?}: {arguments}");
        assert!(arguments["city"] == "Paris" || arguments["city"] == "Oslo", "{form:?}: {arguments}");
        assert_eq!((out.content.as_str(), out.calls()), ("", (1, true)), "{form:?}");
    }
}

#[test]
fn a_tool_needs_no_description() {
    for (fixture, template, _) in PUBLISHED {
        let Some(grammars) = published(fixture, template, "") else { return };
        for function in [json!({ "name": "weather" }), json!({ "name": "weather", "description": null })] {
            let tools = vec![json!({ "type": "function", "function": function })];
            let written = render(
                &grammars.compiler.tokenizer,
                &Chat { tools, ..chat(ToolChoice::Auto) },
                &Work::default(),
            );
            assert!(written.unwrap().text.contains("weather"), "{template}");
        }
    }
}

#[test]
fn a_forced_call_is_read_back_as_one() {
    for (fixture, template, family) in PUBLISHED {
        let Some(grammars) = published(fixture, template, "") else { return };
        for seed in 0..2 {
            for choice in [ToolChoice::Required, ToolChoice::Named("forecast".to_owned())] {
                let named = choice != ToolChoice::Required;
                let out = babble(&grammars, &chat(choice), None, seed);
                let [call] = out.tool_calls.as_slice() else { panic!("{family}: {out:?}") };
                let name = call.name.as_deref().unwrap();
                assert!(name == "forecast" || (name == "weather" && !named), "{name}");
                let arguments: Value = serde_json::from_str(&call.arguments).unwrap();
                assert!((1..=9).contains(&arguments["days"].as_u64().unwrap()), "{arguments}");
                assert_eq!((out.content.as_str(), out.calls()), ("", (1, true)), "{family}");
            }
        }
    }
}

fn format() -> Format {
    Format::JsonSchema(json!({
        "type": "object",
        "properties": { "a": { "enum": [1, 2] } },
        "required": ["a"],
        "additionalProperties": false,
    }))
}

#[test]
fn a_format_binds_the_content_and_leaves_calls_to_the_model() {
    for (fixture, template, _) in PUBLISHED {
        let Some(grammars) = published(fixture, template, "") else { return };
        for seed in 0..2 {
            let free = Chat { tools: Vec::new(), ..chat(ToolChoice::Auto) };
            let out = babble(&grammars, &free, Some(&format()), seed);
            let content: Value =
                serde_json::from_str(&out.content).unwrap_or_else(|e| panic!("{e}: {out:?}"));
            assert!(content["a"] == 1 || content["a"] == 2);
            let out = babble(&grammars, &chat(ToolChoice::Auto), Some(&format()), seed);
            assert!(out.calls().0 == 1 || serde_json::from_str::<Value>(&out.content).is_ok(), "{out:?}");
        }
    }
}

/// An answer that the format must allow, and how it is read.
fn check_thought((fixture, template, more): (&str, &str, &str), said: &str) {
    let Some(grammars) = published(fixture, template, more) else { return };
    let tokenizer = &grammars.compiler.tokenizer;
    let free = Chat { tools: Vec::new(), ..chat(ToolChoice::Auto) };
    let written = render(tokenizer, &free, &Work::default()).unwrap();
    let source = grammar(tokenizer, &free, Some((&format(), None)), (&written.family, &written.text))
        .unwrap()
        .unwrap();
    let mut constraint = grammars.compile(&source, &Work::default()).unwrap();
    let mut answer = written.family.answer(&written.text, &free).reading(tokenizer).unwrap().parser;
    let mut out = Out::default();
    let options = EncodeOptions { add_special: false, parse_special: true };
    for id in tokenizer.encode(said, options).unwrap() {
        assert!(constraint.mask().unwrap().allows(id), "{:?}", tokenizer.decode(&[id], true));
        constraint.accept(id).unwrap();
        if tokenizer.is_special(id) {
            answer.special(id, &mut out);
        } else {
            answer.text(std::str::from_utf8(tokenizer.token_bytes(id).unwrap()).unwrap(), &mut out);
        }
    }
    let mask = constraint.mask().unwrap();
    assert!(tokenizer.ends().iter().all(|&id| mask.allows(id)), "the answer may not end");
    answer.finish(&mut out);
    assert_eq!((out.reasoning.as_str(), out.content.as_str()), ("So: {\"a\": 3}.", "{\"a\": 2}"));
}

#[test]
fn reasoning_is_free_before_a_format() {
    let [qwen, _, gpt_oss] = PUBLISHED.map(|(fixture, template, _)| (fixture, template));
    let thinks = "{# <think> #}";
    check_thought((qwen.0, qwen.1, "<think>\n"), "So: {\"a\": 3}.\n</think>\n\n{\"a\": 2}");
    check_thought((qwen.0, qwen.1, thinks), "<think>\nSo: {\"a\": 3}.\n</think>\n\n{\"a\": 2}");
    check_thought(
        (gpt_oss.0, gpt_oss.1, ""),
        "<|channel|>analysis<|message|>So: {\"a\": 3}.<|end|><|start|>assistant<|channel|>final <|constrain|>json<|message|>{\"a\": 2}",
    );
}
