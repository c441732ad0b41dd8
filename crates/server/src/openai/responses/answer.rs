//! A response: the object that holds its items, whole or told event by event.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value, json};
use worker::receipt::Receipt;
use worker::{ChatEvent, Finish};

use super::output::{Event, Output};
use crate::error::ApiError;
use crate::openai::Shape;
use crate::openai::choices::{Answer, Told};
use crate::openai::envelope::{new_id, now};
use crate::openai::logprobs::ChatLogprobs;
use crate::sse;
use crate::state::{App, Served};

/// Where the conversation is kept, whose it is, and its items.
type Keep = (App, u64, Vec<Value>);

/// The response to a request.
pub(super) struct ResponseAnswer {
    served: Arc<Served>,
    shape: Shape,
    id: String,
    created: u64,
    /// What the response repeats of its request.
    said: Map<String, Value>,
    output: Output,
    state: State,
    keep: Option<Keep>,
    /// Events that were told.
    n_event: usize,
}

/// How far it is.
#[derive(Debug)]
struct State {
    status: &'static str,
    error: Value,
    incomplete: Value,
    usage: Value,
    completed: Option<u64>,
    seed: Option<u64>,
    receipt: Option<Receipt>,
}

impl ResponseAnswer {
    pub(super) fn new(
        served: Arc<Served>,
        said: Map<String, Value>,
        shape: Shape,
        keep: Option<Keep>,
    ) -> ResponseAnswer {
        let null = Value::Null;
        let state = State {
            status: "in_progress",
            error: null.clone(),
            incomplete: null.clone(),
            usage: null,
            completed: None,
            seed: None,
            receipt: None,
        };
        ResponseAnswer {
            served,
            shape,
            id: new_id("resp_"),
            created: now(),
            said,
            output: Output::default(),
            state,
            keep,
            n_event: 0,
        }
    }

    /// The object as it is now.
    fn object(&self) -> Value {
        let State { status, error, incomplete, usage, completed, seed, receipt } = &self.state;
        let mut object = json!({
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "background": false,
            "completed_at": completed,
            "error": error,
            "incomplete_details": incomplete,
            "model": self.served.info.id,
            "output": self.output.items(),
            "usage": usage,
            "seed": seed,
        });
        let Some(fields) = object.as_object_mut() else { return object };
        fields.extend(self.said.clone());
        if let Some(receipt) = receipt {
            fields.insert("receipt".to_owned(), json!(receipt));
        }
        if !self.shape.ignored.is_empty() {
            fields.insert("ignored_parameters".to_owned(), json!(self.shape.ignored));
        }
        object
    }

    /// The frames of these events, for a client that wants a stream.
    fn frames(&mut self, events: Vec<Event>) -> Vec<Bytes> {
        if !self.shape.is_stream {
            return Vec::new();
        }
        let frame = |(name, fields): Event| {
            let mut event = json!({"type": name, "sequence_number": self.n_event});
            if let (Value::Object(event), Value::Object(fields)) = (&mut event, fields) {
                event.extend(fields);
            }
            self.n_event += 1;
            sse::event(name, &event)
        };
        events.into_iter().map(frame).collect()
    }

    /// An event that tells the response as it is now.
    fn whole_event(&self, name: &'static str) -> Event {
        // Only a stream's events need it.
        (name, if self.shape.is_stream { json!({"response": self.object()}) } else { Value::Null })
    }

    /// Keeps the conversation with what was said now.
    fn keep(&mut self) {
        let Some((app, client, input)) = self.keep.take() else { return };
        let input = input.into_iter().map(with_id).collect();
        if !app.responses().keep(client, &self.id, self.object(), input) {
            self.said.insert("store".to_owned(), false.into());
        }
    }

    fn end(&mut self, finish: Finish, usage: worker::Usage, n_reasoning: usize, events: &mut Vec<Event>) {
        let status = if finish == Finish::Length { "incomplete" } else { "completed" };
        self.output.finish(status, events);
        self.state.status = status;
        self.state.usage = json!({
            "input_tokens": usage.n_prompt,
            "input_tokens_details": {"cached_tokens": usage.n_cached},
            "output_tokens": usage.n_generated,
            "output_tokens_details": {"reasoning_tokens": n_reasoning},
            "total_tokens": usage.n_prompt + usage.n_generated,
        });
        if finish == Finish::Length {
            self.state.incomplete = json!({"reason": "max_output_tokens"});
        } else {
            self.state.completed = Some(now());
        }
        self.keep();
        let name = if finish == Finish::Length { "response.incomplete" } else { "response.completed" };
        events.push(self.whole_event(name));
    }
}

/// An item of input under an id, by which it can be found.
fn with_id(mut item: Value) -> Value {
    let prefix = match item["type"].as_str() {
        Some("reasoning") => "rs_",
        Some("function_call") => "fc_",
        Some("function_call_output") => "fco_",
        _ => "msg_",
    };
    if item["id"].is_null() {
        item["id"] = new_id(prefix).into();
    }
    item
}

impl Answer for ResponseAnswer {
    type Event = ChatEvent;

    fn take(&mut self, _: usize, Told { event, receipt }: Told<ChatEvent>) -> Vec<Bytes> {
        let mut events = Vec::new();
        match event {
            ChatEvent::Started { seed, .. } => {
                self.state.seed = Some(seed);
                events =
                    ["response.created", "response.in_progress"].map(|name| self.whole_event(name)).into();
            }
            ChatEvent::Delta(delta) => {
                let logprobs = self
                    .shape
                    .wants_logprobs
                    .then(|| ChatLogprobs::new(&self.served.worker, delta.content_tokens()))
                    .filter(|logprobs| !logprobs.is_empty());
                self.output.take(delta, logprobs, &mut events);
            }
            ChatEvent::End { finish, usage, n_reasoning, .. } => {
                self.state.receipt = receipt;
                self.end(finish, usage, n_reasoning, &mut events);
            }
            // Errors were taken out before.
            ChatEvent::Error(_) | ChatEvent::Prompt(_) => {}
        }
        self.frames(events)
    }

    fn finish(&mut self) -> Vec<Bytes> {
        Vec::new()
    }

    fn fail(&mut self, error: &ApiError) -> Vec<Bytes> {
        let said = &error.openai()["error"];
        let code = said["code"].as_str().unwrap_or("server_error");
        self.state.status = "failed";
        self.state.error = json!({"code": code, "message": said["message"]});
        let event = self.whole_event("response.failed");
        self.frames(vec![event])
    }

    fn is_stream(&self) -> bool {
        self.shape.is_stream
    }

    fn whole(self) -> Value {
        self.object()
    }
}
