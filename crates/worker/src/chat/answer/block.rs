//! Calls whose text is read as a whole, once it is complete: the forms of [`syntax`].
//!
//! What is no call after all comes out as content, whole. An answer that ends within a call is one if its text is complete but for
//! the closing marker.

use super::Out;
use super::call::{Extent, Within};
use super::hold::{Held, Hold};
use super::syntax::{Close, Syntax};
use super::typed::Tool;

/// Finds the calls.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    syntax: &'static Syntax,
    tools: Vec<Tool>,
    /// Only the first call of several in one text counts.
    one_call: bool,
    /// Markers before a call that belong to it, or to the content if none follows.
    before: String,
    after_call: bool,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    Content(Hold),
    Call {
        /// From the opening marker on.
        raw: String,
        /// Where the call's text starts in it.
        start: usize,
        end: End,
    },
}

#[derive(Clone, Debug)]
enum End {
    Marker(Hold),
    Json(Option<Extent>),
}

impl Block {
    pub(super) fn new(syntax: &'static Syntax, tools: Vec<Tool>, one_call: bool) -> Block {
        let state = State::Content(Hold::new(syntax.markers));
        Block { syntax, tools, one_call, before: String::new(), after_call: false, state }
    }

    pub(super) fn char(&mut self, c: char, out: &mut Out) {
        match &mut self.state {
            State::Content(hold) => match hold.push(c) {
                Held::Yes => {}
                Held::Marker(text) if self.syntax.markers.first() == Some(&text.trim_start()) => {
                    let raw = std::mem::take(&mut self.before) + &text;
                    let end = match self.syntax.close {
                        Close::Marker(close) => End::Marker(Hold::new(close)),
                        Close::Json => End::Json(None),
                    };
                    self.state = State::Call { start: raw.len(), raw, end };
                }
                Held::Marker(text) if self.after_call => out.markup(text.len()),
                Held::Marker(text) => self.before.push_str(&text),
                Held::No(text) => {
                    out.content(&(std::mem::take(&mut self.before) + &text));
                    self.after_call = false;
                }
            },
            State::Call { raw, start, end: End::Marker(hold) } => match hold.push(c) {
                Held::Yes => {}
                Held::No(text) => {
                    raw.push_str(&text);
                    let held = hold.take();
                    if (self.syntax.may_start)(raw.get(*start..).unwrap_or_default()) {
                        held.chars().for_each(|c| drop(hold.push(c)));
                    } else {
                        self.is_content(&held, out);
                    }
                }
                Held::Marker(text) => {
                    raw.push_str(&text);
                    let marker = text.trim_start().len();
                    self.complete(marker, out);
                }
            },
            State::Call { end: End::Json(_), .. } => self.json_char(c, out),
        }
    }

    fn json_char(&mut self, c: char, out: &mut Out) {
        let State::Call { raw, start, end: End::Json(extent) } = &mut self.state else { return };
        let body = raw.get(*start..).unwrap_or_default();
        let within = match extent {
            Some(extent) => extent.char(c),
            None if c == '{' || (c == '[' && body.trim().is_empty()) => {
                *extent = Extent::start(c);
                Within::More
            }
            None if (self.syntax.may_start)(body) => Within::More,
            None => Within::Broken,
        };
        match within {
            Within::More => raw.push(c),
            Within::Last => {
                raw.push(c);
                self.complete(0, out);
            }
            Within::Before | Within::Broken => {
                self.is_content(c.encode_utf8(&mut [0; 4]), out);
            }
        }
    }

    /// The call's text is there, with so many bytes of its closing marker.
    fn complete(&mut self, n_marker: usize, out: &mut Out) {
        let State::Call { raw, start, .. } = &mut self.state else { return };
        let raw = std::mem::take(raw);
        let body = raw.get(*start..raw.len().saturating_sub(n_marker)).unwrap_or_default();
        let calls = (self.syntax.parse)(body, &self.tools).filter(|calls| !calls.is_empty());
        self.state = State::Content(Hold::new(self.syntax.markers));
        self.after_call = calls.is_some();
        match calls {
            None => out.content(&raw),
            Some(calls) => {
                out.markup(raw.len());
                let n_call = if self.one_call { 1 } else { calls.len() };
                for (name, arguments) in calls.into_iter().take(n_call) {
                    out.call(&name);
                    out.arguments(&arguments, 0);
                    out.call_ends();
                }
            }
        }
    }

    /// It is no call; `rest` comes after what was read of it.
    fn is_content(&mut self, rest: &str, out: &mut Out) {
        let State::Call { raw, .. } = &mut self.state else { return };
        out.content(&std::mem::take(raw));
        self.after_call = false;
        self.state = State::Content(Hold::new(self.syntax.markers));
        rest.chars().for_each(|c| self.char(c, out));
    }

    pub(super) fn finish(&mut self, out: &mut Out) {
        match &mut self.state {
            State::Content(hold) => {
                let text = std::mem::take(&mut self.before) + &hold.take();
                if self.after_call && text.trim().is_empty() {
                    out.markup(text.len());
                } else {
                    out.content(&text);
                }
            }
            State::Call { raw, end, .. } => {
                if let End::Marker(hold) = end {
                    raw.push_str(&hold.take());
                }
                self.complete(0, out);
            }
        }
    }
}
