//! POST /v1/messages, and the errors around it.

use expect_test::expect;
use serde_json::{Value, json};
use server::{Keys, Security, ServerOptions};

use crate::served::{Running, ids, says};
use testkit::scripted::Scripted;

const PATH: &str = "/v1/messages";

/// The shortest body, and more fields.
fn body(more: &Value) -> Value {
    let mut body =
        json!({"model": "org/tiny", "max_tokens": 500, "messages": [{"role": "user", "content": "Hello"}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// A message without what differs from run to run.
fn settled(mut message: Value) -> Value {
    message["id"] = message["id"].as_str().unwrap().split('_').next().unwrap().into();
    message["seed"] = "N".into();
    for block in message["content"].as_array_mut().unwrap() {
        if block["id"].is_string() {
            block["id"] = "ID".into();
        }
    }
    message
}

#[test]
fn an_answer_comes_whole() {
    let more = json!({"system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        "metadata": {"user_id": "me"}});
    let answer = says("Good day").json(PATH, &body(&more));
    expect![[r#"{"id":"msg","type":"message","role":"assistant","model":"org/tiny","content":[{"type":"text","text":"Good day"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":34,"cache_read_input_tokens":0,"cache_creation_input_tokens":0,"output_tokens":9},"seed":"N","ignored_parameters":["metadata"]}"#]].assert_eq(&settled(answer).to_string());
}

/// An answer of all kinds of blocks.
fn thinks_and_calls() -> (Running, Value) {
    let call = |name: &str| {
        format!("<tool_call>{{\"name\": \"{name}\", \"arguments\": {{\"a\": \"€\"}}}}</tool_call>")
    };
    let server = says(&format!("<think>hm</think>I look.{}{}", call("f"), call("g")));
    let tool = |name: &str| json!({"name": name, "input_schema": {"type": "object"}});
    (server, body(&json!({"tools": [tool("f"), tool("g")], "seed": 7})))
}

#[test]
fn thinking_text_and_calls_are_blocks_and_a_stream_tells_the_same() {
    let (server, mut body) = thinks_and_calls();
    let whole = server.json(PATH, &body);
    expect![[r#"{"id":"msg","type":"message","role":"assistant","model":"org/tiny","content":[{"type":"thinking","thinking":"hm","signature":""},{"type":"text","text":"I look."},{"type":"tool_use","id":"ID","name":"f","input":{"a":"€"}},{"type":"tool_use","id":"ID","name":"g","input":{"a":"€"}}],"stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":28,"cache_read_input_tokens":0,"cache_creation_input_tokens":0,"output_tokens":141},"seed":"N"}"#]].assert_eq(&settled(whole.clone()).to_string());
    body["stream"] = true.into();
    let events = server.named_events(PATH, &body);
    let mut told = String::new();
    for event in &events {
        let kind = event["delta"]["type"].as_str().or(event["content_block"]["type"].as_str());
        let line =
            format!("{} {} {}\n", event["type"].as_str().unwrap(), event["index"], kind.unwrap_or("-"));
        if !told.ends_with(&line) {
            told.push_str(&line);
        }
    }
    expect![[r#"
        message_start null -
        content_block_start 0 thinking
        ping null -
        content_block_delta 0 thinking_delta
        content_block_stop 0 -
        content_block_start 1 text
        content_block_delta 1 text_delta
        content_block_stop 1 -
        content_block_start 2 tool_use
        content_block_delta 2 input_json_delta
        content_block_stop 2 -
        content_block_start 3 tool_use
        content_block_delta 3 input_json_delta
        content_block_stop 3 -
        message_delta null -
        message_stop null -
    "#]]
    .assert_eq(&told);
    // Put together as clients do, it is the whole answer.
    let mut blocks: Vec<Value> = Vec::new();
    let mut inputs = vec![String::new(); 4];
    for event in &events {
        let at = event["index"].as_u64().unwrap_or(0) as usize;
        let delta = &event["delta"];
        match event["type"].as_str().unwrap() {
            "content_block_start" => blocks.push(event["content_block"].clone()),
            "content_block_delta" => {
                for name in ["text", "thinking"] {
                    if let Some(more) = delta[name].as_str() {
                        blocks[at][name] = format!("{}{more}", blocks[at][name].as_str().unwrap()).into();
                    }
                }
                inputs[at].push_str(delta["partial_json"].as_str().unwrap_or_default());
            }
            "content_block_stop" if blocks[at]["type"] == "tool_use" => {
                blocks[at]["input"] = serde_json::from_str(&inputs[at]).unwrap();
            }
            _ => {}
        }
    }
    let mut message = events[0]["message"].clone();
    message["content"] = blocks.into();
    let last = &events[events.len() - 2];
    message["stop_reason"] = last["delta"]["stop_reason"].clone();
    message["usage"] = whole["usage"].clone();
    assert_eq!(last["usage"]["output_tokens"], whole["usage"]["output_tokens"]);
    assert_eq!(settled(message), settled(whole));
}

#[test]
fn a_conversation_goes_on_with_what_the_tools_gave() {
    let (server, mut body) = thinks_and_calls();
    let first = server.json(PATH, &body);
    let result = |at: usize, content: Value| json!({"type": "tool_result", "tool_use_id": first["content"][at]["id"], "content": content});
    let mut failed = result(3, json!([{"type": "text", "text": "four"}]));
    failed["is_error"] = true.into();
    let question = json!({"role": "user", "content": "Hello"});
    let said = json!({"role": "assistant", "content": first["content"]});
    let gave =
        json!({"role": "user", "content": [result(2, json!("3")), failed, {"type": "text", "text": "And?"}]});
    body["messages"] = json!([question, said, gave]);
    let next = server.json(PATH, &body);
    assert_eq!(next["ignored_parameters"], json!(["messages.content.is_error"]));
    // The same as a chat: what the model read is what counts.
    let calls: Vec<Value> = [2, 3]
        .map(|at| {
            let block = &first["content"][at];
            let function = json!({"name": block["name"], "arguments": block["input"].to_string()});
            json!({"id": block["id"], "type": "function", "function": function})
        })
        .into();
    let tool = |at: usize, text: &str| json!({"role": "tool", "tool_call_id": first["content"][at]["id"], "content": text});
    let tools: Vec<Value> = ["f", "g"]
        .map(|name| json!({"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}))
        .into();
    let chat = json!({"tools": tools, "messages": [question,
        {"role": "assistant", "content": "I look.", "reasoning_content": "hm", "tool_calls": calls},
        tool(2, "3"), tool(3, "four"), {"role": "user", "content": "And?"}]});
    let n_chat = server.json("/v1/chat/completions", &chat)["usage"]["prompt_tokens"].as_u64().unwrap();
    let usage = &next["usage"];
    let n = usage["input_tokens"].as_u64().unwrap() + usage["cache_read_input_tokens"].as_u64().unwrap();
    assert_eq!(n, n_chat);
    let count = server.json("/v1/messages/count_tokens", &body);
    assert_eq!(count, json!({"input_tokens": n_chat}));
}

#[test]
fn an_answer_says_why_it_ended() {
    let end = |text: &str, more: Value| {
        let answer = says(text).json(PATH, &body(&more));
        format!("{} {} {}", answer["stop_reason"], answer["stop_sequence"], answer["content"])
    };
    let ends = [
        end("Good day", json!({"stop_sequences": ["x", " d"]})),
        end("Good day", json!({"max_tokens": 2})),
        end("Good day", json!({"stop_sequences": []})),
    ];
    expect![[r#"
        "stop_sequence" " d" [{"type":"text","text":"Good"}]
        "max_tokens" null [{"type":"text","text":"Go"}]
        "end_turn" null [{"type":"text","text":"Good day"}]"#]]
    .assert_eq(&ends.join("\n"));
}

#[test]
fn a_tool_that_must_be_called_is() {
    let server = says("<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>");
    let tools = json!([{"name": "f", "input_schema": {"type": "object", "properties": {}, "additionalProperties": false}}]);
    for choice in
        [json!({"type": "any"}), json!({"type": "tool", "name": "f", "disable_parallel_tool_use": true})]
    {
        let answer = server.json(PATH, &body(&json!({"tools": tools, "tool_choice": choice})));
        assert_eq!(answer["content"][0]["name"], "f", "{answer}");
    }
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let server = says("x");
    let user = |block: Value| json!({"messages": [{"role": "user", "content": [block]}]});
    let refused = [
        json!({"frobnicate": 1}),
        json!({"max_tokens": null}),
        json!({"max_tokens": 0}),
        json!({"model": "other"}),
        json!({"messages": []}),
        json!({"messages": [{"role": "system", "content": "a"}]}),
        json!({"tools": [{"type": "web_search_20250305", "name": "web_search", "input_schema": {}}]}),
        json!({"tools": [{"name": "f", "input_schema": {"type": "x"}}], "tool_choice": {"type": "any"}}),
        json!({"tool_choice": {"type": "tool", "name": "f"}}),
        json!({"tool_choice": {"type": "tool"}}),
        json!({"thinking": {"type": "maybe"}}),
        user(json!({"type": "image", "source": {"type": "url", "url": "x"}})),
        user(json!({"type": "tool_use", "id": "1", "name": "f", "input": {}})),
        user(json!({"type": "tool_result", "content": "a"})),
        user(json!({"type": "text"})),
    ]
    .map(|more| {
        let (status, text) = server.post(PATH, &body(&more));
        let error: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(error["type"], "error");
        format!("{status} {} {}\n", error["error"]["type"].as_str().unwrap(), error["error"]["message"])
    });
    expect![[r#"
        400 invalid_request_error "frobnicate: expected one of the fields that GET /openapi.json describes, found another"
        400 invalid_request_error "max_tokens: expected an integer, found null"
        400 invalid_request_error "max_tokens: expected 1 to 2147483647, found 0"
        404 not_found_error "the model `other` is not served here; GET /v1/models names the one that is"
        400 invalid_request_error "messages: expected 1 to 4096 items, found 0"
        400 invalid_request_error "messages[0].role: expected \"user\" or \"assistant\", found \"system\""
        400 invalid_request_error "tools[0].type: expected \"custom\" or null, found \"web_search_20250305\""
        400 invalid_request_error "tools: expected what can be enforced, found Invalid type: x"
        400 invalid_request_error "tool_choice: expected a tool of the request, found another name"
        400 invalid_request_error "tool_choice.name: expected a string, found none"
        400 invalid_request_error "thinking.type: expected \"enabled\", \"adaptive\" or \"disabled\", found \"maybe\""
        400 invalid_request_error "messages[0].content[0].type: expected \"text\", \"tool_use\", \"tool_result\" or \"thinking\", found \"image\""
        400 invalid_request_error "messages[0].content[0].type: expected a block of a user's message, found another"
        400 invalid_request_error "messages[0].content[0].tool_use_id: expected a string, found none"
        400 invalid_request_error "messages[0].content[0].text: expected a string, found none"
    "#]].assert_eq(&refused.concat());
}

#[test]
fn a_failure_before_the_first_token_is_a_status_and_later_an_event() {
    let body = body(&json!({"stream": true}));
    let (status, text) = Running::start(Scripted::new(ids("abc")).fails_at(1)).post(PATH, &body);
    assert!(status == 500 && text.contains("\"type\":\"api_error\""), "{text}");
    let events = Running::start(Scripted::new(ids("abc")).fails_at(5)).named_events(PATH, &body);
    let last = events.last().unwrap();
    assert_eq!((&last["type"], &last["error"]["type"]), (&json!("error"), &json!("api_error")));
}

/// Also what stands around the routes.
#[test]
fn refusals_have_the_form_of_their_path() {
    let security = Security { allow_shutdown: true, ..Security::default() };
    let options = ServerOptions { security, ..ServerOptions::default() };
    let server = Running::with(Scripted::new(ids("x")), options);
    let forms = |server: &Running, method: &str, head: &[&str]| {
        ["/v1/messages", "/v1/messages/x", "/execute", "/cancel", "/shutdown", "/v1/responses"].map(|path| {
            let (status, _, text) = server.ask(method, path, head);
            let error: Value = serde_json::from_str(&text).unwrap();
            let form = match (&error["type"], &error["code"]) {
                (Value::String(_), _) => "anthropic",
                (_, Value::String(_)) => "job",
                _ => "openai",
            };
            format!("{method} {path} {status} {form}\n")
        })
    };
    let mut all = forms(&server, "PUT", &[]).concat();
    all += &forms(&server, "POST", &["Origin: https://elsewhere.example"]).concat();
    server.app().set_keys(Keys::one("a-key-that-is-long-enough").unwrap());
    all += &forms(&server, "POST", &[]).concat();
    expect![[r#"
        PUT /v1/messages 405 anthropic
        PUT /v1/messages/x 404 anthropic
        PUT /execute 405 job
        PUT /cancel 405 job
        PUT /shutdown 405 job
        PUT /v1/responses 405 openai
        POST /v1/messages 403 anthropic
        POST /v1/messages/x 403 anthropic
        POST /execute 403 job
        POST /cancel 403 job
        POST /shutdown 403 job
        POST /v1/responses 403 openai
        POST /v1/messages 401 anthropic
        POST /v1/messages/x 401 anthropic
        POST /execute 401 job
        POST /cancel 401 job
        POST /shutdown 401 job
        POST /v1/responses 401 openai
    "#]]
    .assert_eq(&all);
    let (status, _, text) =
        server.ask("POST", PATH, &["x-api-key: a-key-that-is-long-enough", "anthropic-version: 2023-06-01"]);
    assert_eq!(status, 415, "{text}");
}

#[test]
fn a_last_message_of_the_assistant_s_is_continued() {
    let server = says(" day");
    let messages = json!([{"role": "user", "content": "Hello"},
        {"role": "assistant", "content": [{"type": "text", "text": "Good"}]}]);
    let answer = server.json(PATH, &json!({"model": "", "max_tokens": 9, "messages": messages}));
    assert_eq!(answer["content"], json!([{"type": "text", "text": " day"}]));
    assert_eq!(answer["usage"]["input_tokens"], ids("[user]Hello[assistant]Good").len());
}
