//! The items that an answer becomes, one after the other, and the events that tell of each.
//!
//! A client that wants no stream gets the items alone; the events are the same for both.

use serde_json::{Value, json};
use worker::{ChatDelta, ToolCallDelta};

use crate::openai::envelope::new_id;
use crate::openai::logprobs::ChatLogprobs;

/// An event's name and fields.
pub(super) type Event = (&'static str, Value);

/// What an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Reasoning,
    Message,
    /// Which call of the answer.
    Call(usize),
}

/// An item under way.
#[derive(Debug)]
struct Open {
    kind: Kind,
    item: Value,
    text: String,
    logprobs: ChatLogprobs,
}

/// The items so far.
#[derive(Debug, Default)]
pub(super) struct Output {
    done: Vec<Value>,
    open: Option<Open>,
}

impl Output {
    /// Takes more of an answer in.
    pub(super) fn take(&mut self, delta: ChatDelta, logprobs: Option<ChatLogprobs>, events: &mut Vec<Event>) {
        if !delta.reasoning.is_empty() {
            self.more(Kind::Reasoning, &delta.reasoning, None, events);
        }
        if !delta.content.is_empty() || logprobs.is_some() {
            self.more(Kind::Message, &delta.content, logprobs, events);
        }
        for ToolCallDelta { index, id, name, arguments } in delta.tool_calls {
            if let (Some(id), Some(name)) = (id, name) {
                let call = json!({"call_id": id, "name": name, "arguments": ""});
                self.begin(Kind::Call(index), call, events);
            }
            if !arguments.is_empty() {
                self.more(Kind::Call(index), &arguments, None, events);
            }
        }
    }

    /// The last item's end. A model that says nothing says an empty text.
    pub(super) fn finish(&mut self, status: &'static str, events: &mut Vec<Event>) {
        if self.done.is_empty() && self.open.is_none() {
            self.more(Kind::Message, "", None, events);
        }
        self.end(status, events);
    }

    /// The items that are complete.
    pub(super) fn items(&self) -> &[Value] {
        &self.done
    }

    fn begin(&mut self, kind: Kind, more: Value, events: &mut Vec<Event>) {
        self.end("completed", events);
        let (name, prefix) = match kind {
            Kind::Reasoning => ("reasoning", "rs_"),
            Kind::Message => ("message", "msg_"),
            Kind::Call(_) => ("function_call", "fc_"),
        };
        let mut item = json!({"id": new_id(prefix), "type": name, "status": "in_progress"});
        if let (Value::Object(item), Value::Object(more)) = (&mut item, more) {
            item.extend(more);
        }
        events.push(("response.output_item.added", json!({"output_index": self.done.len(), "item": item})));
        let open = Open { kind, item, text: String::new(), logprobs: ChatLogprobs::default() };
        if let Some(part) = open.part() {
            events.push(("response.content_part.added", open.at(self.done.len(), ("part", part))));
        }
        self.open = Some(open);
    }

    fn more(&mut self, kind: Kind, text: &str, logprobs: Option<ChatLogprobs>, events: &mut Vec<Event>) {
        if self.open.as_ref().is_none_or(|open| open.kind != kind) {
            match kind {
                Kind::Reasoning => {
                    self.begin(kind, json!({"summary": [], "content": []}), events);
                }
                Kind::Message => {
                    self.begin(kind, json!({"role": "assistant", "content": []}), events);
                }
                // A call's pieces follow one another, and its first has its name.
                Kind::Call(_) => return,
            }
        }
        let index = self.done.len();
        let Some(open) = &mut self.open else { return };
        open.text.push_str(text);
        let mut fields = open.at(index, ("delta", text.into()));
        if kind == Kind::Message {
            let logprobs = logprobs.unwrap_or_default();
            fields["logprobs"] = json!(logprobs.tokens());
            open.logprobs.append(logprobs);
        }
        if !text.is_empty() || kind == Kind::Message {
            events.push((open.names().0, fields));
        }
    }

    /// Ends the item under way, if there is one.
    fn end(&mut self, status: &'static str, events: &mut Vec<Event>) {
        let Some(open) = self.open.take() else { return };
        let index = self.done.len();
        let mut item = open.item.clone();
        item["status"] = status.into();
        let text = Value::from(open.text.as_str());
        let mut fields = match open.kind {
            Kind::Call(_) => open.at(index, ("arguments", text.clone())),
            _ => open.at(index, ("text", text.clone())),
        };
        match open.kind {
            Kind::Call(_) => fields["name"] = item["name"].clone(),
            Kind::Message => fields["logprobs"] = json!(open.logprobs.tokens()),
            Kind::Reasoning => {}
        }
        events.push((open.names().1, fields));
        match open.part() {
            Some(part) => {
                events.push(("response.content_part.done", open.at(index, ("part", part.clone()))));
                item["content"] = json!([part]);
            }
            None => item["arguments"] = text,
        }
        events.push(("response.output_item.done", json!({"output_index": index, "item": item})));
        self.done.push(item);
    }
}

impl Open {
    /// The events of more text and of the whole of it.
    fn names(&self) -> (&'static str, &'static str) {
        match self.kind {
            Kind::Reasoning => ("response.reasoning_text.delta", "response.reasoning_text.done"),
            Kind::Message => ("response.output_text.delta", "response.output_text.done"),
            Kind::Call(_) => {
                ("response.function_call_arguments.delta", "response.function_call_arguments.done")
            }
        }
    }

    /// Where in the response it is, and one field more.
    fn at(&self, index: usize, (name, value): (&str, Value)) -> Value {
        let mut fields = json!({"item_id": self.item["id"], "output_index": index});
        if !matches!(self.kind, Kind::Call(_)) {
            fields["content_index"] = 0.into();
        }
        fields[name] = value;
        fields
    }

    /// The one part of its content; calls have none.
    fn part(&self) -> Option<Value> {
        match self.kind {
            Kind::Reasoning => Some(json!({"type": "reasoning_text", "text": self.text})),
            Kind::Message => {
                let logprobs = self.logprobs.tokens();
                Some(
                    json!({"type": "output_text", "text": self.text, "annotations": [], "logprobs": logprobs}),
                )
            }
            Kind::Call(_) => None,
        }
    }
}
