//! Where the parts of an answer are collected, and which bytes of its text each of them took.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};

use crate::chat::ToolCallDelta;

/// What a piece of the text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Content,
    Reasoning,
    /// A call, or what marks the other parts.
    Other,
}

/// The parts since they were last taken.
#[derive(Clone, Debug, Default)]
pub(crate) struct Out {
    pub(crate) content: String,
    pub(crate) reasoning: String,
    pub(crate) tool_calls: Vec<ToolCallDelta>,
    n_call: usize,
    /// Of the last call: are its arguments complete?
    call_is_open: bool,
    /// Bytes of the answer's text that are decided about.
    n_consumed: usize,
    /// Where each run of one part ends; of the bytes that [`Out::part_of`] may still be asked about.
    runs: VecDeque<(usize, Part)>,
}

impl Out {
    pub(super) fn content(&mut self, text: &str) {
        self.content.push_str(text);
        self.consume(text.len(), Part::Content);
    }

    pub(super) fn reasoning(&mut self, text: &str) {
        self.reasoning.push_str(text);
        self.consume(text.len(), Part::Reasoning);
    }

    /// Bytes that are markup.
    pub(super) fn markup(&mut self, n_byte: usize) {
        self.consume(n_byte, Part::Other);
    }

    /// A call begins.
    pub(super) fn call(&mut self, name: &str) {
        let [a, b] = [0, 1].map(|_| RandomState::new().hash_one(name));
        self.tool_calls.push(ToolCallDelta {
            index: self.n_call,
            id: Some(format!("call_{a:016x}{:08x}", b as u32)),
            name: Some(name.to_owned()),
            arguments: String::new(),
        });
        self.n_call += 1;
        self.call_is_open = true;
    }

    /// More of the last call's arguments, made of so many bytes.
    pub(super) fn arguments(&mut self, text: &str, n_byte: usize) {
        self.consume(n_byte, Part::Other);
        let index = self.n_call.saturating_sub(1);
        match self.tool_calls.last_mut() {
            Some(call) if call.index == index => call.arguments.push_str(text),
            _ => {
                let arguments = text.to_owned();
                self.tool_calls.push(ToolCallDelta { index, arguments, ..ToolCallDelta::default() });
            }
        }
    }

    /// The last call is complete.
    pub(super) fn call_ends(&mut self) {
        self.call_is_open = false;
    }

    /// How many calls there are, and are all of them complete?
    pub(crate) fn calls(&self) -> (usize, bool) {
        (self.n_call, !self.call_is_open)
    }

    /// What the bytes were that were decided about last; content where there are none yet.
    pub(crate) fn last_part(&self) -> Part {
        self.runs.back().map_or(Part::Content, |&(_, part)| part)
    }

    fn consume(&mut self, n_byte: usize, part: Part) {
        if n_byte == 0 {
            return;
        }
        self.n_consumed += n_byte;
        match self.runs.back_mut() {
            Some((end, last)) if *last == part => *end = self.n_consumed,
            _ => self.runs.push_back((self.n_consumed, part)),
        }
    }

    /// What the bytes from `start` to `end` are, once they are decided about: content if any of them is, else reasoning if any is. May
    /// be asked in order of `start`.
    pub(crate) fn part_of(&mut self, start: usize, end: usize) -> Option<Part> {
        // A token without whole characters is part of what the next one's character is.
        let end = end.max(start + 1);
        if self.n_consumed < end {
            return None;
        }
        while self.runs.front().is_some_and(|(run_end, _)| *run_end <= start) {
            self.runs.pop_front();
        }
        let mut found = Part::Other;
        let mut run_start = start;
        for &(run_end, part) in &self.runs {
            if run_start >= end {
                break;
            }
            match part {
                Part::Content => return Some(part),
                Part::Reasoning => found = part,
                Part::Other => {}
            }
            run_start = run_end;
        }
        Some(found)
    }
}
