//! llama-server's own routes, as its clients read them.

use serde_json::{Value, json};
use server::{Compat, ServerOptions};
use testkit::scripted::Scripted;

use crate::served::{Running, ids, says, tokenizer};

const COMPLETION: &str = "/completion";

/// The ids that a text is as a prompt.
fn prompt_ids(text: &str) -> Vec<u32> {
    let options = tokenizer::EncodeOptions { add_special: true, parse_special: true };
    tokenizer().encode(text, options).unwrap()
}

/// The events of a stream that ends without `[DONE]`.
fn events(server: &Running, body: &Value) -> Vec<Value> {
    let (status, text) = server.raw("POST", COMPLETION, &body.to_string());
    assert_eq!(status, 200, "{text}");
    let event = |event: &str| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap();
    text.split_terminator("\n\n").map(event).collect()
}

/// The message of an error, which names its field.
fn refused(server: &Running, path: &str, body: &Value) -> String {
    let (status, text) = server.post(path, body);
    let error: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &error["error"]["type"]), (400, &json!("invalid_request_error")), "{text}");
    error["error"]["message"].as_str().unwrap().to_owned()
}

#[test]
fn a_whole_answer_has_llama_servers_fields() {
    let server = says("one\ntwo");
    let body = json!({
        "prompt": "count", "n_predict": 40, "seed": 5, "temperature": 0, "top_k": 7, "stop": ["three"], "return_tokens": true,
        "cache_prompt": true, "id_slot": 1,
    });
    let mut answer = server.json(COMPLETION, &body);
    let settings = answer["generation_settings"].clone();
    for (name, value) in [
        ("seed", json!(5)),
        ("temperature", json!(0.0)),
        ("top_k", json!(7)),
        ("top_p", json!(0.9)),
        ("repeat_penalty", json!(1.05)),
        ("n_predict", json!(40)),
        ("max_tokens", json!(40)),
        ("stop", json!(["three"])),
        ("stream", json!(false)),
        ("logit_bias", json!([])),
        ("mirostat", json!(0)),
    ] {
        assert_eq!(settings[name], value, "{name}");
    }
    let n_prompt = prompt_ids("count").len();
    assert_eq!(answer["timings"]["prompt_n"], json!(n_prompt));
    for name in ["timings", "generation_settings", "tokens_cached"] {
        assert!(answer.as_object_mut().unwrap().remove(name).is_some(), "{name}");
    }
    let tokens = ids("one\ntwo");
    let prompt = tokenizer().decode(&prompt_ids("count"), true);
    assert_eq!(
        answer,
        json!({
            "index": 0, "content": "one\ntwo", "tokens": tokens, "id_slot": -1, "stop": true, "model": "org/tiny",
            "tokens_predicted": tokens.len() + 1, "tokens_evaluated": n_prompt, "prompt": prompt, "has_new_line": true,
            "truncated": false, "stop_type": "eos", "stopping_word": "", "seed": 5,
            "ignored_parameters": ["cache_prompt", "id_slot"],
        })
    );
    // The same by its other path, and without the tokens.
    let plain = server.json("/completions", &json!({"prompt": "count", "n_predict": 3, "seed": 5}));
    assert_eq!((&plain["tokens"], &plain["stop_type"]), (&json!([]), &json!("limit")));
    assert_eq!(plain["tokens_predicted"], 3);
}

#[test]
fn a_stream_has_an_event_a_piece_and_a_last_one_with_the_rest() {
    let server = says("a€b");
    let all = events(&server, &json!({"prompt": "x", "stream": true, "n_probs": 2, "seed": 1}));
    let (last, more) = all.split_last().unwrap();
    let content: String = more.iter().map(|event| event["content"].as_str().unwrap()).collect();
    assert_eq!(content, "a€b");
    // The euro's bytes are tokens of their own, which come with the last of them.
    let tokens: Vec<Value> =
        more.iter().flat_map(|event| event["tokens"].as_array().unwrap().clone()).collect();
    assert_eq!(json!(tokens), json!(ids("a€b")));
    for event in more {
        assert_eq!((&event["stop"], &event["id_slot"]), (&json!(false), &json!(-1)));
        let likely = event["completion_probabilities"].as_array().unwrap();
        assert_eq!(likely.len(), event["tokens"].as_array().unwrap().len());
        for (token, id) in likely.iter().zip(event["tokens"].as_array().unwrap()) {
            assert_eq!((&token["id"], token["top_logprobs"].as_array().unwrap().len()), (id, 2));
            assert!(token["logprob"].as_f64().unwrap() <= 0.0 && token["bytes"].is_array());
        }
    }
    assert_eq!(
        (&last["stop"], &last["stop_type"], &last["content"]),
        (&json!(true), &json!("eos"), &json!(""))
    );
    assert_eq!(last["generation_settings"]["stream"], true);
    // Without them there are none.
    let plain = server.json(COMPLETION, &json!({"prompt": "x"}));
    assert!(plain.get("completion_probabilities").is_none());

    let stopped = events(&server, &json!({"prompt": "x", "stream": true, "stop": "b"}));
    let last = stopped.last().unwrap();
    assert_eq!((&last["stop_type"], &last["stopping_word"]), (&json!("word"), &json!("b")));
}

#[test]
fn prompts_are_texts_ids_and_both() {
    let server = says("z");
    let one = |prompt: Value| {
        let answer = server.json(COMPLETION, &json!({"prompt": prompt, "n_predict": 1, "seed": 1}));
        answer["prompt"].as_str().unwrap().to_owned()
    };
    let written = |ids: &[u32]| tokenizer().decode(ids, true);
    assert_eq!(one(json!("ab")), written(&prompt_ids("ab")));
    assert_eq!(one(json!({"prompt_string": "ab", "multimodal_data": []})), written(&prompt_ids("ab")));
    assert_eq!(one(json!(ids("ab"))), "ab");
    assert_eq!(
        one(json!([ids("ab")[0], "cd", ids("e")[0], "f"])),
        written(&[&ids("ab")[..1], &ids("cdef")].concat())
    );
    assert_eq!(one(json!([["ab", ids("c")[0]]])), written(&[prompt_ids("ab"), ids("c")].concat()));
    let several =
        server.json(COMPLETION, &json!({"prompt": ["a", ids("b"), {"prompt_string": "c"}], "n": 2}));
    let several = several.as_array().unwrap();
    let prompts: Vec<&str> = several.iter().map(|answer| answer["prompt"].as_str().unwrap()).collect();
    let [a, c] = ["a", "c"].map(|text| written(&prompt_ids(text)));
    assert_eq!(prompts, [&a, &a, "b", "b", &c, &c]);
    let indices: Vec<&Value> = several.iter().map(|answer| &answer["index"]).collect();
    assert_eq!(json!(indices), json!([0, 1, 2, 3, 4, 5]));
    for (prompt, expected) in [
        (
            json!([1, ["a"]]),
            "prompt[1]: expected a text or an id beside ids, found a prompt; lists of prompts have no bare ids",
        ),
        (json!([1, 99999]), "prompt: expected ids below 320, found 99999"),
        (
            json!({"prompt_string": "a", "multimodal_data": ["x"]}),
            "prompt.multimodal_data: expected nothing in it, found 1",
        ),
        (json!(vec!["a"; 129]), "prompt: expected at most 128 answers, found 129 prompts times 1"),
    ] {
        assert_eq!(refused(&server, COMPLETION, &json!({"prompt": prompt})), expected);
    }
}

#[test]
fn what_shapes_an_answer_has_llama_servers_names() {
    let server = says("7");
    let fields = json!({"prompt": "x", "response_fields": ["content", "generation_settings/n_predict"], "n_predict": 9});
    assert_eq!(server.json(COMPLETION, &fields), json!({"content": "7", "generation_settings/n_predict": 9}));
    assert_eq!(
        events(&server, &json!({"prompt": "x", "stream": true, "response_fields": ["stop"]})).last(),
        Some(&json!({"stop": true}))
    );
    for bias in [json!([["7", -2.5], [3, false]]), json!({"7": 1.5, "ab": -100})] {
        let answer = server.json(COMPLETION, &json!({"prompt": "x", "logit_bias": bias}));
        let told = answer["generation_settings"]["logit_bias"].clone();
        let expected = match bias.is_array() {
            true => json!([{"token": ids("7")[0], "bias": -2.5}, {"token": 3, "bias": null}]),
            false => {
                let banned = ids("ab").into_iter().map(|id| json!({"token": id, "bias": -100.0}));
                std::iter::once(json!({"token": 7, "bias": 1.5})).chain(banned).collect()
            }
        };
        assert_eq!(told, expected);
    }
    let ends = server.json(COMPLETION, &json!({"prompt": "x", "ignore_eos": true, "n_predict": 1}));
    let banned = ends["generation_settings"]["logit_bias"].as_array().unwrap();
    assert!(!banned.is_empty() && banned.iter().all(|entry| entry["bias"].is_null()));
    let schema = json!({"prompt": "x", "json_schema": {"type": "integer"}, "grammar": ""});
    assert_eq!(server.json(COMPLETION, &schema)["content"], "7");
    for (more, expected) in [
        (
            json!({"json_schema": {}, "grammar": "start: \"a\""}),
            "json_schema: expected one of json_schema, grammar, response_format and structured_outputs, found more",
        ),
        (json!({"logit_bias": [["a", true]]}), "logit_bias: expected numbers or false as biases, found true"),
        (json!({"logit_bias": [[3, 101]]}), "logit_bias: expected -100 to 100, found 101"),
        (json!({"post_sampling_probs": true}), "post_sampling_probs: expected false or null, found true"),
        (json!({"n_predict": 3, "max_tokens": 4}), "n_predict: expected as many as max_tokens, 4, found 3"),
        (json!({"mirostat": 2}), "mirostat: expected 0 or null, found 2"),
    ] {
        let mut body = json!({"prompt": "x"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        assert_eq!(refused(&server, COMPLETION, &body), expected);
    }
}

#[test]
fn the_state_is_told_in_llama_servers_words() {
    let server = says("x");
    let get = |path: &str| -> Value {
        let (status, text) = server.raw("GET", path, "");
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).unwrap()
    };
    let props = get("/props");
    let n_slot = props["total_slots"].as_u64().unwrap() as usize;
    assert_eq!(props["default_generation_settings"]["n_ctx"], 1000);
    assert_eq!(props["default_generation_settings"]["params"]["top_k"], 20);
    assert_eq!((&props["model_path"], &props["modalities"]["vision"]), (&json!("org/tiny"), &json!(false)));
    assert!(props["chat_template"].as_str().unwrap().contains("messages"));
    let slots = get("/slots?fail_on_no_slot=1");
    let slots = slots.as_array().unwrap();
    assert_eq!(slots.len(), n_slot);
    for (id, slot) in slots.iter().enumerate() {
        assert_eq!(
            (&slot["id"], &slot["is_processing"], &slot["n_ctx"]),
            (&json!(id), &json!(false), &json!(1000))
        );
    }
    assert_eq!(get("/models"), get("/v1/models"));
    let messages = json!({"messages": [{"role": "user", "content": "a"}], "seed": 1});
    let chat = server.json("/chat/completions", &messages);
    assert_eq!(chat["choices"][0]["message"]["content"], "x");
}

#[test]
fn vectors_stand_in_a_bare_list() {
    let server = says("x");
    let plain = server.json("/v1/embeddings", &json!({"input": ["a", "b"]}));
    for body in [json!({"content": ["a", "b"]}), json!({"input": ["a", "b"], "embd_normalize": 2})] {
        let bare = server.json("/embedding", &body);
        assert_eq!(bare, server.json("/embeddings", &body));
        let expected: Vec<Value> =
            (0..2).map(|i| json!({"index": i, "embedding": [plain["data"][i]["embedding"]]})).collect();
        assert_eq!(bare, json!(expected));
    }
    assert_eq!(refused(&server, "/embedding", &json!({})), "content: expected a value, found none");
    let both = json!({"content": "a", "input": "a"});
    assert_eq!(refused(&server, "/embedding", &both), "content: expected none beside input");
}

#[test]
fn other_modes_hold_here_too() {
    let strict = says("x");
    assert!(
        refused(&strict, COMPLETION, &json!({"prompt": "a", "foo": 1}))
            .starts_with("foo: expected one of the fields")
    );
    let lenient = Running::with(
        Scripted::new(ids("x")),
        ServerOptions { compat: Compat::Lenient, ..ServerOptions::default() },
    );
    let body = json!({"prompt": "a", "foo": 1, "samplers": ["top_k"], "n_predict": 1, "json_schema": null});
    assert_eq!(lenient.json(COMPLETION, &body)["ignored_parameters"], json!(["foo", "samplers"]));
}
