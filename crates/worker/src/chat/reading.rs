//! How is a conversation's answer read? In plain data, since a receipt has to say it: what is content decides where stop strings are looked for,
//! and a call may end the answer.

use serde::{Deserialize, Serialize};
use tokenizer::Tokenizer;

use super::answer::{Answer, Body, Harmony, HarmonyIds, Tagged, Think, ThinkStart, ThinkTags, Tool, markers};
use crate::WorkerError;

/// How an answer is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChatForm {
    /// How calls of tools, and with gpt-oss all parts, are written.
    pub calls: CallForm,
    /// Whether reasoning between tags comes first.
    pub thinking: ThinkStart,
    /// The tags of reasoning.
    #[serde(default, skip_serializing_if = "ThinkTags::is_usual")]
    pub tags: ThinkTags,
    /// The names of the tools that may be called.
    pub tools: Vec<String>,
    /// The JSON schemas of their arguments, in the same order; null or absent where one is not known. They say which values bare
    /// texts are, and decide about no token, so that no receipt has them.
    #[serde(skip)]
    pub schemas: Vec<serde_json::Value>,
    /// Does the answer end with its first call?
    pub one_call: bool,
}

/// The form of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallForm {
    /// `<tool_call>{"name": .., "arguments": ..}</tool_call>`.
    Tagged,
    /// `{"name": .., "parameters": ..}` and nothing else.
    Bare,
    /// Messages between gpt-oss's special tokens.
    Harmony,
    /// `<tool_call>\n<function=NAME>\n<parameter=KEY>\nVALUE\n</parameter>\n</function>\n</tool_call>`.
    Xml,
    /// `<tool_call>NAME\n<arg_key>KEY</arg_key>\n<arg_value>VALUE</arg_value>\n</tool_call>`.
    ArgKeys,
    /// `[TOOL_CALLS]NAME[ARGS]{..}`.
    Mistral,
    /// `[TOOL_CALLS][{"name": .., "arguments": ..}, ..]`.
    MistralList,
    /// `<｜tool▁call▁begin｜>NAME<｜tool▁sep｜>{..}<｜tool▁call▁end｜>`.
    Deepseek,
    /// `<｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME` and the arguments in a fence of `json`.
    DeepseekFenced,
    /// `<|tool_call_begin|>functions.NAME:INDEX<|tool_call_argument_begin|>{..}<|tool_call_end|>`.
    Kimi,
    /// `<|tool_call>call:NAME{key:value,..}<tool_call|>`.
    Gemma,
    /// `<|tool_call|>[{"name": .., "arguments": ..}, ..]`.
    Granite,
    /// `<|tool_call_start|>[name(key=value, ..), ..]<|tool_call_end|>`.
    Lfm,
    /// `<function_calls>` with `name(key=value, ..)` on each line.
    FunctionCalls,
}

/// What reads an answer.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    pub(crate) parser: Answer,
    /// It ends with its first call.
    pub(crate) one_call: bool,
    /// Names of special tokens that are read as if they were text.
    markers: Vec<&'static str>,
}

/// Those of every form.
const MARKERS: [&str; 5] = ["<tool_call>", "</tool_call>", "<think>", "</think>", "<|python_tag|>"];

impl Reading {
    /// Of an answer in which everything is content.
    pub(crate) fn plain() -> Reading {
        let parser = Answer::Marked(Think::new(ThinkStart::None, ThinkTags::Think, Body::Plain));
        Reading { parser, one_call: false, markers: MARKERS.to_vec() }
    }

    /// A special token's name, where it marks parts of the answer.
    pub(crate) fn marker(&self, tokenizer: &Tokenizer, id: u32) -> Option<&'static str> {
        let name = tokenizer.token_bytes(id)?;
        self.markers.iter().find(|marker| marker.as_bytes() == name).copied()
    }
}

impl ChatForm {
    /// What reads such an answer of this model.
    pub(crate) fn reading(&self, tokenizer: &Tokenizer) -> Result<Reading, WorkerError> {
        let names = self.tools.clone();
        let body = match self.calls {
            CallForm::Harmony => {
                let ids = HarmonyIds::of(tokenizer).ok_or_else(|| WorkerError::Invalid {
                    field: "chat",
                    expected: "a vocabulary with gpt-oss's special tokens".to_owned(),
                    found: "another".to_owned(),
                })?;
                let parser = Answer::Harmony(Harmony::new(ids, names));
                return Ok(Reading { parser, one_call: self.one_call, markers: MARKERS.to_vec() });
            }
            _ if names.is_empty() => Body::Plain,
            CallForm::Tagged => Body::Tagged(Tagged::new()),
            CallForm::Bare => Body::bare(names),
            form => Body::block(form, self.known_tools(), self.one_call).unwrap_or(Body::Plain),
        };
        let calls = if self.tools.is_empty() { Vec::new() } else { markers(self.calls) };
        let markers = [MARKERS.as_slice(), self.tags.open(), self.tags.close(), &calls].concat();
        let parser = Answer::Marked(Think::new(self.thinking, self.tags, body));
        Ok(Reading { parser, one_call: self.one_call, markers })
    }

    fn known_tools(&self) -> Vec<Tool> {
        let schemas = self.schemas.iter().cloned().chain(std::iter::repeat(serde_json::Value::Null));
        let tool = |(name, parameters): (&String, _)| Tool { name: name.clone(), parameters };
        self.tools.iter().zip(schemas).map(tool).collect()
    }
}
