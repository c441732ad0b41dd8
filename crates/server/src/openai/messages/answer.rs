//! A message: blocks of content, whole or told event by event.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use worker::receipt::Receipt;
use worker::{ChatDelta, ChatEvent, Finish, StopReason, ToolCallDelta, integers};

use crate::error::ApiError;
use crate::openai::Shape;
use crate::openai::choices::{Answer, Told};
use crate::openai::envelope::new_id;
use crate::sse;
use crate::state::Served;

/// What is in a block of content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Thinking,
    Text,
    /// Which call of the answer.
    Call(usize),
}

/// The answer to a request.
pub(super) struct MessageAnswer {
    served: Arc<Served>,
    shape: Shape,
    id: String,
    /// The blocks so far; the last is under way where there is a kind.
    blocks: Vec<Value>,
    open: Option<(Kind, String)>,
    usage: Value,
    stop_reason: Option<&'static str>,
    stop_sequence: Option<String>,
    seed: Option<u64>,
    receipt: Option<Receipt>,
}

impl MessageAnswer {
    pub(super) fn new(served: Arc<Served>, shape: Shape) -> MessageAnswer {
        MessageAnswer {
            served,
            shape,
            id: new_id("msg_"),
            blocks: Vec::new(),
            open: None,
            usage: Value::Null,
            stop_reason: None,
            stop_sequence: None,
            seed: None,
            receipt: None,
        }
    }

    /// The message as it is now.
    fn object(&self) -> Value {
        let mut object = json!({
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.served.info.id,
            "content": self.blocks,
            "stop_reason": self.stop_reason,
            "stop_sequence": self.stop_sequence,
            "usage": self.usage,
            "seed": self.seed,
        });
        if let Some(receipt) = &self.receipt {
            object["receipt"] = json!(receipt);
        }
        if !self.shape.ignored.is_empty() {
            object["ignored_parameters"] = json!(self.shape.ignored);
        }
        object
    }

    fn begin(&mut self, kind: Kind, block: Value, frames: &mut Vec<Bytes>) {
        self.end(frames);
        let index = self.blocks.len();
        frames.push(event("content_block_start", json!({"index": index, "content_block": block})));
        if index == 0 {
            frames.push(event("ping", json!({})));
        }
        self.blocks.push(block);
        self.open = Some((kind, String::new()));
    }

    /// Text of a block, which it begins if that is not under way.
    fn more(&mut self, kind: Kind, text: &str, frames: &mut Vec<Bytes>) {
        if self.open.as_ref().is_none_or(|(open, _)| *open != kind) {
            let block = match kind {
                Kind::Thinking => json!({"type": "thinking", "thinking": "", "signature": ""}),
                Kind::Text => json!({"type": "text", "text": ""}),
                // A call's pieces follow one another, and its first has its name.
                Kind::Call(_) => return,
            };
            self.begin(kind, block, frames);
        }
        let Some((_, whole)) = &mut self.open else { return };
        whole.push_str(text);
        let delta = match kind {
            Kind::Thinking => json!({"type": "thinking_delta", "thinking": text}),
            Kind::Text => json!({"type": "text_delta", "text": text}),
            Kind::Call(_) => json!({"type": "input_json_delta", "partial_json": text}),
        };
        let index = self.blocks.len().saturating_sub(1);
        frames.push(event("content_block_delta", json!({"index": index, "delta": delta})));
    }

    /// Ends the block under way, if there is one.
    fn end(&mut self, frames: &mut Vec<Bytes>) {
        let Some((kind, text)) = self.open.take() else { return };
        let index = self.blocks.len().saturating_sub(1);
        if let Some(block) = self.blocks.last_mut() {
            match kind {
                Kind::Thinking => block["thinking"] = text.into(),
                Kind::Text => block["text"] = text.into(),
                Kind::Call(_) => match input(&text) {
                    Some(input) => block["input"] = input,
                    // Of a call that was cut off, or has numbers that would be other ones, there is the text.
                    None => block["input_json"] = text.into(),
                },
            }
        }
        frames.push(event("content_block_stop", json!({"index": index})));
    }

    fn delta(&mut self, delta: ChatDelta, frames: &mut Vec<Bytes>) {
        if !delta.reasoning.is_empty() {
            self.more(Kind::Thinking, &delta.reasoning, frames);
        }
        if !delta.content.is_empty() {
            self.more(Kind::Text, &delta.content, frames);
        }
        for ToolCallDelta { index, id, name, arguments } in delta.tool_calls {
            if let (Some(id), Some(name)) = (id, name) {
                let block = json!({"type": "tool_use", "id": id, "name": name, "input": {}});
                self.begin(Kind::Call(index), block, frames);
            }
            if !arguments.is_empty() {
                self.more(Kind::Call(index), &arguments, frames);
            }
        }
    }
}

impl Answer for MessageAnswer {
    type Event = ChatEvent;

    fn take(&mut self, _: usize, Told { event: told, receipt }: Told<ChatEvent>) -> Vec<Bytes> {
        let mut frames = Vec::new();
        match told {
            ChatEvent::Started { n_prompt, seed } => {
                self.seed = Some(seed);
                self.usage = usage(n_prompt, 0, 0);
                frames.push(event("message_start", json!({"message": self.object()})));
            }
            ChatEvent::Delta(delta) => self.delta(delta, &mut frames),
            ChatEvent::End { reason, finish, usage: used, .. } => {
                self.end(&mut frames);
                self.usage = usage(used.n_prompt, used.n_cached, used.n_generated);
                self.receipt = receipt;
                self.stop_reason = Some(match (finish, &reason) {
                    (Finish::Length, _) => "max_tokens",
                    (Finish::ToolCalls, _) => "tool_use",
                    (_, StopReason::Text(_)) => "stop_sequence",
                    _ => "end_turn",
                });
                if let (Some("stop_sequence"), StopReason::Text(text)) = (self.stop_reason, reason) {
                    self.stop_sequence = Some(text);
                }
                let mut last = json!({
                    "delta": {"stop_reason": self.stop_reason, "stop_sequence": self.stop_sequence},
                    "usage": self.usage,
                });
                if let Some(receipt) = &self.receipt {
                    last["receipt"] = json!(receipt);
                }
                frames.push(event("message_delta", last));
                frames.push(event("message_stop", json!({})));
            }
            // Errors were taken out before.
            ChatEvent::Error(_) | ChatEvent::Prompt(_) => {}
        }
        if self.shape.is_stream { frames } else { Vec::new() }
    }

    fn finish(&mut self) -> Vec<Bytes> {
        Vec::new()
    }

    fn fail(&mut self, error: &ApiError) -> Vec<Bytes> {
        vec![sse::event("error", &error.anthropic())]
    }

    fn is_stream(&self) -> bool {
        self.shape.is_stream
    }

    fn whole(self) -> Value {
        self.object()
    }
}

/// A call's input, if its text is a whole object and each number in it what it says.
fn input(text: &str) -> Option<Value> {
    let input: Value = serde_json::from_str(text).ok()?;
    (input.is_object() && integers::beyond_64_bits(text.as_bytes(), None).is_none()).then_some(input)
}

/// An event, which says its name also within.
fn event(name: &str, fields: Value) -> Bytes {
    let mut all = json!({"type": name});
    if let (Value::Object(all), Value::Object(fields)) = (&mut all, fields) {
        all.extend(fields);
    }
    sse::event(name, &all)
}

/// What it cost: a prompt's tokens that the cache gave are counted apart from the others.
fn usage(n_prompt: usize, n_cached: usize, n_generated: usize) -> Value {
    json!({
        "input_tokens": n_prompt - n_cached.min(n_prompt),
        "cache_read_input_tokens": n_cached,
        "cache_creation_input_tokens": 0,
        "output_tokens": n_generated,
    })
}
