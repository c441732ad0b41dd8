//! What conversations become on their way to a template, and which are refused.

use std::sync::Arc;

use engine::{Engine, EngineOptions};
use expect_test::{Expect, expect};
use serde_json::{Value, json};
use tokenizer::Tokenizer;
use worker::{
    Chat, ChatEvent, Finish, Prompt, Request, Stopped, ToolChoice, Work, Worker, WorkerError, WorkerOptions,
};

use crate::with_template;
use testkit::scripted::Scripted;

/// Writes every message as JSON, so that what a template is given can be read.
const PLAIN: &str = "{# <tool_call> content is none #}{% for m in messages %}{{ m | tojson }}\n{% endfor %}{% if tools %}{{ tools | tojson }}{% endif %}";

fn worker(template: &str) -> Worker {
    let tokenizer: Arc<Tokenizer> = with_template(template);
    let mut answer = tokenizer.encode("yes", tokenizer::EncodeOptions::default()).unwrap();
    answer.push(tokenizer.ends()[0]);
    let engine = Engine::spawn(Box::new(Scripted::new(answer)), EngineOptions::default()).unwrap();
    Worker::new(engine, tokenizer, WorkerOptions::default())
}

fn render(template: &str, chat: &Chat) -> String {
    worker(template).render(chat).unwrap_or_else(|error| error.to_string())
}

fn check(messages: Value, expected: &Expect) {
    let Value::Array(messages) = messages else { panic!("{messages}") };
    expected.assert_eq(&render(PLAIN, &Chat::new(messages)));
}

#[test]
fn contents_become_text() {
    check(
        json!([{ "role": "user", "content": "hi" }, { "role": "user", "content": null }, { "role": "assistant" }]),
        &expect![[r#"
            {"role": "user", "content": "hi"}
            {"role": "user", "content": ""}
            {"role": "assistant", "content": ""}
        "#]],
    );
    let parts = json!([{ "type": "text", "text": "a" }, { "type": "text", "text": "b" }]);
    check(
        json!([{ "role": "user", "content": parts }, { "role": "developer", "content": [] }]),
        &expect![[r#"
            {"role": "user", "content": "a\nb"}
            {"role": "system", "content": ""}
        "#]],
    );
    check(
        json!([{ "role": "assistant", "content": "x", "reasoning": "why", "name": null, "tool_calls": [] }]),
        &expect![[r#"
            {"thinking": "why", "role": "assistant", "content": "x", "reasoning_content": "why"}
        "#]],
    );
}

#[test]
fn arguments_become_objects_unless_the_template_joins_text() {
    let call = |arguments: &str| json!({ "id": "1", "type": "function", "function": { "name": "f", "arguments": arguments } });
    let messages =
        json!([{ "role": "assistant", "tool_calls": [call(r#"{"a": 1}"#), call(""), call(r#"{"a"#)] }]);
    check(
        messages.clone(),
        &expect![[r#"
            {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}, {"id": "1", "type": "function", "function": {"name": "f", "arguments": {}}}, {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"a"}}], "content": null}
        "#]],
    );
    let joins = "{# <tool_call> #}{{ 'calls ' + messages[0].tool_calls[0].function.arguments }}";
    let chat = Chat::new(messages.as_array().unwrap().clone());
    assert_eq!(render(joins, &chat), r#"calls {"a": 1}"#);
}

#[test]
fn whole_numbers_of_arguments_are_exact_or_refused() {
    let call = |n: &str| json!([{ "role": "assistant", "tool_calls": [{ "function": { "name": "f", "arguments": format!("{{\"a\": [{{\"n\": {n}}}]}}") } }] }]);
    check(
        call("[18446744073709551615, -9223372036854775808, 1e30, -0, -0.0]"),
        &expect![[r#"
            {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {"a": [{"n": [18446744073709551615, -9223372036854775808, 1e+30, 0, -0.0]}]}}}], "content": null}
        "#]],
    );
    check(
        call("18446744073709551616"),
        &expect![
            "messages[0].tool_calls[0].function.arguments.a[0].n: expected whole numbers from -2^63 to 2^64 - 1, found a larger number"
        ],
    );
}

#[test]
fn objects_of_arguments_are_given_as_text_to_a_template_that_joins_text() {
    let call = json!({ "type": "function", "function": { "name": "f", "arguments": { "a": [1, "é"] } } });
    let chat = Chat::new(vec![json!({ "role": "assistant", "tool_calls": [call] })]);
    let joins = "{# <tool_call> #}{{ 'calls ' + messages[0].tool_calls[0].function.arguments }}";
    assert_eq!(render(joins, &chat), r#"calls {"a":[1,"é"]}"#);
    // A call without arguments has an empty object of them, or its text.
    for function in [json!({ "name": "f" }), json!({ "name": "f", "arguments": null })] {
        let call = json!({ "type": "function", "function": function });
        let chat = Chat::new(vec![json!({ "role": "assistant", "tool_calls": [call] })]);
        assert_eq!(render(joins, &chat), "calls {}");
        let shows = "{# <tool_call> #}{{ messages[0].tool_calls[0].function.arguments | tojson }}";
        assert_eq!(render(shows, &chat), "{}");
    }
}

#[test]
fn a_function_call_is_a_call_and_what_the_function_gave_is_its_result() {
    let legacy = |call: Value| json!([{ "role": "assistant", "content": null, "function_call": call }, { "role": "function", "name": "f", "content": "3" }]);
    check(
        legacy(json!({ "name": "f", "arguments": "{\"a\": 1}" })),
        &expect![[r#"
            {"role": "assistant", "content": null, "tool_calls": [{"id": "call00000", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}]}
            {"role": "tool", "name": "f", "content": "3", "tool_call_id": "call00000"}
        "#]],
    );
    check(legacy(json!("f")), &expect!["messages[0].function_call: expected an object, found another text"]);
    check(legacy(json!({})), &expect!["messages[0].function_call.name: expected text, found nothing"]);
    let joins = "{# <tool_call> #}{{ 'calls ' + messages[0].tool_calls[0].function.arguments }}, {{ messages[1].content }}";
    let messages = legacy(json!({ "name": "f", "arguments": "{\"a\": 1}" }));
    assert_eq!(render(joins, &Chat::new(messages.as_array().unwrap().clone())), r#"calls {"a": 1}, 3"#);
}

#[test]
fn work_that_is_over_ends_the_writing_of_a_prompt() {
    let chat = Chat::new(vec![json!({ "role": "user", "content": "hi" })]);
    let busy =
        "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}{{ messages }}";
    let worker = worker(busy);
    let past = std::time::Instant::now();
    let error = |work: &Work| worker.render_within(&chat, work).unwrap_err();
    assert!(matches!(error(&Work::until(past)), WorkerError::Stopped(Stopped::Deadline)));
    let work = Work::default().within(Some(std::time::Duration::from_secs(3600)));
    drop(work.waiter());
    assert!(matches!(error(&work), WorkerError::Stopped(Stopped::Cancelled)));
    // A request's own timeout counts from its arrival.
    let request =
        Request { timeout: Some(std::time::Duration::ZERO), ..Request::new(Prompt::Chat(chat.clone())) };
    assert!(matches!(worker.check(request).unwrap_err(), WorkerError::Stopped(Stopped::Deadline)));
}

#[test]
fn what_no_template_can_take_is_named() {
    let image =
        json!([{ "type": "text", "text": "a" }, { "type": "image_url", "image_url": { "url": "x" } }]);
    check(
        json!([{ "role": "user", "content": "" }, { "role": "user", "content": image }]),
        &expect!["messages[1].content[1].type: expected text, found image_url"],
    );
    check(json!([]), &expect!["messages: expected 1 to 4096, found 0"]);
    check(json!(["hi"]), &expect!["messages[0]: expected an object, found another text"]);
    check(json!([{ "content": "hi" }]), &expect!["messages[0].role: expected text, found nothing"]);
    check(
        json!([{ "role": "user", "content": 7 }]),
        &expect!["messages[0].content: expected text or parts, found a number"],
    );
    check(
        json!([{ "role": "user", "content": [{ "type": "text" }] }]),
        &expect!["messages[0].content[0].text: expected text, found nothing"],
    );
    check(
        json!([{ "role": "assistant", "tool_calls": [{ "id": "1" }] }]),
        &expect!["messages[0].tool_calls[0].function: expected an object, found nothing"],
    );
    check(
        json!([{ "role": "assistant", "tool_calls": [{ "function": { "name": "f", "arguments": [] } }] }]),
        &expect!["messages[0].tool_calls[0].function.arguments: expected JSON as text, found a list"],
    );
}

#[test]
fn templates_without_tools_are_told_of_them_in_text() {
    let chat = Chat {
        tools: vec![tool("f")],
        ..Chat::new(vec![
            worker::chat::message("system", "Be brief."),
            worker::chat::message("user", "hi"),
            json!({ "role": "assistant", "content": "I look.", "tool_calls": [
                { "id": "1", "type": "function", "function": { "name": "f", "arguments": "{\"a\": 1}" } },
                { "id": "2", "type": "function", "function": { "name": "f", "arguments": "{}" } },
            ] }),
            json!({ "role": "tool", "tool_call_id": "1", "content": "one" }),
            json!({ "role": "tool", "tool_call_id": "2", "content": "two" }),
        ])
    };
    let template = "{% for m in messages %}[{{ m.role }}]\n{{ m.content }}\n{% endfor %}";
    expect![[r#"
        [system]
        Be brief.

        # Tools

        These functions can be called, one JSON object a line:
        <tools>
        {"name":"f","parameters":{"type":"object"}}
        </tools>

        To call one, write its name and arguments as JSON between these tags:
        <tool_call>
        {"name": "...", "arguments": {...}}
        </tool_call>
        [user]
        hi
        [assistant]
        I look.
        <tool_call>
        {"name":"f","arguments":{"a":1}}
        </tool_call>
        <tool_call>
        {"name":"f","arguments":{}}
        </tool_call>
        [user]
        <tool_response>
        one
        </tool_response>
        <tool_response>
        two
        </tool_response>
    "#]]
    .assert_eq(&render(template, &chat));
}

fn tool(name: &str) -> Value {
    json!({ "type": "function", "function": { "name": name, "parameters": { "type": "object" } } })
}

#[test]
fn tools_are_checked_and_shown_unless_none_may_be_called() {
    let chat = |tools: Vec<Value>, tool_choice| Chat {
        tools,
        tool_choice,
        ..Chat::new(vec![worker::chat::message("user", "hi")])
    };
    let check = |tools, choice, expected: &Expect| expected.assert_eq(&render(PLAIN, &chat(tools, choice)));
    check(
        vec![tool("f")],
        ToolChoice::Auto,
        &expect![[r#"
            {"role": "user", "content": "hi"}
            [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]"#]],
    );
    check(
        vec![tool("f")],
        ToolChoice::None,
        &expect![[r#"
            {"role": "user", "content": "hi"}
        "#]],
    );
    check(
        vec![tool("f"), tool("f")],
        ToolChoice::Auto,
        &expect!["tools[1].function.name: expected a name of its own, found the name of another"],
    );
    check(
        vec![tool("f\"")],
        ToolChoice::Auto,
        &expect!["tools[0].function.name: expected 1 to 128 letters, digits and _-.:, found another text"],
    );
    check(
        vec![json!({ "type": "web_search" })],
        ToolChoice::Auto,
        &expect!["tools[0].type: expected function, found another text"],
    );
    check(
        vec![tool("f")],
        ToolChoice::Named("g".to_owned()),
        &expect!["tool_choice: expected a tool of the request, found another name"],
    );
}

#[test]
fn a_chat_streams_content_and_says_how_it_ended() {
    let worker = worker("{{ messages[0].content }}");
    let prompt = Prompt::Chat(Chat::new(vec![worker::chat::message("user", "hi")]));
    let request = worker.check(Request { seed: Some(7), ..Request::new(prompt) }).unwrap().with_seed(8);
    let mut chat = worker.chat(request).unwrap();
    let mut content = String::new();
    loop {
        match chat.next_blocking().unwrap() {
            ChatEvent::Started { seed, .. } => assert_eq!(seed, 8),
            ChatEvent::Delta(delta) => {
                assert_eq!(delta.content_tokens().count(), delta.tokens.len());
                content.push_str(&delta.content);
            }
            ChatEvent::End { finish, n_reasoning, .. } => {
                assert_eq!((finish, n_reasoning, content.as_str()), (Finish::Stop, 0, "yes"));
                break;
            }
            other @ (ChatEvent::Error(_) | ChatEvent::Prompt(_)) => panic!("{other:?}"),
        }
    }
    assert_eq!(chat.next_blocking(), None);
}

/// Clients look for what was cut off in the log probabilities.
#[test]
fn tokens_of_a_character_that_was_cut_off_are_of_the_content() {
    let tokenizer: Arc<Tokenizer> = with_template("{{ messages[0].content }}");
    let encode = |text| tokenizer.encode(text, tokenizer::EncodeOptions::default()).unwrap();
    for text in ["€", "yes €"] {
        let answer = encode(text);
        let n_token = answer.len() - 1;
        let engine = Engine::spawn(Box::new(Scripted::new(answer)), EngineOptions::default()).unwrap();
        let worker = Worker::new(engine, Arc::clone(&tokenizer), WorkerOptions::default());
        let prompt = Prompt::Chat(Chat::new(vec![worker::chat::message("user", "hi")]));
        let request = Request { max_tokens: Some(n_token), ..Request::new(prompt) };
        let mut chat = worker.chat(worker.check(request).unwrap()).unwrap();
        let (mut content, mut n_content) = (String::new(), 0);
        while let Some(event) = chat.next_blocking() {
            if let ChatEvent::Delta(delta) = event {
                n_content += delta.content_tokens().count();
                content.push_str(&delta.content);
            }
        }
        assert_eq!((content.as_str(), n_content), (text.trim_end_matches('€'), n_token));
    }
}

/// Takes turns of user and assistant alone, as Mistral's and Gemma's templates do.
const NO_SYSTEM: &str = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}[{{ m.role }}]{{ m.content }}{% endfor %}";

fn said(messages: &[(&str, &str)]) -> Chat {
    Chat::new(messages.iter().map(|(role, content)| json!({ "role": role, "content": content })).collect())
}

fn weather() -> Vec<Value> {
    vec![json!({ "type": "function", "function": { "name": "weather" } })]
}

#[test]
fn instructions_keep_their_order() {
    let chat = said(&[("system", "FIRST"), ("system", "SECOND"), ("developer", "THIRD"), ("user", "hi")]);
    let plain = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}";
    assert_eq!(render(plain, &chat), "[system]FIRST\n\nSECOND\n\nTHIRD[user]hi");
    assert_eq!(render(NO_SYSTEM, &chat), "[user]FIRST\n\nSECOND\n\nTHIRD\n\nhi");
    let with_tools = render(plain, &Chat { tools: weather(), ..chat });
    assert!(with_tools.starts_with("[system]FIRST\n\nSECOND\n\nTHIRD\n\n# Tools"), "{with_tools}");
}

#[test]
fn a_template_that_reads_parts_is_given_parts() {
    let parts = "{% for m in messages %}[{{ m['role'] }}]{% for part in m['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %}";
    let content = json!([{ "type": "text", "text": "the tallest mountain?" }]);
    let chat = Chat::new(vec![json!({ "role": "user", "content": content })]);
    assert_eq!(render(parts, &chat), "[user]the tallest mountain?");
    assert_eq!(
        render(parts, &said(&[("system", "short"), ("user", "tallest")])),
        "[system]short[user]tallest"
    );
    // What was said is no part of what the template writes itself, though its words be.
    let named = format!("{parts}Assistant:");
    for chat in [said(&[("user", "is")]), said(&[("system", "t"), ("user", "is"), ("user", "Assist")])] {
        let texts: Vec<&str> = chat.messages.iter().filter_map(|m| m["content"].as_str()).collect();
        let prompt = render(&named, &chat);
        assert!(texts.iter().all(|text| prompt.contains(&format!("]{text}"))), "{prompt}");
    }
    // A template that takes both, or prints what it is given, has text.
    let both = "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{% for part in m.content %}<{{ part['text'] }}>{% endfor %}{% endif %}{% endfor %}";
    assert_eq!(render(both, &said(&[("user", "is")])), "is");
}

#[test]
fn what_a_template_leaves_out_is_named() {
    let users = "{% for m in messages %}{% if m.role == 'user' %}[{{ m.content }}]{% endif %}{% endfor %}";
    let last = "{{ messages[-1].content }}";
    let chat = said(&[("user", "first question"), ("assistant", "yes"), ("user", "second")]);
    assert_eq!(
        render(last, &chat),
        "messages[0].content: expected what the model's chat template writes into the prompt, found text that it leaves out"
    );
    // A system message that is left out begins the user's instead, and so do descriptions of tools.
    assert_eq!(render(users, &said(&[("system", "Be brief."), ("user", "hi")])), "[Be brief.\n\nhi]");
    // Words that the template or the user writes too are no sign that the rest is there.
    let ends = format!("{users}<assistant>");
    let system = "You are a helpful assistant.";
    assert_eq!(
        render(&ends, &said(&[("system", system), ("user", "hi")])),
        format!("[{system}\n\nhi]<assistant>")
    );
    assert_eq!(
        render(&ends, &said(&[("system", "Be brief."), ("user", "Be brief. hi")])),
        "[Be brief.\n\nBe brief. hi]<assistant>"
    );
    let late = render(&ends, &said(&[("user", "hi"), ("system", system), ("user", "ho")]));
    assert!(late.starts_with("messages[1].content: "), "{late}");
    let prompt = render(users, &Chat { tools: weather(), ..said(&[("user", "the weather?")]) });
    assert!(prompt.contains("# Tools"), "{prompt}");
    for template in [users, NO_SYSTEM] {
        let prompt = render(template, &Chat { tools: weather(), ..said(&[("user", "sunny?")]) });
        assert!(prompt.contains("# Tools") && prompt.contains(r#"{"name":"weather"}"#), "{prompt}");
        assert!(prompt.trim_end_matches(']').ends_with("</tool_call>\n\nsunny?"), "{prompt}");
    }
    assert_eq!(render("A prompt of its own.", &said(&[("user", "hi")])), "A prompt of its own.");
    let none = "<tool_call>{{ messages[0].content }}";
    assert_eq!(
        render(none, &Chat { tools: weather(), ..said(&[("user", "sunny?")]) }),
        "tools[0]: expected what the model's chat template writes into the prompt, found a tool that it leaves out"
    );
}

#[test]
fn parts_are_given_to_the_roles_whose_parts_a_template_reads() {
    let parts = "{% for part in m['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}";
    let chat = said(&[("user", "first"), ("assistant", "second"), ("user", "third")]);
    let template = |role: &str| {
        let template = "{% for m in messages %}[{{ m.role }}]{% if m.role == 'ROLE' %}PARTS{% else %}{{ m.content }}{% endif %}{% endfor %}";
        template.replace("ROLE", role).replace("PARTS", parts)
    };
    for role in ["user", "assistant"] {
        assert_eq!(render(&template(role), &chat), "[user]first[assistant]second[user]third", "{role}");
    }
    // A client may say what a printed list looks like.
    let quoted = "{'type': 'text', 'text': 'x'}";
    let chat = said(&[("user", "first"), ("assistant", quoted)]);
    assert_eq!(render(&template("user"), &chat), format!("[user]first[assistant]{quoted}"));
}

#[test]
fn what_others_said_is_not_left_out_either() {
    let left_out = |at: &str| {
        format!(
            "{at}: expected what the model's chat template writes into the prompt, found text that it leaves out"
        )
    };
    let users =
        "<tool_call>{% for m in messages %}{% if m.role == 'user' %}[{{ m.content }}]{% endif %}{% endfor %}";
    let chat = said(&[("user", "first"), ("assistant", "second"), ("user", "third")]);
    assert_eq!(render(users, &chat), left_out("messages[1].content"));
    let call = json!({ "id": "1", "type": "function", "function": { "name": "f", "arguments": "{}" } });
    let result = Chat::new(vec![
        json!({ "role": "user", "content": "hi" }),
        json!({ "role": "assistant", "content": "I look.", "tool_calls": [call] }),
        json!({ "role": "tool", "tool_call_id": "1", "content": "sunny" }),
    ]);
    assert_eq!(render(users, &result), left_out("messages[2].content"));
    // What templates leave out of an answer: the text beside a call, and reasoning.
    let cut = "{% for m in messages %}[{{ m.content.split('</thought>')[-1] }}]{% endfor %}";
    let thought = said(&[("user", "hi"), ("assistant", "<thought>why</thought>yes")]);
    assert_eq!(render(cut, &thought), "[hi][yes]");
    // The same text twice is there twice, and one of signs alone counts too.
    let last = "{% for m in messages %}{% if loop.last %}[{{ m.content }}]{% endif %}{% endfor %}";
    assert_eq!(render(last, &said(&[("user", "again"), ("user", "again")])), left_out("messages[1].content"));
    assert_eq!(render(last, &said(&[("user", "??"), ("user", "hi")])), left_out("messages[0].content"));
}

#[test]
fn a_command_that_a_template_takes_out_of_a_text_is_not_left_out() {
    let template =
        "{% for m in messages %}[{{ m.role }}]{{ m.content.replace('/no_think', '') }}{% endfor %}";
    let chat = said(&[("system", "Be brief. /no_think"), ("user", "hi")]);
    assert_eq!(render(template, &chat), "[system]Be brief. [user]hi");
    let cases = include_str!("../../../tokenizer/tests/data/chat_cases.json");
    let cases: Value = serde_json::from_str(cases).unwrap();
    let published = cases["templates"]["HuggingFaceTB-SmolLM3-3B"]["source"].as_str().unwrap();
    let prompt = render(published, &chat);
    assert!(
        prompt.contains("Reasoning Mode: /no_think\n\n## Custom Instructions\n\nBe brief.\n"),
        "{prompt}"
    );
}

/// The second text is what transformers writes.
#[test]
fn reasoning_reaches_a_template_by_the_name_that_it_reads() {
    let both =
        "{% for m in messages %}{{ m.content }}[{{ m.reasoning_content }}/{{ m.thinking }}]{% endfor %}";
    let chat = Chat::new(vec![
        json!({ "role": "user", "content": "hi" }),
        json!({ "role": "assistant", "content": "yes", "reasoning": "why" }),
    ]);
    assert_eq!(render(both, &chat), "hi[/]yes[why/why]");
    let cases = include_str!("../../../tokenizer/tests/data/chat_cases.json");
    let cases: Value = serde_json::from_str(cases).unwrap();
    let list = |name: &str| cases["conversations"]["reasoning"][name].as_array().unwrap().clone();
    let chat = Chat { tools: list("tools"), ..Chat::new(list("messages")) };
    let published = cases["templates"]["LFM2.5-8B-A1B"]["source"].as_str().unwrap();
    let end = "<|im_start|>assistant\n<think>Call.</think><|tool_call_start|>[get_weather(city='Berlin')]<|tool_call_end|><|im_end|>\n<|im_start|>tool\nrain<|im_end|>\n<|im_start|>assistant\n";
    let prompt = render(published, &chat);
    assert!(prompt.ends_with(end), "{prompt}");
}

#[test]
fn what_a_template_says_in_refusing_has_no_marks() {
    let template = "{{ raise_exception('no <|im_end|> way') }}";
    let error = worker(template).render(&said(&[("user", "x")])).unwrap_err().to_string();
    assert!(error.contains("no <|im_end|> way"), "{error:?}");
}

#[test]
fn a_files_own_template_for_tools_is_given_them() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/llama-q4_0.gguf");
    let file = gguf::Gguf::open(&path).unwrap();
    let pairs = file.metadata().iter().map(|(key, value)| (key.to_owned(), value.clone()));
    let plain = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}";
    let templates = [("", plain.to_owned()), (".tool_use", format!("{{{{ tools | tojson }}}}{plain}"))]
        .map(|(name, text)| (format!("tokenizer.chat_template{name}"), gguf::Value::from(text.as_str())));
    let metadata = gguf::Metadata::from_pairs(pairs.chain(templates)).unwrap();
    let tokenizer = Arc::new(Tokenizer::from_gguf(&metadata, None).unwrap());
    let engine = Engine::spawn(Box::new(Scripted::new(vec![1])), EngineOptions::default()).unwrap();
    let worker = Worker::new(engine, tokenizer, WorkerOptions::default());
    let chat = Chat { tools: weather(), ..said(&[("user", "sunny?")]) };
    assert_eq!(
        worker.render(&chat).unwrap(),
        r#"[{"type": "function", "function": {"name": "weather"}}][user]sunny?"#
    );
    assert_eq!(worker.render(&Chat { tools: Vec::new(), ..chat }).unwrap(), "[user]sunny?");
}
