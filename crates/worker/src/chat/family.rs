//! In which form does this model write calls and reasoning? Told from its chat template and vocabulary.

use tokenizer::{ChatTemplate, Tokenizer};

use super::Chat;
use super::answer::{HarmonyIds, ThinkStart, ThinkTags};
use super::reading::{CallForm, ChatForm};

/// How an answer of this model is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Family {
    pub(crate) form: Form,
    /// Does its template write tools? If not, they are described in the system message.
    pub(crate) template_has_tools: bool,
    /// Between which tags may it reason?
    pub(crate) thinks: Option<ThinkTags>,
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
    /// One of the forms that are read as a whole.
    Whole(CallForm),
}

/// What a template has in it that writes calls in a form: the first row of which it has all.
const WRITTEN: [(&[&str], Form); 13] = [
    (&["<tool_call>", "<function="], Form::Whole(CallForm::Xml)),
    (&["<tool_call>", "<arg_key>"], Form::Whole(CallForm::ArgKeys)),
    (&["<tool_call>"], Form::Tagged),
    (&["[TOOL_CALLS]", "[ARGS]"], Form::Whole(CallForm::Mistral)),
    (&["[TOOL_CALLS]"], Form::Whole(CallForm::MistralList)),
    (&["<｜tool▁call▁begin｜>", "```json"], Form::Whole(CallForm::DeepseekFenced)),
    (&["<｜tool▁call▁begin｜>"], Form::Whole(CallForm::Deepseek)),
    (&["<|tool_call_argument_begin|>"], Form::Whole(CallForm::Kimi)),
    (&["<|tool_call>call:"], Form::Whole(CallForm::Gemma)),
    (&["<|tool_call_start|>"], Form::Whole(CallForm::Lfm)),
    (&["<|tool_list_start|>"], Form::Whole(CallForm::Lfm)),
    (&["<function_calls>"], Form::Whole(CallForm::FunctionCalls)),
    (&["<|tool_call|>"], Form::Whole(CallForm::Granite)),
];

impl Family {
    /// The family of the model behind a template.
    pub(crate) fn of(tokenizer: &Tokenizer, template: Option<&ChatTemplate>) -> Family {
        let source = template.map_or("", ChatTemplate::source);
        let has = |text: &str| source.contains(text);
        let has_tags = |tags: &ThinkTags| has(tags.open()[0]) || has(tags.close()[0]);
        let thinks = ThinkTags::ALL.into_iter().find(has_tags);
        let tagged = Family { form: Form::Tagged, template_has_tools: true, thinks };
        match HarmonyIds::of(tokenizer) {
            Some(ids) if has("<|channel|>") || template.is_none() => {
                Family { form: Form::Harmony(ids), thinks: None, ..tagged }
            }
            _ if has("\"parameters\": ") && has("ipython") && !has("<tool_call>") => {
                Family { form: Form::Bare, ..tagged }
            }
            _ => match WRITTEN.iter().find(|(texts, _)| texts.iter().all(|text| has(text))) {
                // DeepSeek's write calls and leave tools to whoever writes the system message.
                Some((_, form @ Form::Whole(CallForm::Deepseek | CallForm::DeepseekFenced))) => {
                    Family { form: *form, template_has_tools: has("tools"), ..tagged }
                }
                Some((_, form)) => Family { form: *form, ..tagged },
                None => Family { template_has_tools: false, ..tagged },
            },
        }
    }

    /// How an answer to this prompt is read.
    pub(crate) fn answer(&self, prompt: &str, chat: &Chat) -> ChatForm {
        let calls = match self.form {
            Form::Tagged => CallForm::Tagged,
            Form::Bare => CallForm::Bare,
            Form::Harmony(_) => CallForm::Harmony,
            Form::Whole(form) => form,
        };
        ChatForm {
            calls,
            thinking: self.think_start(prompt, chat),
            tags: self.thinks.unwrap_or_default(),
            tools: names(chat),
            schemas: chat.offered().iter().map(|tool| tool["function"]["parameters"].clone()).collect(),
            one_call: chat.one_call(),
        }
    }

    /// How an answer to this prompt starts.
    pub(crate) fn think_start(&self, prompt: &str, chat: &Chat) -> ThinkStart {
        let prompt = prompt.trim_end();
        if chat.continue_final_message {
            // The answer begins in the middle of a message: in its reasoning if that is open there.
            let last = |tags: &[&str]| tags.iter().filter_map(|tag| prompt.rfind(tag)).max();
            let is_open = self.thinks.is_some_and(|tags| last(tags.open()) > last(tags.close()));
            return if is_open { ThinkStart::Inside } else { ThinkStart::None };
        }
        let ends_with = |tag: &[&str]| tag.iter().any(|tag| prompt.ends_with(tag));
        match self.thinks {
            Some(tags) if ends_with(tags.open()) => ThinkStart::Inside,
            Some(tags) if !ends_with(tags.close()) => ThinkStart::Maybe,
            _ => ThinkStart::None,
        }
    }
}

/// The names of the tools that an answer may call.
fn names(chat: &Chat) -> Vec<String> {
    let name = |tool: &serde_json::Value| tool["function"]["name"].as_str().map(str::to_owned);
    chat.offered().iter().filter_map(name).collect()
}
