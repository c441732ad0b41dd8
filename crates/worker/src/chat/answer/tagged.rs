//! Calls in the form of Hermes and Qwen: `<tool_call>{"name": .., "arguments": ..}</tool_call>` among the content.

use super::Out;
use super::call::{CallObject, Step};
use super::hold::{Held, Hold};

const OPEN: &[&str] = &["<tool_call>"];
const CLOSE: &[&str] = &["</tool_call>"];

/// Finds the calls.
#[derive(Clone, Debug)]
pub(crate) struct Tagged {
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    /// Content, or between calls.
    Content {
        hold: Hold,
        after_call: bool,
    },
    Call(Box<CallObject>),
    /// Up to the closing tag.
    Close(Hold),
}

impl Tagged {
    pub(crate) fn new() -> Tagged {
        Tagged { state: State::Content { hold: Hold::new(OPEN), after_call: false } }
    }

    pub(super) fn char(&mut self, c: char, out: &mut Out) {
        match &mut self.state {
            State::Content { hold, after_call } => match hold.push(c) {
                Held::Yes => {}
                Held::Marker(text) => self.state = State::Call(Box::new(CallObject::new(text, None))),
                Held::No(text) => {
                    out.content(&text);
                    *after_call = false;
                }
            },
            State::Call(call) => match call.char(c, out) {
                Step::More => {}
                Step::Done => self.state = State::Close(Hold::new(CLOSE)),
                Step::After => {
                    self.state = State::Close(Hold::new(CLOSE));
                    self.char(c, out);
                }
                Step::Broken => {
                    out.content(&call.take_raw());
                    self.state = State::Content { hold: Hold::new(OPEN), after_call: false };
                    self.char(c, out);
                }
            },
            State::Close(hold) => match hold.push(c) {
                Held::Yes => {}
                Held::Marker(text) => {
                    out.markup(text.len());
                    self.state = State::Content { hold: Hold::new(OPEN), after_call: true };
                }
                Held::No(text) => {
                    let text = text + &hold.take();
                    self.state = State::Content { hold: Hold::new(OPEN), after_call: true };
                    text.chars().for_each(|c| self.char(c, out));
                }
            },
        }
    }

    pub(super) fn finish(&mut self, out: &mut Out) {
        match &mut self.state {
            State::Content { hold, after_call } => {
                let text = hold.take();
                if *after_call && text.trim().is_empty() {
                    out.markup(text.len());
                } else {
                    out.content(&text);
                }
            }
            State::Call(call) => {
                let raw = call.take_raw();
                if call.is_called() { out.markup(raw.len()) } else { out.content(&raw) }
            }
            State::Close(hold) => out.markup(hold.take().len()),
        }
    }
}
