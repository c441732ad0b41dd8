//! A chat's events, made where they are taken: tokens become text, text its parts, and each token is told which part it belongs to.

use std::collections::VecDeque;
use std::sync::Arc;

use device::Sampled;
use engine::{EngineError, Scored};
use tokenizer::Tokenizer;

use super::answer::{Out, Part};
use super::{ChatDelta, ChatEvent, Finish, Reading};
use crate::generate::Submitted;
use crate::pump::{Answer, End, Pump};
use crate::stop::StopMatcher;
use crate::text::AnswerText;
use crate::{StopReason, ValidRequest, Worker, WorkerError, generate};

/// A chat's events. Dropping it cancels the request.
pub type ChatGeneration = Pump<Conversation>;

/// An answer with parts: content, reasoning, tool calls.
pub struct Conversation {
    tokenizer: Arc<Tokenizer>,
    text: AnswerText,
    show_special: bool,
    reading: Reading,
    out: Out,
    /// Looks in the content.
    stop: StopMatcher,
    /// Bytes of the answer's text.
    n_text: usize,
    /// Tokens whose part is not decided.
    undecided: VecDeque<Undecided>,
    /// Whose part is, since the last delta.
    tokens: Vec<Sampled>,
    is_content: Vec<bool>,
    n_reasoning: usize,
    /// What was found that ends the answer.
    found: Option<String>,
}

struct Undecided {
    token: Sampled,
    /// Bytes of the answer's text; `None` for a special token.
    bytes: Option<(usize, usize)>,
}

pub(crate) fn start(worker: &Worker, request: ValidRequest) -> Result<ChatGeneration, WorkerError> {
    let Submitted { stream, n_prompt, seed, text, stop, show_special, reading } =
        generate::submit(worker, request)?;
    let answer = Conversation {
        tokenizer: Arc::clone(&worker.tokenizer),
        text,
        show_special,
        reading,
        out: Out::default(),
        stop,
        n_text: 0,
        undecided: VecDeque::new(),
        tokens: Vec::new(),
        is_content: Vec::new(),
        n_reasoning: 0,
        found: None,
    };
    Ok(Pump::new(stream, n_prompt, seed, answer))
}

impl Answer for Conversation {
    type Event = ChatEvent;

    fn started(n_prompt: usize, seed: u64) -> ChatEvent {
        ChatEvent::Started { n_prompt, seed }
    }

    fn scored(tokens: Vec<Scored>) -> Option<ChatEvent> {
        Some(ChatEvent::Prompt(tokens))
    }

    fn token(&mut self, sampled: Sampled, events: &mut VecDeque<ChatEvent>) -> bool {
        let id = sampled.token;
        if self.tokenizer.is_special(id) {
            let unfinished = self.text.cut(id);
            self.read(&unfinished);
            let mut bytes = None;
            let marker = self.reading.marker(&self.tokenizer, id);
            match marker {
                Some(marker) => bytes = Some((self.n_text, self.n_text + marker.len())),
                None => self.reading.parser.special(id, &mut self.out),
            }
            self.undecided.push_back(Undecided { token: sampled, bytes });
            if let Some(marker) = marker {
                self.read(marker);
            } else if self.show_special {
                let name = self.tokenizer.decode(&[id], true);
                self.read(&name);
            }
        } else {
            let text = self.text.push(id);
            let bytes = Some((self.n_text, self.n_text + text.len()));
            self.undecided.push_back(Undecided { token: sampled, bytes });
            self.read(&text);
        }
        self.pass(events);
        self.found.is_some()
    }

    fn end(&mut self, end: End, events: &mut VecDeque<ChatEvent>) {
        if self.found.is_none() {
            // A character that was never finished is left out of the text; its bytes are in the token ids.
            self.reading.parser.finish(&mut self.out);
            self.pass(events);
        }
        let content = if self.found.is_none() { self.stop.finish() } else { String::new() };
        // What is left are tokens after a stop, or bytes of the unfinished character, which belong to what they would have gone on with.
        let unfinished = if self.found.is_none() { self.out.last_part() } else { Part::Other };
        while let Some(next) = self.undecided.front() {
            self.decided(next.bytes.map_or(Part::Other, |_| unfinished));
        }
        if !content.is_empty() || !self.tokens.is_empty() {
            self.delta(ChatDelta { content, ..ChatDelta::default() }, events);
        }
        let reason = self.found.take().map_or_else(|| end.reason.into(), StopReason::Text);
        let finish = match &reason {
            StopReason::Token(_) | StopReason::Text(_) if self.out.calls().0 > 0 => Finish::ToolCalls,
            StopReason::Token(_) | StopReason::Text(_) => Finish::Stop,
            StopReason::Length => Finish::Length,
            StopReason::Cancelled => Finish::Cancelled,
            StopReason::Deadline => Finish::Deadline,
        };
        let End { usage, timings, .. } = end;
        events.push_back(ChatEvent::End { reason, finish, usage, timings, n_reasoning: self.n_reasoning });
    }

    fn failed(error: EngineError) -> ChatEvent {
        ChatEvent::Error(error)
    }
}

impl Conversation {
    fn read(&mut self, text: &str) {
        self.n_text += text.len();
        self.reading.parser.text(text, &mut self.out);
    }

    /// Sends on what is decided, and finds out whether the answer is complete.
    fn pass(&mut self, events: &mut VecDeque<ChatEvent>) {
        while let Some(next) = self.undecided.front() {
            let part = match next.bytes {
                Some((start, end)) => self.out.part_of(start, end),
                None => Some(Part::Other),
            };
            let Some(part) = part else { break };
            self.decided(part);
        }
        let passed = self.stop.push(&std::mem::take(&mut self.out.content));
        let tool_calls = std::mem::take(&mut self.out.tool_calls);
        let reasoning = std::mem::take(&mut self.out.reasoning);
        if !(passed.text.is_empty() && reasoning.is_empty() && tool_calls.is_empty()) {
            let delta = ChatDelta { content: passed.text, reasoning, tool_calls, ..ChatDelta::default() };
            self.delta(delta, events);
        }
        if passed.stop.is_some() {
            self.found = passed.stop;
        } else if self.reading.one_call && matches!(self.out.calls(), (1.., true)) {
            self.found = Some(String::new());
        }
    }

    fn decided(&mut self, part: Part) {
        let Some(next) = self.undecided.pop_front() else { return };
        self.n_reasoning += usize::from(part == Part::Reasoning);
        self.is_content.push(part == Part::Content);
        self.tokens.push(next.token);
    }

    fn delta(&mut self, delta: ChatDelta, events: &mut VecDeque<ChatEvent>) {
        let tokens = std::mem::take(&mut self.tokens);
        let is_content = std::mem::take(&mut self.is_content);
        events.push_back(ChatEvent::Delta(ChatDelta { tokens, is_content, ..delta }));
    }
}
