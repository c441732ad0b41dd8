//! POST /v1/responses.

use expect_test::expect;
use serde_json::{Value, json};

use crate::served::{Running, ids, says};
use server::{Keys, Security, ServerOptions};
use testkit::scripted::Scripted;

const PATH: &str = "/v1/responses";

/// Texts like `ID` for what differs from run to run.
fn settled(mut value: Value) -> Value {
    match &mut value {
        Value::Array(items) => items.iter_mut().for_each(|item| *item = settled(item.take())),
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                let is_id = matches!(name.as_str(), "id" | "item_id" | "call_id");
                match value {
                    Value::String(id) if is_id => *value = id.split('_').next().unwrap().into(),
                    Value::Number(_) if matches!(name.as_str(), "created_at" | "completed_at" | "seed") => {
                        *value = "N".into();
                    }
                    _ => *value = settled(value.take()),
                }
            }
        }
        _ => {}
    }
    value
}

/// The named events of a stream, which are numbered.
fn events(server: &Running, body: &Value) -> Vec<Value> {
    let events = server.named_events(PATH, body);
    for (i, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], i, "{event}");
    }
    events
}

#[test]
fn an_answer_comes_whole() {
    let answer =
        says("Good day").json(PATH, &json!({"input": "Hello", "user": "me", "metadata": {"a": "b"}}));
    expect![[r#"{"id":"resp","object":"response","created_at":"N","status":"completed","background":false,"completed_at":"N","error":null,"incomplete_details":null,"model":"org/tiny","output":[{"id":"msg","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Good day","annotations":[],"logprobs":[]}]}],"usage":{"input_tokens":19,"input_tokens_details":{"cached_tokens":0},"output_tokens":9,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":28},"seed":"N","instructions":null,"max_output_tokens":null,"metadata":{"a":"b"},"parallel_tool_calls":true,"previous_response_id":null,"reasoning":{"effort":null,"summary":null},"store":true,"temperature":0.6,"text":{"format":{"type":"text"}},"tool_choice":"auto","tools":[],"top_logprobs":0,"top_p":0.9,"truncation":"disabled","ignored_parameters":["user"]}"#]].assert_eq(&settled(answer).to_string());
}

/// An answer of all kinds of items.
fn thinks_and_calls() -> (Running, Value) {
    let call = |name: &str| {
        format!("<tool_call>{{\"name\": \"{name}\", \"arguments\": {{\"a\": \"€\"}}}}</tool_call>")
    };
    let server = says(&format!("<think>hm</think>I look.{}{}", call("f"), call("g")));
    let tool = |name: &str| json!({"type": "function", "name": name, "parameters": {"type": "object"}});
    let body =
        json!({"input": "Hello", "tools": [tool("f"), tool("g")], "max_output_tokens": 500, "seed": 7});
    (server, body)
}

#[test]
fn reasoning_text_and_calls_are_items_and_a_stream_tells_the_same() {
    let (server, mut body) = thinks_and_calls();
    let whole = server.json(PATH, &body);
    expect![[r#"[{"id":"rs","type":"reasoning","status":"completed","summary":[],"content":[{"type":"reasoning_text","text":"hm"}]},{"id":"msg","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"I look.","annotations":[],"logprobs":[]}]},{"id":"fc","type":"function_call","status":"completed","call_id":"call","name":"f","arguments":"{\"a\": \"€\"}"},{"id":"fc","type":"function_call","status":"completed","call_id":"call","name":"g","arguments":"{\"a\": \"€\"}"}]"#]].assert_eq(&settled(whole["output"].clone()).to_string());
    body["stream"] = true.into();
    let events = events(&server, &body);
    let told: Vec<String> = events
        .iter()
        .map(|event| {
            let more =
                ["delta", "text", "arguments", "name"].map(|name| event[name].as_str()).into_iter().flatten();
            format!(
                "{} {} {:?}\n",
                event["type"].as_str().unwrap(),
                event["output_index"],
                more.collect::<Vec<_>>()
            )
        })
        .collect();
    expect![[r#"
        response.created null []
        response.in_progress null []
        response.output_item.added 0 []
        response.content_part.added 0 []
        response.reasoning_text.delta 0 ["h"]
        response.reasoning_text.delta 0 ["m"]
        response.reasoning_text.done 0 ["hm"]
        response.content_part.done 0 []
        response.output_item.done 0 []
        response.output_item.added 1 []
        response.content_part.added 1 []
        response.output_text.delta 1 ["I"]
        response.output_text.delta 1 [" l"]
        response.output_text.delta 1 ["o"]
        response.output_text.delta 1 ["o"]
        response.output_text.delta 1 ["k"]
        response.output_text.delta 1 ["."]
        response.output_text.done 1 ["I look."]
        response.content_part.done 1 []
        response.output_item.done 1 []
        response.output_item.added 2 []
        response.function_call_arguments.delta 2 ["{"]
        response.function_call_arguments.delta 2 ["\""]
        response.function_call_arguments.delta 2 ["a"]
        response.function_call_arguments.delta 2 ["\""]
        response.function_call_arguments.delta 2 [":"]
        response.function_call_arguments.delta 2 [" "]
        response.function_call_arguments.delta 2 ["\""]
        response.function_call_arguments.delta 2 ["€"]
        response.function_call_arguments.delta 2 ["\""]
        response.function_call_arguments.delta 2 ["}"]
        response.function_call_arguments.done 2 ["{\"a\": \"€\"}", "f"]
        response.output_item.done 2 []
        response.output_item.added 3 []
        response.function_call_arguments.delta 3 ["{"]
        response.function_call_arguments.delta 3 ["\""]
        response.function_call_arguments.delta 3 ["a"]
        response.function_call_arguments.delta 3 ["\""]
        response.function_call_arguments.delta 3 [":"]
        response.function_call_arguments.delta 3 [" "]
        response.function_call_arguments.delta 3 ["\""]
        response.function_call_arguments.delta 3 ["€"]
        response.function_call_arguments.delta 3 ["\""]
        response.function_call_arguments.delta 3 ["}"]
        response.function_call_arguments.done 3 ["{\"a\": \"€\"}", "g"]
        response.output_item.done 3 []
        response.completed null []
    "#]]
    .assert_eq(&told.concat());
    let last = &events.last().unwrap()["response"];
    assert_eq!(settled(last["output"].clone()), settled(whole["output"].clone()));
    assert_eq!(
        (&last["status"], &last["usage"]["output_tokens"]),
        (&json!("completed"), &whole["usage"]["output_tokens"])
    );
    for (i, item) in last["output"].as_array().unwrap().iter().enumerate() {
        let of_it =
            |name: &str| events.iter().filter(|e| e["type"] == name && e["output_index"] == i).count();
        assert_eq!((of_it("response.output_item.added"), of_it("response.output_item.done")), (1, 1));
        let own = events.iter().filter(|event| event["item_id"] == item["id"]);
        let joined: String = own.filter_map(|event| event["delta"].as_str()).collect();
        let text = item["arguments"].as_str().or(item["content"][0]["text"].as_str());
        assert_eq!(Some(joined.as_str()), text);
    }
}

#[test]
fn a_conversation_goes_on_after_a_response_as_if_it_were_sent_again() {
    let (server, body) = thinks_and_calls();
    let first = server.json(PATH, &body);
    let result =
        json!({"type": "function_call_output", "call_id": first["output"][2]["call_id"], "output": "3"});
    let mut items = vec![json!({"role": "user", "content": "Hello"})];
    items.extend(first["output"].as_array().unwrap().iter().cloned());
    items.push(result.clone());
    let count = |more: Value| {
        let mut body = body.clone();
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.json("/v1/responses/input_tokens", &body)["input_tokens"].as_u64().unwrap()
    };
    let again = count(json!({"input": items}));
    assert_eq!(count(json!({"input": [result], "previous_response_id": first["id"]})), again);
    for item in items.iter_mut().filter(|item| !item["id"].is_null()) {
        *item = json!({"type": "item_reference", "id": item["id"]});
    }
    assert_eq!(count(json!({"input": items})), again);
    let next = json!({"input": [result], "previous_response_id": first["id"], "tools": body["tools"]});
    assert_eq!(server.json(PATH, &next)["usage"]["input_tokens"], again);
    assert!(count(json!({"instructions": "Be brief."})) > count(json!({})));
}

#[test]
fn what_is_not_kept_is_not_found() {
    let server = says("x");
    let response = server.json(PATH, &json!({"input": "a", "store": false}));
    assert_eq!(response["store"], false);
    let (status, text) = server.post(PATH, &json!({"input": "b", "previous_response_id": response["id"]}));
    assert!(status == 400 && text.contains("\"code\":\"previous_response_not_found\""), "{text}");
}

#[test]
fn what_is_not_supported_is_refused_by_name_and_what_has_no_effect_named() {
    let server = says("x");
    let refused = [
        json!({"frobnicate": 1}),
        json!({"background": true}),
        json!({"truncation": "auto"}),
        json!({"tools": [{"type": "web_search"}]}),
        json!({"tools": [{"type": "function", "name": "a b"}]}),
        json!({"tool_choice": {"type": "function", "name": "f"}}),
        json!({"input": [{"role": "user", "content": "a"}, {"type": "item_reference", "id": "msg_1"}]}),
        json!({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}),
        json!({"input": [{"type": "function_call", "call_id": "1", "name": "f", "arguments": "{\"a\": 99999999999999999999}"}]}),
        json!({"input": "a".repeat(5000)}),
        json!({"text": {"format": {"type": "json_schema", "name": "a"}}}),
        json!({"text": {"format": {"type": "json_schema", "name": "a", "schema": {"type": "x"}}}}),
        json!({"top_logprobs": 2}),
        json!({"conversation": "conv_1"}),
    ]
    .map(|more| {
        let mut body = json!({"input": "a"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (status, text) = server.post(PATH, &body);
        let error: Value = serde_json::from_str(&text).unwrap();
        format!("{status} {} {}\n", error["error"]["param"], error["error"]["message"])
    });
    expect![[r#"
        400 "frobnicate" "frobnicate: expected one of the fields that GET /openapi.json describes, found another"
        400 "background" "background: expected false or null, found true"
        400 "truncation" "truncation: expected \"disabled\" or null, found \"auto\""
        400 "tools[0].type" "tools[0].type: expected \"function\", found \"web_search\""
        400 "tools[0].name" "tools[0].name: expected 1 to 128 letters, digits and _-.:, found another text"
        400 "tool_choice" "tool_choice: expected a tool of the request, found another name"
        400 "input[1].id" "input[1].id: expected the id of an item that is kept"
        400 "input[0].content[0].type" "input[0].content[0].type: expected \"input_text\", \"output_text\", \"refusal\", \"reasoning_text\" or \"summary_text\", found \"input_image\""
        400 "input" "input: expected whole numbers from -2^63 to 2^64 - 1, found a larger number"
        400 "input" "input: expected at most 999 tokens, found 5015, 4016 too many: shorten it, or start with a --ctx of at least 5016"
        400 "text.format.schema" "text.format.schema: expected a JSON schema, found none"
        400 "text.format" "text.format: expected what can be enforced, found Invalid type: x"
        400 "top_logprobs" "top_logprobs: expected message.output_text.logprobs in include beside it"
        400 "conversation" "conversation: expected null, found a string"
    "#]].assert_eq(&refused.concat());
    let ignored = json!({"input": "a", "reasoning": {"effort": "low", "summary": "auto"}, "service_tier": "auto",
        "include": ["reasoning.encrypted_content"]});
    assert_eq!(
        server.json(PATH, &ignored)["ignored_parameters"],
        json!([
            "service_tier",
            "reasoning.summary",
            "include.reasoning.encrypted_content",
            "reasoning.effort"
        ])
    );
}

#[test]
fn an_answer_is_held_to_its_format_and_its_length() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"], "additionalProperties": false});
    let format = json!({"type": "json_schema", "name": "a", "schema": schema, "strict": true});
    let answer = says("{\"a\":true}").json(PATH, &json!({"input": "a", "text": {"format": format}}));
    assert_eq!(answer["output"][0]["content"][0]["text"], "{\"a\":true}");
    assert_eq!(answer["text"]["format"], format);
    let cut = says("one two").json(PATH, &json!({"input": "a", "max_output_tokens": 1}));
    let reason = &cut["incomplete_details"]["reason"];
    assert_eq!((&cut["status"], reason), (&json!("incomplete"), &json!("max_output_tokens")));
    assert_eq!(cut["output"][0]["status"], "incomplete");
    let logprobs = json!({"input": "a", "include": ["message.output_text.logprobs"], "top_logprobs": 1});
    let part = says("ab").json(PATH, &logprobs)["output"][0]["content"][0].clone();
    let tokens = part["logprobs"].as_array().unwrap();
    assert!(
        tokens.len() == ids("ab").len() && tokens[0]["top_logprobs"].as_array().unwrap().len() == 1,
        "{part}"
    );
}

#[test]
fn a_failure_before_the_first_token_is_a_status_and_later_an_event() {
    let body = json!({"input": "Hello", "stream": true});
    let (status, _) = Running::start(Scripted::new(ids("abc")).fails_at(1)).post(PATH, &body);
    assert_eq!(status, 500);
    let events = events(&Running::start(Scripted::new(ids("abc")).fails_at(5)), &body);
    let last = events.last().unwrap();
    assert_eq!((&last["type"], &last["response"]["status"]), (&json!("response.failed"), &json!("failed")));
    assert_eq!(last["response"]["error"]["code"], "device_error");
}

#[test]
fn a_response_that_is_kept_can_be_read_and_deleted() {
    let (server, body) = thinks_and_calls();
    let mut body = body;
    body["metadata"] = json!({"a": "b"});
    let first = server.json(PATH, &body);
    let get = |path: &str| -> (u16, Value) {
        let (status, text) = server.raw("GET", &format!("{PATH}/{path}"), "");
        (status, serde_json::from_str(&text).unwrap())
    };
    let id = first["id"].as_str().unwrap();
    assert_eq!(get(id), (200, first.clone()));
    let query =
        "?include[]=message.output_text.logprobs&include%5B%5D=reasoning.encrypted_content&stream=false";
    assert_eq!(get(&format!("{id}{query}")), (200, first.clone()));

    // A conversation of six items: a question, four of the first response, a result.
    let result =
        json!({"type": "function_call_output", "call_id": first["output"][2]["call_id"], "output": "1"});
    let second =
        json!({"input": [result], "previous_response_id": id, "tools": body["tools"], "stream": true});
    let events = events(&server, &second);
    let second = &events.last().unwrap()["response"];
    let next = second["id"].as_str().unwrap();
    assert_eq!(get(next), (200, second.clone()));
    let (_, items) = get(&format!("{next}/input_items?order=asc"));
    assert!(items["has_more"] == false && items["first_id"] == items["data"][0]["id"], "{items}");
    let items = items["data"].as_array().unwrap();
    expect![[r#"{"type":"message","role":"user","content":[{"type":"input_text","text":"Hello"}],"id":"msg","status":"completed"}"#]]
        .assert_eq(&settled(items[0].clone()).to_string());
    assert_eq!((&items[1..5], items.len()), (first["output"].as_array().unwrap().as_slice(), 6));
    assert_eq!(items[5]["output"], "1");
    let (_, newest) = get(&format!("{next}/input_items?limit=1"));
    assert!(newest["data"][0] == items[5] && newest["has_more"] == true, "{newest}");

    let (status, text) = server.raw("DELETE", &format!("{PATH}/{id}"), "");
    assert_eq!((status, text), (200, json!({"id": id, "object": "response", "deleted": true}).to_string()));
    let message = format!(
        "no response with the id {id:?} is kept: it was not stored, is not this client's, or was forgotten for newer ones"
    );
    let error =
        json!({"message": message, "type": "invalid_request_error", "param": null, "code": "not_found"});
    for path in [id.to_owned(), format!("{id}/input_items")] {
        assert_eq!(get(&path), (404, json!({ "error": error })));
    }
    assert_eq!(server.raw("DELETE", &format!("{PATH}/{id}"), "").0, 404);
    // What went on from it is whole.
    assert_eq!(get(next).0, 200);
    let third = server.json(PATH, &json!({"input": "b", "previous_response_id": next}));
    assert_eq!(third["previous_response_id"], next);
    for (query, param) in
        [("?stream=true", "stream"), ("?starting_after=3", "query"), ("/input_items?limit=0", "limit")]
    {
        let (status, error) = get(&format!("{next}{query}"));
        assert_eq!((status, &error["error"]["param"]), (400, &json!(param)));
    }
}

#[test]
fn a_response_is_its_client_s_alone() {
    let keys = Keys::parse("alice:alice's-long-secret\nbob:bob's-long-secret").unwrap();
    let security = Security { keys, ..Security::default() };
    let server =
        Running::with(Scripted::new(ids("x")), ServerOptions { security, ..ServerOptions::default() });
    let ask = |method: &str, path: &str, who: &str, body: &str| {
        let key = format!("X-Api-Key: {who}'s-long-secret");
        let length = format!("Content-Length: {}", body.len());
        server.ask_with(method, path, &[&key, "Content-Type: application/json", &length], body)
    };
    let (_, _, text) = ask("POST", PATH, "alice", r#"{"input": "a", "max_output_tokens": 1}"#);
    let response: Value = serde_json::from_str(&text).unwrap();
    let path = format!("{PATH}/{}", response["id"].as_str().unwrap());
    for (method, path) in [("GET", &path), ("GET", &format!("{path}/input_items")), ("DELETE", &path)] {
        assert_eq!(ask(method, path, "bob", "").0, 404, "{method} {path}");
        assert_eq!(ask(method, path, "alice", "").0, 200, "{method} {path}");
    }
}
