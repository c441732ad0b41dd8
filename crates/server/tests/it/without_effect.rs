//! What has no effect in this request or with this model is listed, and what is found is said.

use serde_json::{Value, json};
use server::{Compat, ServerOptions};

use testkit::scripted::Scripted;

use crate::served::{Running, ids, says, tokenizer};

const CHAT: &str = "/v1/chat/completions";
const CALL: &str = "<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>";

/// A request of one message with more fields.
fn chat(more: &Value) -> Value {
    let mut body = json!({"messages": [{"role": "user", "content": "a"}], "max_tokens": 99});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// The message of a refusal.
fn refusal(server: &Running, path: &str, body: &str) -> String {
    let (status, text) = server.raw("POST", path, body);
    assert_eq!(status, 400, "{body}: {text}");
    let error: Value = serde_json::from_str(&text).unwrap();
    let error = &error["error"];
    let message = error["message"].as_str().unwrap().to_owned();
    if let Some(param) = error["param"].as_str() {
        assert!(message.starts_with(&format!("{param}: ")), "{error}");
    }
    message
}

#[test]
fn a_format_beside_a_call_that_must_come_is_listed() {
    let server = says(CALL);
    let tools = json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]);
    let ignored = |more: &Value| {
        let mut body = chat(more);
        body["tools"] = tools.clone();
        server.json(CHAT, &body)["ignored_parameters"].clone()
    };
    let object = json!({"type": "json_object"});
    let named = json!({"type": "function", "function": {"name": "f"}});
    for choice in [json!("required"), named] {
        assert_eq!(ignored(&json!({"tool_choice": choice})), Value::Null);
        assert_eq!(
            ignored(&json!({"tool_choice": choice, "response_format": object})),
            json!(["response_format"])
        );
        let regex = json!({"tool_choice": choice, "structured_outputs": {"regex": "a"}});
        assert_eq!(ignored(&regex), json!(["structured_outputs"]));
        let grammar = json!({"tool_choice": choice, "grammar": "start: \"a\""});
        assert_eq!(ignored(&grammar), json!(["grammar"]));
        assert_eq!(
            ignored(&json!({"tool_choice": choice, "response_format": {"type": "text"}})),
            Value::Null
        );
    }
    let schema = json!({"type": "object"});
    let response = json!({"input": "a", "tool_choice": "required",
        "tools": [{"type": "function", "name": "f", "parameters": schema}],
        "text": {"format": {"type": "json_schema", "name": "a", "schema": schema}}});
    assert_eq!(server.json("/v1/responses", &response)["ignored_parameters"], json!(["text.format"]));
    let message = json!({"model": "", "max_tokens": 99, "messages": [{"role": "user", "content": "a"}],
        "tools": [{"name": "f", "input_schema": schema}], "tool_choice": {"type": "any"},
        "output_config": {"format": {"type": "json_schema", "schema": schema}}});
    assert_eq!(server.json("/v1/messages", &message)["ignored_parameters"], json!(["output_config.format"]));
}

#[test]
fn strict_tools_of_calls_that_nothing_enforces_are_listed() {
    let server = says(CALL);
    let schema = json!({"type": "object"});
    for (is_strict, choice, is_listed) in [
        (json!(true), json!("auto"), true),
        (json!(true), json!("required"), false),
        (json!(false), json!("auto"), false),
        (Value::Null, json!("auto"), false),
    ] {
        let named = |name: &str| if is_listed { json!([name]) } else { Value::Null };
        let function = json!({"name": "f", "parameters": schema, "strict": is_strict});
        let body =
            chat(&json!({"tool_choice": choice, "tools": [{"type": "function", "function": function}]}));
        assert_eq!(server.json(CHAT, &body)["ignored_parameters"], named("tools.function.strict"));
        let tool = json!({"type": "function", "name": "f", "parameters": schema, "strict": is_strict});
        let response = json!({"input": "a", "tool_choice": choice, "tools": [tool]});
        assert_eq!(server.json("/v1/responses", &response)["ignored_parameters"], named("tools.strict"));
        let kind = if choice == "auto" { "auto" } else { "any" };
        let message = json!({"model": "", "max_tokens": 99, "messages": [{"role": "user", "content": "a"}],
            "tools": [{"name": "f", "input_schema": schema, "strict": is_strict}], "tool_choice": {"type": kind}});
        assert_eq!(server.json("/v1/messages", &message)["ignored_parameters"], named("tools.strict"));
    }
}

#[test]
fn variables_that_the_template_does_not_name_are_listed() {
    let server = says("x");
    let kwargs = json!({"mood": "calm", "moo": 1, "enable_thinking": false, "none": null, "not plain": 1});
    let expected = json!([
        "chat_template_kwargs.moo",
        "chat_template_kwargs.enable_thinking",
        "chat_template_kwargs.(a name of 9 characters)"
    ]);
    assert_eq!(
        server.json(CHAT, &chat(&json!({"chat_template_kwargs": kwargs})))["ignored_parameters"],
        expected
    );
    let message = json!({"model": "", "max_tokens": 9, "messages": [{"role": "user", "content": "a"}],
        "thinking": {"type": "disabled"}, "chat_template_kwargs": {"moo": 1}});
    assert_eq!(
        server.json("/v1/messages", &message)["ignored_parameters"],
        json!(["thinking", "chat_template_kwargs.moo"])
    );
    let mut answer = ids("x");
    answer.push(tokenizer().ends()[0]);
    let lenient = ServerOptions { compat: Compat::Lenient, ..ServerOptions::default() };
    let lenient = Running::with(Scripted::new(answer), lenient);
    for name in ["think", "enable_thinking"] {
        let answer = lenient.json(CHAT, &chat(&json!({ name: false })));
        assert_eq!(answer["ignored_parameters"], json!([name]));
    }
}

#[test]
fn an_empty_grammar_is_none_where_the_server_is_lenient() {
    for (compat, status) in [(Compat::Strict, 400), (Compat::Lenient, 200), (Compat::LlamaServer, 200)] {
        let mut answer = ids("x");
        answer.push(tokenizer().ends()[0]);
        let server =
            Running::with(Scripted::new(answer), ServerOptions { compat, ..ServerOptions::default() });
        let (found, text) = server.post(CHAT, &chat(&json!({"grammar": ""})));
        assert_eq!(found, status, "{compat:?}: {text}");
        assert!(!text.contains("ignored_parameters"), "{text}");
    }
}

#[test]
fn temperatures_have_the_range_of_their_api() {
    let server = says("x");
    let hot =
        json!({"prompt": "a", "input_prefix": "a", "input_suffix": "b", "job_id": "1", "temperature": 5});
    let of = |names: &[&str]| -> String {
        let all = hot.as_object().unwrap();
        Value::Object(
            all.iter()
                .filter(|(name, _)| names.contains(&name.as_str()))
                .map(|(n, v)| (n.clone(), v.clone()))
                .collect(),
        )
        .to_string()
    };
    for (path, body) in [
        ("/completion", of(&["prompt", "temperature"])),
        ("/execute", of(&["job_id", "prompt", "temperature"])),
    ] {
        assert_eq!(server.raw("POST", path, &body).0, 200, "{path}");
        let beyond = body.replace(":5", ":100.5");
        let (status, text) = server.raw("POST", path, &beyond);
        assert!(status == 400 && text.contains("temperature: expected 0 to 100, found 100.5"), "{text}");
    }
    let chat = chat(&json!({"temperature": 5})).to_string();
    for (path, body) in [("/v1/completions", of(&["prompt", "temperature"])), (CHAT, chat)] {
        assert_eq!(refusal(&server, path, &body), "temperature: expected 0 to 2, found 5");
    }
}

#[test]
fn a_refusal_says_what_was_found_and_where() {
    let server = says("x");
    let (path, openai) = ("/v1/completions", |more: &str| format!(r#"{{"prompt": "a", {more}}}"#));
    for (more, expected) in [
        (
            r#""max_tokens": 1000000000000000000000000000000"#,
            "max_tokens: expected an integer or null, found a whole number that is too large",
        ),
        (r#""max_tokens": 2.5"#, "max_tokens: expected an integer or null, found a number with a fraction"),
        (r#""logit_bias": {"abc": 1}"#, "logit_bias: expected token ids as field names, found abc"),
        (
            r#""logit_bias": {"a b": 1}"#,
            "logit_bias: expected token ids as field names, found (a name of 3 characters)",
        ),
        (
            r#""structured_outputs": {"regex": "("}"#,
            "structured_outputs.regex: expected what can be enforced, found invalid regex: unclosed group",
        ),
        (
            r#""structured_outputs": {"json": {"pattern": "("}}"#,
            "structured_outputs.json: expected what can be enforced, found invalid regex: unclosed group",
        ),
        (
            r#""structured_outputs": {"grammar": "start: &"}"#,
            "structured_outputs.grammar: expected a grammar without &, found one with it",
        ),
        (r#""grammar": "start: &""#, "grammar: expected a grammar without &, found one with it"),
        (
            r#""seed": 1, "seed": 2"#,
            "seed: line 1, column 37: expected one value under a name, found two that differ",
        ),
    ] {
        assert_eq!(refusal(&server, path, &openai(more)), expected);
    }
    let llama = r#"{"prompt": "a", "json_schema": {"pattern": "("}}"#;
    let expected = "json_schema: expected what can be enforced, found invalid regex: unclosed group";
    assert_eq!(refusal(&server, "/completion", llama), expected);
    let bias = r#"{"prompt": "a", "logit_bias": [[1, "x"]]}"#;
    let expected = "logit_bias: expected numbers or false as biases, found \"x\"";
    assert_eq!(refusal(&server, "/completion", bias), expected);
    let half = r#"{"messages": [{"role": "user", "content": "a\ud83d"}]}"#;
    let found = refusal(&server, CHAT, half);
    assert!(
        found.starts_with("messages[0].content: line 1, column 51: expected text of whole characters"),
        "{found}"
    );
    let (status, _, text) = server.ask("GET", "/slots?fail_on_no_slot=1&fail_on_no_slot=2", &[]);
    assert!(status == 400 && text.contains("fail_on_no_slot: expected it once"), "{text}");
}

#[test]
fn errors_of_messages_name_no_field_of_another_api() {
    let server = says("x");
    let body = json!({"model": "", "max_tokens": 9, "messages": [
        {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]});
    let with = |name: &str, value: Value| {
        let mut body = body.clone();
        body[name] = value;
        refusal(&server, "/v1/messages", &body.to_string())
    };
    let format = json!({"format": {"type": "json_schema", "schema": {"type": "object"}}});
    assert_eq!(
        with("output_config", format),
        "output_config.format: expected none where the last message is the assistant's: it would begin anew, found one"
    );
    let empty = json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": " "}]);
    assert_eq!(
        with("messages", empty),
        "messages: expected an assistant's message of text where the last message is the assistant's, found one without text"
    );
}
