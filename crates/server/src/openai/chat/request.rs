//! What does a chat's body say, and how does the worker put it?

use serde::Deserialize;
use serde_json::{Map, Value};
use worker::{Chat, Prompt, Request, ToolChoice};

use crate::context::Context;
use crate::error::ApiError;
use crate::openai::body::Body;
use crate::openai::sampling::Sampling;
use crate::state::Served;

/// The variables of templates that have fields of their own.
const TAKEN: [&str; 3] = ["messages", "tools", "add_generation_prompt"];

/// The schema `ChatRequest`.
#[derive(Debug, Deserialize)]
pub(crate) struct ChatRequest {
    #[serde(flatten)]
    pub(in crate::openai) sampling: Sampling,
    #[serde(flatten)]
    template: TemplateRequest,
    logprobs: Option<bool>,
    top_logprobs: Option<u32>,
    tool_choice: Option<Choice>,
    parallel_tool_calls: Option<bool>,
    reasoning_effort: Option<String>,
}

/// What a template is given, and all that /apply-template and /tokenize have.
#[derive(Debug, Deserialize)]
pub(crate) struct TemplateRequest {
    pub(crate) messages: Vec<Value>,
    pub(crate) tools: Option<Vec<Value>>,
    pub(crate) chat_template_kwargs: Option<Map<String, Value>>,
    pub(crate) add_generation_prompt: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Choice {
    Mode(String),
    Named { function: Function },
    Allowed { allowed_tools: Allowed },
}

/// The tools that may be called, of those that there are.
#[derive(Debug, Deserialize)]
struct Allowed {
    mode: String,
    tools: Vec<AllowedTool>,
}

#[derive(Debug, Deserialize)]
struct AllowedTool {
    function: Function,
}

#[derive(Debug, Deserialize)]
struct Function {
    name: String,
}

impl Body for ChatRequest {
    const SCHEMA: &'static str = "ChatRequest";
}

impl TemplateRequest {
    /// A conversation whose answer may call tools as it likes.
    pub(crate) fn into_chat(self) -> Result<Chat, ApiError> {
        let extra = self.chat_template_kwargs.unwrap_or_default();
        if let Some(name) = TAKEN.iter().find(|name| extra.contains_key(**name)) {
            let message = format!("expected no {name} here, which is a field of its own");
            return Err(ApiError::invalid("chat_template_kwargs", message));
        }
        let (mut messages, mut tools) = (self.messages, self.tools.unwrap_or_default());
        messages.iter_mut().for_each(forget_cache_control);
        for tool in &mut tools {
            forget_cache_control(tool);
            if let Some(function) = tool.get_mut("function") {
                forget_cache_control(function);
            }
        }
        Ok(Chat {
            tools,
            extra: extra.into_iter().collect(),
            add_generation_prompt: self.add_generation_prompt.unwrap_or(true),
            ..Chat::new(messages)
        })
    }
}

impl ChatRequest {
    /// Does the answer say how likely its tokens were?
    pub(in crate::openai) fn wants_logprobs(&self) -> bool {
        self.logprobs == Some(true)
    }

    /// The worker's request, and the fields that cannot change its answer.
    pub(in crate::openai) fn into_request(
        self,
        served: &Served,
        context: &Context,
    ) -> Result<(Request, Vec<String>), ApiError> {
        if self.top_logprobs.is_some_and(|n| n > 0) && !self.wants_logprobs() {
            return Err(ApiError::invalid("top_logprobs", "expected logprobs to be true beside it"));
        }
        let mut ignored = Vec::new();
        let mut chat = self.template.into_chat()?;
        chat.tool_choice = match self.tool_choice {
            None => ToolChoice::Auto,
            Some(Choice::Named { function }) => ToolChoice::Named(function.name),
            Some(Choice::Mode(mode)) => of_mode(&mode),
            Some(Choice::Allowed { allowed_tools }) => {
                keep(&mut chat.tools, &allowed_tools.tools)?;
                of_mode(&allowed_tools.mode)
            }
        };
        chat.parallel_tool_calls = self.parallel_tool_calls.unwrap_or(true);
        if let Some(effort) = self.reasoning_effort {
            let template = served.worker.tokenizer().chat_template();
            if template.is_some_and(|template| template.source().contains("reasoning_effort")) {
                chat.extra.push(("reasoning_effort".to_owned(), effort.into()));
            } else {
                ignored.push("reasoning_effort".to_owned());
            }
        }
        let n_alternatives = self.top_logprobs.unwrap_or(0);
        let defaults = served.worker.options().defaults;
        let request = self.sampling.request(Prompt::Chat(chat), n_alternatives, defaults, context)?;
        Ok((request, ignored))
    }
}

fn of_mode(mode: &str) -> ToolChoice {
    match mode {
        "none" => ToolChoice::None,
        "required" => ToolChoice::Required,
        _ => ToolChoice::Auto,
    }
}

/// Leaves the tools that are allowed: the model hears of no other, so it calls no other.
fn keep(tools: &mut Vec<Value>, allowed: &[AllowedTool]) -> Result<(), ApiError> {
    let name = |tool: &Value| tool["function"]["name"].as_str().unwrap_or_default().to_owned();
    let names: Vec<String> = tools.iter().map(name).collect();
    if let Some(at) = allowed.iter().position(|tool| !names.contains(&tool.function.name)) {
        let field = format!("tool_choice.allowed_tools.tools[{at}].function.name");
        return Err(ApiError::invalid(field, "expected a tool of the request, found another name"));
    }
    tools.retain(|tool| allowed.iter().any(|allowed| allowed.function.name == name(tool)));
    Ok(())
}

/// It speaks to the server: a template that writes a message or a tool as JSON would show it to the model.
fn forget_cache_control(value: &mut Value) {
    if let Some(fields) = value.as_object_mut() {
        fields.shift_remove("cache_control");
    }
}
