//! Do published chat templates render as Jinja 2 renders them, and hostile ones end?
//!
//! `data/chat_cases.json` holds templates, conversations and what Python's Jinja 2 makes of them (`data/chat_cases.py`). CHAT_CASES
//! may name another such file.

use serde_json::Value;
use tokenizer::{ChatInput, ChatTemplate, TokenizerError};

/// Variables besides those that every conversation has.
fn extra(conversation: &Value) -> Vec<(String, Value)> {
    let usual = ["messages", "tools", "add_generation_prompt"];
    let all = conversation.as_object().unwrap().iter();
    all.filter(|(name, _)| !usual.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn input<'a>(conversation: &'a Value, extra: &'a [(String, Value)], now: i64) -> ChatInput<'a> {
    ChatInput {
        messages: conversation["messages"].as_array().unwrap(),
        add_generation_prompt: conversation["add_generation_prompt"].as_bool().unwrap(),
        tools: conversation["tools"].as_array().map(Vec::as_slice),
        extra,
        now: Some(now),
        ..ChatInput::default()
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "the counts are what is asked of other templates, with --nocapture")]
fn published_templates_render_as_jinja_does() {
    let path = std::env::var("CHAT_CASES")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/chat_cases.json").to_owned());
    let cases: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let templates = cases["templates"].as_object().unwrap();
    let (mut equal, mut failed, mut wrong) = (0, 0, Vec::new());
    for (name, template) in templates {
        let parsed = ChatTemplate::new(template["source"].as_str().unwrap(), "<BOS>", "<EOS>");
        for (key, expected) in template["expected"].as_object().unwrap() {
            let conversation = &cases["conversations"][key];
            let extra = extra(conversation);
            let input = input(conversation, &extra, cases["now"].as_i64().unwrap());
            let rendered = parsed.as_ref().map(|parsed| parsed.render(&input));
            let found = rendered.as_ref().map_or_else(|error| Err(*error), |rendered| rendered.as_ref());
            match (found, expected.as_str(), expected["raised"].as_str()) {
                (Ok(found), Some(expected), _) if found == expected => equal += 1,
                // What the template itself says against a conversation is for the client.
                (Err(TokenizerError::TemplateRaised(found)), _, Some(raised)) if found == raised => {
                    failed += 1;
                }
                (Err(error), None, None) if !matches!(error, TokenizerError::TemplateRaised(_)) => {
                    failed += 1;
                }
                _ => wrong.push(format!("{name}, {key}\nexpected {expected}\nfound    {found:?}")),
            }
        }
    }
    let of = format!("{} templates: {equal} texts equal, {failed} errors in both", templates.len());
    println!("{of}");
    assert!(wrong.is_empty(), "{} differ; of {of}\n{}", wrong.len(), wrong.join("\n"));
    assert!(equal >= 300, "{of}");
}

/// Jinja 2's lexer ends the lines of a template with a line feed, whatever the file was saved with; what is inserted keeps its own.
#[test]
fn the_templates_line_ends_are_normalised_and_the_users_are_not() {
    for end in ["\r\n", "\r", "\n"] {
        let source =
            ["{% for m in messages %}", "[{{ m.role }}]", "{{ m.content }}", "{% endfor %}"].join(end);
        let template = ChatTemplate::new(&source, "", "").unwrap();
        let messages = [serde_json::json!({ "role": "user", "content": "u\r\nv" })];
        let input = ChatInput { messages: &messages, ..ChatInput::default() };
        assert_eq!(template.render(&input).unwrap(), "[user]\nu\r\nv\n", "{end:?}");
    }
}

#[test]
fn a_template_names_whole_words() {
    let source = "{{ a }}{% if my_b is defined and c.d %}{{ e2 }}{% endif %}";
    let template = ChatTemplate::new(source, "", "").unwrap();
    let named = ["a", "my_b", "c", "d", "e2"].map(|name| template.names(name));
    assert_eq!(named, [true; 5]);
    assert_eq!(["b", "my", "my_", "e", "2", "defin"].map(|name| template.names(name)), [false; 6]);
}
