//! Does what was said reach the prompt, whatever the template? Published templates, each with the conversations that are recorded for Jinja.
//!
//! The worker gives a template messages in the shape that it takes; here is looked, by other means than its own, whether each text of a user or
//! system and each tool's name is in the prompt, in order, or the request is refused by name. CHAT_CASES may name a larger file.

use std::sync::Arc;

use engine::{Engine, EngineOptions};
use serde_json::Value;
use testkit::scripted::Scripted;
use worker::{Chat, Worker, WorkerError, WorkerOptions};

use crate::with_template;

/// What every conversation has, or what has no meaning for a worker.
const NO_VARIABLES: [&str; 4] = ["messages", "tools", "add_generation_prompt", "documents"];

fn chat(conversation: &Value) -> Chat {
    let list = |name: &str| conversation[name].as_array().cloned().unwrap_or_default();
    let fields = conversation.as_object().unwrap().iter();
    let extra = fields.filter(|(name, _)| !NO_VARIABLES.contains(&name.as_str()));
    Chat {
        tools: list("tools"),
        extra: extra.map(|(name, value)| (name.clone(), value.clone())).collect(),
        add_generation_prompt: conversation["add_generation_prompt"] == true,
        ..Chat::new(list("messages"))
    }
}

/// The first that the prompt lacks of what was said by users and systems, in its order among those of its role, and of the tools' names.
fn missing(chat: &Chat, prompt: &str) -> Option<String> {
    // Templates may escape texts, as JSON or as HTML; these signs and white space are left out on both sides.
    let bare = |text: &str| -> String {
        let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
        let text = text.replace("&#39;", "'").replace("&#34;", "\"").replace("\\n", "");
        text.chars().filter(|c| !c.is_whitespace() && *c != '\\').collect()
    };
    let prompt = bare(prompt);
    for roles in [&["user"][..], &["system", "developer"]] {
        let mut rest = prompt.as_str();
        for message in chat.messages.iter().filter(|m| roles.iter().any(|role| m["role"] == *role)) {
            let texts: Vec<&str> = match &message["content"] {
                Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
                content => content.as_str().into_iter().collect(),
            };
            for text in texts {
                let Some(at) = rest.find(&bare(text)) else { return Some(format!("{text:?}")) };
                rest = &rest[at + bare(text).len()..];
            }
        }
    }
    let names = chat.tools.iter().map(|tool| tool["function"]["name"].as_str().unwrap());
    names.map(str::to_owned).find(|name| !prompt.contains(name.as_str()))
}

#[test]
#[expect(clippy::print_stdout, reason = "the counts are what is asked of other templates, with --nocapture")]
fn what_was_said_is_in_the_prompt_of_every_template_or_the_request_is_refused_by_name() {
    let path = std::env::var("CHAT_CASES").unwrap_or_else(|_| {
        concat!(env!("CARGO_MANIFEST_DIR"), "/../tokenizer/tests/data/chat_cases.json").to_owned()
    });
    let cases: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let (mut n_rendered, mut refused, mut wrong) = (0, Vec::new(), Vec::new());
    for (name, template) in cases["templates"].as_object().unwrap() {
        let engine = Engine::spawn(Box::new(Scripted::new(vec![1])), EngineOptions::default()).unwrap();
        let tokenizer = Arc::clone(&with_template(template["source"].as_str().unwrap()));
        let worker = Worker::new(engine, tokenizer, WorkerOptions::default());
        for (key, conversation) in cases["conversations"].as_object().unwrap() {
            let chat = chat(conversation);
            match worker.render(&chat) {
                Ok(prompt) => {
                    n_rendered += 1;
                    wrong.extend(missing(&chat, &prompt).map(|what| format!("{name}, {key}: {what}")));
                }
                Err(error @ (WorkerError::Message { .. } | WorkerError::Invalid { .. })) => {
                    refused.push(format!("{name}, {key}: {error}"));
                }
                Err(error) => refused.push(format!("{name}, {key}: ! {error}")),
            }
        }
    }
    let refusals = || format!("{} refused:\n{}", refused.len(), refused.join("\n"));
    println!("{n_rendered} prompts, {}", refusals());
    assert!(wrong.is_empty(), "{} of {n_rendered} prompts lack\n{}", wrong.len(), wrong.join("\n"));
    assert!(n_rendered >= 120, "{n_rendered} prompts, {}", refusals());
}
