//! Does a prompt have what the conversation says?
//!
//! Templates trim and escape texts, so a text is looked for by its words, in their order. Of what an assistant said templates leave out
//! reasoning and what stands beside calls; everything else has to be there.

use serde_json::Value;

use super::answer::ThinkTags;
use super::{Chat, messages};
use crate::WorkerError;

pub(super) const WRITTEN: &str = "what the model's chat template writes into the prompt";

/// What should be in the prompt and is not: the text of a message, or a tool. `source` is the template's.
pub(super) fn left_out(chat: &Chat, source: &str, prompt: &str) -> Option<WorkerError> {
    let wrong = |path: String, found| Some(messages::wrong(path, WRITTEN, found));
    let (commands, cuts) = (commands(source), cuts(source));
    // What was said by one comes in its order: the same text twice has to be there twice.
    let (mut users, mut instructions, mut answers) = (prompt, prompt, prompt);
    for (i, message) in chat.messages.iter().enumerate() {
        let mut all = prompt;
        let (rest, is_answer) = match message["role"].as_str() {
            Some("user") => (&mut users, false),
            Some("system" | "developer") => (&mut instructions, false),
            Some("assistant") if calls(message) => continue,
            Some("assistant") => (&mut answers, true),
            // Results of tools come in the order of their calls, or in the client's.
            _ => (&mut all, false),
        };
        for text in texts(message) {
            let text = if is_answer { after_reasoning(text, &cuts) } else { text };
            if !is_said(text, &commands, rest) {
                return wrong(format!("messages[{i}].content"), "text that it leaves out");
            }
        }
    }
    let is_there = |tool: &Value| tool["function"]["name"].as_str().is_none_or(|name| prompt.contains(name));
    let missing = chat.offered().iter().position(|tool| !is_there(tool))?;
    wrong(format!("tools[{missing}]"), "a tool that it leaves out")
}

fn calls(message: &Value) -> bool {
    message["tool_calls"].as_array().is_some_and(|calls| !calls.is_empty())
        || message["function_call"].is_object()
}

/// The texts of a message's content.
pub(super) fn texts(message: &Value) -> Vec<&str> {
    match &message["content"] {
        Value::String(text) => vec![text],
        Value::Array(parts) => {
            parts.iter().filter_map(|part| part["text"].as_str().or(part["refusal"].as_str())).collect()
        }
        _ => Vec::new(),
    }
}

/// What follows the reasoning that a client left in an answer's text: what follows the tags that `cuts` holds.
fn after_reasoning<'t>(text: &'t str, cuts: &[&str]) -> &'t str {
    let known = ThinkTags::ALL.iter().flat_map(|tags| tags.close());
    let after = |rest: &'t str, tag: &&str| rest.rsplit_once(*tag).map_or(rest, |(_, after)| after);
    let rest = known.chain(cuts).fold(text, after);
    // Reasoning without an end may be left out as a whole.
    let is_open = ThinkTags::ALL.iter().flat_map(|tags| tags.open()).any(|tag| rest.contains(tag));
    if is_open { "" } else { rest }
}

/// As many texts are taken from a template; published ones have fewer than ten.
const MOST: usize = 32;

/// The text from here to `quote`, of 2 to 32 bytes.
fn quoted(rest: &str) -> Option<&str> {
    let quote = rest.chars().next().filter(|c| "\"'".contains(*c))?;
    let text = &rest[1..];
    let text = &text[..text.find(quote)?];
    (2..=32).contains(&text.len()).then_some(text)
}

/// At what a template splits texts, such as `</think>`: of an assistant's it may write what follows.
fn cuts(source: &str) -> Vec<&str> {
    let call = "split(";
    let text = |(at, _): (usize, &str)| quoted(&source[at + call.len()..]);
    source.match_indices(call).filter_map(text).take(MOST).collect()
}

/// The words that a template has between quotes and that begin with a slash, such as `/no_think`: a template may take them out of the text that
/// it finds them in.
fn commands(source: &str) -> Vec<&str> {
    let word = |(at, _): (usize, &str)| {
        let is_word = |b: u8| b.is_ascii_alphanumeric() || b"_-".contains(&b);
        quoted(&source[at..]).filter(|word| word.bytes().skip(1).all(is_word))
    };
    let opened = source.match_indices("\"/").chain(source.match_indices("'/"));
    opened.filter_map(word).take(MOST).collect()
}

/// Are the words of this text in `rest`, in their order? Then `rest` is what follows them. A text without letters and digits has its signs
/// for words, but for those that templates escape.
fn is_said(text: &str, commands: &[&str], rest: &mut &str) -> bool {
    let mut text = std::borrow::Cow::Borrowed(text);
    for command in commands {
        if text.contains(command) {
            text = text.replace(command, " ").into();
        }
    }
    let has_words = text.contains(char::is_alphanumeric);
    let is_between = |c: char| match has_words {
        true => !c.is_alphanumeric(),
        false => c.is_whitespace() || c.is_control() || r#""'\<>&/"#.contains(c),
    };
    let mut words = text.split(is_between).filter(|word| !word.is_empty());
    words.all(|word| rest.split_once(word).map(|(_, after)| *rest = after).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_words_between_quotes() {
        let source = r#"{% if "/no_think" in m %}{% elif '/think' in m %}{{ "/a b" }}{{ '/' }}{{ "/open"#;
        assert_eq!(commands(source), ["/no_think", "/think"]);
    }

    #[test]
    fn a_text_is_there_by_its_words_or_its_signs() {
        let said = |text, prompt: &str| is_said(text, &["/no_think"], &mut &*prompt);
        assert!(said("a \"b\"\nc", r"[a \u0022b\u0022\nc]") && !said("a c b", "a b c"));
        assert!(said("Be brief. /no_think", "<Be brief.>") && !said("Be brief. /think", "<Be brief.>"));
        assert!(said("??", "[??]") && !said("??", "[?]") && !said("😀", "[]") && said("<>\n", ""));
    }

    #[test]
    fn reasoning_is_no_part_of_an_answer() {
        let source = "{{ m.split('</thought>')[-1] }}{{ m.split() }}{{ m.split(' ') }}{{ m.rsplit(\"</x>\"";
        assert_eq!(cuts(source), ["</thought>", "</x>"]);
        let after = |text| after_reasoning(text, &["</thought>"]);
        assert_eq!((after("<think>a</think>b"), after("[THINK]a[/THINK]b")), ("b", "b"));
        assert_eq!((after("<thought>a</thought>b"), after("a <think>b"), after("a")), ("b", "", "a"));
    }
}
