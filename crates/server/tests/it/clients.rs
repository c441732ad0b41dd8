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
fn a_limit_of_minus_one_is_none_and_zero_is_refused() {
    let server = says("Good day");
    let n_token = json!(ids("Good day").len() + 1);
    for (path, name) in [(CHAT, "max_tokens"), (CHAT, "max_completion_tokens"), (COMPLETIONS, "max_tokens")] {
        let answer = server.json(path, &body(path, &json!({ name: -1 })));
        assert_eq!(answer["usage"]["completion_tokens"], n_token, "{path} {name}");
        let message = format!("{name}: expected at least 1, or -1 for no limit, found 0");
        assert_eq!(refusal(&server, path, &json!({ name: 0 })), (message, name.to_owned()));
        let message = format!("{name}: expected -1 to 2147483647, found -2");
        assert_eq!(refusal(&server, path, &json!({ name: -2 })), (message, name.to_owned()));
    }
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
