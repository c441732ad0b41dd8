//! Can an answer be run again from its receipt alone, whatever form it was held to, and is another answer told from it?

use std::fs;
use std::path::{Path, PathBuf};

use engine::{Extent, Speculation};
use model::KvType;
use serde_json::{Value, json};
use worker::receipt::{
    Comparison, Draft, FileHashes, GrammarRecord, KeepPrompt, Origin, Receipt, ReceiptError, StopRecord,
};
use worker::{Chat, ChatEvent, Event, Format, Prompt, Request, StopReason, ToolChoice, Worker};

use crate::constrained::{chat, guessing, text, wild, worker};

fn origin(worker: &Worker) -> Origin {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/SHA256SUMS");
    let files = FileHashes::open(&[path]);
    Origin::new("0".to_owned(), ("cpu".to_owned(), KvType::F16), files, worker.tokenizer())
}

/// Answers, and gives the receipt as it is read from its text.
fn receipt(worker: &Worker, request: Request, keep: KeepPrompt) -> Receipt {
    let is_chat = matches!(request.prompt, Prompt::Chat(_));
    let valid = worker.check(request).unwrap();
    let mut draft = Draft::new(worker, &valid, keep);
    let reason = if is_chat {
        let mut generation = worker.chat(valid).unwrap();
        loop {
            match generation.next_blocking().unwrap() {
                ChatEvent::Delta(delta) => draft.add(&delta.tokens),
                ChatEvent::End { reason, .. } => break reason,
                ChatEvent::Started { .. } | ChatEvent::Prompt(_) => {}
                ChatEvent::Error(error) => panic!("{error}"),
            }
        }
    } else {
        let mut generation = worker.start(valid).unwrap();
        loop {
            match generation.next_blocking().unwrap() {
                Event::Delta { tokens, .. } => draft.add(&tokens),
                Event::End { reason, .. } => break reason,
                Event::Started { .. } | Event::Prompt(_) => {}
                Event::Error(error) => panic!("{error}"),
            }
        }
    };
    let receipt = draft.finish(&origin(worker), &reason).unwrap();
    // Through JSON values too, as a server and its clients handle it.
    let value = serde_json::to_value(&receipt).unwrap();
    let read = Receipt::parse(&value.to_string()).unwrap();
    assert_eq!(read, receipt);
    assert_eq!(value.to_string(), serde_json::to_string(&receipt).unwrap());
    receipt
}

fn again(worker: &Worker, receipt: &Receipt, prompt: Vec<u32>) -> Comparison {
    let (answer, reason) = receipt.replay(worker, prompt).unwrap().wait().unwrap();
    receipt.compare(&answer, &reason)
}

/// The answer comes again; without its form, or with another end, it does not.
fn check(worker: &Worker, request: Request) -> Receipt {
    let receipt = receipt(worker, request, KeepPrompt::Ids);
    let prompt = receipt.prompt_ids(None).unwrap();
    assert_eq!(again(worker, &receipt, prompt.clone()), Comparison::Equal);
    let mut changed = receipt.clone();
    *changed.answer.last_mut().unwrap() ^= 1;
    assert!(matches!(again(worker, &changed, prompt.clone()), Comparison::Different { .. }));
    let mut free = receipt.clone();
    (free.parameters.constraint, free.parameters.chat) = (None, None);
    assert_ne!(again(worker, &free, prompt), Comparison::Equal);
    receipt
}

fn conversation(chat: Chat, format: Option<Format>) -> Request {
    Request { seed: Some(5), ..wild(Prompt::Chat(chat), format) }
}

#[test]
fn a_receipt_holds_the_form_of_an_answer() {
    let worker = worker();
    let plain = |format| Request { seed: Some(5), ..wild(text(), Some(format)) };
    check(&worker, plain(Format::Regex("[a-e]{12}".to_owned())));
    check(&worker, plain(Format::Grammar("start: \"x\" /[a-c]{9}/".to_owned())));
    let schema = json!({
        "type": "object",
        "properties": { "z": { "enum": [1.0, 2.50] }, "a": { "type": "string", "maxLength": 5 } },
        "required": ["z", "a"],
        "additionalProperties": false,
    });
    let free = || Chat { tools: Vec::new(), ..chat(ToolChoice::Auto) };
    let receipt = check(&worker, conversation(free(), Some(Format::JsonSchema(schema.clone()))));
    let Some([GrammarRecord::JsonSchema { text, .. }]) = receipt.parameters.constraint.as_deref() else {
        panic!("{receipt:?}")
    };
    // The order of properties is the order of the answer's.
    let kept: Value = serde_json::from_str(text).unwrap();
    assert_eq!(kept["properties"].to_string(), schema["properties"].to_string());
    // What stands around the content is part of the grammar: this answer may call as well.
    let receipt = check(&worker, conversation(chat(ToolChoice::Auto), Some(Format::JsonSchema(schema))));
    assert_eq!(receipt.parameters.constraint.unwrap().len(), 4);
}

#[test]
fn a_receipt_of_guessed_tokens_verifies_without_guesses_and_the_other_way_round() {
    let workers = [worker(), guessing(Some(Speculation::lookup(Extent::Most)))];
    let schema =
        json!({ "type": "array", "items": { "enum": [true, false] }, "minItems": 30, "maxItems": 40 });
    let plain = Request { max_tokens: Some(120), ..wild(text(), None) };
    let formed = wild(text(), Some(Format::JsonSchema(schema)));
    for request in [plain, formed] {
        let receipts = workers.each_ref().map(|worker| receipt(worker, request.clone(), KeepPrompt::Ids));
        assert_eq!(receipts[0].answer, receipts[1].answer);
        for (receipt, other) in receipts.iter().zip(workers.iter().rev()) {
            let prompt = receipt.prompt_ids(None).unwrap();
            assert_eq!(again(other, receipt, prompt), Comparison::Equal);
        }
    }
    let counted = workers.each_ref().map(|worker| worker.engine().load().n_accepted_token);
    assert!(counted[0] == 0 && counted[1] > 0, "{counted:?}");
}

#[test]
fn a_receipt_holds_calls_that_had_to_be_made_and_the_end_after_one() {
    let worker = worker();
    let once = Chat { parallel_tool_calls: false, ..chat(ToolChoice::Required) };
    let one = check(&worker, conversation(once, None));
    assert_eq!(one.stop, StopRecord::Call);
    check(&worker, conversation(chat(ToolChoice::Named("weather".to_owned())), None));
    check(&worker, conversation(chat(ToolChoice::Required), None));
}

#[test]
fn a_prompt_that_is_kept_out_is_needed_again() {
    let worker = worker();
    let request = conversation(chat(ToolChoice::Required), None);
    let receipt = receipt(&worker, request.clone(), KeepPrompt::Hash);
    let prompt = worker.tokenize(&request.prompt).unwrap();
    assert!(matches!(receipt.prompt_ids(None), Err(ReceiptError::Prompt { .. })));
    assert!(matches!(receipt.prompt_ids(Some(vec![1])), Err(ReceiptError::Prompt { .. })));
    let prompt = receipt.prompt_ids(Some(prompt)).unwrap();
    assert_eq!(again(&worker, &receipt, prompt), Comparison::Equal);
}

#[test]
fn a_receipt_that_was_tampered_with_is_an_error_and_no_more() {
    let worker = worker();
    let receipt = receipt(&worker, conversation(chat(ToolChoice::Required), None), KeepPrompt::Ids);
    let said = |parts: Vec<GrammarRecord>| {
        let mut bad = receipt.clone();
        bad.parameters.constraint = Some(parts);
        bad.replay(&worker, vec![1]).unwrap_err().to_string()
    };
    let lark = |text: &str| GrammarRecord::Lark { name: None, text: text.to_owned() };
    let schema = |text: &str| GrammarRecord::JsonSchema { name: None, text: text.to_owned() };
    assert!(said(vec![]).starts_with("constraint: expected a grammar of one part or more"));
    assert!(said(vec![lark("start: A & B")]).starts_with("constraint: expected a grammar without &"));
    assert!(said(vec![lark("start: @nothing")]).starts_with("constraint: expected what can be enforced"));
    assert!(said(vec![schema("{")]).starts_with("constraint: expected a JSON schema"));
    assert!(said(vec![schema("[]")]).starts_with("constraint: expected what can be enforced"));
    let deep = "{\"items\":".repeat(100) + "{}" + &"}".repeat(100);
    assert!(said(vec![schema(&deep)]).starts_with("constraint: expected at most 64 levels"));
    let mut harmony = receipt.clone();
    harmony.parameters.chat.as_mut().unwrap().calls = worker::chat::CallForm::Harmony;
    let error = harmony.replay(&worker, vec![1]).unwrap_err().to_string();
    assert!(error.starts_with("chat: expected a vocabulary"), "{error}");
}

#[test]
fn receipts_of_other_versions_are_told_by_their_number() {
    let error = |text: &str| Receipt::parse(text).unwrap_err();
    assert_eq!(error(r#"{"version": 1, "parameters": {"format": null}}"#), ReceiptError::Version(1));
    assert_eq!(error(r#"{"version": 9}"#), ReceiptError::Version(9));
    assert!(matches!(error(r#"{"version": 2}"#), ReceiptError::Form(_)));
    assert!(matches!(error("[]"), ReceiptError::Form(_)));
}

#[test]
fn a_file_is_the_one_that_was_there_at_first() {
    let folder = std::env::temp_dir().join(format!("receipts-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let (path, other) = (folder.join("a"), folder.join("b"));
    fs::write(&path, "abc").unwrap();
    fs::write(&other, "abd").unwrap();
    let of = |path: &PathBuf| FileHashes::open(std::slice::from_ref(path));
    let hashes = of(&path);
    assert!(hashes.known().is_none());
    fs::rename(&other, &path).unwrap();
    // Both ways of waiting, and both of them twice.
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let found = runtime.block_on(async { (hashes.hashed().await, hashes.hashed().await) });
    // Of the three letters abc, in FIPS 180-4.
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(found, (Ok(vec![abc.to_owned()]), Ok(vec![abc.to_owned()])));
    assert_eq!((hashes.wait(), hashes.known()), (Ok(vec![abc.to_owned()]), Some(&hashes.wait())));
    assert_ne!(of(&path).wait(), hashes.wait());
    fs::remove_dir_all(&folder).unwrap();
    let gone = of(&path);
    assert!(matches!(gone.known(), Some(Err(ReceiptError::Model(_)))));
    assert_eq!(runtime.block_on(gone.hashed()), gone.wait());
}

#[test]
fn what_was_interrupted_is_verified_as_far_as_it_goes() {
    let worker = worker();
    let valid = worker.check(Request { seed: Some(5), ignore_eos: true, ..wild(text(), None) }).unwrap();
    let mut draft = Draft::new(&worker, &valid, KeepPrompt::Ids);
    let mut generation = worker.start(valid).unwrap();
    let reason = loop {
        match generation.next_blocking().unwrap() {
            Event::Delta { tokens, .. } => {
                draft.add(&tokens);
                generation.cancel();
            }
            Event::End { reason, .. } => break reason,
            Event::Started { .. } | Event::Prompt(_) => {}
            Event::Error(error) => panic!("{error}"),
        }
    };
    assert_eq!(reason, StopReason::Cancelled);
    let receipt = draft.finish(&origin(&worker), &reason).unwrap();
    assert!(receipt.answer.len() < 400);
    assert_eq!(again(&worker, &receipt, receipt.prompt_ids(None).unwrap()), Comparison::Equal);
}
