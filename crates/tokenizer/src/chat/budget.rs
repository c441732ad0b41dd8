//! How much has a rendering used, and may it go on?
//!
//! Every step, every byte of a value made and every byte written is counted before it is spent, so that a hostile template ends
//! with an error after a bounded time and memory. The bounds are in [`crate::limits`].

use std::fmt;

use crate::error::TokenizerError;
use crate::limits::{
    MAX_RENDER_BYTES, MAX_RENDER_DEPTH, MAX_RENDER_MEMORY, MAX_RENDER_STEPS, MAX_VALUE_DEPTH,
};

use super::text::{Refused, write_str};
use super::value::Value;
use crate::special::unmarked;
use crate::stop::Stop;

/// About a millisecond of work.
const STEPS_BETWEEN_LOOKS: u64 = 1 << 13;

/// What has been used so far, and where in the template.
#[derive(Debug, Default)]
pub(super) struct Budget<'a> {
    stop: Stop<'a>,
    steps: u64,
    /// The count of steps at which to ask again whether to stop.
    next_look: u64,
    memory: usize,
    written: usize,
    depth: usize,
    /// The line that is being rendered, from 1.
    pub(super) line: usize,
}

pub(super) type Result<T> = std::result::Result<T, TokenizerError>;

impl<'a> Budget<'a> {
    pub(super) fn new(stop: Stop<'a>) -> Budget<'a> {
        Budget { stop, ..Budget::default() }
    }

    fn over(&self, what: &'static str, limit: u64) -> TokenizerError {
        TokenizerError::TemplateLimit { what, limit, line: self.line }
    }

    /// An error at the current line.
    pub(super) fn fail<T>(&self, why: impl Into<String>) -> Result<T> {
        // Names are quoted as Rust quotes them, which spells the mark out.
        let why = unmarked(&why.into()).replace("\\u{10fffe}", "");
        Err(TokenizerError::TemplateRender { why, line: self.line })
    }

    /// Counts evaluation steps.
    pub(super) fn step(&mut self, count: usize) -> Result<()> {
        self.steps = self.steps.saturating_add(count as u64);
        if self.steps > MAX_RENDER_STEPS {
            return Err(self.over("steps", MAX_RENDER_STEPS));
        }
        if self.steps >= self.next_look { self.look() } else { Ok(()) }
    }

    /// Asks whether to stop, and does not ask again for a while: reading a clock costs more than a step.
    fn look(&mut self) -> Result<()> {
        self.next_look = self.steps.saturating_add(STEPS_BETWEEN_LOOKS);
        match self.stop.reason() {
            Some(why) => Err(TokenizerError::TemplateStopped { why, line: self.line }),
            None => Ok(()),
        }
    }

    #[cfg(test)]
    pub(super) fn steps(&self) -> u64 {
        self.steps
    }

    /// Counts looking through so many bytes.
    pub(super) fn scan(&mut self, bytes: usize) -> Result<()> {
        self.step(1 + bytes / 64)
    }

    /// Counts memory for a value that is about to be made.
    pub(super) fn take(&mut self, bytes: usize) -> Result<()> {
        self.memory = self.memory.saturating_add(bytes);
        if self.memory > MAX_RENDER_MEMORY {
            return Err(self.over("bytes of values", MAX_RENDER_MEMORY as u64));
        }
        self.scan(bytes)
    }

    /// Counts output.
    pub(super) fn write(&mut self, bytes: usize) -> Result<()> {
        self.written = self.written.saturating_add(bytes);
        if self.written > MAX_RENDER_BYTES {
            return Err(self.over("bytes of output", MAX_RENDER_BYTES as u64));
        }
        self.scan(bytes)
    }

    /// Goes one level down; [`Budget::leave`] comes back.
    pub(super) fn enter(&mut self) -> Result<()> {
        self.depth += 1;
        if self.depth > MAX_RENDER_DEPTH {
            return Err(self.over("levels of calls and expressions", MAX_RENDER_DEPTH as u64));
        }
        Ok(())
    }

    pub(super) fn leave(&mut self) {
        self.depth -= 1;
    }

    /// Counts a value made from parts and checks what it is made of.
    pub(super) fn admit(&mut self, value: Value) -> Result<Value> {
        if value.depth() > MAX_VALUE_DEPTH {
            return Err(self.over("levels of lists and maps", MAX_VALUE_DEPTH as u64));
        }
        let plain = match &value {
            Value::List(list) => {
                self.take(list.items.len() * size_of::<Value>() + 64)?;
                list.items.iter().all(Value::is_plain)
            }
            Value::Map(map) => {
                self.take(map.entries.len() * 128 + 64)?;
                map.entries.values().all(Value::is_plain)
            }
            _ => true,
        };
        if plain {
            Ok(value)
        } else {
            self.fail("what can change, such as a namespace, cannot be part of another value")
        }
    }

    /// A string, counted.
    pub(super) fn string(&mut self, text: &str) -> Result<Value> {
        self.take(text.len() + 16)?;
        Ok(Value::str(text))
    }

    /// A list, counted.
    pub(super) fn list(&mut self, items: Vec<Value>) -> Result<Value> {
        self.admit(Value::list(items))
    }

    /// Python's `str()`, counted.
    pub(super) fn text_of(&mut self, value: &Value) -> Result<String> {
        self.written(|sink| write_str(value, sink))
    }

    /// What an action writes, counted.
    pub(super) fn written(
        &mut self,
        action: impl FnOnce(&mut Sink) -> std::result::Result<(), Refused>,
    ) -> Result<String> {
        let mut sink = Sink::new(self.memory_left());
        match action(&mut sink) {
            Ok(()) => {
                self.take(sink.text.len() + 16)?;
                Ok(sink.text)
            }
            Err(Refused::Full) => Err(self.over("bytes of values", MAX_RENDER_MEMORY as u64)),
            Err(Refused::Kind(kind)) => self.fail(format!("{kind} cannot be written here")),
        }
    }

    /// How many more bytes may be made.
    pub(super) fn memory_left(&self) -> usize {
        MAX_RENDER_MEMORY.saturating_sub(self.memory)
    }
}

/// Text that refuses to become longer than it may.
pub(super) struct Sink {
    pub(super) text: String,
    limit: usize,
}

impl Sink {
    pub(super) fn new(limit: usize) -> Sink {
        Sink { text: String::new(), limit }
    }
}

impl fmt::Write for Sink {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        if self.text.len() + part.len() > self.limit {
            return Err(fmt::Error);
        }
        self.text.push_str(part);
        Ok(())
    }
}
