//! The grammar of a chat's answer, where its content has a format or a tool must be called.
//!
//! Reasoning comes first and is free; the format binds the content alone, and a call has a tool's name and arguments by its schema. A tool
//! that may be called may be called instead of an answer in the format.

use llguidance::api::GrammarWithLexer;
use serde_json::{Value, json};
use tokenizer::Tokenizer;

use super::answer::{HarmonyIds, ThinkStart, ThinkTags};
use super::family::{Family, Form};
use super::{Chat, ToolChoice, calls};
use crate::WorkerError;
use crate::grammar::{Source, quoted};
use crate::request::Asked;

/// A grammar in the making.
pub(super) struct Shape<'a> {
    tokenizer: &'a Tokenizer,
    form: Form,
    start: ThinkStart,
    tags: ThinkTags,
    /// Rules of the outer grammar.
    pub(super) rules: String,
    pub(super) parts: Vec<GrammarWithLexer>,
}

/// What an answer must be, or `None` if it is free.
pub(crate) fn grammar(
    tokenizer: &Tokenizer,
    chat: &Chat,
    format: Option<Asked<'_>>,
    (family, prompt): (&Family, &str),
) -> Result<Option<Source>, WorkerError> {
    let forced = matches!(chat.tool_choice, ToolChoice::Required | ToolChoice::Named(_));
    let content = format.filter(|_| !forced).map(Source::of_asked).transpose()?;
    if content.is_none() && !forced {
        return Ok(None);
    }
    let named = |tool: &&Value| match &chat.tool_choice {
        ToolChoice::Named(name) => tool["function"]["name"] == name.as_str(),
        _ => true,
    };
    let tools: Vec<&Value> = chat.offered().iter().filter(named).collect();
    if let Form::Whole(form) = family.form {
        calls::check(form, &tools)?;
    }
    let start = family.think_start(prompt, chat);
    let is_plain = start == ThinkStart::None && !matches!(family.form, Form::Harmony(_));
    if let Some(content) = content {
        if chat.continue_final_message {
            return Err(WorkerError::Invalid {
                field: content.field(),
                expected: "none where continue_final_message is true: it would begin anew".to_owned(),
                found: "one".to_owned(),
            });
        }
        // An answer that the prompt has begun already is only its content.
        if (tools.is_empty() && is_plain) || !chat.add_generation_prompt {
            return Ok(Some(content));
        }
        let field = content.field();
        let mut shape = Shape::new(tokenizer, family, start);
        shape.parts.push(content.named("answer"));
        return Ok(Some(shape.finish(field, true, &tools, !chat.one_call())));
    }
    let shape = Shape::new(tokenizer, family, start);
    Ok(Some(shape.finish("tools", false, &tools, !chat.one_call())))
}

impl<'a> Shape<'a> {
    fn new(tokenizer: &'a Tokenizer, family: &Family, start: ThinkStart) -> Shape<'a> {
        let tags = family.thinks.unwrap_or_default();
        Shape { tokenizer, form: family.form, start, tags, rules: String::new(), parts: Vec::new() }
    }

    pub(super) fn rule(&mut self, name: &str, body: &str) {
        self.rules.push_str(&format!("{name}: {body}\n"));
    }

    /// A marker: its token where it is a special one, else its text.
    pub(super) fn marker(&self, name: &str) -> String {
        match self.tokenizer.special_id(name) {
            Some(id) if self.tokenizer.is_special(id) => format!("<[{id}]>"),
            _ => quoted(name),
        }
    }

    fn finish(mut self, field: &'static str, content: bool, tools: &[&Value], parallel: bool) -> Source {
        let mut choices = Vec::new();
        if content {
            choices.push("content");
        }
        if !tools.is_empty() {
            choices.push("calls");
        }
        let choices = choices.join(" | ");
        match self.form {
            Form::Harmony(ids) => self.harmony(ids, &choices, tools),
            form => self.marked(form, &choices, tools, parallel),
        }
        let mut parts = vec![GrammarWithLexer::from_lark(self.rules)];
        parts.append(&mut self.parts);
        Source::of_parts(field, parts)
    }

    /// The schema of a tool's arguments, under the name that is returned.
    pub(super) fn arguments(&mut self, i: usize, tool: &Value) -> String {
        let schema = match &tool["function"]["parameters"] {
            schema @ Value::Object(_) => schema.clone(),
            _ => json!({ "type": "object" }),
        };
        self.parts.push(Source::schema_part(&format!("arguments_{i}"), schema));
        format!("@arguments_{i}")
    }

    fn marked(&mut self, form: Form, choices: &str, tools: &[&Value], parallel: bool) {
        let before = match self.start {
            ThinkStart::Inside => "thought ",
            ThinkStart::Maybe => "thinking? ",
            ThinkStart::None => "",
        };
        self.rule("start", &format!("{before}({choices})"));
        if self.start != ThinkStart::None {
            let (open, close) = (self.marker(self.tags.open()[0]), self.marker(self.tags.close()[0]));
            self.rule("thinking", &format!("{open} thought"));
            if close.starts_with('<') {
                self.rule("thought", &format!("FREE {close} space?"));
                self.rule("FREE", r"/(.|\n)*/");
            } else {
                self.rule("thought", "free space?");
                self.rule("free[lazy]", &format!(r"/(.|\n)*/ {close}"));
            }
            self.rule("space", r#""\n" | "\n\n""#);
        }
        if choices.contains("content") {
            self.rule("content", "@answer");
        }
        if tools.is_empty() {
            return;
        }
        if let Form::Whole(form) = form {
            self.whole(form, tools, parallel);
            return;
        }
        let calls: Vec<String> = (0..tools.len()).map(|i| format!("call_{i}")).collect();
        let one = calls.join(" | ");
        let (before, after, key) = match form {
            Form::Bare => (String::new(), String::new(), "parameters"),
            _ => {
                let (open, close) = (self.marker("<tool_call>"), self.marker("</tool_call>"));
                (format!(r#"{open} "\n"? "#), format!(r#" "\n"? {close}"#), "arguments")
            }
        };
        let more = if parallel && form == Form::Tagged { r#" ("\n" call)*"# } else { "" };
        self.rule("calls", &format!("call{more}"));
        self.rule("call", &one);
        for (i, tool) in tools.iter().enumerate() {
            let name = tool["function"]["name"].as_str().unwrap_or_default();
            let head = quoted(&format!("{{\"name\": {}, \"{key}\": ", quoted(name)));
            let arguments = self.arguments(i, tool);
            self.rule(&format!("call_{i}"), &format!(r#"{before}{head} {arguments} "}}"{after}"#));
        }
    }

    /// The prompt ends in the header of the first message; reasoning is messages of their own before the last.
    fn harmony(&mut self, ids: HarmonyIds, choices: &str, tools: &[&Value]) {
        let HarmonyIds { start, end, message, channel, constrain, .. } = ids;
        self.rule("start", &format!("thinking* ({choices})"));
        self.rule(
            "thinking",
            &format!(r#"<[{channel}]> "analysis" <[{message}]> FREE <[{end}]> <[{start}]> "assistant""#),
        );
        self.rule("FREE", r"/(.|\n)*/");
        self.rule("json", &format!(r#"" "? <[{constrain}]> "json" | " json""#));
        if choices.contains("content") {
            self.rule("content", &format!(r#"<[{channel}]> "final" json? <[{message}]> @answer"#));
        }
        if tools.is_empty() {
            return;
        }
        let calls: Vec<String> = (0..tools.len()).map(|i| format!("call_{i}")).collect();
        self.rule("calls", &calls.join(" | "));
        for (i, tool) in tools.iter().enumerate() {
            let to =
                quoted(&format!(" to=functions.{}", tool["function"]["name"].as_str().unwrap_or_default()));
            let arguments = self.arguments(i, tool);
            self.rule(
                &format!("call_{i}"),
                &format!(
                    r#"({to} <[{channel}]> "commentary" | <[{channel}]> "commentary" {to}) json? <[{message}]> {arguments}"#
                ),
            );
        }
    }
}
