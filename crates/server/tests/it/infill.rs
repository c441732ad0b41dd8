//! POST /infill, and completions with a suffix.

use std::path::Path;

use engine::{Engine, EngineOptions};
use expect_test::expect;
use serde_json::{Value, json};
use server::ServerOptions;
use testkit::scripted::Scripted;
use worker::receipt::{Comparison, PromptRecord, Receipt};

use crate::served::{Running, ids, says, tokenizer_with};

const INFILL: &str = "/infill";
const COMPLETIONS: &str = "/v1/completions";

const AROUND: [(&str, u32); 3] = [("fim_pre", 310), ("fim_suf", 311), ("fim_mid", 312)];
/// Ends answers.
const PAD: u32 = 313;
const FILES: [(&str, u32); 3] = [("fim_pad", PAD), ("fim_rep", 314), ("fim_sep", 315)];

/// A server whose model fills gaps with this text.
fn fills(text: &str, more: &[(&str, u32)]) -> Running {
    let tokenizer = tokenizer_with(&[&AROUND, more].concat());
    let mut answer = ids(text);
    answer.push(if more.is_empty() { tokenizer.ends()[0] } else { PAD });
    let engine = Engine::spawn(Box::new(Scripted::new(answer)), EngineOptions::default()).unwrap();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/SHA256SUMS");
    Running::of_vocabulary((engine, tokenizer), ServerOptions::default(), &file)
}

/// The prompt of a receipt, which comes again from it.
fn prompt(server: &Running, receipt: &Value) -> Vec<u32> {
    let receipt = Receipt::parse(&receipt.to_string()).unwrap();
    let PromptRecord::Ids(prompt) = receipt.prompt.clone() else { panic!("{receipt:?}") };
    let worker = &server.app().served().unwrap().worker;
    let (answer, reason) = receipt.replay(worker, prompt.clone()).unwrap().wait().unwrap();
    assert_eq!(receipt.compare(&answer, &reason), Comparison::Equal);
    prompt
}

fn bos() -> Vec<u32> {
    let tokenizer = tokenizer_with(&[]);
    tokenizer.special().bos.filter(|_| tokenizer.special().add_bos).into_iter().collect()
}

#[test]
fn a_completion_stands_before_its_suffix() {
    let server = fills("a + b", &FILES);
    let expected = [bos(), vec![310], ids("return "), vec![311], ids(";\n"), vec![312]].concat();
    let body = json!({"prompt": "return ", "suffix": ";\n", "receipt": true, "max_tokens": 30});
    let choice = server.json(COMPLETIONS, &body)["choices"][0].clone();
    assert_eq!((&choice["text"], &choice["finish_reason"]), (&json!("a + b"), &json!("stop")));
    assert_eq!(prompt(&server, &choice["receipt"]), expected);
    // What llama.cpp ends an answer with ends it here, and is no part of it.
    assert_eq!(choice["receipt"]["stop"], json!({"token": PAD}));

    let mut stream = body.clone();
    stream["stream"] = true.into();
    let events = server.events(COMPLETIONS, &stream);
    let text: String = events.iter().filter_map(|e| e["choices"][0]["text"].as_str()).collect();
    assert_eq!(text, "a + b");

    let mut several = body.clone();
    several["prompt"] = json!([ids("return "), ids("x")]);
    several["echo"] = true.into();
    let choices = server.json(COMPLETIONS, &several)["choices"].clone();
    assert_eq!(prompt(&server, &choices[0]["receipt"]), expected[bos().len()..]);
    assert_eq!((&choices[0]["text"], &choices[1]["text"]), (&json!("return a + b"), &json!("xa + b")));
    // An empty suffix is none.
    let mut plain = body;
    plain["suffix"] = "".into();
    let choice = server.json(COMPLETIONS, &plain)["choices"][0].clone();
    assert_eq!(prompt(&server, &choice["receipt"]), [bos(), ids("return ")].concat());
}

#[test]
fn a_gap_in_a_file_is_filled_in_llama_server_s_words() {
    let server = fills("a + b", &FILES);
    let body = json!({
        "input_prefix": "def f():\n", "prompt": "  return ", "input_suffix": "\n", "n_predict": 30, "seed": 3, "receipt": true,
        "input_extra": [{"filename": "a.py", "text": "x"}, {"text": "y"}], "cache_prompt": true, "id_slot": 0
    });
    let answer = server.json(INFILL, &body);
    let expected = [
        bos(),
        vec![314],
        ids("myproject\n"),
        vec![315],
        ids("a.py\n"),
        ids("x"),
        vec![315],
        ids("tmp\n"),
        ids("y"),
        vec![315],
        ids("filename\n"),
        vec![310],
        ids("def f():\n"),
        ids("  return "),
        vec![311],
        ids("\n"),
        vec![312],
    ];
    assert_eq!(prompt(&server, &answer["receipt"]), expected.concat());
    let n_text = ids("a + b").len();
    let mut shown = answer.clone();
    for name in ["receipt", "timings", "tokens_cached", "generation_settings", "prompt"] {
        assert!(shown.as_object_mut().unwrap().remove(name).is_some(), "{name}");
    }
    assert_eq!(
        shown,
        json!({
            "index": 0, "content": "a + b", "tokens": [], "stop": true, "id_slot": -1, "model": "org/tiny",
            "tokens_predicted": n_text + 1, "tokens_evaluated": expected.concat().len(), "has_new_line": false, "truncated": false,
            "tokens_left_out": {"input_prefix": 0, "input_suffix": 0, "input_extra": 0}, "stop_type": "eos", "stopping_word": "",
            "seed": 3, "ignored_parameters": ["cache_prompt", "id_slot"]
        })
    );

    let mut stream = body;
    stream["stream"] = true.into();
    stream["stop"] = "b".into();
    let (status, text) = server.raw("POST", INFILL, &stream.to_string());
    assert_eq!(status, 200);
    let events: Vec<Value> = text
        .split_terminator("\n\n")
        .map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap())
        .collect();
    let content: String = events.iter().map(|event| event["content"].as_str().unwrap()).collect();
    assert_eq!(content, "a + ");
    let (last, others) = events.split_last().unwrap();
    assert!(others.iter().all(|event| event["stop"] == false && event.as_object().unwrap().len() == 7));
    assert_eq!(
        (&last["stop"], &last["stop_type"], &last["stopping_word"]),
        (&json!(true), &json!("word"), &json!("b"))
    );
    prompt(&server, &last["receipt"]);
    let cut = server.json(INFILL, &json!({"input_prefix": "", "input_suffix": "", "n_predict": 2}));
    assert_eq!((&cut["stop_type"], &cut["tokens_predicted"]), (&json!("limit"), &json!(2)));
}

#[test]
fn long_texts_are_cut_and_counted() {
    let server = fills("z", &[]);
    let long = |c: char, n: usize| String::from_iter(std::iter::repeat_n(c, n));
    let n = |c: char, n: usize| ids(&long(c, n)).len();
    // 1,000 positions, of which 64 are the answer's by default; the window is three quarters of the rest but two.
    let (window, room) = (934 - 934 / 4, 934);
    let body = json!({
        "input_prefix": long('p', 2000), "input_suffix": long('s', 2000), "receipt": true,
        "input_extra": [{"filename": "a", "text": long('e', 2000)}]
    });
    let answer = server.json(INFILL, &body);
    let n_extra = ids("\n\n--- snippet ---\n\n").len() + n('e', 2000);
    let left_out =
        [n('p', 2000) - 3 * (window / 4), n('s', 2000) - (window / 4 - 2), n_extra - (room - window)];
    assert_eq!(
        (&answer["truncated"], &answer["tokens_left_out"]),
        (
            &json!(true),
            &json!({"input_prefix": left_out[0], "input_suffix": left_out[1], "input_extra": left_out[2]})
        )
    );
    assert_eq!(answer["ignored_parameters"], json!(["input_extra.filename"]));
    assert!(prompt(&server, &answer["receipt"]).len() <= 936);
    // Nothing cuts what stands between.
    let (status, text) =
        server.post(INFILL, &json!({"input_prefix": "", "input_suffix": "", "prompt": long('p', 2000)}));
    assert_eq!(status, 400);
    assert!(text.contains(r#""param":"prompt","code":"context_length_exceeded""#), "{text}");
}

#[test]
fn what_cannot_be_filled_is_refused_by_name() {
    let (server, able) = (says("x"), fills("x", &[]));
    let refused = |server: &Running, path: &str, body: Value| {
        let (status, text) = server.post(path, &body);
        let error: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((status, &error["error"]["type"]), (400, &json!("invalid_request_error")), "{text}");
        error["error"]["message"].as_str().unwrap().to_owned()
    };
    let missing = expect![
        "suffix: expected a model whose vocabulary has tokens to fill in the middle, found one without tokenizer.ggml.fim_pre_token_id, tokenizer.ggml.fim_suf_token_id, tokenizer.ggml.fim_mid_token_id, by key or by name"
    ];
    missing.assert_eq(&refused(&server, COMPLETIONS, json!({"prompt": "a", "suffix": "b"})));
    let body = |more: Value| {
        let mut body = json!({"input_prefix": "a", "input_suffix": "b"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    assert!(refused(&server, INFILL, body(json!({}))).starts_with("input_suffix: expected a model whose"));
    for (more, expected) in [
        (json!({"input_extra": [{}]}), "input_extra[0].text: expected a value, found none"),
        (json!({"input_extra": [{"text": 456}]}), "input_extra[0].text: expected a string, found an integer"),
        (json!({"input_extra": {}}), "input_extra: expected an array or null, found an object"),
        (json!({"prompt": ["a"]}), "prompt: expected a string or null, found an array"),
        (json!({"n": 2}), "n: expected 1 or null, found 2"),
        (json!({"n_predict": 3, "max_tokens": 4}), "n_predict: expected as many as max_tokens, 4, found 3"),
        (json!({"n_indent": 4}), "n_indent: expected 0 or null, found 4"),
    ] {
        assert_eq!(refused(&able, INFILL, body(more)), expected);
    }
    let message = refused(&able, INFILL, json!({"input_prefix": "a"}));
    assert_eq!(message, "input_suffix: expected a value, found none");
    let scored = json!({"prompt": "a", "suffix": "b", "echo": true, "logprobs": 1});
    assert!(
        refused(&able, COMPLETIONS, scored).starts_with("echo: expected false beside suffix and logprobs")
    );
}
