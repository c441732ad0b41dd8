//! POST /v1/chat/completions.

use std::io::Read;
use std::time::{Duration, Instant};

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use crate::served::{Running, ids, says};
use testkit::scripted::Scripted;

const PATH: &str = "/v1/chat/completions";

fn hello(more: &Value) -> Value {
    let mut body = json!({"messages": [{"role": "user", "content": "Hello"}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn check(server: &Running, body: &Value, expected: &Expect) {
    let (status, text) = server.post(PATH, body);
    expected.assert_eq(&format!("{status}\n{text}"));
}

#[test]
fn an_answer_comes_whole() {
    let server = says("Good day");
    check(
        &server,
        &hello(&json!({"model": "gpt-4o", "user": "me", "seed": 1})),
        &expect![[r#"
            200
            {"id":"chatcmpl-ID","object":"chat.completion","created":TIME,"model":"org/tiny","system_fingerprint":"worker-orcd-VERSION-org-tiny","choices":[{"index":0,"message":{"role":"assistant","content":"Good day","refusal":null},"logprobs":null,"seed":SEED,"finish_reason":"stop"}],"usage":{"prompt_tokens":19,"completion_tokens":9,"total_tokens":28,"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}},"timings":{"cache_n":0,"prompt_n":19,"prompt_ms":N,"prompt_per_token_ms":N,"prompt_per_second":N,"predicted_n":9,"predicted_ms":N,"predicted_per_token_ms":N,"predicted_per_second":N},"ignored_parameters":["user"]}"#]],
    );
}

#[test]
fn an_answer_comes_in_chunks() {
    let server = says("Oh €");
    let body = hello(&json!({"stream": true, "user": "me", "stream_options": {"include_usage": true}}));
    check(
        &server,
        &body,
        &expect![[r#"
            200
            data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":TIME,"model":"org/tiny","system_fingerprint":"worker-orcd-VERSION-org-tiny","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"usage":null,"ignored_parameters":["user"]}

            data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":TIME,"model":"org/tiny","system_fingerprint":"worker-orcd-VERSION-org-tiny","choices":[{"index":0,"delta":{"content":"O"},"logprobs":null,"finish_reason":null}],"usage":null}

            data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":TIME,"model":"org/tiny","system_fingerprint":"worker-orcd-VERSION-org-tiny","choices":[{"index":0,"delta":{"content":"h"},"logprobs":null,"finish_reason":null}],"usage":null}

            data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":TIME,"model":"org/tiny","system_fingerprint":"worker-orcd-VERSION-org-tiny","choices":[{"index":0,"delta":{"content":" "},"logprobs":null,"finish_reason":null}],"usage":null}

            data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":TIME,"model":"org/tiny","system_fingerprint":"worker-orcd-VERSION-org-tiny","choices":[{"index":0,"delta":{"content":"€"},"logprobs":null,"finish_reason":null}],"usage":null}

            data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":TIME,"model":"org/tiny","system_fingerprint":"worker-orcd-VERSION-org-tiny","choices":[{"index":0,"delta":{},"logprobs":null,"seed":SEED,"finish_reason":"stop"}],"usage":null}

            data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":TIME,"model":"org/tiny","system_fingerprint":"worker-orcd-VERSION-org-tiny","choices":[],"usage":{"prompt_tokens":19,"completion_tokens":7,"total_tokens":26,"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}},"timings":{"cache_n":0,"prompt_n":19,"prompt_ms":N,"prompt_per_token_ms":N,"prompt_per_second":N,"predicted_n":7,"predicted_ms":N,"predicted_per_token_ms":N,"predicted_per_second":N}}

            data: [DONE]

        "#]],
    );
}

#[test]
fn log_probabilities_have_exact_bytes() {
    let server = says("€!");
    let body = hello(&json!({"logprobs": true, "top_logprobs": 1, "seed": 7}));
    let choice = server.json(PATH, &body)["choices"][0].clone();
    expect![[r#"{"index":0,"message":{"role":"assistant","content":"€!","refusal":null},"logprobs":{"content":[{"token":"�","logprob":-1.0,"bytes":[226],"top_logprobs":[{"token":"�","logprob":-1.0,"bytes":[226]}]},{"token":"�","logprob":-1.0,"bytes":[130],"top_logprobs":[{"token":"�","logprob":-1.0,"bytes":[130]}]},{"token":"�","logprob":-1.0,"bytes":[172],"top_logprobs":[{"token":"�","logprob":-1.0,"bytes":[172]}]},{"token":"!","logprob":-1.0,"bytes":[33],"top_logprobs":[{"token":"!","logprob":-1.0,"bytes":[33]}]}],"refusal":null},"seed":7,"finish_reason":"stop"}"#]].assert_eq(&choice.to_string());
    // In a stream, each token's stand in one chunk.
    let mut streamed = body.clone();
    streamed["stream"] = true.into();
    let events = server.events(PATH, &streamed);
    let all: Vec<&Value> = events
        .iter()
        .flat_map(|event| event["choices"][0]["logprobs"]["content"].as_array().into_iter().flatten())
        .collect();
    assert_eq!(json!(all), choice["logprobs"]["content"]);
    let none = server.json(PATH, &hello(&json!({"logprobs": false})));
    assert_eq!(none["choices"][0]["logprobs"], Value::Null);
}

#[test]
fn several_answers_have_their_indices() {
    let server = says("ab");
    let whole = server.json(PATH, &hello(&json!({"n": 3})));
    let said: Vec<_> = whole["choices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| (c["index"].clone(), c["message"]["content"].clone()))
        .collect();
    assert_eq!(json!(said), json!([[0, "ab"], [1, "ab"], [2, "ab"]]));
    assert!(whole["timings"].is_null());
    let events = server.events(PATH, &hello(&json!({"n": 3, "stream": true})));
    for index in 0..3 {
        let own =
            || events.iter().map(|event| &event["choices"][0]).filter(|choice| choice["index"] == index);
        let text: String = own().filter_map(|choice| choice["delta"]["content"].as_str()).collect();
        assert_eq!(text, "ab");
        assert_eq!(own().next().unwrap()["delta"]["role"], "assistant");
        assert_eq!(own().next_back().unwrap()["finish_reason"], "stop");
    }
    // The prompt is one, however many answers it gets.
    let one = server.json(PATH, &hello(&json!({})));
    assert_eq!(whole["usage"]["prompt_tokens"], one["usage"]["prompt_tokens"]);
    assert_eq!(
        whole["usage"]["completion_tokens"],
        json!(3 * one["usage"]["completion_tokens"].as_u64().unwrap())
    );
}

#[test]
fn an_answer_ends_where_it_is_told_to() {
    let server = says("one two three");
    let end = |more: Value| {
        let choice = server.json(PATH, &hello(&more))["choices"][0].clone();
        (
            choice["message"]["content"].as_str().unwrap().to_owned(),
            choice["finish_reason"].as_str().unwrap().to_owned(),
        )
    };
    let is = |text: &str, reason: &str| (text.to_owned(), reason.to_owned());
    assert_eq!(end(json!({})), is("one two three", "stop"));
    assert_eq!(end(json!({"stop": " three"})), is("one two", "stop"));
    assert_eq!(end(json!({"stop": ["x", "two"], "max_tokens": null})), is("one ", "stop"));
    assert_eq!(end(json!({"max_tokens": 100, "max_completion_tokens": 1})).1, "length");
    let first = ids("one two three")[0];
    assert_eq!(end(json!({"stop_token_ids": [first]})), is("", "stop"));
}

#[test]
fn a_template_gets_what_the_body_says() {
    let server = says("x");
    let prompt = |body: Value| server.json("/apply-template", &body)["prompt"].as_str().unwrap().to_owned();
    let tool = json!({"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}});
    assert_eq!(
        prompt(json!({
            "messages": [{"role": "developer", "content": "Be kind."}, {"role": "user", "content": [
                {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "b"}]}],
            "tools": [tool], "chat_template_kwargs": {"mood": "fine"}})),
        "[system]Be kind.[user]a\nb[tools f][fine][assistant]"
    );
    assert_eq!(
        prompt(json!({"messages": [{"role": "user", "content": "a"}], "add_generation_prompt": false})),
        "[user]a"
    );
    let tokens = server.json("/tokenize", &json!({"messages": [{"role": "user", "content": "Hello"}]}));
    let used = server.json(PATH, &hello(&json!({})));
    assert_eq!(used["usage"]["prompt_tokens"], tokens["count"]);
}

/// A call and the reasoning before it, whole and in chunks that join to the same.
#[test]
fn reasoning_and_calls_have_their_own_fields() {
    let call = |name: &str| {
        format!("<tool_call>{{\"name\": \"{name}\", \"arguments\": {{\"a\": \"€\"}}}}</tool_call>")
    };
    let server = says(&format!("<think>hm</think>I look.{}{}", call("f"), call("g")));
    let tool = |name: &str| json!({"type": "function", "function": {"name": name, "parameters": {"type": "object"}}});
    let body = hello(&json!({"tools": [tool("f"), tool("g")], "max_tokens": 500, "seed": 7}));
    let answer = server.json(PATH, &body);
    let mut choice = answer["choices"][0].clone();
    assert!(answer["usage"]["completion_tokens_details"]["reasoning_tokens"].as_u64() > Some(1));
    let message = choice["message"].clone();
    for call in choice["message"]["tool_calls"].as_array_mut().unwrap() {
        assert!(call["id"].as_str().unwrap().starts_with("call_"));
        call["id"] = "ID".into();
    }
    expect![[r#"{"index":0,"message":{"role":"assistant","content":"I look.","refusal":null,"reasoning_content":"hm","reasoning":"hm","tool_calls":[{"id":"ID","type":"function","function":{"name":"f","arguments":"{\"a\": \"€\"}"}},{"id":"ID","type":"function","function":{"name":"g","arguments":"{\"a\": \"€\"}"}}]},"logprobs":null,"seed":7,"finish_reason":"tool_calls"}"#]].assert_eq(&choice.to_string());

    let mut streamed = body.clone();
    streamed["stream"] = true.into();
    let events = server.events(PATH, &streamed);
    let deltas = || events.iter().map(|event| &event["choices"][0]["delta"]);
    let joined = |name: &str| deltas().filter_map(|delta| delta[name].as_str()).collect::<String>();
    assert_eq!((joined("reasoning_content"), joined("reasoning")), ("hm".to_owned(), "hm".to_owned()));
    assert_eq!(joined("content"), "I look.");
    let pieces: Vec<&Value> =
        deltas().flat_map(|delta| delta["tool_calls"].as_array().into_iter().flatten()).collect();
    for (index, name) in [(0, "f"), (1, "g")] {
        let own: Vec<_> = pieces.iter().filter(|piece| piece["index"] == index).collect();
        assert_eq!((&own[0]["type"], &own[0]["function"]["name"]), (&json!("function"), &json!(name)));
        assert!(own[1..].iter().all(|piece| piece["id"].is_null() && piece["type"].is_null()));
        let arguments: String =
            own.iter().filter_map(|piece| piece["function"]["arguments"].as_str()).collect();
        assert_eq!(arguments, "{\"a\": \"€\"}");
    }
    assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");

    // An answer as it came, and the tool's, are the history of the next request.
    let id = message["tool_calls"][0]["id"].clone();
    let next = json!({"messages": [{"role": "user", "content": "Hello"}, message,
        {"role": "tool", "tool_call_id": id, "content": [{"type": "text", "text": "3"}]}]});
    let prompt = server.json("/apply-template", &next)["prompt"].clone();
    expect![[r#"[user]Hello[assistant](hm)I look.<tool_call>{"name": "f", "arguments": {"a": "€"}}</tool_call><tool_call>{"name": "g", "arguments": {"a": "€"}}</tool_call>[tool]3[assistant]"#]].assert_eq(prompt.as_str().unwrap());
}

#[test]
fn what_is_not_used_is_named_and_what_is_not_known_refused() {
    let server = says("x");
    let body = hello(
        &json!({"reasoning_effort": "low", "stream_options": {"include_usage": true}, "prediction": {}}),
    );
    let answer = server.json(PATH, &body);
    assert_eq!(answer["ignored_parameters"], json!(["prediction", "stream_options", "reasoning_effort"]));
    check(
        &server,
        &hello(&json!({"frobnicate": 1})),
        &expect![[r#"
            400
            {"error":{"message":"frobnicate: expected one of the fields that GET /openapi.json describes, found another","type":"invalid_request_error","param":"frobnicate","code":null}}"#]],
    );
    check(
        &server,
        &hello(&json!({"model": "gpt-5"})),
        &expect![[r#"
        404
        {"error":{"message":"the model `gpt-5` is not served here; GET /v1/models names the one that is","type":"invalid_request_error","param":"model","code":"model_not_found"}}"#]],
    );
    check(
        &server,
        &hello(&json!({"top_logprobs": 2})),
        &expect![[r#"
            400
            {"error":{"message":"top_logprobs: expected logprobs to be true beside it","type":"invalid_request_error","param":"top_logprobs","code":null}}"#]],
    );
    check(
        &server,
        &hello(&json!({"logit_bias": {"9999": 1}})),
        &expect![[r#"
            400
            {"error":{"message":"logit_bias: expected ids below 320, found 9999","type":"invalid_request_error","param":"logit_bias","code":null}}"#]],
    );
    check(
        &server,
        &hello(&json!({"logit_bias": {"+9": 1}})),
        &expect![[r#"
            400
            {"error":{"message":"logit_bias: expected token ids as field names, found (a name of 2 characters)","type":"invalid_request_error","param":"logit_bias","code":null}}"#]],
    );
    check(
        &server,
        &json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]}),
        &expect![[r#"
            400
            {"error":{"message":"messages[0].content[0].type: expected \"text\" or \"refusal\", found \"image_url\"","type":"invalid_request_error","param":"messages[0].content[0].type","code":null}}"#]],
    );
    check(
        &server,
        &json!({"messages": [{"role": "user", "content": "a".repeat(5000)}]}),
        &expect![[r#"
            400
            {"error":{"message":"messages: expected at most 999 tokens, found 5015, 4016 too many: shorten it, or start with a --ctx of at least 5016","type":"invalid_request_error","param":"messages","code":"context_length_exceeded","n_prompt_tokens":5015,"n_ctx":1000}}"#]],
    );
    // What a template would write, and what nobody reads as a number of the prompt.
    let large = "99999999999999999999";
    let tool = |more: &str| {
        format!(
            r#"{{"messages": [{{"role": "user", "content": "a"}}], "tools": [{{"type": "function", "function": {{"name": "f", "parameters": {{"maximum": {more}}}}}}}]}}"#
        )
    };
    let (status, text) = server.call("POST", PATH, &tool(large));
    expect![[r#"
        400
        {"error":{"message":"tools[0].function.parameters.maximum: expected whole numbers from -2^63 to 2^64 - 1, found a larger number","type":"invalid_request_error","param":"tools[0].function.parameters.maximum","code":null}}"#]].assert_eq(&format!("{status}\n{text}"));
    assert_eq!(server.call("POST", PATH, &tool("1e30")).0, 200);
    let format = format!(
        r#"{{"messages": [{{"role": "user", "content": "a"}}], "response_format": {{"type": "json_schema", "json_schema": {{"schema": {{"type": "number", "maximum": {large}}}}}}}}}"#
    );
    assert_eq!(says("7").call("POST", PATH, &format).0, 200);
    let (status, text) = server.call("POST", PATH, "{\"messages\": [");
    expect![[r#"
        400
        {"error":{"message":"the body is not JSON: line 1, column 14: expected a comma or ], found the end","type":"invalid_request_error","param":null,"code":null}}"#]].assert_eq(&format!("{status}\n{text}"));
}

#[test]
fn a_failure_before_the_first_token_is_a_status_and_later_an_event() {
    let server = Running::start(Scripted::new(ids("abc")).fails_at(1));
    let (status, text) = server.post(PATH, &hello(&json!({"stream": true})));
    expect![[r#"
        500
        {"error":{"message":"the device failed; the server ends","type":"server_error","param":null,"code":"device_error"}}"#]].assert_eq(&format!("{status}\n{text}"));
    let server = Running::start(Scripted::new(ids("abc")).fails_at(5));
    let (status, text) = server.post(PATH, &hello(&json!({"stream": true})));
    assert_eq!(status, 200);
    expect![[r#"
        },"logprobs":null,"finish_reason":null}]}

        data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":TIME,"model":"org/tiny","system_fingerprint":"worker-orcd-VERSION-org-tiny","choices":[{"index":0,"delta":{"content":"b"},"logprobs":null,"finish_reason":null}]}

        data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":TIME,"model":"org/tiny","system_fingerprint":"worker-orcd-VERSION-org-tiny","choices":[{"index":0,"delta":{"content":"c"},"logprobs":null,"finish_reason":null}]}

        data: {"error":{"message":"the device failed; the server ends","type":"server_error","param":null,"code":"device_error"}}

        data: [DONE]

    "#]].assert_eq(text.split_once("\"a\"").unwrap().1);
}

/// The device takes longer than headers wait: they come, and the error that follows is an event.
#[test]
fn headers_do_not_wait_for_a_slow_first_token() {
    let server = Running::start(Scripted::new(ids("abc")).latency(Duration::from_millis(1500)).fails_at(2));
    let (status, text) = server.post(PATH, &hello(&json!({"stream": true})));
    assert_eq!(status, 200);
    assert!(text.ends_with("\"code\":\"device_error\"}}\n\ndata: [DONE]\n\n"), "{text}");
}

#[test]
fn a_client_that_leaves_cancels() {
    let server = Running::start(Scripted::new(ids("abc")).latency(Duration::from_millis(5)));
    for is_stream in [true, false] {
        let body = hello(&json!({"stream": is_stream, "n": 2, "max_tokens": 900, "ignore_eos": true}));
        let mut stream = server.open("POST", PATH, &body.to_string());
        if is_stream {
            stream.read_exact(&mut [0; 500]).unwrap();
        }
        wait(|| server.n_unfinished() == 2);
        drop(stream);
        wait(|| server.n_unfinished() == 0);
    }
}

fn wait(is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_clients_send_beside_the_plain_form_is_taken() {
    let server = says("Good day");
    let user = json!({"role": "user", "content": "Hello"});
    let call = json!({"type": "function", "function": {"name": "f", "arguments": {"city": "Paris"}}});
    let histories = [
        json!({"role": "assistant", "content": [{"type": "refusal", "refusal": "Never."}]}),
        json!({"role": "assistant", "content": null, "refusal": "Never."}),
        json!({"role": "function", "name": "f", "content": "Never."}),
        json!({"role": "assistant", "content": null, "tool_calls": [call]}),
    ];
    for history in histories {
        let (status, text) = server.post("/apply-template", &json!({"messages": [user, history, user]}));
        let said = ["Never.", "Paris"].into_iter().any(|text_of_it| text.contains(text_of_it));
        assert!(status == 200 && said, "{history}: {status} {text}");
    }
    let fields = [
        json!({"stop": ""}),
        json!({"stop": ["", "\n\n\n"]}),
        json!({"tools": [{"type": "function", "function": {"name": "f"}, "cache_control": {"type": "ephemeral"}}]}),
    ];
    for more in fields {
        let (status, text) = server.post(PATH, &hello(&more));
        assert_eq!(status, 200, "{more}: {text}");
        assert!(!text.contains("ephemeral"), "{text}");
    }
}

#[test]
fn the_last_message_is_continued_where_that_is_asked_for() {
    let server = says(" day");
    let said =
        |text: &str| json!([{"role": "user", "content": "Hello"}, {"role": "assistant", "content": text}]);
    let body = |text: &str| json!({"messages": said(text), "continue_final_message": true});
    let prompt = |body: &Value| server.json("/apply-template", body)["prompt"].clone();
    // White space at its end stays, and what a template would write after it does not come.
    for text in ["Good", "Good ", "[assistant]", "a\n\n"] {
        assert_eq!(prompt(&body(text)), format!("[user]Hello[assistant]{text}"));
    }
    let count = |body: &Value| server.json("/tokenize", body)["count"].clone();
    let mut asked = body("Good");
    assert_eq!(count(&asked), ids("[user]Hello[assistant]Good").len());
    asked["seed"] = 1.into();
    let answer = server.json(PATH, &asked);
    assert_eq!(answer["choices"][0]["message"]["content"], " day");
    assert_eq!(answer["usage"]["prompt_tokens"], count(&body("Good")));

    // Reasoning that is open is gone on with as reasoning.
    let server = says("m</think>Yes");
    let message = server.json(PATH, &body("<think>h"))["choices"][0]["message"].clone();
    assert_eq!((&message["reasoning_content"], &message["content"]), (&json!("m"), &json!("Yes")));

    let call = json!({"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}});
    for (more, expected) in [
        (
            json!({"add_generation_prompt": true}),
            "continue_final_message: expected false where add_generation_prompt is true",
        ),
        // This template writes the tools after the messages.
        (
            json!({"tools": [{"type": "function", "function": {"name": "f"}}]}),
            "tools[0]: expected what the model's chat template writes into the prompt, found a tool that it leaves out",
        ),
        (
            json!({"messages": [{"role": "user", "content": "a"}]}),
            "messages[0]: expected an assistant's message of text where continue_final_message is true, found another role's",
        ),
        (
            json!({"messages": [{"role": "assistant", "content": " "}]}),
            "messages[0]: expected an assistant's message of text where continue_final_message is true, found one without text",
        ),
        (
            json!({"messages": [{"role": "assistant", "content": "a", "tool_calls": [call]}]}),
            "messages[0]: expected an assistant's message of text where continue_final_message is true, found one with calls",
        ),
        (
            json!({"response_format": {"type": "json_object"}}),
            "response_format: expected none where continue_final_message is true: it would begin anew, found one",
        ),
    ] {
        let mut body = body("a");
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (status, text) = server.post(PATH, &body);
        let error: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((status, &error["error"]["message"]), (400, &json!(expected)));
    }
}
