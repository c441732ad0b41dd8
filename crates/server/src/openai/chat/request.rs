//! What does a chat's body say, and how does the worker put it?

use std::time::SystemTime;

use serde::Deserialize;
use serde_json::{Map, Value};
use worker::{Chat, Prompt, Request, ToolChoice};

use crate::compat::Compat;
use crate::context::Context;
use crate::error::ApiError;
use crate::openai::body::Body;
use crate::openai::sampling::{Likely, Sampling};
use crate::openapi;
use crate::state::Served;
use crate::unsaid::Unsaid;

/// The schema `ChatRequest`.
#[derive(Debug, Deserialize)]
pub(crate) struct ChatRequest {
    #[serde(flatten)]
    pub(in crate::openai) sampling: Sampling,
    #[serde(flatten)]
    template: TemplateRequest,
    logprobs: Option<bool>,
    top_logprobs: Option<u32>,
    prompt_logprobs: Option<u32>,
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
    pub(crate) continue_final_message: Option<bool>,
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

/// Variables of the template, among what is not used.
const VARIABLES: &str = "chat_template_kwargs";

impl TemplateRequest {
    /// The variables that the model's template does not name, as paths.
    fn variables_without_use(&self, served: &Served) -> Vec<String> {
        let given = self.chat_template_kwargs.iter().flatten().filter(|(_, value)| !value.is_null());
        let unused = given.filter(|(name, _)| !served.template_names(name));
        unused.map(|(name, _)| format!("{VARIABLES}.{}", openapi::readable(name))).collect()
    }

    /// A conversation whose answer may call tools as it likes.
    ///
    /// # Errors
    /// Fields that contradict each other.
    pub(crate) fn into_chat(mut self, context: &Context) -> Result<Chat, ApiError> {
        if context.compat == Compat::LlamaServer {
            self.continue_as_llama()?;
        }
        let extra = self.chat_template_kwargs.unwrap_or_default();
        Unsaid::check(&extra).map_err(|message| ApiError::invalid(VARIABLES, message))?;
        let continues = self.continue_final_message == Some(true);
        if continues && self.add_generation_prompt == Some(true) {
            let message = "expected false where add_generation_prompt is true";
            return Err(ApiError::invalid("continue_final_message", message));
        }
        let (mut messages, mut tools) = (self.messages, self.tools.unwrap_or_default());
        messages.iter_mut().for_each(own_words);
        for tool in &mut tools {
            forget(tool);
            tool.get_mut("function").map(forget);
        }
        let mut extra: Vec<(String, Value)> = extra.into_iter().collect();
        context.unsaid.fill(context.compat, SystemTime::now(), &mut extra);
        Ok(Chat {
            tools,
            extra,
            add_generation_prompt: self.add_generation_prompt.unwrap_or(!continues),
            continue_final_message: continues,
            ..Chat::new(messages)
        })
    }
}

impl TemplateRequest {
    /// In llama-server an answer goes on with a last message that is the assistant's, unless the request says otherwise.
    fn continue_as_llama(&mut self) -> Result<(), ApiError> {
        let is_answer = |message: &&Value| message["role"] == "assistant";
        match self.messages.iter().rev().take_while(is_answer).count() {
            0 => {}
            1 if self.add_generation_prompt.is_none() && self.continue_final_message.is_none() => {
                self.continue_final_message = Some(self.messages.last().is_some_and(is_plain));
            }
            1 => {}
            _ => {
                let message = "expected at most one message of the assistant at the end, found more";
                return Err(ApiError::invalid("messages", message));
            }
        }
        Ok(())
    }
}

/// Whether a message is text alone: what calls tools is not continued.
fn is_plain(message: &Value) -> bool {
    message.get("tool_calls").is_none_or(Value::is_null)
}

impl ChatRequest {
    /// Does the answer say how likely its tokens were?
    pub(in crate::openai) fn wants_logprobs(&self) -> bool {
        self.logprobs == Some(true)
    }

    /// Does the answer say how likely the prompt's tokens were?
    pub(super) fn scores_prompt(&self) -> bool {
        self.prompt_logprobs.is_some()
    }

    /// Checks what fields say together of how likely tokens are.
    fn check_likely(&self) -> Result<(), ApiError> {
        let top = self.top_logprobs.unwrap_or(0);
        if top > 0 && !self.wants_logprobs() {
            return Err(ApiError::invalid("top_logprobs", "expected logprobs to be true beside it"));
        }
        self.sampling.check_receipt()?;
        let Some(n) = self.prompt_logprobs else { return Ok(()) };
        if self.wants_logprobs() && n != top {
            let message = format!("expected as many as top_logprobs, {top}, found {n}");
            return Err(ApiError::invalid("prompt_logprobs", message));
        }
        if self.sampling.stream == Some(true) {
            let message = "expected no stream beside it: it comes with the whole answer";
            return Err(ApiError::invalid("prompt_logprobs", message));
        }
        Ok(())
    }

    /// The worker's request, and the fields that cannot change its answer.
    pub(in crate::openai) fn into_request(
        self,
        served: &Served,
        context: &Context,
    ) -> Result<(Request, Vec<String>), ApiError> {
        self.check_likely()?;
        let mut ignored = self.template.variables_without_use(served);
        let mut chat = self.template.into_chat(context)?;
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
            if served.template_names("reasoning_effort") {
                chat.extra.push(("reasoning_effort".to_owned(), effort.into()));
            } else {
                ignored.push("reasoning_effort".to_owned());
            }
        }
        let likely = Likely {
            n_alternatives: self.top_logprobs.or(self.prompt_logprobs).unwrap_or(0),
            of_prompt: self.prompt_logprobs.is_some(),
        };
        let defaults = served.worker.options().defaults;
        let calls = matches!(chat.tool_choice, ToolChoice::Required | ToolChoice::Named(_));
        let is_strict = |tool: &Value| tool["function"]["strict"] == true;
        if !calls && chat.tools.iter().any(is_strict) {
            ignored.push("tools.function.strict".to_owned());
        }
        let request = self.sampling.request(Prompt::Chat(chat), likely, defaults, context)?;
        // An answer that must call a tool has no content that could have a format.
        let format = request.format_field.and_then(|field| field.split('.').next());
        ignored.extend(format.filter(|_| calls).map(str::to_owned));
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

/// Leaves of a message what the model is to hear.
fn own_words(message: &mut Value) {
    let details = message.get("reasoning_details").and_then(Value::as_array);
    let said = |detail: &Value| detail["text"].as_str().or(detail["summary"].as_str()).map(str::to_owned);
    let reasoning: String = details.into_iter().flatten().filter_map(said).collect();
    forget(message);
    let Some(fields) = message.as_object_mut() else { return };
    fields.shift_remove("id");
    let has_own =
        ["reasoning_content", "reasoning"].iter().any(|&name| fields.get(name).is_some_and(Value::is_string));
    if !reasoning.is_empty() && !has_own {
        fields.insert("reasoning_content".to_owned(), reasoning.into());
    }
    for call in fields.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten() {
        forget(call);
        call.get_mut("function").map(forget);
    }
}

/// Takes out what clients keep for themselves or say to a server: a template that writes a message or a tool as JSON would show it to the model.
fn forget(value: &mut Value) {
    const NAMES: [&str; 8] = [
        "cache_control",
        "annotations",
        "audio",
        "parsed",
        "parsed_arguments",
        "extra_content",
        "provider_specific_fields",
        "reasoning_details",
    ];
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|name, _| !NAMES.contains(&name.as_str()));
    }
}
