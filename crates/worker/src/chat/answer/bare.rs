//! Calls in the form of Llama 3: the whole answer is a JSON object with a name and `parameters`, perhaps after `<|python_tag|>`, perhaps
//! followed by more of them.

use super::Out;
use super::call::{CallObject, Step};
use super::hold::{Held, Hold};

const TAG: &[&str] = &["<|python_tag|>"];

/// Finds the calls.
#[derive(Clone, Debug)]
pub(crate) struct Bare {
    names: Vec<String>,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    Start {
        hold: Hold,
        tag: String,
    },
    Call(Box<CallObject>),
    /// Between calls: white space and separators.
    Between(String),
    Content,
}

impl Bare {
    pub(super) fn new(names: Vec<String>) -> Bare {
        Bare { names, state: State::Start { hold: Hold::new(TAG), tag: String::new() } }
    }

    pub(super) fn char(&mut self, c: char, out: &mut Out) {
        match &mut self.state {
            State::Start { hold, tag } => match hold.push(c) {
                Held::Yes => {}
                Held::Marker(text) => tag.push_str(&text),
                Held::No(text) => {
                    let text = text + &hold.take();
                    let tag = std::mem::take(tag);
                    if text.trim_start().starts_with('{') {
                        self.call(tag, &text, out);
                    } else {
                        out.content(&(tag + &text));
                        self.state = State::Content;
                    }
                }
            },
            State::Call(call) => match call.char(c, out) {
                Step::More => {}
                Step::Done => self.state = State::Between(String::new()),
                Step::After => {
                    self.state = State::Between(String::new());
                    self.char(c, out);
                }
                Step::Broken => {
                    out.content(&call.take_raw());
                    out.content(c.encode_utf8(&mut [0; 4]));
                    self.state = State::Content;
                }
            },
            State::Between(held) if c.is_whitespace() || c == ';' || c == ',' => held.push(c),
            State::Between(held) => {
                let held = std::mem::take(held);
                if c == '{' {
                    self.call(held, "{", out);
                } else {
                    out.content(&held);
                    out.content(c.encode_utf8(&mut [0; 4]));
                    self.state = State::Content;
                }
            }
            State::Content => out.content(c.encode_utf8(&mut [0; 4])),
        }
    }

    fn call(&mut self, before: String, text: &str, out: &mut Out) {
        self.state = State::Call(Box::new(CallObject::new(before, Some(self.names.clone()))));
        text.chars().for_each(|c| self.char(c, out));
    }

    pub(super) fn finish(&mut self, out: &mut Out) {
        match &mut self.state {
            State::Start { hold, tag } => out.content(&(std::mem::take(tag) + &hold.take())),
            State::Call(call) => {
                let raw = call.take_raw();
                if call.is_called() { out.markup(raw.len()) } else { out.content(&raw) }
            }
            State::Between(held) => out.markup(held.len()),
            State::Content => {}
        }
    }
}
