//! A chat's events, made where they are taken: tokens become text, text its parts, and each token is told which part it belongs to.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use device::Sampled;
use engine::{Canceller, EndReason, Stream, Timings, Usage};
use tokenizer::Tokenizer;

use super::answer::{Out, Part};
use super::{ChatDelta, ChatEvent, Finish, Reading, family};
use crate::stop::StopMatcher;
use crate::text::AnswerText;
use crate::{StopReason, ValidRequest, Worker, WorkerError, generate};

/// A chat's events. Dropping it cancels the request.
pub struct ChatGeneration {
    stream: Stream,
    n_prompt: usize,
    seed: u64,
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
    n_generated: usize,
    n_reasoning: usize,
    /// What was found that ends the answer: what the engine still sends is no part of it.
    found: Option<String>,
    ready: VecDeque<ChatEvent>,
}

struct Undecided {
    token: Sampled,
    /// Bytes of the answer's text; `None` for a special token.
    bytes: Option<(usize, usize)>,
}

pub(crate) fn start(worker: &Worker, request: ValidRequest) -> Result<ChatGeneration, WorkerError> {
    let started = generate::submit(worker, request)?;
    Ok(ChatGeneration {
        stream: started.stream,
        n_prompt: started.n_prompt,
        seed: started.seed,
        tokenizer: Arc::clone(&worker.tokenizer),
        text: started.text,
        show_special: started.show_special,
        reading: started.reading,
        out: Out::default(),
        stop: started.stop,
        n_text: 0,
        undecided: VecDeque::new(),
        tokens: Vec::new(),
        is_content: Vec::new(),
        n_generated: 0,
        n_reasoning: 0,
        found: None,
        ready: VecDeque::new(),
    })
}

impl ChatGeneration {
    /// Waits for the next event; `None` after the terminal one.
    pub async fn recv(&mut self) -> Option<ChatEvent> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            let event = self.stream.recv().await?;
            self.take(event);
        }
    }

    /// Waits for the next event on this thread, which must not be one that runs async tasks; `None` after the terminal one.
    pub fn next_blocking(&mut self) -> Option<ChatEvent> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            let event = self.stream.next_blocking()?;
            self.take(event);
        }
    }

    /// Asks for the end; the terminal event follows within a step.
    pub fn cancel(&self) {
        self.stream.cancel();
    }

    /// A handle that cancels from elsewhere.
    #[must_use]
    pub fn canceller(&self) -> Canceller {
        self.stream.canceller()
    }

    fn take(&mut self, event: engine::Event) {
        match event {
            engine::Event::Started { .. } => {
                self.ready.push_back(ChatEvent::Started { n_prompt: self.n_prompt, seed: self.seed });
            }
            engine::Event::Token(sampled) if self.found.is_none() => self.token(sampled),
            engine::Event::Token(_) => {}
            engine::Event::End { reason, usage, timings } => self.end(reason, usage, timings),
            // The answer was complete before the engine failed.
            engine::Event::Error(_) if self.found.is_some() => {
                let usage = Usage { n_prompt: self.n_prompt, ..Usage::default() };
                self.end(EndReason::Cancelled, usage, Timings::default());
            }
            engine::Event::Error(error) => self.ready.push_back(ChatEvent::Error(error)),
        }
    }

    fn token(&mut self, sampled: Sampled) {
        self.n_generated += 1;
        let id = sampled.token;
        if self.tokenizer.is_special(id) {
            let unfinished = self.text.cut(id);
            self.read(&unfinished);
            let mut bytes = None;
            match family::marker(&self.tokenizer, id) {
                Some(marker) => bytes = Some((self.n_text, self.n_text + marker.len())),
                None => self.reading.parser.special(id, &mut self.out),
            }
            self.undecided.push_back(Undecided { token: sampled, bytes });
            if let Some(marker) = family::marker(&self.tokenizer, id) {
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
        self.pass();
    }

    fn read(&mut self, text: &str) {
        self.n_text += text.len();
        self.reading.parser.text(text, &mut self.out);
    }

    /// Sends on what is decided, and asks the engine to stop where the answer is complete.
    fn pass(&mut self) {
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
            self.delta(ChatDelta { content: passed.text, reasoning, tool_calls, ..ChatDelta::default() });
        }
        if passed.stop.is_some() {
            self.found = passed.stop;
        } else if self.reading.one_call && matches!(self.out.calls(), (1.., true)) {
            self.found = Some(String::new());
        }
        if self.found.is_some() {
            self.stream.cancel();
        }
    }

    fn decided(&mut self, part: Part) {
        let Some(next) = self.undecided.pop_front() else { return };
        self.n_reasoning += usize::from(part == Part::Reasoning);
        self.is_content.push(part == Part::Content);
        self.tokens.push(next.token);
    }

    fn delta(&mut self, delta: ChatDelta) {
        let tokens = std::mem::take(&mut self.tokens);
        let is_content = std::mem::take(&mut self.is_content);
        self.ready.push_back(ChatEvent::Delta(ChatDelta { tokens, is_content, ..delta }));
    }

    fn end(&mut self, reason: EndReason, usage: Usage, timings: Timings) {
        if self.found.is_none() {
            // A character that was never finished is left out of the text; its bytes are in the token ids.
            self.reading.parser.finish(&mut self.out);
            self.pass();
        }
        let content = if self.found.is_none() { self.stop.finish() } else { String::new() };
        while !self.undecided.is_empty() {
            self.decided(Part::Other);
        }
        if !content.is_empty() || !self.tokens.is_empty() {
            self.delta(ChatDelta { content, ..ChatDelta::default() });
        }
        let (reason, usage) = match self.found.take() {
            // The engine may have run ahead.
            Some(stop) => (StopReason::Text(stop), Usage { n_generated: self.n_generated, ..usage }),
            None => (reason.into(), usage),
        };
        let finish = match &reason {
            StopReason::Token(_) | StopReason::Text(_) if self.out.calls().0 > 0 => Finish::ToolCalls,
            StopReason::Token(_) | StopReason::Text(_) => Finish::Stop,
            StopReason::Length => Finish::Length,
            StopReason::Cancelled => Finish::Cancelled,
            StopReason::Deadline => Finish::Deadline,
        };
        let n_reasoning = self.n_reasoning;
        self.ready.push_back(ChatEvent::End { reason, finish, usage, timings, n_reasoning });
    }
}

/// Without the text.
impl fmt::Debug for ChatGeneration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatGeneration")
            .field("n_prompt", &self.n_prompt)
            .field("n_generated", &self.n_generated)
            .finish_non_exhaustive()
    }
}
