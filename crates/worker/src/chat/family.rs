//! In which form does this model write calls and reasoning? Told from its chat template and vocabulary.

use tokenizer::{ChatTemplate, Tokenizer};

use super::Chat;
use super::answer::{HarmonyIds, ThinkStart};
use super::reading::{CallForm, ChatForm};

/// How an answer of this model is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Family {
    pub(crate) form: Form,
    /// Does its template write tools and calls? If not, they are described in the system message.
    pub(crate) template_has_tools: bool,
    /// May it reason between `<think>` tags?
    pub(crate) thinks: bool,
}

/// The form of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// `<tool_call>{"name": .., "arguments": ..}</tool_call>`: Hermes, Qwen, and models whose template knows no tools.
    Tagged,
    /// `{"name": .., "parameters": ..}` and nothing else: Llama 3.
    Bare,
    /// gpt-oss.
    Harmony(HarmonyIds),
}

/// Names of special tokens that are read as if they were text.
const MARKERS: [&str; 5] = ["<tool_call>", "</tool_call>", "<think>", "</think>", "<|python_tag|>"];

impl Family {
    /// The family of the model behind a template.
    pub(crate) fn of(tokenizer: &Tokenizer, template: Option<&ChatTemplate>) -> Family {
        let source = template.map_or("", ChatTemplate::source);
        let has = |text: &str| source.contains(text);
        let thinks = has("<think>") || has("</think>");
        let tagged = Family { form: Form::Tagged, template_has_tools: true, thinks };
        match HarmonyIds::of(tokenizer) {
            Some(ids) if has("<|channel|>") || template.is_none() => {
                Family { form: Form::Harmony(ids), thinks: false, ..tagged }
            }
            _ if has("<tool_call>") => tagged,
            _ if has("\"parameters\": ") && has("ipython") => Family { form: Form::Bare, ..tagged },
            _ => Family { template_has_tools: false, ..tagged },
        }
    }

    /// How an answer to this prompt is read.
    pub(crate) fn answer(&self, prompt: &str, chat: &Chat) -> ChatForm {
        let calls = match self.form {
            Form::Tagged => CallForm::Tagged,
            Form::Bare => CallForm::Bare,
            Form::Harmony(_) => CallForm::Harmony,
        };
        ChatForm { calls, thinking: self.think_start(prompt), tools: names(chat), one_call: chat.one_call() }
    }

    /// How an answer to this prompt starts.
    pub(crate) fn think_start(&self, prompt: &str) -> ThinkStart {
        if !self.thinks {
            ThinkStart::None
        } else if prompt.trim_end().ends_with("<think>") {
            ThinkStart::Inside
        } else if prompt.trim_end().ends_with("</think>") {
            ThinkStart::None
        } else {
            ThinkStart::Maybe
        }
    }
}

/// A special token's name, where it marks parts of an answer.
pub(crate) fn marker(tokenizer: &Tokenizer, id: u32) -> Option<&'static str> {
    let name = tokenizer.token_bytes(id)?;
    MARKERS.into_iter().find(|marker| marker.as_bytes() == name)
}

/// The names of the tools that an answer may call.
fn names(chat: &Chat) -> Vec<String> {
    let name = |tool: &serde_json::Value| tool["function"]["name"].as_str().map(str::to_owned);
    chat.offered().iter().filter_map(name).collect()
}
