//! A conversation's answers as JSON: chunk by chunk, or whole.
//!
//! A stream's first chunk of a choice has the role, its last the reason of its end. Reasoning goes out under both names that
//! clients know, `reasoning_content` and `reasoning`.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};
use worker::receipt::Receipt;
use worker::{ChatDelta, ChatEvent, Finish, ToolCallDelta};

use crate::compat::Compat;
use crate::error::ApiError;
use crate::openai::choices::{self, Answer, Told};
use crate::openai::envelope::Message;
use crate::openai::logprobs::{ChatLogprobs, by_id};
use crate::openai::usage::{Costs, Report, SoFar, Timings, Usage, Wish};
use crate::openai::{Envelope, Shape};
use crate::sse;
use crate::state::Served;

/// All answers of a response.
pub(super) struct ChatAnswer {
    served: Arc<Served>,
    envelope: Envelope,
    shape: Shape,
    /// Filled where there is no stream.
    choices: Vec<Whole>,
    /// Of each token of the prompt, in vLLM's form, where it is wanted; null for the first.
    prompt_logprobs: Option<Vec<Value>>,
    seeds: Vec<Option<u64>>,
    costs: Costs,
    usage: Usage,
    timings: Option<Timings>,
    compat: Compat,
}

/// A choice of a whole answer.
#[derive(Clone, Debug, Default)]
struct Whole {
    content: String,
    reasoning: String,
    tool_calls: Vec<Call>,
    logprobs: ChatLogprobs,
    seed: Option<u64>,
    finish_reason: &'static str,
    receipt: Option<Receipt>,
}

#[derive(Clone, Debug, Default, Serialize)]
struct Call {
    id: String,
    r#type: &'static str,
    function: Function,
}

#[derive(Clone, Debug, Default, Serialize)]
struct Function {
    name: String,
    arguments: String,
}

/// A choice of a chunk.
#[derive(Debug, Default, Serialize)]
struct Chunk {
    index: usize,
    delta: Value,
    logprobs: Option<ChatLogprobs>,
    /// Once it has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    finish_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<Receipt>,
}

impl ChatAnswer {
    /// `scores_prompt`: the answer says how likely the prompt's tokens were. Not in a stream.
    pub(super) fn new(
        served: Arc<Served>,
        envelope: Envelope,
        shape: Shape,
        scores_prompt: bool,
        compat: Compat,
    ) -> ChatAnswer {
        let n_whole = if shape.is_stream { 0 } else { shape.n };
        ChatAnswer {
            served,
            envelope,
            choices: vec![Whole::default(); n_whole],
            prompt_logprobs: scores_prompt.then(|| vec![Value::Null]),
            seeds: vec![None; shape.n],
            costs: Costs::new(shape.usage, shape.n),
            usage: Usage::default(),
            timings: None,
            shape,
            compat,
        }
    }

    fn chunk(&mut self, chunk: Chunk, timings: Option<Timings>) -> Vec<Bytes> {
        let index = chunk.index;
        // Timings stand in the last chunk, which may be one of its own.
        self.timings = timings;
        let timings = timings.filter(|_| self.shape.usage == Wish::Never);
        let frame = sse::data(&Message {
            envelope: &self.envelope,
            choices: &[chunk],
            usage: self.costs.in_chunk(index),
            timings,
            ignored_parameters: &self.shape.ignored,
        });
        // Once is enough.
        self.shape.ignored.clear();
        vec![frame]
    }

    fn delta(&mut self, index: usize, delta: ChatDelta) -> Vec<Bytes> {
        let logprobs = self
            .shape
            .wants_logprobs
            .then(|| ChatLogprobs::new(&self.served.worker, delta.content_tokens()))
            .filter(|logprobs| !logprobs.is_empty());
        if let Some(whole) = self.choices.get_mut(index) {
            whole.add(delta, logprobs);
            return Vec::new();
        }
        if !self.shape.is_stream {
            return Vec::new();
        }
        let mut fields = json!({});
        if !delta.content.is_empty() || logprobs.is_some() {
            fields["content"] = delta.content.into();
        }
        if !delta.reasoning.is_empty() {
            fields["reasoning_content"] = delta.reasoning.clone().into();
            fields["reasoning"] = delta.reasoning.into();
        }
        if !delta.tool_calls.is_empty() {
            fields["tool_calls"] = delta.tool_calls.into_iter().map(call_delta).collect();
        }
        if fields == json!({}) {
            return Vec::new();
        }
        self.chunk(Chunk { index, delta: fields, logprobs, ..Chunk::default() }, None)
    }
}

impl Answer for ChatAnswer {
    type Event = ChatEvent;

    fn take(&mut self, index: usize, Told { event, receipt }: Told<ChatEvent>) -> Vec<Bytes> {
        match event {
            ChatEvent::Started { n_prompt, seed } => {
                if let Some(place) = self.seeds.get_mut(index) {
                    *place = Some(seed);
                }
                self.costs.set(index, SoFar::new(n_prompt, 0));
                if !self.shape.is_stream {
                    return Vec::new();
                }
                // An empty text as OpenAI, or none as llama-server.
                let content = if self.compat == Compat::LlamaServer { Value::Null } else { "".into() };
                let delta = json!({"role": "assistant", "content": content});
                self.chunk(Chunk { index, delta, ..Chunk::default() }, None)
            }
            ChatEvent::Prompt(tokens) => {
                // All choices have the same prompt.
                if let Some(list) = self.prompt_logprobs.as_mut().filter(|_| index == 0) {
                    list.extend(tokens.iter().map(|token| by_id(&self.served.worker, token)));
                }
                Vec::new()
            }
            ChatEvent::Delta(delta) => {
                self.costs.add(index, delta.tokens.len());
                self.delta(index, delta)
            }
            ChatEvent::End { finish, usage, timings, n_reasoning, .. } => {
                self.usage.add(usage, n_reasoning, index == 0);
                self.costs.set(index, SoFar::new(usage.n_prompt, usage.n_generated));
                let timings = (self.shape.n == 1).then(|| Timings::new(usage, timings));
                let seed = self.seeds.get(index).copied().flatten();
                let finish_reason = finish_reason(finish);
                if let Some(whole) = self.choices.get_mut(index) {
                    whole.finish_reason = finish_reason;
                    whole.receipt = receipt;
                    whole.seed = seed;
                    self.timings = timings;
                    return Vec::new();
                }
                let finish_reason = Some(finish_reason);
                let delta = json!({});
                self.chunk(Chunk { index, delta, logprobs: None, seed, finish_reason, receipt }, timings)
            }
            // Errors were taken out before.
            ChatEvent::Error(_) => Vec::new(),
        }
    }

    fn finish(&mut self) -> Vec<Bytes> {
        if self.shape.usage == Wish::Never {
            return vec![sse::DONE];
        }
        let usage = sse::data(&Message::<Chunk> {
            envelope: &self.envelope,
            choices: &[],
            usage: Some(Some(Report::Whole(self.usage))),
            timings: self.timings,
            ignored_parameters: &[],
        });
        vec![usage, sse::DONE]
    }

    fn fail(&mut self, error: &ApiError) -> Vec<Bytes> {
        choices::failed(error)
    }

    fn is_stream(&self) -> bool {
        self.shape.is_stream
    }

    fn whole(self) -> Value {
        let wants_logprobs = self.shape.wants_logprobs;
        let choices: Vec<Value> = self
            .choices
            .into_iter()
            .enumerate()
            .map(|(index, whole)| whole.choice(index, wants_logprobs))
            .collect();
        let mut whole = json!(Message {
            envelope: &self.envelope,
            choices: &choices,
            usage: Some(Some(Report::Whole(self.usage))),
            timings: self.timings,
            ignored_parameters: &self.shape.ignored,
        });
        if let Some(list) = self.prompt_logprobs {
            whole["prompt_logprobs"] = list.into();
        }
        whole
    }
}

impl Whole {
    fn add(&mut self, delta: ChatDelta, logprobs: Option<ChatLogprobs>) {
        self.content.push_str(&delta.content);
        self.reasoning.push_str(&delta.reasoning);
        for ToolCallDelta { index, id, name, arguments } in delta.tool_calls {
            if self.tool_calls.len() <= index {
                self.tool_calls.resize_with(index + 1, || Call { r#type: "function", ..Call::default() });
            }
            let call = &mut self.tool_calls[index];
            call.id.push_str(&id.unwrap_or_default());
            call.function.name.push_str(&name.unwrap_or_default());
            call.function.arguments.push_str(&arguments);
        }
        if let Some(logprobs) = logprobs {
            self.logprobs.append(logprobs);
        }
    }

    fn choice(self, index: usize, wants_logprobs: bool) -> Value {
        // An answer that only calls has no content, which is not the same as an empty one.
        let content = (!self.content.is_empty() || self.tool_calls.is_empty()).then_some(self.content);
        let mut message = json!({"role": "assistant", "content": content, "refusal": null});
        if !self.reasoning.is_empty() {
            message["reasoning_content"] = self.reasoning.clone().into();
            message["reasoning"] = self.reasoning.into();
        }
        if !self.tool_calls.is_empty() {
            message["tool_calls"] = json!(self.tool_calls);
        }
        let mut choice = json!({
            "index": index,
            "message": message,
            "logprobs": wants_logprobs.then_some(self.logprobs),
            "seed": self.seed,
            "finish_reason": self.finish_reason,
        });
        if let Some(receipt) = self.receipt {
            choice["receipt"] = json!(receipt);
        }
        choice
    }
}

/// A piece of a call; the first has the id, the type and the name.
fn call_delta(delta: ToolCallDelta) -> Value {
    let ToolCallDelta { index, id, name, arguments } = delta;
    let mut function = json!({});
    if let Some(name) = name {
        function["name"] = name.into();
    }
    function["arguments"] = arguments.into();
    match id {
        Some(id) => json!({"index": index, "id": id, "type": "function", "function": function}),
        None => json!({"index": index, "function": function}),
    }
}

fn finish_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Length => "length",
        Finish::ToolCalls => "tool_calls",
        // The others are errors, and were taken out before.
        Finish::Stop | Finish::Cancelled | Finish::Deadline => "stop",
    }
}
