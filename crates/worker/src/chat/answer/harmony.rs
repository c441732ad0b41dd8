//! gpt-oss's format: messages of a header and a body between special tokens.
//!
//! <https://cookbook.openai.com/articles/openai-harmony>. `<|start|>ROLE<|channel|>CHANNEL<|constrain|>TYPE<|message|>BODY<|end|>`; the recipient
//! `to=NAME` stands in the role or in the channel. The prompt ends within the first header. The tokens are known by their ids: their
//! names in the text are text. A header that is not understood makes its body content, and text without a header is content.

use tokenizer::Tokenizer;

use super::Out;

/// Longer than any header: what is longer is text.
const MAX_HEADER_BYTES: usize = 256;

/// The ids of the special tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HarmonyIds {
    pub(crate) start: u32,
    pub(crate) end: u32,
    pub(crate) message: u32,
    pub(crate) channel: u32,
    pub(crate) constrain: u32,
    pub(crate) result: u32,
    pub(crate) call: u32,
}

impl HarmonyIds {
    /// `None` where the vocabulary lacks one.
    pub(crate) fn of(tokenizer: &Tokenizer) -> Option<HarmonyIds> {
        Some(HarmonyIds {
            start: tokenizer.special_id("<|start|>")?,
            end: tokenizer.special_id("<|end|>")?,
            message: tokenizer.special_id("<|message|>")?,
            channel: tokenizer.special_id("<|channel|>")?,
            constrain: tokenizer.special_id("<|constrain|>")?,
            result: tokenizer.special_id("<|return|>")?,
            call: tokenizer.special_id("<|call|>")?,
        })
    }
}

/// Reads messages.
#[derive(Clone, Debug)]
pub(crate) struct Harmony {
    ids: HarmonyIds,
    /// Of the tools; none where none may be called.
    names: Vec<String>,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    Header { role: String, channel: Option<String>, constrain: bool },
    Body(Kind),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Content,
    Reasoning,
    Arguments,
}

impl Harmony {
    /// For an answer whose prompt ends with `<|start|>assistant`, or where it ends elsewhere, with text.
    pub(crate) fn new(ids: HarmonyIds, names: Vec<String>) -> Harmony {
        Harmony { ids, names, state: State::header() }
    }

    pub(super) fn char(&mut self, c: char, out: &mut Out) {
        let mut bytes = [0; 4];
        let text = c.encode_utf8(&mut bytes);
        match &mut self.state {
            State::Body(Kind::Content) => out.content(text),
            State::Body(Kind::Reasoning) => out.reasoning(text),
            State::Body(Kind::Arguments) => out.arguments(text, text.len()),
            State::Header { constrain: true, .. } => out.markup(text.len()),
            State::Header { channel: Some(channel), .. } => {
                out.markup(text.len());
                if channel.len() < MAX_HEADER_BYTES {
                    channel.push(c);
                }
            }
            State::Header { role, .. } => {
                role.push(c);
                // No header has lines.
                if c == '\n' || role.len() > MAX_HEADER_BYTES {
                    out.content(role);
                    self.state = State::Body(Kind::Content);
                }
            }
        }
    }

    pub(super) fn special(&mut self, id: u32, out: &mut Out) {
        if id == self.ids.start {
            self.close(out);
        } else if id == self.ids.channel {
            if !matches!(self.state, State::Header { .. }) {
                self.close(out);
            }
            if let State::Header { channel, constrain, .. } = &mut self.state {
                *channel = Some(String::new());
                *constrain = false;
            }
        } else if id == self.ids.constrain {
            if let State::Header { constrain, .. } = &mut self.state {
                *constrain = true;
            }
        } else if id == self.ids.message {
            if let State::Header { role, channel, .. } = &mut self.state {
                out.markup(role.len());
                let (role, channel) = (std::mem::take(role), channel.take().unwrap_or_default());
                self.state = State::Body(self.open(&role, &channel, out));
            }
        } else if [self.ids.end, self.ids.result, self.ids.call].contains(&id) {
            self.close(out);
        }
    }

    /// What a body under this header is.
    fn open(&self, role: &str, channel: &str, out: &mut Out) -> Kind {
        let recipient = [channel, role].into_iter().find_map(|part| {
            part.split_whitespace().find_map(|word| word.strip_prefix("to=")).filter(|to| !to.is_empty())
        });
        let name = recipient.and_then(|to| match to.strip_prefix("functions.") {
            Some(name) if !name.is_empty() && !self.names.is_empty() => Some(name),
            _ => self.names.iter().find(|name| *name == to).map(String::as_str),
        });
        if let Some(name) = name {
            out.call(name);
            return Kind::Arguments;
        }
        match channel.split_whitespace().next() {
            Some("analysis") => Kind::Reasoning,
            _ => Kind::Content,
        }
    }

    /// The message ends; the next header, or text without one, may follow.
    fn close(&mut self, out: &mut Out) {
        match std::mem::replace(&mut self.state, State::header()) {
            State::Body(Kind::Arguments) => out.call_ends(),
            State::Body(_) => {}
            State::Header { role, channel: None, .. } if !is_role(&role) => out.content(&role),
            State::Header { role, .. } => out.markup(role.len()),
        }
    }

    pub(super) fn finish(&mut self, out: &mut Out) {
        self.close(out);
    }
}

impl State {
    fn header() -> State {
        State::Header { role: String::new(), channel: None, constrain: false }
    }
}

/// Is this the start of a header that was cut off?
fn is_role(text: &str) -> bool {
    text.trim().is_empty()
        || text == "assistant"
        || text.starts_with("assistant to=")
        || text.starts_with(" to=")
}
