//! What real clients send beside the plain form: it is taken where it is right, and means what it means elsewhere.

use serde_json::{Value, json};

use crate::served::{Running, ids, says};

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";

/// The shortest body of a route, and more fields.
fn body(path: &str, more: &Value) -> Value {
    let mut body = if path == CHAT {
        json!({"messages": [{"role": "user", "content": "Hello"}]})
    } else {
        json!({"prompt": "Hello"})
    };
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// The message of a refusal, and its field.
fn refusal(server: &Running, path: &str, more: &Value) -> (String, String) {
    let (status, text) = server.post(path, &body(path, more));
    assert_eq!(status, 400, "{more}: {text}");
    let error: Value = serde_json::from_str(&text).unwrap();
    let field = |name: &str| error["error"][name].as_str().unwrap_or_default().to_owned();
    (field("message"), field("param"))
}

#[test]
fn each_chunk_has_the_usage_so_far_where_it_is_wished_for() {
    let server = says("Good day");
    let n_token = ids("Good day").len() + 1;
    for path in [CHAT, COMPLETIONS] {
        let options = json!({"include_usage": true, "continuous_usage_stats": true});
        let events = server.events(path, &body(path, &json!({"stream": true, "stream_options": options})));
        let counts: Vec<[u64; 3]> = events
            .iter()
            .map(|event| {
                ["prompt_tokens", "completion_tokens", "total_tokens"]
                    .map(|name| event["usage"][name].as_u64().unwrap())
            })
            .collect();
        assert!(counts.iter().all(|&[prompt, answer, all]| prompt + answer == all), "{counts:?}");
        assert!(counts.iter().all(|&[prompt, ..]| prompt == counts[0][0] && prompt > 0), "{counts:?}");
        assert!(counts.is_sorted_by_key(|&[_, answer, _]| answer), "{counts:?}");
        // A token each; the last two are the end of the choice and that of the stream.
        assert!(counts.iter().any(|&[_, answer, _]| answer == 1), "{counts:?}");
        let ends = &counts[counts.len() - 2..];
        assert!(ends.iter().all(|&[_, answer, _]| answer == n_token as u64), "{counts:?}");
        assert_eq!(events.iter().find_map(|event| event.get("ignored_parameters")), None);
    }
}

#[test]
fn usage_so_far_is_of_the_chunk_s_own_choice_and_not_without_usage_at_the_end() {
    let server = says("ab");
    let options = json!({"include_usage": true, "continuous_usage_stats": true});
    let more = json!({"stream": true, "n": 2, "stream_options": options});
    let events = server.events(CHAT, &body(CHAT, &more));
    let answer = |event: &Value| event["usage"]["completion_tokens"].as_u64().unwrap();
    let n_token = ids("ab").len() as u64 + 1;
    for event in events.iter().filter(|event| event["choices"][0]["finish_reason"].is_string()) {
        assert_eq!(answer(event), n_token);
    }
    assert_eq!(answer(events.last().unwrap()), 2 * n_token);

    let more = json!({"stream": true, "stream_options": {"continuous_usage_stats": true}});
    let events = server.events(CHAT, &body(CHAT, &more));
    assert!(events.iter().all(|event| event.get("usage").is_none()));
    assert_eq!(events[0]["ignored_parameters"], json!(["stream_options.continuous_usage_stats"]));
}

#[test]
fn the_last_chunk_has_the_timings() {
    let server = says("ab");
    for path in [CHAT, COMPLETIONS] {
        for usage in [false, true] {
            let more = json!({"stream": true, "stream_options": {"include_usage": usage}});
            let mut events = server.events(path, &body(path, &more));
            let last = events.pop().unwrap();
            assert_eq!(last["timings"]["predicted_n"], json!(ids("ab").len() + 1), "{path} {last}");
            assert_eq!(last["choices"].as_array().unwrap().is_empty(), usage);
            assert!(events.iter().all(|event| event.get("timings").is_none()), "{path}");
        }
    }
}

#[test]
fn a_limit_of_minus_one_is_none_and_zero_is_no_answer() {
    let server = says("Good day");
    let n_token = json!(ids("Good day").len() + 1);
    for (path, name) in [(CHAT, "max_tokens"), (CHAT, "max_completion_tokens"), (COMPLETIONS, "max_tokens")] {
        let answer = server.json(path, &body(path, &json!({ name: -1 })));
        assert_eq!(answer["usage"]["completion_tokens"], n_token, "{path} {name}");
        let answer = server.json(path, &body(path, &json!({ name: 0 })));
        let choice = &answer["choices"][0];
        let text = if path == CHAT { &choice["message"]["content"] } else { &choice["text"] };
        assert_eq!((text, &choice["finish_reason"]), (&json!(""), &json!("length")), "{path} {name}");
        assert_eq!(answer["usage"]["completion_tokens"], 0);
        let events = server.events(path, &body(path, &json!({ name: 0, "stream": true })));
        assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], "length", "{path} {name}");
        let receipt = json!({ name: 0, "receipt": true });
        let message = "receipt: expected false where max_tokens is 0: there is no answer".to_owned();
        assert_eq!(refusal(&server, path, &receipt), (message, "receipt".to_owned()));
        let message = format!("{name}: expected -1 to 2147483647, found -2");
        assert_eq!(refusal(&server, path, &json!({ name: -2 })), (message, name.to_owned()));
    }
    // Without a number an answer ends at the default.
    let server = says(&"ab".repeat(50));
    for (more, expected) in [(json!({"max_tokens": -1}), ids(&"ab".repeat(50)).len() + 1), (json!({}), 64)] {
        let answer = server.json(COMPLETIONS, &body(COMPLETIONS, &more));
        assert_eq!(answer["usage"]["completion_tokens"], json!(expected), "{more}");
    }
    let server = says("Good day");
    // The newer name wins, also where it says that there is no limit.
    let answer = server.json(CHAT, &body(CHAT, &json!({"max_completion_tokens": -1, "max_tokens": 1})));
    assert_eq!(answer["usage"]["completion_tokens"], n_token);
}

#[test]
fn an_empty_stop_is_none() {
    let server = says("Good day");
    for path in [CHAT, COMPLETIONS] {
        for stop in [json!(""), json!([""]), json!(["", "\n\n"]), json!([])] {
            let answer = server.json(path, &body(path, &json!({ "stop": stop })));
            assert_eq!(
                answer["usage"]["completion_tokens"],
                json!(ids("Good day").len() + 1),
                "{path} {stop}"
            );
        }
        let answer = server.json(path, &body(path, &json!({"stop": ["", "d"]})));
        assert_eq!(answer["choices"][0]["finish_reason"], "stop");
        assert!(answer.to_string().contains("\"Goo\""), "{answer}");
    }
}

#[test]
fn an_answer_says_its_seed_whether_given_or_drawn() {
    let server = says("ab");
    for path in [CHAT, COMPLETIONS] {
        // -1 is llama-server's and vLLM's word for any.
        for (given, sent) in [(Some(7), json!(7)), (None, Value::Null), (None, json!(-1))] {
            let more = json!({"n": 2, "seed": sent});
            let answer = server.json(path, &body(path, &more));
            let seeds = [0, 1].map(|i| answer["choices"][i]["seed"].as_u64().unwrap());
            assert_eq!(seeds[1], seeds[0] + 1);
            assert!(given.map_or(seeds[1] < 1 << 53, |given| given == seeds[0]), "{seeds:?}");

            let mut more = more;
            more["stream"] = true.into();
            let events = server.events(path, &body(path, &more));
            let mut seeds = Vec::new();
            for choice in events.iter().map(|event| &event["choices"][0]) {
                assert_eq!(choice["finish_reason"].is_string(), choice.get("seed").is_some());
                seeds.extend(choice["seed"].as_u64());
            }
            seeds.sort_unstable();
            assert!(seeds.len() == 2 && seeds[1] == seeds[0] + 1, "{seeds:?}");
        }
    }
}

fn tool(name: &str) -> Value {
    json!({"type": "function", "function": {"name": name}})
}

#[test]
fn allowed_tools_are_the_only_ones_that_the_model_hears_of() {
    let server = says(r#"<tool_call>{"name": "b", "arguments": {}}</tool_call>"#);
    let allow = |mode: &str, names: &[&str]| {
        let tools: Vec<Value> = names.iter().map(|name| tool(name)).collect();
        json!({"tools": [tool("a"), tool("b"), tool("c")],
            "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}})
    };
    // Of three tools' names one is in the prompt, which is as long as with this tool alone.
    let n_prompt = |more: &Value| server.json(CHAT, &body(CHAT, more))["usage"]["prompt_tokens"].clone();
    let alone = n_prompt(&json!({"tools": [tool("b")]}));
    assert_eq!(n_prompt(&allow("auto", &["b"])), alone);
    assert!(n_prompt(&json!({"tools": [tool("a"), tool("b"), tool("c")]})).as_u64() > alone.as_u64());
    for mode in ["auto", "required"] {
        let answer = server.json(CHAT, &body(CHAT, &allow(mode, &["b"])));
        assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls", "{answer}");
        assert_eq!(answer["choices"][0]["message"]["tool_calls"][0]["function"]["name"], "b");
    }
    let field = "tool_choice.allowed_tools.tools[1].function.name";
    let message = format!("{field}: expected a tool of the request, found another name");
    assert_eq!(refusal(&server, CHAT, &allow("auto", &["b", "x"])), (message, field.to_owned()));
    let field = "tool_choice.allowed_tools.mode";
    let message = format!("{field}: expected \"auto\" or \"required\", found \"none\"");
    assert_eq!(refusal(&server, CHAT, &allow("none", &["b"])), (message, field.to_owned()));
}

#[test]
fn cache_control_is_taken_wherever_it_stands_and_shown_to_no_template() {
    let server = says("Good day");
    let control = json!({"type": "ephemeral"});
    let plain = json!({"messages": [{"role": "user", "content": "a"}], "tools": [tool("f")]});
    let marked = json!({
        "messages": [{"role": "user", "cache_control": control,
            "content": [{"type": "text", "text": "a", "cache_control": control}]}],
        "tools": [{"type": "function", "cache_control": control,
            "function": {"name": "f", "cache_control": control}}],
    });
    for path in ["/apply-template", "/tokenize"] {
        assert_eq!(server.json(path, &marked), server.json(path, &plain));
    }
    let n_prompt = |body: &Value| server.json(CHAT, body)["usage"]["prompt_tokens"].clone();
    assert_eq!(n_prompt(&marked), n_prompt(&plain));
}

#[test]
fn a_whole_zero_has_no_sign_in_a_prompt() {
    let server = says("Good day");
    let messages = r#"[{"role": "user", "content": "a -0"}]"#;
    let body = format!(r#"{{"messages": {messages}, "chat_template_kwargs": {{"mood": [-0, -0.0, "-0"]}}}}"#);
    let (status, text) = server.raw("POST", "/apply-template", &body);
    assert_eq!(status, 200, "{text}");
    let prompt = serde_json::from_str::<Value>(&text).unwrap()["prompt"].clone();
    assert_eq!(prompt, "[user]a -0[[0, -0.0, '-0']][assistant]");
}

#[test]
fn a_call_without_arguments_in_the_history_has_none() {
    let server = says("Good day");
    let prompt = |function: Value| {
        let call = json!({"id": "call_1", "type": "function", "function": function});
        let messages = json!([
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": null, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": "c"},
        ]);
        server.json("/apply-template", &json!({"messages": messages, "tools": [tool("f")]}))["prompt"].clone()
    };
    let plain = prompt(json!({"name": "f", "arguments": "{}"}));
    assert_eq!(prompt(json!({"name": "f", "arguments": null})), plain);
    assert_eq!(prompt(json!({"name": "f"})), plain);
}

/// Fields that vllm-router 0.1.17 adds to what its client sent.
#[test]
fn what_a_router_adds_changes_nothing() {
    let server = says("Good day");
    let both = json!({"no_stop_trim": false, "ignore_eos": false, "skip_special_tokens": true,
        "return_hidden_states": false});
    let mut chat = both.clone();
    chat.as_object_mut().unwrap().extend(
        json!({"logprobs": false, "continue_final_message": false, "separate_reasoning": true,
            "stream_reasoning": true, "include_reasoning": true})
        .as_object()
        .unwrap()
        .clone(),
    );
    for (path, more) in [(CHAT, chat), (COMPLETIONS, both)] {
        let answer = |more: &Value| {
            let answer = server.json(path, &body(path, more));
            (answer["choices"][0].to_string(), answer["ignored_parameters"].clone())
        };
        let plain = answer(&json!({"seed": 1}));
        let mut more = more;
        more["seed"] = 1.into();
        assert_eq!(answer(&more), plain, "{path}");
    }
    let message = "no_stop_trim: expected false or null, found true".to_owned();
    assert_eq!(refusal(&server, CHAT, &json!({"no_stop_trim": true})), (message, "no_stop_trim".to_owned()));
}

#[test]
fn what_clients_keep_of_a_message_is_shown_to_no_template() {
    let server = says("Good day");
    let call = json!({"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}});
    let mut plain = json!({"messages": [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "c"},
    ], "tools": [tool("f")], "chat_template_kwargs": {"whole": true}});
    let mut marked = plain.clone();
    let said = &mut marked["messages"][1];
    for (name, value) in [
        ("id", json!("msg_1")),
        ("annotations", json!([{"type": "url_citation"}])),
        ("audio", Value::Null),
        ("function_call", Value::Null),
        ("refusal", Value::Null),
        ("parsed", json!({"a": 1})),
        ("extra_content", json!({"google": {"thought_signature": "x"}})),
        ("provider_specific_fields", json!({"a": 1})),
        ("reasoning_details", json!([])),
    ] {
        said[name] = value;
    }
    let call = &mut said["tool_calls"][0];
    for name in ["extra_content", "provider_specific_fields"] {
        call[name] = json!({"a": 1});
    }
    call["function"]["parsed_arguments"] = json!({});
    for path in ["/apply-template", "/tokenize"] {
        assert_eq!(server.json(path, &marked), server.json(path, &plain));
    }

    // Reasoning in this form is read, unless the message has it in another.
    plain["messages"][1]["reasoning"] = "why".into();
    let details = json!([{"type": "reasoning.text", "text": "w", "signature": null, "format": "unknown"},
        {"type": "reasoning.summary", "summary": "hy"}]);
    let mut detailed = marked.clone();
    detailed["messages"][1]["reasoning_details"] = details;
    let prompt = |body: &Value| server.json("/apply-template", body)["prompt"].clone();
    assert_eq!(prompt(&detailed), prompt(&plain));
    assert_ne!(prompt(&detailed), prompt(&marked));
    detailed["messages"][1]["reasoning_content"] = "why".into();
    assert_eq!(prompt(&detailed), prompt(&plain));
    detailed["messages"][1]["reasoning_details"] = json!([{"type": "reasoning.encrypted", "data": "x"}]);
    let field = "messages[1].reasoning_details[0].type";
    let message = format!(
        "{field}: expected \"reasoning.text\" or \"reasoning.summary\", found \"reasoning.encrypted\""
    );
    assert_eq!(refusal(&server, CHAT, &detailed), (message, field.to_owned()));
}

/// Clients show the message, and their code looks at the field and the code: all three are part of the interface.
#[test]
fn a_refusal_s_text_field_and_code_are_these() {
    let server = says("x");
    let many: Vec<String> = (0..17).map(|i| i.to_string()).collect();
    let long = json!([{"role": "user", "content": "a ".repeat(2000)}]);
    let g = tool("g");
    for (path, more, expected) in [
        (
            COMPLETIONS,
            json!({"prompt": vec![70; 2000]}),
            "prompt: expected at most 999 tokens, found 2000, 1001 too many: shorten it, or start with a --ctx of at least 2001",
        ),
        (
            CHAT,
            json!({ "messages": long }),
            "messages: expected at most 999 tokens, found 2016, 1017 too many: shorten it, or start with a --ctx of at least 2017",
        ),
        (CHAT, json!({"stop": ["a".repeat(257)]}), "stop[0]: expected at most 256 characters, found 257"),
        (CHAT, json!({"stop": "€".repeat(100)}), "stop: expected strings of 1 to 256 bytes, found 300"),
        (CHAT, json!({ "stop": many }), "stop: expected at most 16 items, found 17"),
        (CHAT, json!({"n": 129}), "n: expected 1 to 128, found 129"),
        (
            COMPLETIONS,
            json!({"prompt": ["a", "b"], "n": 128}),
            "prompt: expected at most 128 answers, found 2 prompts times 128",
        ),
        (CHAT, json!({"temperature": 2.5}), "temperature: expected 0 to 2, found 2.5"),
        (CHAT, json!({"temperature": -1}), "temperature: expected 0 to 2, found -1"),
        (
            CHAT,
            json!({"temprature": 1}),
            "temprature: expected one of the fields that GET /openapi.json describes, found another; did you mean temperature?",
        ),
        (CHAT, json!({"max_tokens": "9"}), "max_tokens: expected an integer or null, found a string"),
        (CHAT, json!({"logit_bias": {"x": 1}}), "logit_bias: expected token ids as field names, found x"),
        (CHAT, json!({"logit_bias": {"1": 101}}), "logit_bias.1: expected -100 to 100, found 101"),
        (CHAT, json!({"logit_bias": {"999": 1}}), "logit_bias: expected ids below 320, found 999"),
        (CHAT, json!({"top_logprobs": 2}), "top_logprobs: expected logprobs to be true beside it"),
        (
            CHAT,
            json!({"tools": [tool("f")], "tool_choice": g}),
            "tool_choice: expected a tool of the request, found another name",
        ),
        (
            CHAT,
            json!({"tool_choice": "required"}),
            "tool_choice: expected a tool of the request, found a request without tools",
        ),
    ] {
        let (status, text) = server.post(path, &body(path, &more));
        let (param, _) = expected.split_once(':').unwrap();
        let code = expected.contains("999 tokens").then_some("context_length_exceeded");
        let mut error =
            json!({"message": expected, "type": "invalid_request_error", "param": param, "code": code});
        if code.is_some() {
            let found = expected.split_once("found ").and_then(|(_, rest)| rest.split_once(','));
            error["n_prompt_tokens"] = json!(found.unwrap().0.parse::<usize>().unwrap());
            error["n_ctx"] = json!(1000);
        }
        let found: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((status, found), (400, json!({ "error": error })));
    }

    let headers = ["Content-Type: application/json", "Content-Encoding: br"];
    let (status, _, text) = server.ask("POST", CHAT, &headers);
    let message = "expected a body without a content encoding, found \"br\"";
    let error = json!({"message": message, "type": "invalid_request_error", "param": null, "code": null});
    assert_eq!((status, serde_json::from_str::<Value>(&text).unwrap()), (415, json!({ "error": error })));
}
